"""Small, medium and large objects, and the range of interest. Their thresholds are nowhere else.

A range of interest is given in pixels, or in metres and converted by `PinholeView`.

Sizes are COCO's: area in pixels of the original image, small < 32² ≤ medium < 96² ≤ large. *Counts* use these
half-open intervals. *AP and AR by size* use pycocotools' closed ones (`COCO_AREA_RANGES`), where exactly 32² is both
small and medium, so that the results compare with published ones (decision 0003).
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

# for AP as a function of the minimum side; from 8 on, every second value doubles
_SIDES_PX = (0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def size_index(area_px2: ArrayLike) -> NDArray[np.int64]:
    """Index in `SIZES` of each area in pixels. (n,) → (n,)."""
    return np.digitize(np.asarray(area_px2, dtype=np.float64), [MEDIUM_FROM_PX2, LARGE_FROM_PX2])


def count_by_size(boxes_xyxy: ArrayLike) -> dict[str, int]:
    """Number of small, medium and large boxes. (n, 4) → {"small": n, "medium": n, "large": n}."""
    counts = np.bincount(size_index(area(boxes_xyxy)), minlength=len(SIZES))
    return dict(zip(SIZES, counts.tolist(), strict=True))


def sides_to_try(boxes_xyxy: ArrayLike, *also: float) -> tuple[float, ...]:
    """Minimum sides to evaluate at, in pixels, ascending: from 0 to the largest that a box still reaches.

    Args:
        boxes_xyxy: The objects. (n, 4)
        also: Values to include in any case.
    """
    longest = shorter_side(boxes_xyxy).max(initial=0.0)
    return tuple(sorted({float(side) for side in (*_SIDES_PX, *also) if side <= longest or side in (0, *also)}))


@dataclass(frozen=True)
class PinholeView:
    """Size of objects in pixels at a distance, for a camera without distortion (pinhole camera).

    Attributes:
        object_height_m: Real height of the objects in metres; their width if that is less, because a range of interest
            limits the shorter side.
        focal_px: Focal length of the camera, in pixels of the evaluated or watched images.
    """

    object_height_m: float
    focal_px: float

    def __post_init__(self) -> None:
        _require_positive("--object-height", self.object_height_m, "metres")
        _require_positive("--focal-px", self.focal_px, "pixels")

    def side_px(self, distance_m: float) -> float:
        """Height of the object in pixels at a distance: focal length · height / distance, to a billionth."""
        return round(self.focal_px * self.object_height_m / distance_m, 9)  # as `boxes.sides`

    def distance_m(self, side_px: float) -> float | None:
        """Distance at which the object is this many pixels high; None if it is infinite."""
        distance_m = self.focal_px * self.object_height_m / side_px if side_px > 0 else np.inf
        return distance_m if np.isfinite(distance_m) else None


@dataclass(frozen=True)
class RangeOfInterest:
    """Objects whose shorter side has at least `min_side_px` pixels.

    Evaluation ignores truth outside the range, and detections outside the range that match nothing.
    """

    min_side_px: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.min_side_px) and self.min_side_px >= 0):
            raise UsageError(
                "invalid minimum side",
                place="--min-side",
                got=self.min_side_px,
                expected="pixels, 0 or more",
            )

    @classmethod
    def within_distance(cls, max_distance_m: float, object_height_m: float, focal_px: float) -> "RangeOfInterest":
        """Objects up to a distance: those that are at least as high as `PinholeView` says for that distance."""
        _require_positive("--max-distance", max_distance_m, "metres")
        side_px = PinholeView(object_height_m, focal_px).side_px(max_distance_m)
        if not np.isfinite(side_px):
            raise UsageError(
                "the size in pixels is too large",
                place="--max-distance",
                got=max_distance_m,
                expected="metres that fit --object-height and --focal-px",
            )
        return cls(side_px)

    def contains(self, boxes_xyxy: ArrayLike) -> NDArray[np.bool_]:
        """Whether each box is in the range. (n, 4) → (n,)."""
        return shorter_side(boxes_xyxy) >= self.min_side_px


def choose_view(object_height: float | None, focal_px: float | None) -> PinholeView | None:
    """The camera for the options --object-height and --focal-px; None if neither is given.

    Raises:
        UsageError: Only one is given.
    """
    if object_height is not None and focal_px is not None:
        return PinholeView(object_height, focal_px)
    if object_height is not None or focal_px is not None:
        given, other = ("--object-height", "--focal-px") if focal_px is None else ("--focal-px", "--object-height")
        raise UsageError("the camera is incomplete", place=given, expected=f"{other} too")
    return None


def choose_range(
    min_side: float | None = None,
    max_distance: float | None = None,
    object_height: float | None = None,
    focal_px: float | None = None,
) -> RangeOfInterest | None:
    """The range of interest for the options; None if neither `min_side` nor `max_distance` is given.

    Args:
        min_side: Minimum of the shorter side, in pixels.
        max_distance: Maximum distance, in metres; needs `object_height` and `focal_px`.
        object_height: Real height of the objects, in metres.
        focal_px: Focal length, in pixels.

    Raises:
        UsageError: `min_side` and `max_distance` are both given, or an option that another needs is missing.
    """
    view = choose_view(object_height, focal_px)
    if max_distance is None:
        return RangeOfInterest(min_side) if min_side is not None else None
    if min_side is not None:
        raise UsageError("the options are mutually exclusive", place="--max-distance", expected="this or --min-side")
    if view is None:
        raise UsageError("the camera is missing", place="--max-distance", expected="--object-height and --focal-px too")
    return RangeOfInterest.within_distance(max_distance, view.object_height_m, view.focal_px)


def _require_positive(option: str, value: float, unit: str) -> None:
    if not (np.isfinite(value) and value > 0):
        raise UsageError("must be positive", place=option, got=value, expected=unit)
