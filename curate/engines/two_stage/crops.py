"""The square around a box, as a picture of its own: the same in training and prediction."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curate.boxes import Boxes, as_boxes
from curate.engines.training.augment import resize_pixels

GREY = 114  # beyond the image's edge


def squares_around(boxes_xyxy: ArrayLike, margin: float) -> Boxes:
    """The squares that are looked at: around the middle of each box, its longer side and a margin on each end of it.

    They may leave the image.

    Args:
        boxes_xyxy: (n, 4) pixel edges.
        margin: share of the box's longer side; 0.5 makes a square of twice that side.

    Returns:
        (n, 4) pixel edges.
    """
    boxes = as_boxes(boxes_xyxy)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) * (0.5 + margin)
    return np.concatenate([middle - half, middle + half], axis=1)


def cut(pixels: NDArray[np.uint8], square_xyxy: ArrayLike, side_px: int) -> NDArray[np.uint8]:
    """What a square shows, at another size, grey where it leaves the image.

    Its edges are rounded to whole pixels. Only what is inside the image is touched, however large the square is.

    Args:
        pixels: H×W×3 uint8.
        square_xyxy: (4,) pixel edges in `pixels`.
        side_px: of the answer.

    Returns:
        side_px×side_px×3 uint8.
    """
    x0, y0, x1, _ = np.asarray(square_xyxy, dtype=np.float64).tolist()
    side = max(1, _rounded(x1 - x0))
    answer = np.full((side_px, side_px, 3), GREY, dtype=np.uint8)
    columns = _visible(_rounded(x0), side, pixels.shape[1], side_px)
    rows = _visible(_rounded(y0), side, pixels.shape[0], side_px)
    if columns is None or rows is None:
        return answer
    (seen_x, placed_x), (seen_y, placed_y) = columns, rows
    width, height = placed_x.stop - placed_x.start, placed_y.stop - placed_y.start
    answer[placed_y, placed_x] = resize_pixels(pixels[seen_y, seen_x], width, height)
    return answer


def _visible(low: int, side: int, length: int, side_px: int) -> tuple[slice, slice] | None:
    """Along one axis: which pixels of the image are seen, and where they lie in the answer."""
    start, stop = max(low, 0), min(low + side, length)
    if start >= stop:
        return None
    first, last = (_rounded((edge - low) * side_px / side) for edge in (start, stop))
    first = min(first, side_px - 1)  # a sliver gets one pixel
    return slice(start, stop), slice(first, max(last, first + 1))


def _rounded(value: float) -> int:
    """Halves go up, so that a square moves with whatever it is counted from."""
    return int(np.floor(value + 0.5))
