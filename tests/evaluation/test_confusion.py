"""What objects are taken for: by hand, and against hotcoco."""

import numpy as np
import pytest
from evaluation_oracle import awkward_case, build_predictions, build_truth, jittered, perfect_predictions
from hotcoco import COCOeval

from curate.dataset import Predictions
from curate.evaluation.coco_run import load_detections, to_coco
from curate.evaluation.confusion import count_confusion
from curate.operating_point import OperatingPoint
from curate.sizes import RangeOfInterest

FACE, MASK = (1, 1, 0, 0, 100, 100), (1, 2, 500, 500, 600, 600)


def matrix(truth_rows, detection_rows, **options):
    """The matrix of a small case with the classes face and mask."""
    return [
        list(row)
        for row in count_confusion(build_truth(truth_rows), build_predictions(detection_rows), **options).matrix
    ]


def test_each_place_of_the_matrix():
    """Found, confused, missed and found on nothing: a row the truth, a column what it was taken for."""
    third, fourth = (1, 2, 0, 500, 100, 600), (1, 1, 500, 0, 600, 100)
    found = [(*FACE, 0.9), (1, 1, *MASK[2:], 0.9), (*third, 0.9), (1, 2, 800, 800, 900, 900, 0.9)]
    assert matrix([FACE, MASK, third, fourth], found) == [[1, 0, 1], [1, 1, 0], [0, 1, 0]]


def test_names():
    """Classes are named in declared order, with the background behind."""
    assert count_confusion(build_truth([]), build_predictions([])).classes == ("face", "mask", "background")


def test_best_score_decides():
    """A face that is called a mask first and a face second is taken for a mask; the second is on nothing."""
    assert matrix([FACE], [(*FACE, 0.8), (1, 2, *FACE[2:], 0.9)]) == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_low_scores_take_no_part():
    """Below the score, nothing is found."""
    assert matrix([FACE], [(*FACE, 0.4)]) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert matrix([FACE], [(*FACE, 0.4)], point=OperatingPoint(0.5, 0.4)) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_range_of_interest():
    """Objects outside the range are in no row, and what finds them, or is outside itself, in no column."""
    small = (1, 2, 500, 500, 520, 520)
    found = [(*FACE, 0.9), (*small, 0.9), (1, 1, 800, 800, 810, 810, 0.9)]
    assert matrix([FACE, small], found, range_of_interest=RangeOfInterest(24)) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_crowds():
    """A crowd is no object and forgives detections of its class only."""
    crowd = (1, 1, 0, 0, 500, 500, True)
    assert matrix([crowd], [(*FACE, 0.9), (1, 2, *FACE[2:], 0.9)]) == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("classes", [(), ((1, "face"),)])
def test_few_classes(classes):
    """With one class or none there is still a row and a column for nothing."""
    found = count_confusion(build_truth([], classes=classes, images=()), build_predictions([]))
    assert found.matrix == ((0,) * (len(classes) + 1),) * (len(classes) + 1)


def test_perfect_predictions():
    """The truth given back stands on the diagonal."""
    truth = build_truth([FACE, MASK, (1, 2, 0, 500, 100, 600)])
    assert count_confusion(truth, perfect_predictions(truth)).matrix == ((1, 0, 0), (0, 2, 0), (0, 0, 0))


@pytest.mark.parametrize("seed", range(4))
def test_equals_hotcoco(seed):
    """Where no scores are tied and nothing is a crowd, hotcoco counts the same, with classes by id."""
    truth, _ = awkward_case(seed, images=12, crowds=False)
    random = np.random.default_rng(seed)
    table = jittered(truth, seed).boxes
    guesses = np.where(random.random(len(table)) < 0.3, random.choice([2, 5, 9, 40], len(table)), table["class_id"])
    predictions = Predictions(table.assign(score=random.random(len(table)), class_id=guesses))
    coco = to_coco(truth)
    expected = COCOeval(coco, load_detections(coco, predictions), "bbox").confusion_matrix(iou_thr=0.5, min_score=0.5)
    order = [*np.argsort([entry.id for entry in truth.classes]), len(truth.classes)]
    ours = np.array(count_confusion(truth, predictions).matrix)
    np.testing.assert_array_equal(ours[np.ix_(order, order)], expected["matrix"])
    assert ours[~np.eye(len(ours), dtype=bool)].sum() > 20
