"""Pictures of mistakes: crops with the boxes drawn, small enough to be embedded in a page."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.boxes import area, sides
from curate.columns import CORNERS
from curate.dataset import Dataset, Predictions
from curate.errors import DataError
from curate.evaluation.error_table import FALSE_POSITIVE, MISSED, list_errors
from curate.evaluation.mistakes import Mistakes
from curate.images import decode_rgb, encode_rgb
from curate.progress import Progress, silent
from curate.sizes import SIZES

PICTURE_PX = 288  # longer side; shown smaller until it is enlarged
MOST_IN_A_GROUP = 60
MOST_BYTES = 6_000_000  # of all pictures, base64-encoded
_CONTEXT_PX = 48  # around small objects
_QUALITY = 80
_OTHERS_DRAWN = 100  # in one picture
# red, orange, blue and green that stand out on any photograph
_COLOURS = {MISSED: (232, 62, 76), FALSE_POSITIVE: (255, 149, 0)}
_OTHER_COLOURS = {MISSED: (64, 178, 255), FALSE_POSITIVE: (66, 214, 122)}
_EDGE = (0, 0, 0)


@dataclass(frozen=True)
class Crop:
    """One mistake and its picture.

    Attributes:
        class_name: Class of the missed object, or of the detection.
        kind: One of `mistakes.KINDS`.
        confused_with: The other class, if the kind has one.
        score: None for a miss.
        width_px, height_px: Size of the box.
        path: Path of the image, relative to the dataset folder.
        picture: Data URI; None if the image cannot be read.
    """

    class_name: str
    kind: str
    confused_with: str | None
    score: float | None
    width_px: float
    height_px: float
    path: str
    picture: str | None


@dataclass(frozen=True)
class CropGroup:
    """Mistakes of one size. `mistake` is MISSED or FALSE_POSITIVE; `total` includes those without a crop."""

    mistake: str
    size: str
    total: int
    crops: tuple[Crop, ...]


@dataclass(frozen=True)
class Gallery:
    """Pictures in groups: misses before false positives, large before small.

    Attributes:
        groups: One for each kind of mistake and size; missed objects by falling area, false positives by falling score.
        unreadable: Paths of images that could not be read.
    """

    groups: tuple[CropGroup, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def shown(self) -> int:
        return sum(len(group.crops) for group in self.groups)

    @property
    def total(self) -> int:
        return sum(group.total for group in self.groups)


def make_gallery(truth: Dataset, predictions: Predictions, mistakes: Mistakes, progress: Progress = silent) -> Gallery:
    """Crop the mistakes: the first `MOST_IN_A_GROUP` of each group, and at most `MOST_BYTES` in total.

    Pictures of missed objects also show the detections that count, those of false positives the labelled objects.
    Mistakes in unreadable images have no picture.

    Args:
        truth: The evaluated images.
        predictions: Detections on them.
        mistakes: Mistakes of these two.
        progress: Callback for progress.
    """
    errors = list_errors(mistakes, truth)
    ranked = _rank(errors)
    shown = {key: errors.iloc[rows[:MOST_IN_A_GROUP]] for key, rows in ranked.items()}
    pictures, unreadable = _crop_pictures(truth, predictions, mistakes, pd.concat(shown.values()), progress)
    budget = MOST_BYTES // max(sum(len(rows) > 0 for rows in shown.values()), 1)
    groups = []
    for (mistake, size), rows in shown.items():
        crops = [
            _crop(error, pictures.get(int(row))) for row, error in zip(rows.index, rows.to_dict("records"), strict=True)
        ]
        groups.append(CropGroup(mistake, size, len(ranked[mistake, size]), _within_budget(crops, budget)))
    return Gallery(tuple(groups), tuple(unreadable))


def _crop_pictures(
    truth: Dataset, predictions: Predictions, mistakes: Mistakes, errors: pd.DataFrame, progress: Progress
) -> tuple[dict[int, str], list[str]]:
    """Index of `errors` → picture, and paths of unreadable images; each image is decoded once."""
    context = {
        MISSED: _boxes_by_image(predictions.boxes[mistakes.matches.kept], errors),
        FALSE_POSITIVE: _boxes_by_image(truth.boxes, errors),
    }
    pictures: dict[int, str] = {}
    unreadable: list[str] = []
    images = list(errors.groupby("path", sort=True))
    for place, (path, rows) in enumerate(images):
        progress("crop mistakes", place, len(images))
        try:
            pixels = decode_rgb(truth.image_file(str(path)))
        except DataError:
            unreadable.append(str(path))
            continue
        for row, mistake, image_id, box in zip(
            rows.index.tolist(), rows["mistake"], rows["image_id"], rows[CORNERS].to_numpy(), strict=True
        ):
            pictures[row] = _picture(pixels, box, context[mistake].get(image_id, np.empty((0, 4))), mistake)
    progress("crop mistakes", len(images), len(images))
    return pictures, unreadable


def crop_window(box_xyxy: NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    """The window to crop around a box: a square whose margin is the longer side of the box, and at least 48 pixels.

    The window is moved into the image, and cut if the image is smaller. For a box outside the image it is at the
    nearest edge.

    Args:
        box_xyxy: Pixel edges, also outside the image. (4,)
        width, height: Of the image.

    Returns:
        x0, y0, x1, y1 in whole pixels, never empty.
    """
    limits = np.array([width, height, width, height], dtype=np.float64)
    x0, y0, x1, y1 = np.clip(box_xyxy, 0, limits).tolist()
    longer = max(x1 - x0, y1 - y0)
    side = math.ceil(longer + 2 * max(longer, _CONTEXT_PX))
    left, right = _interval((x0 + x1) / 2, side, width)
    top, bottom = _interval((y0 + y1) / 2, side, height)
    return left, top, right, bottom


def _interval(centre: float, length: int, limit: int) -> tuple[int, int]:
    length = min(length, limit)
    start = min(max(round(centre - length / 2), 0), limit - length)
    return start, start + length


def _rank(errors: pd.DataFrame) -> dict[tuple[str, str], NDArray[np.int64]]:
    """(mistake, size) → rows of `errors` in the order of the gallery."""
    pixels = area(errors[CORNERS].to_numpy(dtype=np.float64))
    groups = {}
    for mistake in (MISSED, FALSE_POSITIVE):
        order = -pixels if mistake == MISSED else -errors["score"].to_numpy(dtype=np.float64)
        for size in reversed(SIZES):
            rows = np.flatnonzero(((errors["mistake"] == mistake) & (errors["size"] == size)).to_numpy(dtype=bool))
            groups[mistake, size] = rows[np.argsort(order[rows], kind="stable")]
    return groups


def _boxes_by_image(boxes: pd.DataFrame, errors: pd.DataFrame) -> Mapping[int, NDArray[Any]]:
    needed = boxes[boxes["image_id"].isin(errors["image_id"])]
    return {int(image_id): rows[CORNERS].to_numpy() for image_id, rows in needed.groupby("image_id")}  # pyright: ignore[reportArgumentType]


def _picture(pixels: NDArray[np.uint8], box: NDArray[Any], others: NDArray[Any], mistake: str) -> str:
    """The crop as a data URI, with a thick line for the mistake's box and thin lines for the others."""
    import cv2

    height, width = pixels.shape[:2]
    left, top, right, bottom = crop_window(box, width, height)
    scale = PICTURE_PX / max(right - left, bottom - top)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    crop: Any = cv2.resize(pixels[top:bottom, left:right], size, interpolation=how)
    origin = np.array([left, top, left, top])
    limits = 2.0 * PICTURE_PX  # OpenCV takes 32-bit integers, and boxes can be far outside
    for other in _nearest(others, box, (left, top, right, bottom)) - origin:
        _draw(crop, np.clip(other * scale, -limits, limits), _OTHER_COLOURS[mistake], 2)
    own = np.clip((box - origin) * scale, -limits, limits)
    _draw(crop, own, _EDGE, 5)  # stands out on any background
    _draw(crop, own, _COLOURS[mistake], 3)
    return "data:image/jpeg;base64," + base64.b64encode(encode_rgb(crop, ".jpg", quality=_QUALITY)).decode()


