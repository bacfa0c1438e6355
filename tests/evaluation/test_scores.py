"""COCO's scores: every reported one against pycocotools."""

import dataclasses
import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from evaluation_oracle import (
    STATS,
    awkward_case,
    build_predictions,
    build_truth,
    jittered,
    oracle,
    oracle_numbers,
    perfect_predictions,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import DataError
from curate.evaluation.coco_results import read_results
from curate.evaluation.curves import rank_outcomes, top_detections
from curate.evaluation.matching import ignore_difficult, match
from curate.evaluation.scores import score, self_check_ap
from curate.operating_point import OperatingPoint
from curate.sizes import RangeOfInterest

SEEDS = range(6)
RANGES = [0, 24, 32, 33, 96, 1000]


def agree(ours, theirs):
    """Both undefined, or equal to within 1e-9."""
    return ours is theirs is None or (
        None not in (ours, theirs) and math.isclose(ours, theirs, rel_tol=0, abs_tol=1e-9)
    )


def disagreements(ours, expected, names):
    return {
        name: (getattr(ours, name), expected[name]) for name in names if not agree(getattr(ours, name), expected[name])
    }


# ── against pycocotools ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", SEEDS)
def test_twelve_numbers(seed):
    """All twelve scores equal pycocotools' on data with ties, crowds, gaps in ids and sizes on the bounds."""
    truth, predictions = awkward_case(seed)
    assert disagreements(score(truth, predictions), oracle_numbers(oracle(truth, predictions)), STATS) == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_by_class(seed):
    """The scores of a class equal pycocotools' for that class alone."""
    truth, predictions = awkward_case(seed)
    names = ["ap", "ap50", "ap_small", "ap_medium", "ap_large"]
    for entry, ours in zip(truth.classes, score(truth, predictions).classes, strict=True):
        assert ours.name == entry.name
        assert disagreements(ours, oracle_numbers(oracle(truth, predictions, class_id=entry.id)), names) == {}


@pytest.mark.parametrize("min_side_px", RANGES)
def test_range_of_interest(min_side_px):
    """The scores of the range equal pycocotools' with the shorter side in place of the area."""
    truth, predictions = awkward_case(1)
    ours = score(truth, predictions, RangeOfInterest(min_side_px)).range_of_interest
    expected = oracle_numbers(oracle(truth, predictions, by_side=True, area_ranges=[[min_side_px, 1e10]] * 4))
    assert disagreements(ours, expected, ["ap", "ap50", "ap75", "ar_100"]) == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_by_min_side(seed):
    """AP and AP50 of every smallest side, all from one pass, equal pycocotools' for that side alone."""
    truth, predictions = awkward_case(seed)
    for ours, side in zip(score(truth, predictions, min_sides_px=RANGES).by_min_side, RANGES, strict=True):
        expected = oracle_numbers(oracle(truth, predictions, by_side=True, area_ranges=[[side, 1e10]] * 4))
        assert (ours.min_side_px, disagreements(ours, expected, ["ap", "ap50"])) == (side, {})


def test_by_min_side_is_the_range_of_interest():
    """A smallest side that is also the range of interest has the same scores."""
    truth, predictions = awkward_case(2)
    for side in RANGES:
        alone = score(truth, predictions, RangeOfInterest(side)).range_of_interest
        both = score(truth, predictions, RangeOfInterest(side), RANGES)
        (entry,) = [one for one in both.by_min_side if one.min_side_px == side]
        assert (entry.truth, entry.ap, entry.ap50) == (alone.truth, alone.ap, alone.ap50)
        assert both.range_of_interest == alone


def test_by_min_side_counts_objects():
    """Each entry counts the objects in its range, without crowds; beyond the largest there is no AP."""
    truth = build_truth([(1, 1, 0, 0, 24, 90), (1, 1, 100, 0, 200, 90), (1, 1, 300, 300, 600, 600, True)])
    entries = score(truth, perfect_predictions(truth), min_sides_px=[0, 24, 25, 91]).by_min_side
    assert [entry.truth for entry in entries] == [2, 2, 1, 0]
    assert [entry.ap for entry in entries] == [pytest.approx(1), pytest.approx(1), pytest.approx(1), None]


@pytest.mark.parametrize("detections_per_object", [0.5, 40])
def test_few_and_many_detections(detections_per_object):
    """Detections beyond 100 per image and class are left out as in pycocotools, including ties."""
    truth, predictions = awkward_case(3, images=3, detections_per_object=detections_per_object)
    most = predictions.boxes.groupby(["image_id", "class_id"]).size().max()
    assert (most > 100) == (detections_per_object == 40)
    assert disagreements(score(truth, predictions), oracle_numbers(oracle(truth, predictions)), STATS) == {}


def test_jittered_truth():
    """A realistic detector has the scores of pycocotools, strictly between 0 and 1."""
    truth, _ = awkward_case(5, images=12, crowds=False)
    ours = score(truth, jittered(truth))
    assert disagreements(ours, oracle_numbers(oracle(truth, jittered(truth))), STATS) == {}
    assert 0.05 < ours.ap < 0.95


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    images=st.integers(1, 4),
    objects=st.integers(1, 8),
    detections=st.sampled_from([0, 1, 9]),
)
def test_any_small_case(seed, images, objects, detections):
    """Random small cases have the scores of pycocotools, and evaluation does not change its input."""
    truth, predictions = awkward_case(seed, images, objects, detections)
    before = truth.images.copy(), truth.boxes.copy(), predictions.boxes.copy()
    ours = score(truth, predictions, RangeOfInterest(32))
    assert disagreements(ours, oracle_numbers(oracle(truth, predictions)), STATS) == {}
    for old, new in zip(before, (truth.images, truth.boxes, predictions.boxes), strict=True):
        pd.testing.assert_frame_equal(old, new)


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_perfect_predictions():
    """Perfect predictions score 1 wherever there is truth, including overlaps and the range of interest."""
    truth, _ = awkward_case(0, crowds=False)
    ours = score(truth, perfect_predictions(truth), RangeOfInterest(32))
    assert [ours.ap, ours.ap50, ours.ap_small, ours.ap_large] == pytest.approx([1] * 4, abs=1e-9)
    assert ours.range_of_interest.ap == pytest.approx(1, abs=1e-9)


