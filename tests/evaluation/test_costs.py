"""Costs of mistakes in AP: by hand, against loops and pycocotools, and against TIDE."""

import pytest
from cost_oracle import oracle_costs, without_crowds
from evaluation_oracle import awkward_case, build_predictions, build_truth, golden_case, perfect_predictions
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.evaluation.costs import COSTS
from curate.evaluation.judgement import EvaluationOptions, judge
from curate.sizes import RangeOfInterest

FACE, OTHER = (1, 1, 0, 0, 100, 100), (1, 1, 500, 500, 600, 600)
HALF = 51 / 101  # AP where one of two objects is found and nothing is wrong
NONE = dict.fromkeys(COSTS, 0.0)


def costs(truth_rows, detection_rows, **options):
    """The costs of a small case with faces only."""
    truth = build_truth(truth_rows, classes=((1, "face"), (2, "mask")))
    return judge(truth, build_predictions(detection_rows), EvaluationOptions(**options)).result.errors.ap_cost


def nearly(expected):
    return None if expected is None else pytest.approx(expected, rel=0, abs=1e-9)


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_missed_object():
    """With one of two faces found, AP is 1 without the missed object, and without false negatives."""
    gain = nearly(1 - HALF)
    assert costs([FACE, OTHER], [(*FACE, 0.9)]) == {**NONE, "missed": gain, "false_negatives": gain}


def test_badly_placed_detection():
    """A detection at IoU 0.4 would find the face with the correct box; the miss that it explains has no cost."""
    found = costs([FACE, OTHER], [(*FACE, 0.9), (1, 1, 500, 500, 600, 540, 0.8)])
    assert found == {**NONE, "localisation": nearly(1 - HALF), "false_negatives": nearly(1 - HALF)}


def test_background():
    """A false positive with a better score halves the precision; without it, AP is 1."""
    found = costs([FACE], [(1, 1, 500, 500, 600, 600, 0.95), (*FACE, 0.9)])
    assert found == {**NONE, "background": nearly(0.5), "false_positives": nearly(0.5)}


def test_duplicate():
    """A duplicate ranked between two true positives lowers the precision of the second to 2/3."""
    found = costs([FACE, OTHER], [(*FACE, 0.9), (*FACE, 0.8), (*OTHER, 0.7)])
    assert found == {**NONE, "duplicate": nearly(50 / 101 / 3), "false_positives": nearly(50 / 101 / 3)}


def test_wrong_class():
    """A mask detected as a face makes AP 0 for masks and 0.5 for faces; fixed, both are 1."""
    mask = (1, 2, 500, 500, 600, 600)
    found = costs([FACE, mask], [(1, 1, *mask[2:], 0.95), (*FACE, 0.9)])
    assert found["class"] == nearly(1 - 0.25)
    assert found["missed"] == nearly(0)


def test_class_that_is_found_nowhere_leaves_the_mean():
    """A class without its only object leaves the mean."""
    mask = (1, 2, 500, 500, 600, 600)
    assert costs([FACE, mask], [(*FACE, 0.9)])["missed"] == nearly(1 - 0.5)


def test_second_error_on_an_object_is_taken_away():
    """Of two localisation errors on one face, only the better-scored one becomes correct."""
    found = costs([FACE], [(1, 1, 0, 0, 100, 40, 0.9), (1, 1, 0, 0, 100, 30, 0.8)])
    assert found["localisation"] == nearly(1)


def test_low_scores_cost_too():
    """AP is over all scores, so mistakes below the operating point have a cost but are not counted."""
    truth = build_truth([FACE], classes=((1, "face"),))
    found = build_predictions([(1, 1, 500, 500, 600, 600, 0.2), (*FACE, 0.1)])
    errors = judge(truth, found).result.errors
    assert (errors.ap_cost["background"], errors.kinds["background"]) == (nearly(0.5), 0)


