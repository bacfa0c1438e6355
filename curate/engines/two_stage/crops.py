"""Square crops around boxes, the same in training and inference."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curate.boxes import Boxes, as_boxes
from curate.engines.training.augment import resize_pixels

GREY = 114  # beyond the image's edge


def squares_around(boxes_xyxy: ArrayLike, margin: float) -> Boxes:
    """The squares to crop: centred on each box, as long as its longer side and a margin at each end.

    They may leave the image.

    Args:
        boxes_xyxy: (n, 4) pixel edges.
        margin: Share of the box's longer side; 0.5 makes a square of twice that side.

    Returns:
        (n, 4) pixel edges.
    """
    boxes = as_boxes(boxes_xyxy)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) * (0.5 + margin)
    return np.concatenate([middle - half, middle + half], axis=1)


def crop_square(pixels: NDArray[np.uint8], square_xyxy: ArrayLike, side_px: int) -> NDArray[np.uint8]:
    """Crop a square and resize it; grey where it leaves the image.

    Its edges are rounded to whole pixels. Only pixels of the image are copied, however large the square is.

    Args:
        pixels: H×W×3 uint8.
        square_xyxy: (4,) pixel edges in `pixels`.
        side_px: Side of the result.

    Returns:
        side_px×side_px×3 uint8.
    """
    x0, y0, x1, _ = np.asarray(square_xyxy, dtype=np.float64).tolist()
    side = max(1, _round_half_up(x1 - x0))
    result = np.full((side_px, side_px, 3), GREY, dtype=np.uint8)
    columns = _visible(_round_half_up(x0), side, pixels.shape[1], side_px)
    rows = _visible(_round_half_up(y0), side, pixels.shape[0], side_px)
    if columns is None or rows is None:
        return result
    (source_x, target_x), (source_y, target_y) = columns, rows
    width, height = target_x.stop - target_x.start, target_y.stop - target_y.start
    result[target_y, target_x] = resize_pixels(pixels[source_y, source_x], width, height)
    return result


def _visible(low: int, side: int, length: int, side_px: int) -> tuple[slice, slice] | None:
    """Along one axis: the visible pixels of the image, and their place in the result; None if there are none."""
    start, stop = max(low, 0), min(low + side, length)
    if start >= stop:
        return None
    first, last = (_round_half_up((edge - low) * side_px / side) for edge in (start, stop))
    first = min(first, side_px - 1)  # a sliver gets one pixel
    return slice(start, stop), slice(first, max(last, first + 1))


def _round_half_up(value: float) -> int:
    """Unlike `round`, independent of the origin of the coordinates."""
    return int(np.floor(value + 0.5))
