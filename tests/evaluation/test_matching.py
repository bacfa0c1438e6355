"""Matching: against pycocotools, and by hand."""

import numpy as np
import pandas as pd
import pytest
from evaluation_oracle import awkward_case, build_predictions, build_truth, oracle, perfect_predictions
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dataset import Predictions
from curate.errors import DataError
from curate.evaluation import matching
from curate.evaluation.matching import ignore_difficult, match, match_any_class
from curate.operating_point import OperatingPoint
from curate.sizes import RangeOfInterest


def oracle_matches(truth, predictions, iou, range_of_interest):
    """pycocotools' dtMatches, dtIgnore and gtMatches by the rows of our tables."""
    low = 0 if range_of_interest is None else range_of_interest.min_side_px
    run = oracle(truth, predictions, by_side=True, area_ranges=[[low, 1e10]], max_detections=[10**6], iou=iou)
    row_of = {box_id: row for row, box_id in enumerate(truth.boxes["box_id"].tolist())}
    truth_row, ignored = np.full(len(predictions.boxes), -1), np.zeros(len(predictions.boxes), dtype=bool)
    detection_row = np.full(len(truth.boxes), -1)
    for result in filter(None, run.evalImgs):
        for detection, box_id, ignore in zip(
            result["dtIds"], result["dtMatches"][0], result["dtIgnore"][0], strict=True
        ):
            truth_row[detection - 1] = row_of[int(box_id)] if box_id else -1
            ignored[detection - 1] = ignore
        for box_id, detection in zip(result["gtIds"], result["gtMatches"][0], strict=True):
            detection_row[row_of[box_id]] = int(detection) - 1
    return truth_row, ignored, detection_row


