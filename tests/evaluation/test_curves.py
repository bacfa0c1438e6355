"""Curves by score: AP and precision against pycocotools, thresholds and histogram by hand."""

import numpy as np
import pytest
from evaluation_oracle import awkward_case, build_predictions, build_truth, oracle, perfect_predictions
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.evaluation.curves import (
    BestF1,
    Threshold,
    choose_threshold,
    count_scores,
    rank_outcomes,
    top_detections,
    trace_precision_recall,
)
from curate.evaluation.matching import match
from curate.evaluation.scores import score
from curate.operating_point import DEFAULT_POINT, OperatingPoint
from curate.sizes import RangeOfInterest


def outcomes_of(truth, predictions, range_of_interest=None):
    """The outcomes over all scores, at IoU 0.5."""
    counted = top_detections(predictions)
    return rank_outcomes(truth, counted, match(truth, counted, DEFAULT_POINT.over_all_scores(), range_of_interest))


def ladder(*rights):
    """Ten faces, and one detection per argument with scores 0.9, 0.8, …: on the next face, or on the background."""
    faces = [(1, 1, 60 * number, 0, 60 * number + 50, 50) for number in range(10)]
    detections = [
        (*(faces[number] if right else (1, 1, 0, 900, 50, 950)), round(0.9 - number / 10, 1))
        for number, right in enumerate(rights)
    ]
    return build_truth(faces, classes=((1, "face"),)), build_predictions(detections)


def threshold(case, precision=None):
    """The threshold of the first class of a case."""
    return choose_threshold(outcomes_of(*case), case[0].classes[0], precision)


# ── precision and recall ─────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**9), detections=st.sampled_from([0, 1, 4, 40]), side=st.sampled_from([None, 0, 32, 200]))
def test_ap_is_the_reported_ap50(seed, detections, side):
    """AP equals AP50 of `score`, or that of the range, with ties, crowds and over 100 detections of a class."""
    truth, predictions = awkward_case(seed, images=3, detections_per_object=detections)
    wanted = None if side is None else RangeOfInterest(side)
    reported = score(truth, predictions, wanted)
    expected = reported.ap50 if side is None else reported.range_of_interest.ap50
    ours = outcomes_of(truth, predictions, wanted).ap()
    assert ours is expected is None or ours == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_precision_equals_pycocotools(seed):
    """Precision at each of the 101 recalls equals what pycocotools accumulates, for each class."""
    truth, predictions = awkward_case(seed)
    accumulated = oracle(truth, predictions).eval["precision"][0, :, :, 0, -1]  # (R, K), classes by id
    curves = trace_precision_recall(outcomes_of(truth, predictions), truth.classes)
    for column, (_, name) in enumerate(sorted(truth.classes)):
        expected = accumulated[:, column]
        if curves.classes[name] is None:
            assert (expected == -1).all()
        else:
            np.testing.assert_allclose(curves.classes[name], expected, rtol=0, atol=1e-9)


def test_mean_is_over_classes_with_objects():
    """The mean curve leaves out a class without objects, which has no curve."""
    truth = build_truth([(1, 1, 0, 0, 50, 50)])
    curves = trace_precision_recall(outcomes_of(truth, perfect_predictions(truth)), truth.classes)
    assert curves.recall[:3] == (0, 0.01, 0.02)
    assert curves.classes == {"face": (1.0,) * 101, "mask": None}
    assert curves.mean == (1.0,) * 101


def test_no_objects():
    """Without objects, curve and AP are None."""
    truth = build_truth([], classes=((1, "face"),))
    outcomes = outcomes_of(truth, build_predictions([(1, 1, 0, 0, 5, 5, 0.5)]))
    assert (outcomes.ap(), trace_precision_recall(outcomes, truth.classes).mean) == (None, None)


def test_top_detections_keeps_the_best_of_each_class_and_image():
    """The best two of three detections of a class in an image are kept, in table order; of equal scores the first."""
    rows = [(1, 1, 0, 0, 9, 9, score) for score in (0.5, 0.7, 0.5)] + [(1, 2, 0, 0, 9, 9, 0.1), (2, 1, 0, 0, 9, 9, 0.2)]
    assert top_detections(build_predictions(rows), 2).boxes["score"].tolist() == [0.5, 0.7, 0.1, 0.2]


