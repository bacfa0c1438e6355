"""The confusion matrix: by hand, and against hotcoco."""

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
    """One case each of found, confused, missed and background; rows are true, columns detected classes."""
    third, fourth = (1, 2, 0, 500, 100, 600), (1, 1, 500, 0, 600, 100)
    found = [(*FACE, 0.9), (1, 1, *MASK[2:], 0.9), (*third, 0.9), (1, 2, 800, 800, 900, 900, 0.9)]
    assert matrix([FACE, MASK, third, fourth], found) == [[1, 0, 1], [1, 1, 0], [0, 1, 0]]


def test_names():
    """Classes come in declared order, then the background."""
    assert count_confusion(build_truth([]), build_predictions([])).classes == ("face", "mask", "background")


def test_best_score_decides():
    """A face detected as a mask with a better score than as a face is confused; the other detection is background."""
    assert matrix([FACE], [(*FACE, 0.8), (1, 2, *FACE[2:], 0.9)]) == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_low_scores_take_no_part():
    """Detections below the score do not count."""
    assert matrix([FACE], [(*FACE, 0.4)]) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert matrix([FACE], [(*FACE, 0.4)], point=OperatingPoint(0.5, 0.4)) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_range_of_interest():
    """Objects outside the range do not count, nor do detections that find them or are outside it themselves."""
    small = (1, 2, 500, 500, 520, 520)
    found = [(*FACE, 0.9), (*small, 0.9), (1, 1, 800, 800, 810, 810, 0.9)]
    assert matrix([FACE, small], found, range_of_interest=RangeOfInterest(24)) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_crowds():
    """A crowd does not count as an object, and absorbs detections of its class only."""
    crowd = (1, 1, 0, 0, 500, 500, True)
    assert matrix([crowd], [(*FACE, 0.9), (1, 2, *FACE[2:], 0.9)]) == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("classes", [(), ((1, "face"),)])
def test_few_classes(classes):
    """The background has a row and a column, also with one class or none."""
    found = count_confusion(build_truth([], classes=classes, images=()), build_predictions([]))
    assert found.matrix == ((0,) * (len(classes) + 1),) * (len(classes) + 1)


def test_perfect_predictions():
    """Perfect predictions are on the diagonal."""
    truth = build_truth([FACE, MASK, (1, 2, 0, 500, 100, 600)])
    assert count_confusion(truth, perfect_predictions(truth)).matrix == ((1, 0, 0), (0, 2, 0), (0, 0, 0))


@pytest.mark.parametrize("seed", range(4))
def test_equals_hotcoco(seed):
    """Without ties and crowds, hotcoco returns the same counts, with classes by id."""
    truth, _ = awkward_case(seed, images=12, crowds=False)
    random = np.random.default_rng(seed)
    table = jittered(truth, seed).boxes
    guesses = np.where(random.random(len(table)) < 0.3, random.choice([2, 5, 9, 40], len(table)), table["class_id"])
    predictions = Predictions(table.assign(score=random.random(len(table)), class_id=guesses))
    coco = to_coco(truth, predictions)
    expected = COCOeval(coco, load_detections(coco, predictions), "bbox").confusion_matrix(iou_thr=0.5, min_score=0.5)
    order = [*np.argsort([entry.id for entry in truth.classes]), len(truth.classes)]
    ours = np.array(count_confusion(truth, predictions).matrix)
    np.testing.assert_array_equal(ours[np.ix_(order, order)], expected["matrix"])
    assert ours[~np.eye(len(ours), dtype=bool)].sum() > 20