@pytest.mark.parametrize("iou", [0.1, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("range_of_interest", [None, RangeOfInterest(32)])
def test_matches_equal_pycocotools(iou, range_of_interest):
    """Matches and ignore flags equal pycocotools', including crowds and ties."""
    for seed in range(4):
        truth, predictions = awkward_case(seed)
        ours = match(truth, predictions, OperatingPoint(iou, 0), range_of_interest)
        truth_row, ignored, detection_row = oracle_matches(truth, predictions, iou, range_of_interest)
        np.testing.assert_array_equal(ours.truth_row, truth_row)
        np.testing.assert_array_equal(ours.detection_ignored, ignored)
        np.testing.assert_array_equal(ours.detection_row, detection_row)


def test_blocks_do_not_show(monkeypatch):
    """The size of the blocks of pairs, which limits memory, does not change the matches."""
    truth, predictions = awkward_case(0)
    whole = match(truth, predictions, OperatingPoint(0.5, 0))
    monkeypatch.setattr(matching, "PAIRS_AT_ONCE", 7)
    np.testing.assert_array_equal(match(truth, predictions, OperatingPoint(0.5, 0)).truth_row, whole.truth_row)


def test_better_score_chooses_first():
    """The higher score takes the object, even if the other detection has a better IoU and comes first."""
    truth = build_truth([(1, 1, 0, 0, 100, 100)])
    predictions = build_predictions([(1, 1, 0, 0, 100, 100, 0.6), (1, 1, 0, 0, 100, 70, 0.9)])
    ours = match(truth, predictions)
    assert ours.truth_row.tolist() == [-1, 0]
    assert ours.detection_row.tolist() == [1]
    assert ours.false_positives.tolist() == [True, False]


def test_equal_scores_keep_table_order():
    """Of two detections with equal scores the first in the table chooses first."""
    truth = build_truth([(1, 1, 0, 0, 100, 100)])
    predictions = build_predictions([(1, 1, 0, 0, 100, 70, 0.9), (1, 1, 0, 0, 100, 100, 0.9)])
    assert match(truth, predictions).truth_row.tolist() == [0, -1]


def test_best_free_object_is_taken():
    """A detection takes the free object with the highest IoU, the next one another object above the threshold."""
    truth = build_truth([(1, 1, 0, 0, 100, 60), (1, 1, 0, 0, 100, 90)])
    predictions = build_predictions([(1, 1, 0, 0, 100, 100, 0.9), (1, 1, 0, 0, 100, 100, 0.8)])
    assert match(truth, predictions).truth_row.tolist() == [1, 0]


def test_threshold_is_reached_when_equal():
    """An IoU of exactly 0.5 is a match, a slightly lower one is not."""
    truth = build_truth([(1, 1, 0, 0, 100, 100), (1, 1, 500, 500, 600, 600)])
    predictions = build_predictions([(1, 1, 0, 0, 100, 50, 0.9), (1, 1, 500, 500, 600, 549.9, 0.9)])
    assert match(truth, predictions).truth_row.tolist() == [0, -1]


def test_class_and_image_must_agree():
    """The same box in another class or image does not match."""
    truth = build_truth([(1, 1, 0, 0, 50, 50)], images=(1, 2))
    predictions = build_predictions([(1, 2, 0, 0, 50, 50, 0.9), (2, 1, 0, 0, 50, 50, 0.9)])
    assert match(truth, predictions).missed.tolist() == [True]


def test_low_scores_take_no_part():
    """A detection below the score is left out; one at the score is not."""
    truth = build_truth([(1, 1, 0, 0, 50, 50), (1, 1, 100, 100, 150, 150)])
    predictions = build_predictions([(1, 1, 0, 0, 50, 50, 0.49), (1, 1, 100, 100, 150, 150, 0.5)])
    ours = match(truth, predictions, OperatingPoint(0.5, 0.5))
    assert ours.kept.tolist() == [False, True]
    assert ours.truth_row.tolist() == [-1, 1]
    assert not ours.false_positives.any()


def test_crowd_absorbs_any_number():
    """Any number of detections inside a crowd are ignored, and a crowd is never missed."""
    crowd = [(1, 1, 0, 0, 500, 500, True)]
    inside = [(1, 1, 10 * i, 0, 10 * i + 10, 10, 0.9) for i in range(3)]
    ours = match(build_truth(crowd), build_predictions(inside))
    assert ours.truth_row.tolist() == [0, 0, 0]
    assert ours.detection_ignored.all()
    assert not match(build_truth(crowd), build_predictions([])).missed.any()


def test_counted_object_before_crowd():
    """An object that counts is preferred to a crowd that covers the detection better."""
    truth = build_truth([(1, 1, 0, 0, 500, 500, True), (1, 1, 0, 0, 100, 60)])
    assert match(truth, build_predictions([(1, 1, 0, 0, 100, 100, 0.9)])).truth_row.tolist() == [1]


def test_outside_the_range_costs_nothing():
    """Objects outside the range, detections that find them, and small detections that find none are ignored."""
    truth = build_truth([(1, 1, 0, 0, 20, 20)])
    predictions = build_predictions(
        [(1, 1, 0, 0, 20, 20, 0.9), (1, 1, 90, 90, 99, 99, 0.9), (1, 1, 0, 500, 50, 550, 0.9)]
    )
    ours = match(truth, predictions, range_of_interest=RangeOfInterest(24))
    assert ours.truth_ignored.tolist() == [True]
    assert ours.detection_ignored.tolist() == [True, True, False]
    assert ours.false_positives.tolist() == [False, False, True]


def test_small_detection_may_find_an_object_in_range():
    """A detection smaller than the range that finds an object inside it counts."""
    truth = build_truth([(1, 1, 0, 0, 24, 24)])
    ours = match(truth, build_predictions([(1, 1, 0, 0, 23, 23, 0.9)]), range_of_interest=RangeOfInterest(24))
    assert ours.true_positives.tolist() == [True]


def test_any_class_takes_what_it_overlaps():
    """A detection takes the free object of any class with the highest IoU, and the better score chooses first."""
    truth = build_truth([(1, 1, 0, 0, 100, 100), (1, 2, 0, 0, 100, 80)])
    predictions = build_predictions([(1, 1, 0, 0, 100, 80, 0.8), (1, 1, 0, 0, 100, 80, 0.9)])
    assert match_any_class(truth, predictions).truth_row.tolist() == [0, 1]


def test_crowds_absorb_their_own_class_only():
    """A crowd absorbs no detection of another class, also in `match_any_class`."""
    truth = build_truth([(1, 1, 0, 0, 500, 500, True)])
    ours = match_any_class(truth, build_predictions([(1, 1, 0, 0, 50, 50, 0.9), (1, 2, 0, 0, 50, 50, 0.9)]))
    assert ours.detection_ignored.tolist() == [True, False]
    assert ours.false_positives.tolist() == [False, True]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**9), min_side_px=st.sampled_from([0, 32]))
