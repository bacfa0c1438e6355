"""The confusion matrix at one operating point.

The best-scored detection on an object decides its column, whatever the classes (see `matching.match_any_class`). An
object with two detections, the better one of a wrong class, is therefore found by `match` and confused here.
"""

from dataclasses import dataclass

import numpy as np

from curate.dataset import Dataset, Predictions
from curate.evaluation.matching import match_any_class
from curate.operating_point import DEFAULT_POINT, OperatingPoint
from curate.sizes import RangeOfInterest

BACKGROUND = "background"


@dataclass(frozen=True)
class Confusion:
    """How many objects of each class were detected as each class.

    Attributes:
        classes: Names in declared order, then "background".
        matrix: One row per true class, one column per detected class. The last row counts detections that found no
            object, the last column missed objects.
    """

    classes: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]


def count_confusion(
    truth: Dataset,
    predictions: Predictions,
    point: OperatingPoint = DEFAULT_POINT,
    range_of_interest: RangeOfInterest | None = None,
) -> Confusion:
    """Count objects by true and detected class.

    Args:
        truth: The labelled images to evaluate.
        predictions: Detections on these images.
        point: Detections below its score are left out.
        range_of_interest: Excludes objects outside it, and detections outside it that find no object.

    Raises:
        DataError: The image or class of a detection is not in `truth`.
    """
    matches = match_any_class(truth, predictions, point, range_of_interest)
    position = {entry.id: place for place, entry in enumerate(truth.classes)}
    background = len(position)
    true = np.array([position[id_] for id_ in truth.boxes["class_id"].tolist()], dtype=np.int64)
    detected = np.array([position[id_] for id_ in predictions.boxes["class_id"].tolist()], dtype=np.int64)
    true_positives = np.flatnonzero(matches.true_positives)
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    np.add.at(matrix, (true[matches.truth_row[true_positives]], detected[true_positives]), 1)
    matrix[:, background] = np.bincount(true[matches.missed], minlength=background + 1)
    matrix[background, :] = np.bincount(detected[matches.false_positives], minlength=background + 1)
    names = tuple(entry.name for entry in truth.classes)
    return Confusion((*names, BACKGROUND), tuple(tuple(row) for row in matrix.tolist()))
