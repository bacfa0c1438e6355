"""Counts class balance, box sizes and imbalance."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from curate.boxes import area
from curate.columns import SPLITS
from curate.dataset import Dataset
from curate.errors import UsageError
from curate.sizes import SIZES, RangeOfInterest, size_index

UNSPLIT = "(none)"


@dataclass(frozen=True)
class ClassBalance:
    """Counts of a class.

    Attributes:
        name: Name of the class.
        boxes: Number of boxes.
        share: Share of all boxes, 0 to 1; None if there are no boxes.
        images: Images with at least one box of the class.
        small, medium, large: Number of boxes by area.
    """

    name: str
    boxes: int
    share: float | None
    images: int
    small: int
    medium: int
    large: int


@dataclass(frozen=True)
class Balance:
    """Counts of a set of images.

    Attributes:
        images: Labelled images.
        images_without_boxes: Labelled images without boxes.
        unlabelled: Images in other states (unlabelled, proposed, incomplete).
        boxes: Boxes in labelled images.
        imbalance: Boxes of the largest class / boxes of the smallest; None if a class has no boxes.
        classes: In declared order.
    """

    images: int
    images_without_boxes: int
    unlabelled: int
    boxes: int
    imbalance: float | None
    classes: tuple[ClassBalance, ...]


def count(dataset: Dataset, range_of_interest: RangeOfInterest | None = None) -> Balance:
    """Count classes and sizes in the labelled images.

    Args:
        dataset: Boxes of images that are not labelled are not counted.
        range_of_interest: Boxes outside it are not counted. None: all boxes.
    """
    labelled = dataset.select()
    boxes = labelled.boxes[["image_id", "class_id"]].assign(size=size_index(area(labelled.boxes_xyxy)))
    if range_of_interest is not None:
        boxes = boxes[range_of_interest.contains(labelled.boxes_xyxy)]
    classes = tuple(
        _count_class(boxes[boxes["class_id"] == entry.id], entry.name, len(boxes)) for entry in dataset.classes
    )
    per_class = [entry.boxes for entry in classes]
    return Balance(
        images=len(labelled.images),
        images_without_boxes=len(labelled.images) - labelled.boxes["image_id"].nunique(),
        unlabelled=len(dataset.images) - len(labelled.images),
        boxes=len(boxes),
        imbalance=max(per_class) / min(per_class) if per_class and min(per_class) else None,
        classes=classes,
    )


def count_by(dataset: Dataset, column: str, range_of_interest: RangeOfInterest | None = None) -> dict[str, Balance]:
    """Count the images of each value of `column`.

    Args:
        dataset: The dataset.
        column: "split" or "source".
        range_of_interest: As in `count`.

    Returns:
        Value → counts; splits in the order train, val, test, others alphabetically.

    Raises:
        UsageError: Unknown column.
    """
    if column not in ("split", "source"):
        raise UsageError("unknown grouping", place="--by", got=repr(column), expected="split or source")
    values = dataset.images[column].fillna(UNSPLIT).to_numpy(dtype=object)
    order = sorted(set(values), key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))
    return {name: count(dataset.keep_images(values == name), range_of_interest) for name in order}


def _count_class(boxes: pd.DataFrame, name: str, total: int) -> ClassBalance:
    sizes = np.bincount(boxes["size"].to_numpy(dtype=int), minlength=len(SIZES)).tolist()
    return ClassBalance(name, len(boxes), len(boxes) / total if total else None, boxes["image_id"].nunique(), *sizes)