def test_half_found():
    """With one of two objects found, 51 of 101 recall levels have precision 1, and AP is 51/101."""
    truth = build_truth([(1, 1, 0, 0, 50, 50), (1, 1, 100, 100, 150, 150)])
    ours = score(truth, build_predictions([(1, 1, 0, 0, 50, 50, 0.9)]))
    assert ours.ap == pytest.approx(51 / 101)
    assert ours.ar_100 == pytest.approx(0.5)


def test_overlap_decides_the_thresholds():
    """At IoU 0.6 an object is found at the thresholds 0.50, 0.55 and 0.60 of ten."""
    truth = build_truth([(1, 1, 0, 0, 100, 100)])
    ours = score(truth, build_predictions([(1, 1, 0, 0, 100, 60, 0.9)]))
    assert (ours.ap50, ours.ap75) == pytest.approx((1, 0))
    assert ours.ap == pytest.approx(0.3)


def test_exactly_32_squared_is_small_and_medium():
    """AP by size uses COCO's inclusive bounds: 32 × 32 px is small and medium."""
    truth = build_truth([(1, 1, 0, 0, 32, 32)])
    ours = score(truth, perfect_predictions(truth))
    assert (ours.ap_small, ours.ap_medium) == pytest.approx((1, 1))
    assert ours.ap_large is None


