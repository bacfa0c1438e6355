"""Image ids of results files: ids of the dataset, file names, numbers that are either."""

import unicodedata

import pandas as pd
import pytest
from sample_datasets import SMALL, build_dataset

from curate.errors import DataError
from curate.inference.image_names import IDS, NAMES, ImageNames, read_image_ids


def named(*paths, **columns):
    """A dataset with one image per path, ids from 1."""
    paths = pd.array([f"media/images/{path}" for path in paths], dtype="str")
    return build_dataset(images=[[("with_mask", SMALL)]] * len(paths), path=paths, **columns)


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────

PATHS = ("set/frame_a.jpg", "set/000123.jpg", "set/1.jpg", "set/cam1/0001.jpg", "set/cam2/0001.jpg", "set/v1.2.png")


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("frame_a", [1]),
        ("frame_a.jpg", [1]),
        ("set/frame_a.jpg", [1]),
        ("/data/yolo/images/val/frame_a.jpg", [1]),
        ("C:\\data\\frame_a.jpg", [1]),
        (" frame_a ", [1]),
        ("frame_a.png", [1]),  # converted for the other tool
        ("000123", [2]),
        (123, [2]),
        ("123", [2]),
        ("cam2/0001.jpg", [5]),
        ("labels/cam1/0001", [4]),
        ("0001", [4, 5]),
        ("other/0001.jpg", [4, 5]),
        (1, [3, 4, 5]),
        ("1", [3]),
        ("v1.2", [6]),
        ("v1.2.png", [6]),
        ("frame", []),
        ("", []),
        ("²", []),
        (7, []),
    ],
)
def test_names(name, images):
    """A name finds the images it can mean: with and without suffix and folders, or as a number."""
    assert ImageNames(named(*PATHS)).find(name) == images


@pytest.mark.parametrize("name", ["A B.JPG", "a b", "a%20b.jpg", "x/a%20b", "A B.png", "file:///data/A%20B.jpg"])
def test_case_and_percent_encoding(name):
    """A name that is not there exactly may differ in case and percent-encoding."""
    assert ImageNames(named("set/a b.jpg", "set/ab.jpg")).find(name) == [1]


def test_exact_names_come_first():
    """Images whose names differ in case alone are told apart by it; a third spelling can mean both."""
    names = ImageNames(named("a.jpg", "A.jpg", "50%25.jpg", "50%.jpg"))
    assert (names.find("a.jpg"), names.find("A"), names.find("50%25.jpg"), names.find("50%.jpg")) == (
        [1],
        [2],
        [3],
        [4],
    )
    assert names.find("a.JPG") == [1]
    assert ImageNames(named("ab.jpg", "AB.jpg")).find("Ab.jpg") == [1, 2]


def test_unicode_forms():
    """One name in two Unicode forms is the same name."""
    composed = unicodedata.normalize("NFC", "façade")
    names = ImageNames(named(f"set/{unicodedata.normalize('NFD', composed)}.jpg"))
    assert names.find(composed) == [1]
    assert names.find(f"{composed}.jpg") == [1]


# ── ids or names ─────────────────────────────────────────────────────────────────────────────────────────────────


def read(dataset, ids, evaluated=None, reading=None):
    """Images of the ids, and the notes."""
    found = read_image_ids(ids, dataset, evaluated or dataset, reading)
    return list(found.images.values()), list(found.notes)


def test_ids_of_the_dataset():
    """Numbers that are ids, and no file names, are ids, without a note."""
    assert read(named("a.jpg", "b.jpg"), [2, 1, 2]) == ([2, 1], [])


def test_text_shows_that_all_are_names():
    """One text among numbers shows that the numbers are names too."""
    images, notes = read(named("a.jpg", "2.jpg", "1.jpg"), ["a", 1, 2])
    assert images == [1, 3, 2]
    assert notes == ["Some image ids are text, so all are read as file names."]


def test_numbers_as_text():
    """Numbers that are written as text can be ids of the dataset, those with zeros before them are names."""
    assert read(named("a.jpg", "b.jpg"), ["2", "1"]) == ([2, 1], [])
    assert read(named("a.jpg", "002.jpg"), ["1", "2"])[0] == [1, 2]
    assert read(named("02.jpg", "b.jpg"), ["02"])[0] == [1]


def test_more_names_than_ids():
    """Numbers of which more are names than ids are names, and a note says so."""
    images, notes = read(named("100.jpg", "101.jpg", "2.jpg"), [100, 101, 2])
    assert images == [1, 2, 3]
    assert notes == [
        "The image ids are read as file names: 3 of 3 are. Read as ids of the dataset, 1 would fit; "
        "--image-ids dataset reads them so."
    ]


def test_more_ids_than_names():
    """Numbers of which more are ids than names are ids; if neither fits all, a note says so."""
    assert read(named("a.jpg", "b.jpg", "1.jpg"), [1, 2, 3]) == ([1, 2, 3], [])
    images, notes = read(named("a.jpg", "b.jpg", "1.jpg"), [1, 2, 9])
    assert images == [1, 2, None]
    assert "read as ids of the dataset: 2 of 3 are" in notes[0]


def test_as_many_ids_as_names():
    """If both fit, numbers are ids of the dataset, with a note that names the other reading."""
    images, notes = read(named("2.jpg", "1.jpg"), [1, 2])
    assert images == [1, 2]
    assert "--image-ids names reads them so" in notes[0]


def test_names_that_are_the_ids():
    """If both readings mean the same images, there is nothing to choose."""
    assert read(named("1.jpg", "2.jpg"), [1, 2]) == ([1, 2], [])


def test_the_evaluated_images_decide():
    """If both fit, but only the names are all evaluated, numbers are names."""
    dataset = named("4.jpg", "3.jpg", "2.jpg", "1.jpg", split=pd.array(["val", "val", "train", "train"], dtype="str"))
    images, notes = read(dataset, [3, 4], dataset.select("val"))
    assert images == [2, 1]
    assert notes
    assert read(dataset, [1, 3], dataset.select("val"))[0] == [1, 3]  # neither are all evaluated


@pytest.mark.parametrize(("reading", "images"), [(IDS, [1, 2]), (NAMES, [2, 1])])
def test_reading_that_was_given(reading, images):
    """A given reading is taken without a note."""
    assert read(named("2.jpg", "1.jpg"), [1, 2], reading=reading) == (images, [])


def test_text_is_never_an_id():
    """Read as ids of the dataset, text fits no image."""
    assert read(named("a.jpg"), ["a", 1, "01"], reading=IDS) == ([None, 1, None], [])


def test_names_that_are_not_unique():
    """A name that can mean several images is refused if one of them is evaluated, else it means none."""
    splits = pd.array(["val", "train", "train"], dtype="str")
    dataset = named("x/a.jpg", "y/a.jpg", "z/b.jpg", split=splits)
    with pytest.raises(DataError, match=r"'a'.*does not say which image it is \(got 2 images of.*--image-ids"):
        read(dataset, ["a", "b"], dataset.select("val"))
    assert read(dataset, ["a", "x/a"], dataset.keep_images(dataset.images["image_id"] == 3))[0] == [None, 1]
