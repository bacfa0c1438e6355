"""Arithmetic on arrays of boxes.

A box is (x0, y0, x1, y1): pixel *edges*, origin at the image's top-left corner; a box around the whole image is
(0, 0, width, height). Arrays are (n, 4) float64. Other layouts are converted when they are read or written.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float64]


def as_boxes(values: ArrayLike) -> Boxes:
    """`values` as an (n, 4) float64 array; an empty sequence becomes (0, 4)."""
    array = np.asarray(values, dtype=np.float64)
    return array.reshape(-1, 4)


def xywh_to_xyxy(boxes_xywh: ArrayLike) -> Boxes:
    """COCO's (left, top, width, height) to edges. (n, 4) → (n, 4)."""
    boxes = as_boxes(boxes_xywh)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(boxes_xyxy: ArrayLike) -> Boxes:
    """Edges to COCO's (left, top, width, height). (n, 4) → (n, 4)."""
    boxes = as_boxes(boxes_xyxy)
    return np.concatenate([boxes[:, :2], sides(boxes)], axis=1)


def sides(boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Width and height in pixels, to a billionth. (n, 4) → (n, 2).

    42.1 − 10.1 is 32.000000000000004 in floating point. Without rounding, a box that a file gives as 32 px wide could
    be on the wrong side of a size or IoU threshold.
    """
    boxes = as_boxes(boxes_xyxy)
    return np.round(boxes[:, 2:] - boxes[:, :2], 9)


def area(boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Area in pixels. (n, 4) → (n,)."""
    return sides(boxes_xyxy).prod(axis=1)


def shorter_side(boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    """The shorter of width and height, in pixels. (n, 4) → (n,)."""
    return sides(boxes_xyxy).min(axis=1)


def clip(boxes_xyxy: ArrayLike, width: ArrayLike, height: ArrayLike) -> Boxes:
    """Clip boxes to the image. `width` and `height` are scalars or have one value per box. (n, 4) → (n, 4)."""
    boxes = as_boxes(boxes_xyxy)
    right, bottom = np.asarray(width, dtype=np.float64), np.asarray(height, dtype=np.float64)
    return np.stack(
        [
            np.clip(boxes[:, 0], 0.0, right),
            np.clip(boxes[:, 1], 0.0, bottom),
            np.clip(boxes[:, 2], 0.0, right),
            np.clip(boxes[:, 3], 0.0, bottom),
        ],
        axis=1,
    )


def iou_matrix(a_xyxy: ArrayLike, b_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every pair. (n, 4), (m, 4) → (n, m); 0 if the union is empty."""
    a, b = as_boxes(a_xyxy), as_boxes(b_xyxy)
    intersection = _intersection(a, b)
    union = area(a)[:, None] + area(b)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def _intersection(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    low = np.maximum(a[:, None, :2], b[None, :, :2])  # (n, m, 2)
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])  # (n, m, 2)
    sides = np.clip(high - low, 0.0, None)
    return sides[..., 0] * sides[..., 1]
