"""Tables and sentences of a report: their range, their classes, and ambiguous names."""

import base64
from itertools import pairwise

import cv2
import numpy as np
import pandas as pd
import pytest
from app_scene import keep_run, save_scene
from evaluation_oracle import build_predictions, build_truth
from report_page import page_of, section, table, words
from sample_datasets import MEDIUM, SMALL, build_dataset, save

import curate
from curate.evaluation.mistakes import find_mistakes
from curate.html_report import gallery as gallery_module
from curate.html_report import tables
from curate.html_report.content import ClassChange
from curate.html_report.data_tables import change_table
from curate.html_report.gallery import make_gallery
from curate.html_report.wording import SIZE_WORDS


@pytest.fixture
def root(tmp_path):
    """A dataset with a run that makes one mistake of every kind and size."""
    return save_scene(tmp_path / "faces")


def named(tmp_path, *classes, detections=None):
    """A dataset with an image in train and one in val per class, and a run that finds the first class only."""
    images = [[(name, SMALL)] for name in classes for _ in range(2)]
    splits = pd.array(["train", "val"] * len(classes), dtype="str")
    root = save(build_dataset(tmp_path / "d", images, classes, split=splits), pictures=True)
    keep_run(root, "first", detections or [(2, 1, SMALL, 0.9)])
    return root


def legend(page):
    """The legend of the curves."""
    return [words(one) for one in page.get_element_by_id("curves").find_class("legend")[0].iter("li")]


# ── of what ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_range_is_told_where_it_counts(root):
    """Curves, thresholds and kinds name the range; classes say that they include all objects."""
    page = page_of(root, min_side=24)
    assert "over all scores; shorter side ≥ 24 px." in section(page, "curves")
    assert "At IoU 0.5, shorter side ≥ 24 px." in section(page, "curves")
    assert "Counts and costs: shorter side ≥ 24 px." in section(page, "mistakes")
    assert "Objects and AP: all objects, as in COCO." in section(page, "sizes")


def test_misses_of_the_matrix(root):
    """A sentence explains why misses of the matrix differ from the other counts."""
    assert "detected as another class is not missed here, but is missed in the counts by size" in section(
        page_of(root), "confusion"
    )


def test_size_words():
    """The words for sizes have the bounds."""
    assert SIZE_WORDS == {"small": "area < 32² px", "medium": "32² to 96² px", "large": "≥ 96² px"}


@pytest.mark.parametrize(("most", "told"), [(60, "None of this kind."), (1, "None of this kind among those shown.")])
def test_none_of_a_kind(root, monkeypatch, most, told):
    """If not all mistakes are shown, "none of this kind" says so."""
    monkeypatch.setattr(gallery_module, "MOST_IN_A_GROUP", most)
    page = page_of(root)
    small = next(one for one in page.find_class("group") if words(one.find("h4")) == "2 small")
    assert words(small.find_class("none")[0]) == told


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_class_called_mean(tmp_path):
    """A class named mean and the mean over classes have different names, in legend and table."""
    page = page_of(named(tmp_path, "mean", "other"))
    assert legend(page) == ["mean of 2 classes, AP50 50.0", "mean, AP50 100.0", "other, AP50 0.0"]
    rows = table(page, "Precision by recall, at IoU 0.5")[1:]
    assert [row[:2] for row in rows] == [["mean of 2 classes", "50.0"], ["mean", "100.0"], ["other", "0.0"]]


def test_classes_called_as_the_matrix_calls_nothing(tmp_path):
    """Classes named background and missed differ from the matrix's own row and column."""
    page = page_of(named(tmp_path, "background", "missed"))
    rows = table(page, "Rows: true class. Columns: detected class.")
    assert rows[0] == ["truth", "background", "missed", "missed (no class)"]
    assert [row[0] for row in rows[1:]] == ["background", "missed", "background (no class)"]


def test_no_header_is_empty(root):
    """Every column of every table has a name."""
    keep_run(root, "second")
    curate.evaluate(root, run="first", report=False)
    page = page_of(root, run="second", against="first")
    headers = [words(cell) for cell in page.iterfind(".//thead//th")]
    assert headers
    assert all(headers)


def test_only_wide_tables_stop_the_keyboard(tmp_path, root):
    """Only a matrix of many classes is a region with a keyboard stop; other tables are not."""
    assert not page_of(root).findall(".//*[@role='region']")
    page = page_of(named(tmp_path, *(f"class {number}" for number in range(8))))
    (region,) = page.findall(".//*[@role='region']")
    assert region.get("aria-label") == "Rows: true class. Columns: detected class."
    assert region.get("tabindex") == "0"


# ── beside another run ───────────────────────────────────────────────────────────────────────────────────────────


def test_means_over_classes_that_have_objects(tmp_path):
    """With different classes, a sentence has the number of classes with objects in each mean."""
    images = [[("a", SMALL)], [("a", SMALL)], [("b", SMALL)]]
    splits = pd.array(["train", "val", "val"], dtype="str")
    root = save(build_dataset(tmp_path / "d", images, ("a", "b", "never"), split=splits), pictures=True)
    for run in ("first", "second"):
        keep_run(root, run, [(2, 1, SMALL, 0.9)])
    curate.evaluate(root, run="first", report=False)
    assert "Their classes differ" not in section(page_of(root, run="second", against="first"), "comparison")
    curate.merge_classes(root, ["b"], "a")
    text = section(page_of(root, run="second", against="first"), "comparison")
    assert "AP is the mean over the classes that have objects, 1 here and 2 there," in text
    assert "with fewer classes there are fewer to confuse" in text