def _nearest(others: NDArray[Any], box: NDArray[Any], window: tuple[int, int, int, int]) -> NDArray[Any]:
    """The first `_OTHERS_DRAWN` boxes in the window, nearest first. (n, 4) → (m, 4)."""
    left, top, right, bottom = window
    x0, y0, x1, y1 = others.T
    inside = others[(x0 < right) & (x1 > left) & (y0 < bottom) & (y1 > top)]
    distance = np.abs((inside[:, :2] + inside[:, 2:]) / 2 - (box[:2] + box[2:]) / 2).sum(axis=1)
    return inside[np.argsort(distance, kind="stable")[:_OTHERS_DRAWN]]


def _draw(crop: Any, box: NDArray[Any], colour: tuple[int, int, int], thickness: int) -> None:
    import cv2

    x0, y0, x1, y1 = np.rint(box).astype(int).tolist()
    cv2.rectangle(crop, (x0, y0), (x1 - 1, y1 - 1), colour, thickness)


def _crop(error: Mapping[Any, Any], picture: str | None) -> Crop:
    width_px, height_px = sides([[error[corner] for corner in CORNERS]])[0].tolist()
    return Crop(
        class_name=error["class"],
        kind=error["kind"],
        confused_with=None if pd.isna(error["confused_with"]) else error["confused_with"],
        score=None if pd.isna(error["score"]) else error["score"],
        width_px=width_px,
        height_px=height_px,
        path=error["path"],
        picture=picture,
    )


def _within_budget(crops: Sequence[Crop], budget: int) -> tuple[Crop, ...]:
    """The first crops whose pictures have at most `budget` bytes in total."""
    ends = np.cumsum([len(crop.picture or "") for crop in crops])
    return tuple(crops[: int(np.searchsorted(ends, budget, side="right"))])