def test_any_class_of_one_class_is_match(seed, min_side_px):
    """With a single class, both matchers agree, including crowds and the range of interest."""
    truth, predictions = awkward_case(seed, images=3)
    truth = truth.replace(boxes=truth.boxes.assign(class_id=np.int32(9)))
    predictions = Predictions(predictions.boxes.assign(class_id=np.int32(9)))
    wanted = RangeOfInterest(min_side_px)
    ours, theirs = (one(truth, predictions, OperatingPoint(0.5, 0), wanted) for one in (match_any_class, match))
    np.testing.assert_array_equal(ours.truth_row, theirs.truth_row)
    np.testing.assert_array_equal(ours.detection_ignored, theirs.detection_ignored)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**9), score=st.sampled_from([0, 0.5, 1]), min_side_px=st.sampled_from([0, 32, 500]))
def test_everything_is_counted_once(seed, score, min_side_px):
    """Every object and every kept detection has exactly one outcome; the input is unchanged."""
    truth, predictions = awkward_case(seed, images=3)
    boxes, detections = truth.boxes.copy(), predictions.boxes.copy()
    ours = match(truth, predictions, OperatingPoint(0.5, score), RangeOfInterest(min_side_px))
    assert (ours.found.astype(int) + ours.missed + ours.truth_ignored == 1).all()
    assert (ours.true_positives.astype(int) + ours.false_positives + ours.detection_ignored == ours.kept).all()
    assert ours.found.sum() == ours.true_positives.sum()
    pd.testing.assert_frame_equal(truth.boxes, boxes)
    pd.testing.assert_frame_equal(predictions.boxes, detections)


def test_perfect_predictions_find_everything():
    """Perfect predictions find every object, without false positives."""
    truth, _ = awkward_case(4, crowds=False)
    ours = match(truth, perfect_predictions(truth))
    assert ours.found.all()
    assert not ours.false_positives.any()


def test_empty_tables():
    """Tables without objects, detections or images raise no error."""
    assert len(match(build_truth([]), build_predictions([])).truth_row) == 0
    assert len(match(build_truth([], images=(), classes=()), build_predictions([])).truth_row) == 0


def test_unknown_image_is_refused():
    """A detection on an unknown image raises an error."""
    with pytest.raises(DataError, match="image id"):
        match(build_truth([]), build_predictions([(2, 1, 0, 0, 5, 5, 0.1)]))


# ── difficult objects ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def difficult():
    """An object that counts beside a difficult one that overlaps it, marked to be ignored."""
    truth = build_truth([(1, 1, 0, 0, 100, 100), (1, 1, 20, 0, 120, 100)])
    return ignore_difficult(truth.replace(boxes=truth.boxes.assign(difficult=[False, True])))


def test_difficult_object_is_neither_found_nor_missed(difficult):
    """A difficult object is never missed, and the detections of it are ignored, however many."""
    assert match(difficult, build_predictions([])).missed.tolist() == [True, False]
    ours = match(difficult, build_predictions([(1, 1, 25, 0, 120, 100, 0.9 - 0.1 * n) for n in range(3)]))
    assert ours.truth_row.tolist() == [0, 1, 1]  # the object that counts comes first
    assert ours.detection_ignored.tolist() == [False, True, True]
    assert not ours.false_positives.any()


def test_difficult_object_is_matched_by_iou(difficult):
    """A small box inside a difficult object does not find it, unlike in a crowd."""
    ours = match(difficult, build_predictions([(1, 1, 104, 0, 116, 12, 0.9)]))
    assert ours.false_positives.tolist() == [True]


def test_difficult_object_in_the_matrix(difficult):
    """For the confusion matrix it takes detections of any class, like an object outside the range."""
    ours = match_any_class(difficult, build_predictions([(1, 2, 25, 0, 120, 100, 0.9), (1, 1, 0, 0, 100, 100, 0.8)]))
    assert ours.truth_row.tolist() == [0, 1]
    assert ours.detection_ignored.tolist() == [False, True]
