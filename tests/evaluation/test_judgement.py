"""Judgement: what its options count, and what its notes say."""

import pytest
from evaluation_oracle import build_predictions, build_truth, perfect_predictions

from curate.errors import UsageError
from curate.evaluation.judgement import EvaluationOptions, judge

CLASSES = ((1, "pig"), (2, "cow"))


def herd(*counts, class_id=1):
    """Truth with so many objects in each image, all of one class, of 20 x 20 pixels."""
    rows = [
        (image, class_id, 25 * (place % 40), 25 * (place // 40), 25 * (place % 40) + 20, 25 * (place // 40) + 20)
        for image, count in enumerate(counts, 1)
        for place in range(count)
    ]
    return build_truth(rows, images=range(1, len(counts) + 1), classes=CLASSES)


def test_more_objects_than_the_limit():
    """Where AP cannot reach 100 for the limit of detections, a note has the images, classes and a sufficient limit."""
    truth = herd(150, 101, 100)
    result = judge(truth, perfect_predictions(truth)).result
    assert result.ap < 0.9
    assert sum(result.errors.missed.values()) == 0
    (note,) = result.notes
    assert note.startswith("2 images with more than 100 objects of a class (pig): ")
    assert "--max-detections 150 " in note


def test_higher_limit():
    """With the limit that the note names, perfect detections have AP 100, also at curves and costs, without a note."""
    truth = herd(150, 101, 100)
    result = judge(truth, perfect_predictions(truth), EvaluationOptions(max_detections=150)).result
    assert (result.ap, result.ap50) == (pytest.approx(1), pytest.approx(1))
    assert (result.max_detections, result.notes) == (150, ())
    assert result.precision_recall.mean[-1] == 1
    assert set(result.errors.ap_cost.values()) == {0}


def test_lower_limit():
    """The note is on the limit that was given."""
    truth = herd(4)
    result = judge(truth, perfect_predictions(truth), EvaluationOptions(max_detections=3)).result
    assert result.ap == pytest.approx(0.75, abs=0.01)
    assert "1 image with more than 3 objects of a class (pig)" in result.notes[0]


def test_objects_that_do_not_count_need_no_room():
    """Objects outside the range of interest do not count for the note."""
    truth = herd(150)
    assert judge(truth, perfect_predictions(truth), EvaluationOptions.from_command(min_side=24)).result.notes == ()


def test_largest_limit():
    """The largest limit changes nothing where there are few detections."""
    truth = herd(3)
    assert judge(truth, perfect_predictions(truth), EvaluationOptions(max_detections=10**9)).result.ap == pytest.approx(
        1
    )


@pytest.mark.parametrize("limit", [0, -1, 10**9 + 1, 10**30])
def test_no_limit(limit):
    """The limit is at least 1, and a number that COCO's tools can take."""
    with pytest.raises(UsageError, match="--max-detections"):
        EvaluationOptions.from_command(max_detections=limit)


def test_ignore_difficult():
    """A difficult object is in no number: not missed, not to be found, and its detections are not false."""
    truth = build_truth([(1, 1, 0, 0, 50, 50), (1, 1, 100, 100, 150, 150), (1, 2, 300, 300, 350, 350)], classes=CLASSES)
    truth = truth.replace(boxes=truth.boxes.assign(difficult=[False, True, True]))
    found = build_predictions([(1, 1, 0, 0, 50, 50, 0.9), (1, 1, 100, 100, 150, 150, 0.8)])
    judgement = judge(truth, found, EvaluationOptions(ignore_difficult=True))
    result = judgement.result
    assert (result.truth, result.ap, result.ignore_difficult) == (1, pytest.approx(1), True)
    assert sum(result.errors.missed.values()) == sum(result.errors.false_positives.values()) == 0
    assert result.confusion.matrix == ((1, 0, 0), (0, 0, 0), (0, 0, 0))
    assert sum(result.score_histogram.true_positives + result.score_histogram.false_positives) == 1
    assert [(entry.truth, entry.ap) for entry in result.classes] == [(1, pytest.approx(1)), (0, None)]
    assert judgement.mistakes.matches.truth_ignored.tolist() == [False, True, True]
    counted = judge(truth, found).result
    assert (counted.truth, sum(counted.errors.missed.values()), counted.ignore_difficult) == (3, 1, False)