def test_perfect_predictions_cost_nothing():
    """Perfect predictions have no costs."""
    truth, _ = awkward_case(0, crowds=False)
    assert judge(truth, perfect_predictions(truth)).result.errors.ap_cost == NONE


def test_nothing_found():
    """If nothing is found, no class remains without the missed objects, and the cost is None."""
    assert costs([FACE], []) == {**NONE, "missed": None, "false_negatives": None}


def test_no_truth():
    """Without objects all costs are None."""
    assert costs([], [(*FACE, 0.9)]) == dict.fromkeys(COSTS)


def test_crowd_forgives():
    """A detection in a crowd costs nothing."""
    assert costs([FACE, (1, 1, 400, 400, 900, 900, True)], [(*OTHER, 0.95), (*FACE, 0.9)]) == NONE


def test_range_of_interest():
    """Objects outside the range have no cost, and a class error on such an object cannot become correct."""
    tiny = (1, 2, 500, 500, 520, 520)
    found = costs([FACE, tiny], [(1, 1, *tiny[2:], 0.95), (*FACE, 0.9)], interest=RangeOfInterest(24))
    assert found == NONE
    large = (1, 1, 500, 500, 525, 525, 0.95)  # in range itself, on the tiny mask
    found = costs([FACE, tiny], [large, (*FACE, 0.9)], interest=RangeOfInterest(24))
    assert found == {**NONE, "class": nearly(0.5), "false_positives": nearly(0.5)}


def test_more_than_a_hundred():
    """As in COCO's AP, only the 100 best detections per image and class are used; fixing the 101st gains nothing."""
    noise = [(1, 1, 500, 500, 600, 600, 0.9)] * 100
    assert costs([FACE], [*noise, (*FACE, 0.1)])["false_positives"] == nearly(0)
    assert costs([FACE], [*noise[1:], (*FACE, 0.1)])["false_positives"] == nearly(0.99)


# ── against others ───────────────────────────────────────────────────────────────────────────────────────────────


def test_costs_equal_tide():
    """On the golden boxes, the costs are those of TIDE's own code.

    From tidecv 1.0.1, over all detections: `TIDERun(truth, detections, 0.5, 0.1, TIDE.BOX, 10**6)`, then
    `fix_main_errors()` and `fix_special_errors()`, divided by 100.
    """
    golden = {
        "missed": 0.10281734885949416,
        "class": 0.06623221106722955,
        "localisation": 0.2598368969358613,
        "both": 0.006875640111854757,
        "duplicate": 0.01209957078517963,
        "background": 0.00308360734256464,
        "false_positives": 0.24148584987935418,
        "false_negatives": 0.25494302851803696,
    }
    assert judge(*golden_case()).result.errors.ap_cost == nearly(golden)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    images=st.integers(1, 3),
    objects=st.integers(1, 8),
    detections=st.sampled_from([0, 1, 4]),
    min_side_px=st.sampled_from([0, 32, 96]),
)
def test_costs_equal_mended_detections(seed, images, objects, detections, min_side_px):
    """Every cost is pycocotools' AP50 of the fixed detections minus that of the original ones."""
    truth, predictions = awkward_case(seed, images, objects, detections)
    truth = without_crowds(truth)
    ours = judge(truth, predictions, EvaluationOptions(RangeOfInterest(min_side_px))).result.errors.ap_cost
    _, theirs = oracle_costs(truth, predictions, min_side_px)
    assert {kind: ours[kind] for kind in COSTS} == {kind: nearly(theirs[kind]) for kind in COSTS}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_mending_never_costs(seed):
    """No cost is negative, and removing one kind of false positive gains at most as much as removing all."""
    truth, predictions = awkward_case(seed, images=3)
    found = judge(truth, predictions).result.errors.ap_cost
    assert min(cost for cost in found.values() if cost is not None) >= 0
    assert max(found["duplicate"], found["background"], found["both"]) <= found["false_positives"]