def test_range_holds_its_own_bound():
    """A shorter side of exactly PX is in the range, as in `RangeOfInterest.contains`; a shorter one is ignored."""
    truth = build_truth([(1, 1, 0, 0, 24, 90), (1, 1, 100, 100, 123.9, 190)])
    found_first = build_predictions([(1, 1, 0, 0, 24, 90, 0.9)])
    ours = score(truth, found_first, RangeOfInterest(24))
    assert ours.range_of_interest.truth == 1
    assert ours.range_of_interest.ap == pytest.approx(1)
    assert ours.ap < 0.6


def test_false_positives_below_the_range_are_free():
    """Detections smaller than the range that match nothing lower AP, but not AP in the range."""
    truth = build_truth([(1, 1, 0, 0, 50, 50)])
    noisy = build_predictions([(1, 1, 500, 500, 510, 510, 0.95), (1, 1, 0, 0, 50, 50, 0.9)])
    ours = score(truth, noisy, RangeOfInterest(24))
    assert ours.range_of_interest.ap == pytest.approx(1)
    assert ours.ap == pytest.approx(0.5)


def test_no_detections():
    """Without detections the scores are 0 with truth and None without."""
    truth = build_truth([(1, 1, 0, 0, 10, 10)])
    ours = score(truth, build_predictions([]), RangeOfInterest(5))
    assert (ours.ap, ours.ap50, ours.ap_small, ours.ar_1, ours.ar_small) == (0, 0, 0, 0, 0)
    assert (ours.ap_large, ours.ar_medium) == (None, None)
    assert (ours.range_of_interest.ap, ours.range_of_interest.ar_100) == (0, 0)
    assert (ours.images, ours.truth, ours.detections) == (1, 1, 0)


def test_no_truth():
    """Without truth every score is None, and counts are reported."""
    ours = score(build_truth([]), build_predictions([(1, 1, 0, 0, 5, 5, 0.5)]), RangeOfInterest(5))
    assert {getattr(ours, name) for name in STATS} == {None}
    assert (ours.truth, ours.detections) == (0, 1)
    assert ours.range_of_interest == dataclasses.replace(ours.range_of_interest, truth=0, ap=None, ar_100=None)


def test_no_images():
    """An empty selection, even without classes, gives None and no error."""
    ours = score(build_truth([], images=(), classes=()), build_predictions([]), RangeOfInterest(5))
    assert (ours.images, ours.ap, ours.classes) == (0, None, ())


def test_crowds_are_not_truth():
    """A crowd does not count as an object, and detections inside it are ignored."""
    truth = build_truth([(1, 1, 0, 0, 50, 50), (1, 1, 200, 200, 600, 600, True)])
    ours = score(truth, build_predictions([(1, 1, 300, 300, 330, 330, 0.95), (1, 1, 0, 0, 50, 50, 0.9)]))
    assert (ours.truth, ours.classes[0].truth) == (1, 1)
    assert ours.ap == pytest.approx(1)


def test_classes_keep_the_declared_order():
    """Class scores come in declared order, not by id, and are None for sizes without objects."""
    truth = build_truth([(1, 9, 0, 0, 10, 10)], classes=((9, "late"), (2, "early")))
    late, early = score(truth, perfect_predictions(truth)).classes
    assert (late.name, late.truth, late.ap_large) == ("late", 1, None)
    assert late.ap == late.ap_small == pytest.approx(1)
    assert (early.name, early.truth, early.ap) == ("early", 0, None)


@pytest.mark.parametrize(
    ("row", "message"),
    [((7, 1), r"row 1.*image id \(got 7"), ((1, 5), r"row 1.*class id \(got 5; .* 2 evaluated classes")],
)
def test_unknown_ids_are_refused(row, message):
    """A detection of an unknown image or class raises an error with its row and id."""
    rows = [(1, 1, 0, 0, 5, 5, 0.5), (*row, 0, 0, 5, 5, 0.5)]
    with pytest.raises(DataError, match=message):
        score(build_truth([]), build_predictions(rows))