def test_renamed_class_beside_itself(tmp_path):
    """A renamed class has one row with both names and the difference."""
    root = named(tmp_path, "a", "b")
    curate.evaluate(root, run="first", report=False)
    curate.rename_class(root, "a", "new")
    page = page_of(root, against="first")
    assert table(page, "AP by class")[1:] == [["new formerly a", "100.0", "100.0", "0.0"], ["b", "0.0", "0.0", "0.0"]]
    assert "Their classes differ" not in section(page, "comparison")


def test_merged_class_beside_itself(tmp_path):
    """Merged classes and the surviving class have rows of their own."""
    root = named(tmp_path, "a", "b")
    curate.evaluate(root, run="first", report=False)
    curate.merge_classes(root, ["b"], "a")
    curate.rename_class(root, "a", "both")
    rows = table(page_of(root, against="first"), "AP by class")[1:]
    assert [row[:2] for row in rows] == [["both", "–"], ["a", "100.0"], ["b", "0.0"]]
    assert {row[3] for row in rows} == {"–"}


# ── many classes ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_tables_hold_the_same_classes(tmp_path, monkeypatch):
    """If there are too many classes, every table has those with most objects, plus the mean."""
    monkeypatch.setattr(tables, "MOST_ROWS", 2)
    images = [[("a", SMALL)], [("a", SMALL)], [("b", SMALL), ("b", MEDIUM)], [("c", SMALL), ("c", MEDIUM)]]
    splits = pd.array(["train", "val", "val", "val"], dtype="str")
    root = save(build_dataset(tmp_path / "d", images, ("a", "b", "c"), split=splits), pictures=True)
    keep_run(root, "first", [(2, 1, SMALL, 0.9)])
    page = page_of(root)
    for caption in ("By class", "Score thresholds"):
        assert [row[0] for row in table(page, caption)[1:]] == ["b", "c"]
    rows = table(page, "Precision by recall, at IoU 0.5")[1:]
    assert [row[0] for row in rows] == ["mean of 3 classes", "b", "c"]
    assert section(page, "curves").count("2 of 3 classes, those with most objects.") == 2


def test_change_among_many_classes():
    """Among many classes, a change shows only those that changed."""
    before = {f"class {number}": 1 for number in range(30)}
    after = {**before, "class 3": 2}
    del after["class 7"]
    made = change_table(ClassChange(2, "merge-classes", before, after))
    assert [row.name for row in made.rows] == ["class 3", "class 7"]
    assert made.below == "2 of 30 classes: those that changed."


def test_many_changes(tmp_path):
    """Of many changes the newest are shown, with the total number."""
    root = named(tmp_path, "a", "b")
    names = ["a", *(f"a{number}" for number in range(22))]
    for old, new in pairwise(names):
        curate.rename_class(root, old, new)
    page = page_of(root)
    captions = [words(one) for one in page.get_element_by_id("balance").iter("caption")]
    assert [one for one in captions if one.startswith("rename")] == [
        f"rename-class, version {version}" for version in range(4, 24)
    ]
    assert "The last 20 of 22 changes." in section(page, "balance")


# ── boxes beside a mistake ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("earlier", [0, 150])
def test_boxes_near_a_mistake(tmp_path, earlier):
    """Boxes near a mistake are drawn, however many boxes come before them in the table."""
    cv2.imwrite(str(tmp_path / "1.jpg"), np.full((900, 900, 3), 128, np.uint8))
    far = [(1, 2, 600, 600, 610, 610)] * earlier
    truth = build_truth([*far, (1, 1, 100, 100, 140, 140)], side_px=900).replace(root=tmp_path)
    found = build_predictions([(1, 1, 100, 120, 140, 160, 0.9)])
    made = make_gallery(truth, found, find_mistakes(truth, found))
    crop = next(group.crops[0] for group in made.groups if group.total and group.mistake == "false positive")
    pixels = picture_pixels(crop.picture)
    assert ((pixels[..., 1] - pixels[..., 0] > 60) & (pixels[..., 1] - pixels[..., 2] > 30)).sum() > 100


def picture_pixels(uri):
    """The decoded picture of a data URI as RGB in signed integers."""
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)


def test_paper_has_a_list_for_a_wide_matrix(tmp_path):
    """In print, a list of pairs replaces a matrix that is too wide for paper."""
    page = page_of(named(tmp_path, *(f"class {number}" for number in range(8))))
    for name, caption in (("only-screen", "Rows: true class."), ("only-print", "Most frequent confusions")):
        (found,) = [one for one in page.get_element_by_id("confusion").find_class(name) if one.tag == "div"]
        assert words(found).startswith(caption)
    rows = [[words(cell) for cell in row.iter("th", "td")] for row in found.iter("tr")]
    assert rows[:2] == [["truth", "detected as", "count"], ["class 1", "missed", "1"]]
    assert "`" not in words(page.get_element_by_id("confusion"))
