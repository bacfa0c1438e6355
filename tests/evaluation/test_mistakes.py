"""Mistakes and their kinds: by hand, and against TIDE."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from evaluation_oracle import awkward_case, build_predictions, build_truth, golden_case, perfect_predictions
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.evaluation.mistakes import KINDS, MISTAKE_COLUMNS, find_mistakes
from curate.operating_point import OperatingPoint
from curate.sizes import SIZES, RangeOfInterest

FACE = (1, 1, 0, 0, 100, 100)  # the object of the small cases: image 1, class 1, a box of 100 × 100


def only_mistake(truth_rows, detection_rows):
    """The only false positive of a small case."""
    table = find_mistakes(build_truth(truth_rows), build_predictions(detection_rows)).false_positives
    assert len(table) == 1
    return table.iloc[0]


# ── kinds of false positives ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("height", "kind"), [(50, "class"), (49.9, "both"), (10.1, "both"), (10, "background")])
def test_other_class(height, kind):
    """On an object of another class: class from IoU 0.5 on, both above 0.1, background up to 0.1."""
    wrong = only_mistake([FACE], [(1, 2, 0, 0, 100, height, 0.9)])
    assert (wrong["kind"], wrong["iou"]) == (kind, pytest.approx(height / 100))
    assert (wrong["confused_with"] is pd.NA) == (kind == "background")


@pytest.mark.parametrize(("height", "kind"), [(49.9, "localisation"), (10, "localisation"), (9.9, "background")])
def test_same_class(height, kind):
    """On an object of its class: localisation from IoU 0.1 to below 0.5, background below 0.1."""
    wrong = only_mistake([FACE], [(1, 1, 0, 0, 100, height, 0.9)])
    assert (wrong["kind"], wrong["iou"]) == (kind, pytest.approx(height / 100))
    assert wrong["confused_with"] is pd.NA


@pytest.mark.parametrize("height", [100, 50])
def test_duplicate(height):
    """A second detection of a found object is a duplicate, also at an IoU of exactly 0.5."""
    wrong = only_mistake([FACE], [(*FACE, 0.9), (1, 1, 0, 0, 100, height, 0.8)])
    assert (wrong["kind"], wrong["detection"], wrong["iou"]) == ("duplicate", 1, pytest.approx(height / 100))


def test_localisation_comes_before_class():
    """IoU 0.2 with its class and 0.8 with another one is a localisation error, in the order of TIDE's code."""
    wrong = only_mistake([FACE, (1, 2, 0, 80, 100, 205)], [(1, 1, 0, 80, 100, 180, 0.9)])
    assert wrong["kind"] == "localisation"
    assert wrong["iou"] == pytest.approx(20 / 180)


def test_class_comes_before_duplicate():
    """On a found object of its class and on an object of another class it is a class error."""
    wrong = only_mistake([FACE, (1, 2, 0, 0, 100, 90)], [(*FACE, 0.9), (*FACE, 0.8)])
    assert (wrong["kind"], wrong["confused_with"]) == ("class", 2)


def test_nothing_in_the_image():
    """On an image without objects a detection is background, with IoU 0."""
    truth = build_truth([FACE], images=(1, 2))
    table = find_mistakes(truth, build_predictions([(2, 1, 0, 0, 100, 100, 0.9)])).false_positives
    assert table[["image_id", "kind", "iou"]].to_numpy().tolist() == [[2, "background", 0]]


def test_crowd_explains_nothing():
    """A detection next to a crowd is background, not a localisation error."""
    assert only_mistake([(*FACE, True)], [(1, 1, 0, 60, 100, 160, 0.9)])["kind"] == "background"


def test_object_outside_the_range_still_explains():
    """The second detection of an object that is too small to count is a duplicate, not background."""
    truth = build_truth([(1, 1, 0, 0, 30, 22)])
    twice = build_predictions([(1, 1, 0, 0, 30, 22, 0.9), (1, 1, 0, 0, 30, 25, 0.8)])
    table = find_mistakes(truth, twice, range_of_interest=RangeOfInterest(24)).table
    assert table["kind"].tolist() == ["duplicate"]


# ── missed objects ───────────────────────────────────────────────────────────────────────────────────────────────


