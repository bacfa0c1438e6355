"""What counts as small, medium and large, and the range of interest: the only place with these thresholds.

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


def size_index(area_px2: ArrayLike) -> NDArray[np.int64]:
    """Index into `SIZES` for each area in pixels. (n,) → (n,)."""
    return np.digitize(np.asarray(area_px2, dtype=np.float64), [MEDIUM_FROM_PX2, LARGE_FROM_PX2])


def count_by_size(boxes_xyxy: ArrayLike) -> dict[str, int]:
    """How many boxes are small, medium and large. (n, 4) → {"small": n, "medium": n, "large": n}."""
    counts = np.bincount(size_index(area(boxes_xyxy)), minlength=len(SIZES))
    return dict(zip(SIZES, counts.tolist(), strict=True))


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

    def contains(self, boxes_xyxy: ArrayLike) -> NDArray[np.bool_]:
        """Whether each box is in the range. (n, 4) → (n,)."""
        return shorter_side(boxes_xyxy) >= self.min_side_px