# ── thresholds ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_lowest_score_that_is_precise_enough():
    """For true, true, false, true, false: from 0.6 on three of four are correct, from 0.8 on all."""
    case = ladder(True, True, False, True, False)
    found = threshold(case, 0.75)
    assert (found.score, found.precision, found.recall) == (0.6, 0.75, 0.3)
    found = threshold(case, 1)
    assert (found.score, found.precision, found.recall) == (0.8, 1, 0.2)


def test_precision_that_is_never_reached():
    """A precision of 0.6 that is never reached gives None, and still a best F1."""
    found = threshold(ladder(False, True), 0.6)
    assert found == Threshold("face", None, None, None, BestF1(0.8, 0.5, 0.1, pytest.approx(2 / 12)))


def test_equal_scores_count_together():
    """Detections of equal score are never separated by a threshold."""
    face = (1, 1, 0, 0, 50, 50)
    truth = build_truth([face], classes=((1, "face"),))
    predictions = build_predictions([(*face, 0.7), (1, 1, 500, 500, 550, 550, 0.7)])
    found = threshold((truth, predictions), 0.9)
    assert (found.score, found.best_f1) == (None, BestF1(0.7, 0.5, 1, pytest.approx(2 / 3)))


def test_best_f1():
    """F1 is 2·correct / (detections + objects): best with three of four correct, 6/14."""
    assert threshold(ladder(True, True, False, True, False)).best_f1 == BestF1(0.6, 0.75, 0.3, pytest.approx(6 / 14))


def test_no_wish():
    """Without a target precision there is no score for it."""
    assert threshold(ladder(True)).score is None


@pytest.mark.parametrize("rows", [[], [(1, 1, 500, 500, 550, 550, 0.9)]])
def test_nothing_found(rows):
    """A class without true positives or without objects has no threshold."""
    for objects in ([], [(1, 1, 0, 0, 50, 50)]):
        case = build_truth(objects, classes=((1, "face"),)), build_predictions(rows)
        assert threshold(case, 0.5) == Threshold("face", None, None, None, None)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**9), wished=st.sampled_from([0.3, 0.5, 0.9]))
def test_threshold_keeps_its_promise(seed, wished):
    """The threshold is the lowest score at which the matcher itself gives the target precision."""
    truth, predictions = awkward_case(seed, images=2, per_image=6, crowds=False)
    for entry in truth.classes:
        found = choose_threshold(outcomes_of(truth, predictions), entry, wished)
        mine = predictions.boxes["class_id"].to_numpy() == entry.id
        precise = []
        for at in sorted(set(predictions.boxes["score"][mine])):
            matches = match(truth, predictions, OperatingPoint(0.5, at))
            right, wrong = (mine & matches.true_positives).sum(), (mine & matches.false_positives).sum()
            precise += [at] if right and right / (right + wrong) >= wished else []
        assert found.score == (precise[0] if precise else None)


# ── scores ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_histogram():
    """Bins of 0.05 include their lower edge; true and false positives are counted, ignored detections are not."""
    truth = build_truth([(1, 1, 0, 0, 50, 50), (1, 1, 500, 500, 900, 900, True)])
    rows = [
        (1, 1, 0, 0, 50, 50, 0.95),
        (1, 1, 0, 0, 50, 50, 0.15),
        (1, 2, 0, 0, 50, 50, 1.0),
        (1, 1, 600, 600, 650, 650, 1),
    ]
    histogram = count_scores(outcomes_of(truth, build_predictions(rows)))
    assert histogram.edges[:4] + histogram.edges[-2:] == (0, 0.05, 0.1, 0.15, 0.95, 1)
    assert [place for place, count in enumerate(histogram.true_positives) if count] == [19]
    assert [place for place, count in enumerate(histogram.false_positives) if count] == [3, 19]
    assert (sum(histogram.true_positives), sum(histogram.false_positives)) == (1, 2)


def test_scores_beyond_one():
    """Scores outside 0 to 1 are counted too."""
    histogram = count_scores(outcomes_of(build_truth([]), build_predictions([(1, 1, 0, 0, 5, 5, s) for s in (-3, 7)])))
    assert (histogram.edges[0], histogram.edges[-1], sum(histogram.false_positives)) == (-3, 7, 2)