def test_missed():
    """An object without any overlap is missed: its box and size, no score, IoU 0."""
    table = find_mistakes(build_truth([(1, 2, 10, 20, 40, 60)]), build_predictions([])).table
    row = table.iloc[0]
    assert (row["box_id"], row["image_id"], row["class_id"], row["kind"], row["size"]) == (1, 1, 2, "missed", "medium")
    assert row[["x0", "y0", "x1", "y1"]].tolist() == [10, 20, 40, 60]
    assert row["iou"] == 0
    assert table[["score", "confused_with", "detection"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("detection", "kind", "confused_with"),
    [((1, 2, 0, 0, 100, 80, 0.9), "class", 2), ((1, 1, 0, 0, 100, 40, 0.9), "localisation", pd.NA)],
)
def test_explained_miss(detection, kind, confused_with):
    """An object that an error explains has a row of that kind, and does not count as missed in TIDE's kinds."""
    mistakes = find_mistakes(build_truth([FACE]), build_predictions([detection]))
    row = mistakes.missed.iloc[0]
    assert (row["kind"], row["detection"], row["iou"]) == (kind, 0, pytest.approx(detection[5] / 100))
    assert row["confused_with"] is confused_with or row["confused_with"] == confused_with
    assert mistakes.counts().kinds == {**dict.fromkeys(KINDS, 0), kind: 1}
    assert mistakes.counts().missed["large"] == 1


def test_best_scored_error_explains():
    """Of several errors on one object the one with the highest score explains it."""
    detections = [(1, 1, 0, 0, 100, 40, 0.6), (1, 2, 0, 0, 100, 80, 0.8), (1, 1, 0, 0, 100, 30, 0.7)]
    row = find_mistakes(build_truth([FACE]), build_predictions(detections)).missed.iloc[0]
    assert (row["kind"], row["detection"]) == ("class", 1)


def test_both_explains_nothing():
    """An object with a detection of another class at IoU 0.4 is missed, with that IoU."""
    mistakes = find_mistakes(build_truth([FACE]), build_predictions([(1, 2, 0, 0, 100, 40, 0.9)]))
    assert mistakes.missed["kind"].tolist() == ["missed"]
    assert mistakes.missed["iou"].tolist() == [pytest.approx(0.4)]


def test_low_scores_explain_nothing():
    """Detections below the score are no mistakes and explain none."""
    mistakes = find_mistakes(build_truth([FACE]), build_predictions([(1, 2, 0, 0, 100, 100, 0.4)]))
    assert mistakes.table["kind"].tolist() == ["missed"]


def test_outside_the_range_is_not_missed():
    """An object smaller than the range of interest is never missed."""
    truth = build_truth([(1, 1, 0, 0, 23, 90), (1, 1, 100, 0, 124, 90)])
    missed = find_mistakes(truth, build_predictions([]), range_of_interest=RangeOfInterest(24)).missed
    assert missed["box_id"].tolist() == [2]


# ── counts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sizes():
    """A miss has the size of the object, a false positive its own; exactly 32² counts as medium, 96² as large."""
    truth = build_truth([(1, 1, 0, 0, 31, 32), (1, 1, 200, 0, 232, 32), (1, 1, 400, 0, 496, 96)])
    counts = find_mistakes(
        truth, build_predictions([(1, 2, 0, 400, 96, 496, 0.9), (1, 2, 300, 400, 310, 410, 0.9)])
    ).counts()
    assert counts.missed == {"small": 1, "medium": 1, "large": 1}
    assert counts.false_positives == {"small": 1, "medium": 0, "large": 1}


def test_counts_equal_tide():
    """Counts by kind are those of TIDE's own code on the same boxes.

    From tidecv 1.0.1: fill `Data` for truth and for the detections of score 0.5 or more, then
    `TIDERun(truth, detections, 0.5, 0.1, TIDE.BOX, 10**6)` and count `errors` by `short_name`.
    """
    golden = {"missed": 42, "class": 7, "localisation": 25, "both": 3, "duplicate": 5, "background": 1}
    assert find_mistakes(*golden_case()).counts().kinds == golden


def test_counts_fit_the_contract():
    """Counts have the keys of the contract's `errors`, with all kinds and sizes even without mistakes."""
    counts = dataclasses.asdict(find_mistakes(build_truth([]), build_predictions([])).counts())
    none = dict.fromkeys(SIZES, 0)
    assert counts == {"missed": none, "false_positives": none, "kinds": dict.fromkeys(KINDS, 0)}


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_columns():
    """The table has the declared columns and types, also when empty."""
    for mistakes in (find_mistakes(*awkward_case(0)), find_mistakes(build_truth([]), build_predictions([]))):
        assert mistakes.table.dtypes.astype(str).to_dict() == dict(MISTAKE_COLUMNS)


def test_perfect_predictions_have_no_mistakes():
    """Perfect predictions have no mistakes, also where objects overlap."""
    truth, _ = awkward_case(0, crowds=False)
    assert find_mistakes(truth, perfect_predictions(truth)).table.empty


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**9), score=st.sampled_from([0, 0.5]), min_side_px=st.sampled_from([0, 32, 500]))
def test_one_row_a_mistake(seed, score, min_side_px):
    """Rows are exactly the missed objects and false positives of the matcher, and the input is unchanged."""
    truth, predictions = awkward_case(seed, images=3)
    boxes, detections = truth.boxes.copy(), predictions.boxes.copy()
    mistakes = find_mistakes(truth, predictions, OperatingPoint(0.5, score), RangeOfInterest(min_side_px))
    matches = mistakes.matches
    assert mistakes.missed["box_id"].tolist() == boxes["box_id"][matches.missed].tolist()
    assert mistakes.false_positives["detection"].tolist() == np.flatnonzero(matches.false_positives).tolist()
    assert set(mistakes.table["kind"]) <= set(KINDS)
    counts = mistakes.counts()
    assert sum(counts.missed.values()) == matches.missed.sum()
    assert sum(counts.kinds.values()) - counts.kinds["missed"] == sum(counts.false_positives.values())
    pd.testing.assert_frame_equal(truth.boxes, boxes)
    pd.testing.assert_frame_equal(predictions.boxes, detections)
