"""Which points are in a polygon: exactly, its sides included.

supervision's `PolygonZone` draws the polygon into a mask of whole pixels and rounds the points: at the sides it errs by
up to a pixel, and a point on the picture's right or lower edge is in no zone.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curate.boxes import as_boxes

_DUST_PX = 1e-6


def zone_px(zone: ArrayLike, width: int, height: int) -> NDArray[np.float64]:
    """The corners in pixels; where all are within 0..1 they are fractions of the picture. (n, 2) → (n, 2)."""
    corners = np.asarray(zone, dtype=np.float64)
    if ((corners >= 0) & (corners <= 1)).all():
        return corners * [width, height]
    return corners


def is_outside(corners_px: NDArray[np.float64], width: int, height: int) -> bool:
    """Whether the zone lies beyond the right or the lower edge of the picture, so that no point is in it."""
    return bool((corners_px.min(axis=0) > [width, height]).any())


def anchors(boxes_xyxy: ArrayLike, anchor: str, width: int, height: int) -> NDArray[np.float64]:
    """The point of each box that counts, moved into the picture where it is outside. (n, 4) → (n, 2).

    Args:
        boxes_xyxy: in pixels.
        anchor: `center`, or `bottom` for the middle of the lower side.
        width: of the picture, in pixels.
        height: likewise.
    """
    x0, y0, x1, y1 = as_boxes(boxes_xyxy).T
    points = np.stack([(x0 + x1) / 2, y1 if anchor == "bottom" else (y0 + y1) / 2], axis=1)
    return np.clip(points, 0.0, [width, height])


def contains(corners_px: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each point is in the polygon or, to a millionth of a pixel, on a side. (m, 2), (n, 2) → (n,)."""
    a, b = corners_px[:, None], np.roll(corners_px, -1, axis=0)[:, None]  # (m, 1, 2)
    p = points[None]  # (1, n, 2)
    side, from_a = b - a, p - a
    length2 = np.maximum((side**2).sum(axis=2), 1e-300)
    along = np.clip((from_a * side).sum(axis=2) / length2, 0.0, 1.0)  # (m, n)
    off_px = np.hypot(*np.moveaxis(from_a - along[..., None] * side, 2, 0))
    # a ray to the right crosses an odd number of sides; a corner counts for the side above it
    spans = (a[..., 1] > p[..., 1]) != (b[..., 1] > p[..., 1])
    turn = side[..., 0] * from_a[..., 1] - side[..., 1] * from_a[..., 0]
    crosses = spans & ((turn > 0) == (side[..., 1] > 0)) & (turn != 0)
    return (crosses.sum(axis=0) % 2 == 1) | (off_px <= _DUST_PX).any(axis=0)
