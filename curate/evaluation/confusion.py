"""What objects are taken for: the confusion matrix at one operating point.

The best-scored detection on an object says what the detector takes it for, whatever the classes (see
`matching.match_any_class`). So an object that was found twice, first under a wrong name, counts as found by `match`
and as confused here.
"""

from dataclasses import dataclass

import numpy as np

from curate.dataset import Dataset, Predictions
from curate.evaluation.matching import match_any_class
from curate.sizes import RangeOfInterest

BACKGROUND = "background"


@dataclass(frozen=True)
class Confusion:
    """How many objects of each class were taken for each class.

    Attributes:
        classes: in declared order, and last what is none: "background".
        matrix: a row a true class, a column a detected class. The last row holds detections on nothing, the last
            column objects that nothing found.
    """

    classes: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]


def count_confusion(
    truth: Dataset,
    predictions: Predictions,
    iou: float = 0.5,
    score: float = 0.5,
    range_of_interest: RangeOfInterest | None = None,
) -> Confusion:
    """Count what the objects that count were taken for.

    Args:
        truth: the labelled images to look at.
        predictions: detections on these images.
        iou: over 0, up to 1.
        score: detections below it take no part.
        range_of_interest: objects outside it do not count, nor detections outside it that find nothing.

    Raises:
        DataError: a detection's image or class is not in `truth`.
        UsageError: `iou` is not a share.
    """
    matches = match_any_class(truth, predictions, iou, score, range_of_interest)
    position = {entry.id: place for place, entry in enumerate(truth.classes)}
    nothing = len(position)
    true = np.array([position[id_] for id_ in truth.boxes["class_id"].tolist()], dtype=np.int64)
    detected = np.array([position[id_] for id_ in predictions.boxes["class_id"].tolist()], dtype=np.int64)
    found = np.flatnonzero(matches.true_positives)
    matrix = np.zeros((nothing + 1, nothing + 1), dtype=np.int64)
    np.add.at(matrix, (true[matches.truth_row[found]], detected[found]), 1)
    matrix[:, nothing] = np.bincount(true[matches.missed], minlength=nothing + 1)
    matrix[nothing, :] = np.bincount(detected[matches.false_positives], minlength=nothing + 1)
    names = tuple(entry.name for entry in truth.classes)
    return Confusion((*names, BACKGROUND), tuple(tuple(row) for row in matrix.tolist()))
