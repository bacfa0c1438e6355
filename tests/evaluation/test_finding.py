"""The sentences of an evaluation."""

import pytest
from evaluation_oracle import build_predictions, build_truth

from curate.evaluation.finding import describe_finding
from curate.evaluation.judgement import EvaluationOptions, judge

SMALL, MEDIUM, LARGE = (0, 0, 20, 20), (100, 100, 150, 150), (300, 300, 500, 500)


def found(objects, detections, **options):
    """The sentences on objects (class, box) and detections (class, box[, score]) of one image."""
    truth = build_truth([(1, class_id, *box) for class_id, box in objects])
    rows = [(1, class_id, *box, *(score or [0.9])) for class_id, box, *score in detections]
    result = judge(truth, build_predictions(rows), EvaluationOptions.from_command(**options), split="val").result
    return describe_finding(result.to_json())


def test_merging_is_advice_for_three_classes():
    """With more than two classes, the confused ones may be merged; two merged classes would leave one."""
    truth = build_truth([(1, 1, *SMALL), (1, 2, *MEDIUM)], classes=((1, "face"), (2, "mask"), (3, "hat")))
    result = judge(
        truth, build_predictions([(1, 2, *SMALL, 0.9)]), EvaluationOptions.from_command(), split="val"
    ).result
    assert describe_finding(result.to_json())[-1].endswith(
        "label more of face and mask, or merge them (`curate merge-classes`)."
    )


def moved(box, by):
    """A box moved to the right."""
    return box[0] + by, box[1], box[2] + by, box[3]


def test_everything_is_found():
    """If nothing is wrong, there is no cause and no next step."""
    assert found([(1, SMALL), (1, LARGE)], [(1, SMALL), (1, LARGE)]) == [
        "AP 100.0 on val.",
        "All 2 objects were found at score ≥ 0.5.",
    ]
    assert found([(1, SMALL)], [(1, SMALL)])[1] == "The only object was found at score ≥ 0.5."


def test_nothing_to_find():
    """Without objects there is one sentence; without objects in range, it says so."""
    assert found([], [(1, SMALL)]) == ["There is no object to find, so there is no AP."]
    assert found([(1, SMALL)], [(1, SMALL)], min_side=50)[1] == "There is no object in range."


def test_small_objects_in_a_range():
    """Where a smallest side is set, a larger one is what would leave small objects out."""
    some = [(1, LARGE), (1, SMALL)], [(1, LARGE)]
    assert "or set --min-side, if" in found(*some)[-1]
    assert "or set a larger --min-side, if" in found(*some, min_side=10)[-1]


def test_no_detections():
    """Without detections there is no kind of mistake to mend first, and the sentences say so."""
    assert found([(1, SMALL), (1, LARGE)], [])[1:] == [
        "2 of 2 objects are missed at score ≥ 0.5: 1 small, 0 medium, 1 large.",
        "There are no detections.",
    ]


@pytest.mark.parametrize("options", [{}, {"min_side": 10}])
def test_only_low_scores(options):
    """If everything is missed because no score is high enough, the score is the cause, however high AP is."""
    sentences = found([(1, SMALL), (1, LARGE)], [(1, SMALL, 0.3), (1, LARGE, 0.2), (1, MEDIUM, 0.1)], **options)
    assert sentences[0].startswith("AP 100.0 on val")
    assert sentences[2] == "No detection that counts has a score of 0.5 or more."
    assert "lower --score" in sentences[3]


CASES = {
    "small objects are not detected": (
        [(1, SMALL), (1, LARGE)],
        [(1, LARGE)],
        "1 of 2 objects is missed at score ≥ 0.5: 1 small, 0 medium, 0 large.",
        "objects that are not detected at all",
        "label more small objects",
    ),
    "large objects are not detected": (
        [(1, SMALL), (1, LARGE), (1, moved(LARGE, 250))],
        [(1, SMALL)],
        "2 of 3 objects are missed at score ≥ 0.5: 0 small, 0 medium, 2 large.",
        "objects that are not detected at all",
        "label more large objects",
    ),
    "classes are confused": (
        [(1, SMALL), (1, MEDIUM), (2, LARGE)],
        [(1, SMALL), (2, MEDIUM), (2, LARGE, 0.8)],
        "1 of 3 objects is missed at score ≥ 0.5: 0 small, 1 medium, 0 large.",
        "confused classes, most often face detected as mask (1 time)",
        "label more of face and mask.",
    ),
    "boxes do not fit": (
        [(1, MEDIUM), (1, LARGE)],
        [(1, MEDIUM), (1, moved(LARGE, 100))],
        "1 of 2 objects is missed at score ≥ 0.5: 0 small, 0 medium, 1 large.",
        "boxes of the correct class that fit badly",
        "whether the labelled boxes fit",
    ),
    "detections of nothing": (
        [(1, MEDIUM)],
        [(1, LARGE, 0.95), (1, MEDIUM)],
        "The only object was found at score ≥ 0.5.",
        "detections where no object is",
        "whether labels are missing",
    ),
    "second boxes": (
        [(1, MEDIUM), (1, LARGE)],
        [(1, LARGE, 0.95), (1, moved(LARGE, 1)), (1, MEDIUM, 0.8)],
        "All 2 objects were found at score ≥ 0.5.",
        "second boxes on objects that are found already",
        "higher score",
    ),
}


@pytest.mark.parametrize(("objects", "detections", "misses", "cause", "step"), CASES.values(), ids=CASES)
def test_the_costliest_mistake(objects, detections, misses, cause, step):
    """The sentences have the misses by size, the kind of mistake that costs most AP50, and what to do about it."""
    _, second, third, fourth = found(objects, detections)
    assert second == misses
    assert third.startswith("The mistake that costs most AP50, ")
    assert third.endswith(f" points: {cause}.")
    assert fourth.startswith("Next: ")
    assert step in fourth


def test_the_costliest_mistake_is_not_the_most_frequent():
    """Of many misses of a large class and one confusion that empties a small class, the confusion is named."""
    faces = [(1, moved(SMALL, 25 * place)) for place in range(30)]
    detections = [(1, box, 0.9) for _, box in faces[:26]]
    sentences = found([*faces, (2, LARGE)], [*detections, (1, LARGE, 0.3)])
    assert "4 small, 0 medium, 1 large" in sentences[1]
    assert "confused classes" in sentences[2]


def test_beside_another_run():
    """The AP of the other run of a comparison is named."""
    truth = build_truth([(1, 1, *SMALL)])
    document = judge(truth, build_predictions([(1, 1, *SMALL, 0.9)]), split="val").result.to_json()
    document["against"] = {"run": "first", "ap": 0.251}
    assert describe_finding(document)[0] == "AP 100.0 on val (25.1 with first)."