def test_evaluation_is_silent(capfd):
    """Neither Python nor the compiled evaluator prints or warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(*awkward_case(0), RangeOfInterest(24))
    assert capfd.readouterr() == ("", "")


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_coco(folder, boxes_xywh, **changes):
    path = folder / "instances.json"
    annotations = [
        {"id": i, "image_id": 4, "category_id": 2, "bbox": box, "area": box[2] * box[3], "iscrowd": 0, **changes}
        for i, box in enumerate(boxes_xywh, 1)
    ]
    images = [{"id": 4, "file_name": "a.jpg", "width": 900, "height": 900}]
    path.write_text(json.dumps({"images": images, "categories": [{"id": 2, "name": "a"}], "annotations": annotations}))
    return path


def test_self_check_of_a_crowded_image(tmp_path):
    """An image with 400 overlapping objects has AP 1, since there is no limit of 100 detections."""
    boxes = [[i % 20 * 5.5, i // 20 * 7.25, 30, 20] for i in range(400)]
    assert self_check_ap(write_coco(tmp_path, boxes)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("boxes", "changes"), [([], {}), ([[0, 0, 9, 9]], {"iscrowd": 1})])
def test_self_check_without_objects(tmp_path, boxes, changes):
    """A file without objects that count gives None."""
    assert self_check_ap(write_coco(tmp_path, boxes, **changes)) is None


def test_self_check_of_an_empty_box(tmp_path):
    """A box without area cannot match itself and lowers AP."""
    assert self_check_ap(write_coco(tmp_path, [[0, 0, 9, 9], [50, 50, 0, 9]])) < 0.9


@pytest.mark.parametrize("changes", [{"image_id": 5}, {"category_id": 1}, {"bbox": None}])
def test_self_check_of_a_broken_file(tmp_path, changes):
    """A file with dangling ids or without boxes raises an error with its name."""
    with pytest.raises(DataError, match=r"instances\.json"):
        self_check_ap(write_coco(tmp_path, [[0, 0, 9, 9]], **changes))


@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_results_with_few_decimals(tmp_path, decimals):
    """Rounded boxes, many of them on a bound between sizes, have the scores that pycocotools computes from the file."""
    random = np.random.default_rng(7)
    xy, sides = random.integers(0, 300, (400, 2)), random.choice([16, 24, 32, 64, 96], (400, 2))
    rows = [(1 + i % 20, 1, *xy[i], *(xy[i] + sides[i])) for i in range(400)]
    truth = build_truth(rows, images=range(1, 21), classes=((1, "face"),))
    left_top = (xy + random.normal(0, 2, (400, 2))).round(decimals)
    results = [
        {"image_id": row[0], "category_id": 1, "bbox": [*map(float, (*at, *size))], "score": float(random.random())}
        for row, at, size in zip(rows, left_top, sides, strict=True)
    ]
    (tmp_path / "p.json").write_text(json.dumps(results))
    ours = score(truth, read_results(tmp_path / "p.json"))
    assert disagreements(ours, oracle_numbers(oracle(truth, results)), STATS) == {}


def test_scores_are_plain_numbers():
    """Scores become JSON as they are: Python's int, float and None."""
    values = dataclasses.asdict(score(*awkward_case(0), RangeOfInterest(24)))
    assert json.loads(json.dumps(values))["ap"] == values["ap"]
    assert not any(isinstance(value, np.generic) for value in values.values())


# ── more than 100 detections; difficult objects ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("limit", [1, 5, 10, 30, 100, 300])
def test_limit_of_detections(limit):
    """With another limit, AP, AR and the range of interest are pycocotools' with that limit."""
    truth, predictions = awkward_case(1, per_image=60)
    ours = score(truth, predictions, RangeOfInterest(32), max_detections=limit)
    limits = sorted({min(1, limit), min(10, limit), limit})
    run = oracle(truth, predictions, max_detections=[*limits, *limits[-1:] * (3 - len(limits))])
    precision, recall = run.eval["precision"][:, :, :, 0, len(limits) - 1], run.eval["recall"]
    assert ours.ap == pytest.approx(precision[precision > -1].mean(), abs=1e-12)
    for name, number in (("ar_1", 1), ("ar_10", 10), ("ar_100", limit)):
        values = recall[:, :, 0, limits.index(min(number, limit))]
        assert getattr(ours, name) == pytest.approx(values[values > -1].mean(), abs=1e-12)
    by_side = oracle(truth, predictions, by_side=True, area_ranges=[[32, 1e10]] * 4, max_detections=[1, 1, limit])
    in_range = by_side.eval["precision"][:, :, :, 0, -1]
    assert ours.range_of_interest.ap == pytest.approx(in_range[in_range > -1].mean(), abs=1e-12)
    assert ours.max_detections == limit


