"""Landmarks of boxes that join a dataset again: a format that knows none does not take those away that are there.

A box that comes back keeps the landmarks of the box that it overlaps most, at IoU ≥ 0.5, one for one: a face whose
class or edges a person corrected is still that face, and its landmarks are pixels of the picture, not shares of the
box. What is drawn elsewhere has none.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.boxes import iou_matrix
from curate.columns import CORNERS, LANDMARKS, has_landmarks

_SAME_FACE_IOU = 0.5


def with_landmarks(boxes: pd.DataFrame) -> pd.DataFrame:
    """The boxes with the columns of `LANDMARKS`, unknown where they had none."""
    return boxes.assign(**{name: np.nan for name in LANDMARKS if name not in boxes})


def say_landmarks(existing: pd.DataFrame, incoming: pd.DataFrame) -> bool:
    """Whether boxes that come into a dataset have landmarks to say, or such to unsay."""
    if not has_landmarks(incoming):
        return False
    return has_landmarks(existing) or bool(incoming[LANDMARKS].notna().to_numpy().any())


def carry_landmarks(existing: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """Give boxes of a source that knows no landmarks those of the same images' boxes before.

    Args:
        existing: a dataset's boxes, with landmarks.
        boxes: rows for its boxes table, by the same image ids.

    Returns:
        `boxes` with the columns of `LANDMARKS`.
    """
    known = existing[existing["image_id"].isin(boxes["image_id"]).to_numpy()]
    points = np.full((len(boxes), len(LANDMARKS)), np.nan)
    if known[LANDMARKS].notna().to_numpy().any():
        before, corners = known[[*CORNERS, *LANDMARKS]].to_numpy(dtype=np.float64), boxes[CORNERS].to_numpy(np.float64)
        rows_of = boxes.groupby("image_id").indices
        for image_id, old in known.groupby("image_id").indices.items():
            new = rows_of[image_id]
            for one, other in _pairs(iou_matrix(before[old, :4], corners[new])):
                points[new[other]] = before[old[one], 4:]
    return boxes.assign(**dict(zip(LANDMARKS, points.T, strict=True)))


def _pairs(iou: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Rows and columns that belong together, the largest overlaps first; equal ones in their order."""
    rows, columns = np.nonzero(iou >= _SAME_FACE_IOU)
    taken_rows, taken_columns = set(), set()
    # rounded: two equal boxes overlap by 1 but for the last bits
    for pair in np.argsort(-np.round(iou[rows, columns], 6), kind="stable"):
        row, column = int(rows[pair]), int(columns[pair])
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            yield row, column
