"""`stats`: counts, JSON document, CSV and plots."""

import csv
import errno
import os

import pandas as pd
import pytest
from sample_datasets import LARGE, MEDIUM, SMALL, build_dataset, face_dataset, save

import curate
from curate.curation.stats import count, count_by
from curate.errors import UsageError
from curate.sizes import RangeOfInterest


@pytest.fixture
def root(tmp_path):
    """A saved dataset in two splits; image 8 is unlabelled, image 7 in no split."""
    return save(
        face_dataset(
            tmp_path / "faces",
            split=pd.array(["train"] * 4 + ["val"] * 2 + [None, None], dtype="str"),
            label_state=pd.array(["labelled"] * 7 + ["unlabelled"], dtype="str"),
            source=["a"] * 3 + ["b"] * 5,
        )
    )


def test_json_contract(tmp_path):
    """The document has exactly the documented keys."""
    root = save(
        build_dataset(
            tmp_path / "d", [[("masked", SMALL), ("masked", LARGE)], [("bare", MEDIUM)], []], classes=("masked", "bare")
        )
    )
    assert curate.stats(root).to_json() == {
        "version": 1,
        "images": 3,
        "images_without_boxes": 1,
        "unlabelled": 0,
        "boxes": 3,
        "imbalance": 2.0,
        "classes": [
            {"name": "masked", "boxes": 2, "share": 2 / 3, "images": 1, "small": 1, "medium": 0, "large": 1},
            {"name": "bare", "boxes": 1, "share": 1 / 3, "images": 1, "small": 0, "medium": 1, "large": 0},
        ],
    }


def test_labelled_images_only(root):
    """Images that are not labelled count as unlabelled only."""
    found = curate.stats(root)
    assert (found.images, found.unlabelled, found.images_without_boxes) == (7, 1, 0)


def test_boxes_of_images_that_are_not_labelled():
    """Proposals are not counted."""
    states = pd.array(["proposed"] + ["labelled"] * 7, dtype="str")
    found = count(face_dataset(label_state=states))
    assert (found.boxes, found.unlabelled) == (9, 1)


def test_groups_by_split(root):
    """Splits are listed in order, images without split last, each with the same keys."""
    document = curate.stats(root, by="split").to_json()
    assert list(document["groups"]) == ["train", "val", "(none)"]
    assert {name: group["boxes"] for name, group in document["groups"].items()} == {"train": 6, "val": 3, "(none)": 2}
    assert document["groups"]["train"].keys() == document.keys() - {"version", "groups"}
    assert [one["name"] for one in document["groups"]["val"]["classes"]] == [one["name"] for one in document["classes"]]


def test_groups_by_source(root):
    """Sources are listed by name."""
    groups = curate.stats(root, by="source").groups
    assert {name: group.images for name, group in groups.items()} == {"a": 3, "b": 4}


def test_unknown_grouping():
    """Other groupings are usage errors."""
    with pytest.raises(UsageError, match=r"--by: unknown grouping \(got 'path'; expected split or source\)"):
        count_by(face_dataset(), "path")


def test_imbalance_without_a_box_of_some_class():
    """If a class has no boxes, the imbalance is None."""
    assert count(build_dataset(images=[[("with_mask", SMALL)]])).imbalance is None


def test_no_boxes():
    """Without boxes shares are None; without classes there are none."""
    found = count(build_dataset(images=[[], []]))
    assert (found.images, found.images_without_boxes, found.imbalance, found.classes[0].share) == (2, 2, None, None)
    assert count(build_dataset(images=[], classes=())).classes == ()


def test_range_of_interest(root):
    """With a minimum side, only boxes in the range of interest are counted."""
    found = curate.stats(root, min_side=50)
    assert (found.boxes, [entry.small for entry in found.classes]) == (6, [0, 0, 0])
    assert count(face_dataset(), RangeOfInterest(20)).boxes == 11


def test_csv(root, tmp_path):
    """The table has a row per class and group, with the numbers of the result."""
    curate.stats(root, by="split", csv=tmp_path / "new" / "balance.csv")
    with (tmp_path / "new" / "balance.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["group", "name", "boxes", "share", "images", "small", "medium", "large"]
    assert [row["group"] for row in rows] == ["all"] * 3 + ["train"] * 3 + ["val"] * 3 + ["(none)"] * 3
    assert [int(row["boxes"]) for row in rows[:3]] == [7, 3, 1]


SIGNATURES = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_picture(root, tmp_path, suffix):
    """A plot is a valid file of its format, and the same dataset gives the same bytes."""
    files = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
    for file in files:
        curate.stats(root, plot=file)
    one, two = (file.read_bytes() for file in files)
    assert one.startswith(SIGNATURES[suffix])
    assert len(one) > 5000
    assert one == two


def test_picture_is_not_blank(root, tmp_path):
    """The plot shows the balance in the colours of the sizes."""
    import cv2

    curate.stats(root, plot=tmp_path / "balance.png")
    pixels = cv2.imread(str(tmp_path / "balance.png"))
    assert pixels.shape[0] > 400
    assert pixels.shape[1] > 1000
    assert (pixels == (0x6F, 0x8B, 0x2E)).all(axis=2).sum() > 1000  # BGR of large


@pytest.mark.parametrize("images", [[], [[]], [[("with_mask", (0, 0, 0.25, 0.25))]], [[("with_mask", LARGE)]]])
def test_picture_of_little(tmp_path, images):
    """No box, one tiny box and one large box can be plotted."""
    root = save(build_dataset(tmp_path / "d", images))
    curate.stats(root, plot=tmp_path / "balance.svg")
    assert (tmp_path / "balance.svg").stat().st_size > 1000


def test_class_names_are_not_formulas(tmp_path):
    """Class names may have any characters, such as dollar signs."""
    names = (r"$\frac$", "a_b^c", "<b>&", "100 %")
    root = save(build_dataset(tmp_path / "d", [[(name, MEDIUM) for name in names]], classes=names))
    curate.stats(root, plot=tmp_path / "balance.svg")
    assert (tmp_path / "balance.svg").stat().st_size > 1000


def test_other_suffix(root, tmp_path):
    """An unknown suffix is a usage error."""
    with pytest.raises(UsageError, match=r"expected \.png, \.svg, \.pdf"):
        curate.stats(root, plot=tmp_path / "balance.xyz")


@pytest.mark.parametrize("option", ["plot", "csv"])
def test_nothing_is_overwritten_unasked(root, tmp_path, option):
    """Existing files are replaced only with `overwrite`."""
    file = tmp_path / "kept.svg"
    file.write_text("mine")
    with pytest.raises(UsageError, match=r"kept\.svg: the file already exists.*--overwrite"):
        curate.stats(root, **{option: file})
    assert file.read_text() == "mine"
    curate.stats(root, **{option: file}, overwrite=True)
    assert file.read_text() != "mine"


@pytest.mark.parametrize("option", ["plot", "csv"])
def test_output_that_does_not_fit(root, tmp_path, monkeypatch, option):
    """A full disk leaves the file that was there, and nothing in part; the error names the file."""
    out = tmp_path / "out" / f"balance.{'png' if option == 'plot' else 'csv'}"
    out.parent.mkdir()
    out.write_text("before")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        curate.stats(root, overwrite=True, **{option: out})
    assert caught.value.filename == str(out)
    assert [(file.name, file.read_text()) for file in out.parent.iterdir()] == [(out.name, "before")]