def mark_difficult(truth, *rows):
    """The truth with these rows difficult, and these marked to be ignored."""
    return ignore_difficult(truth.replace(boxes=truth.boxes.assign(difficult=truth.boxes.index.isin(rows))))


def test_difficult_objects_are_not_counted():
    """Difficult objects that are marked are not to be found, in whole, by class, by size and in a range."""
    truth = build_truth([(1, 1, 0, 0, 50, 50), (1, 1, 100, 100, 150, 150), (1, 2, 300, 300, 350, 350)])
    found = build_predictions([(1, 1, 0, 0, 50, 50, 0.9)])
    scores = score(mark_difficult(truth, 1, 2), found, RangeOfInterest(24), [0, 40])
    assert (scores.truth, scores.ar_100) == (1, 1)
    assert [entry.truth for entry in scores.classes] == [1, 0]
    assert [scores.range_of_interest.truth, *(entry.truth for entry in scores.by_min_side)] == [1, 1, 1]
    aps = [scores.ap, scores.ap_medium, scores.range_of_interest.ap, *(entry.ap for entry in scores.by_min_side)]
    assert aps == pytest.approx([1] * 5)
    assert (scores.ap_large, scores.classes[1].ap) == (None, None)
    assert score(truth, found).ap < 0.3


def test_detections_of_a_difficult_object_are_not_false():
    """Any number of detections of a difficult object are neither true nor false; one beside it is false."""
    truth = build_truth([(1, 1, 0, 0, 50, 50), (1, 1, 100, 100, 150, 150)])
    twice = [(1, 1, 100, 100, 150, 150, 0.95), (1, 1, 101, 101, 150, 150, 0.92), (1, 1, 0, 0, 50, 50, 0.9)]
    assert score(mark_difficult(truth, 1), build_predictions(twice)).ap == pytest.approx(1)
    beside = [(1, 1, 130, 130, 180, 180, 0.95), (1, 1, 0, 0, 50, 50, 0.9)]
    assert score(mark_difficult(truth, 1), build_predictions(beside)).ap == pytest.approx(0.5)


def test_other_rules_for_difficult_objects_agree():
    """AP of hotcoco with difficult objects is that of our own matching, for hard cases with crowds."""
    for seed in range(6):
        truth, predictions = awkward_case(seed)
        random = np.random.default_rng(seed)
        marked = mark_difficult(truth, *np.flatnonzero(random.random(len(truth.boxes)) < 0.3))
        for interest in (None, RangeOfInterest(32)):
            scores = score(marked, predictions, interest)
            ranked = top_detections(predictions)
            matches = match(marked, ranked, OperatingPoint(0.5, -np.inf), interest)
            ap50 = scores.range_of_interest.ap50 if interest else scores.ap50
            assert rank_outcomes(marked, ranked, matches).ap() == pytest.approx(ap50, abs=1e-12)


def test_nothing_is_marked():
    """Difficult objects count where they are not marked, and a mark without difficult objects changes nothing."""
    truth, predictions = awkward_case(0)
    assert score(ignore_difficult(truth), predictions) == score(truth, predictions)
    difficult = truth.replace(boxes=truth.boxes.assign(difficult=True))
    assert score(difficult, predictions) == score(truth, predictions)
    assert score(ignore_difficult(difficult), predictions).ap is None
