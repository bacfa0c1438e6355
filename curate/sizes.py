"""What counts as small, medium and large, and the range of interest: the only place with these thresholds.

A range of interest is said in pixels, or as a distance by way of `PinholeView`.

Sizes are COCO's: area in pixels of the original image, small < 32² ≤ medium < 96² ≤ large. *Counts* use these
half-open bounds. *AP and AR by size* use pycocotools' inclusive ones (`COCO_AREA_RANGES`), in which exactly 32²
is small and medium at once, so that the numbers are the world's (decision 0003).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curate.boxes import area, shorter_side
from curate.errors import UsageError

SIZES = ("small", "medium", "large")
MEDIUM_FROM_PX2 = 32.0**2
LARGE_FROM_PX2 = 96.0**2

# cocodataset/cocoapi, cocoeval.py, Params.setDetParams
COCO_AREA_RANGES: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, MEDIUM_FROM_PX2),
    "medium": (MEDIUM_FROM_PX2, LARGE_FROM_PX2),
    "large": (LARGE_FROM_PX2, 1e10),
}

# for AP as a function of the smallest side that counts; from 8 on, two steps double it
_SIDES_PX = (0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def size_index(area_px2: ArrayLike) -> NDArray[np.int64]:
    """Index into `SIZES` for each area in pixels. (n,) → (n,)."""
    return np.digitize(np.asarray(area_px2, dtype=np.float64), [MEDIUM_FROM_PX2, LARGE_FROM_PX2])


def count_by_size(boxes_xyxy: ArrayLike) -> dict[str, int]:
    """How many boxes are small, medium and large. (n, 4) → {"small": n, "medium": n, "large": n}."""
    counts = np.bincount(size_index(area(boxes_xyxy)), minlength=len(SIZES))
    return dict(zip(SIZES, counts.tolist(), strict=True))


def sides_to_try(boxes_xyxy: ArrayLike, *also: float) -> tuple[float, ...]:
    """Bounds for the smallest side that counts, in pixels, rising: from 0 as far as one of the boxes still counts.

    Args:
        boxes_xyxy: the objects. (n, 4)
        also: bounds that are wanted in any case.
    """
    longest = shorter_side(boxes_xyxy).max(initial=0.0)
    return tuple(sorted({float(side) for side in (*_SIDES_PX, *also) if side <= longest or side in (0, *also)}))


@dataclass(frozen=True)
class PinholeView:
    """How large objects of one height look from afar, through a lens without distortion (pinhole camera).

    Attributes:
        object_height_m: the object's real height; its width where that is less, since ranges are of shorter sides.
        focal_px: the camera's focal length, in pixels of the images that are evaluated or watched.
    """

    object_height_m: float
    focal_px: float

    def __post_init__(self) -> None:
        _refuse_unless_positive("--object-height", "the object has no height", self.object_height_m, "metres")
        _refuse_unless_positive("--focal-px", "not a focal length", self.focal_px, "pixels")

    def side_px(self, distance_m: float) -> float:
        """How many pixels the object is high at a distance: focal length · height / distance, to a billionth."""
        return round(self.focal_px * self.object_height_m / distance_m, 9)  # as `boxes.sides`

    def distance_m(self, side_px: float) -> float | None:
        """From how far the object is still so many pixels high; None where that is any distance, or beyond numbers."""
        distance_m = self.focal_px * self.object_height_m / side_px if side_px > 0 else np.inf
        return distance_m if np.isfinite(distance_m) else None


@dataclass(frozen=True)
class RangeOfInterest:
    """The objects that matter: those whose shorter side has at least `min_side_px` pixels.

    Truth outside it is ignored; so are detections outside it that match nothing.
    """

    min_side_px: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.min_side_px) and self.min_side_px >= 0):
            raise UsageError(
                "the smallest side is not a length",
                place="--min-side",
                got=self.min_side_px,
                expected="pixels, 0 or more",
            )

    @classmethod
    def within_distance(cls, max_distance_m: float, object_height_m: float, focal_px: float) -> "RangeOfInterest":
        """The objects up to a distance, which are those of at least the pixels that `PinholeView` gives for it."""
        _refuse_unless_positive("--max-distance", "not a distance", max_distance_m, "metres")
        side_px = PinholeView(object_height_m, focal_px).side_px(max_distance_m)
        if not np.isfinite(side_px):
            raise UsageError(
                "an object so near has no size that is a number",
                place="--max-distance",
                got=max_distance_m,
                expected="metres that fit --object-height and --focal-px",
            )
        return cls(side_px)

    def contains(self, boxes_xyxy: ArrayLike) -> NDArray[np.bool_]:
        """Whether each box is in the range. (n, 4) → (n,)."""
        return shorter_side(boxes_xyxy) >= self.min_side_px


def choose_view(object_height: float | None, focal_px: float | None) -> PinholeView | None:
    """The camera that two options describe; None where neither is given.

    Raises:
        UsageError: one without the other.
    """
    if object_height is not None and focal_px is not None:
        return PinholeView(object_height, focal_px)
    if object_height is not None or focal_px is not None:
        given, other = ("--object-height", "--focal-px") if focal_px is None else ("--focal-px", "--object-height")
        raise UsageError("the camera is half described", place=given, expected=f"{other} too")
    return None


def choose_range(
    min_side: float | None = None,
    max_distance: float | None = None,
    object_height: float | None = None,
    focal_px: float | None = None,
) -> RangeOfInterest | None:
    """The range of interest that the options say, in pixels or in metres; None where they say none.

    Object height and focal length alone say none: they only translate.

    Raises:
        UsageError: both ways at once, or a distance without what it takes to translate it.
    """
    view = choose_view(object_height, focal_px)
    if max_distance is None:
        return RangeOfInterest(min_side) if min_side is not None else None
    if min_side is not None:
        raise UsageError("the range is said twice", place="--max-distance", expected="this or --min-side")
    if view is None:
        raise UsageError(
            "a distance alone says no size", place="--max-distance", expected="--object-height and --focal-px too"
        )
    return RangeOfInterest.within_distance(max_distance, view.object_height_m, view.focal_px)


def _refuse_unless_positive(option: str, fact: str, value: float, unit: str) -> None:
    if not (np.isfinite(value) and value > 0):
        raise UsageError(fact, place=option, got=value, expected=f"{unit}, over 0")
