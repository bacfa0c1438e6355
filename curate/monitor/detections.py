"""The detections of one frame, and which detections count."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.boxes import Boxes
from curate.curation.splits import VAL
from curate.inference.evaluations import read_options
from curate.operating_point import DEFAULT_POINT, check_score
from curate.run_folder.folder import RunFolder
from curate.sizes import PinholeView, RangeOfInterest, choose_range, choose_view

NO_TRACK = -1


@dataclass(frozen=True, eq=False)
class FrameDetections:
    """Detections of one frame above the score threshold and in the range of interest, by descending score.

    Attributes:
        frame_index: Index in the source, from 0; frames that a live source skipped count too.
        timestamp_s: Seconds from the source's first frame.
        boxes_xyxy: (n, 4) float64, pixel edges of the frame.
        scores: (n,) float64 in 0..1.
        class_indices: (n,) int64, positions in the detector's `classes`, from 0.
        track_ids: (n,) int64, from 1; `NO_TRACK` where a detection belongs to no track yet.
    """

    frame_index: int
    timestamp_s: float
    boxes_xyxy: Boxes
    scores: NDArray[np.float64]
    class_indices: NDArray[np.int64]
    track_ids: NDArray[np.int64]


@dataclass(frozen=True)
class DetectionCriteria:
    """Which detections count.

    Attributes:
        score: Lowest score.
        interest: The range of interest; None means all sizes.
        camera: For distances; None if it is not described.
        as_evaluated: Whether score and range are those of the run's last evaluation.
    """

    score: float
    interest: RangeOfInterest | None
    camera: PinholeView | None
    as_evaluated: bool

    def __str__(self) -> str:
        """A phrase for people."""
        side = self.interest.min_side_px if self.interest else 0
        far = self.camera.distance_m(side) if self.camera else None
        words = f"scores from {self.score:g}"
        words += f", sides of at least {side:g} px" if side else ""
        return words + (f" (up to {far:.1f} m away)" if far else "") + (", as evaluated" if self.as_evaluated else "")


def choose_criteria(
    run: RunFolder | None,
    *,
    score: float | None,
    min_side: float | None,
    max_distance: float | None,
    object_height: float | None,
    focal_px: float | None,
) -> DetectionCriteria:
    """The given options; for those that are not given, the values of the run's last evaluation on val.

    Args:
        run: None for a file of weights.
        score, min_side, max_distance, object_height, focal_px: Options; None if not given.

    Raises:
        UsageError: The options contradict one another.
    """
    if score is not None:
        check_score(score)
    evaluated = read_options(run, VAL) if run is not None else {}
    range_given = min_side is not None or max_distance is not None
    if not range_given:
        min_side = evaluated.get("min_side")
        if object_height is None and focal_px is None:
            object_height, focal_px = evaluated.get("object_height"), evaluated.get("focal_px")
    return DetectionCriteria(
        score=score if score is not None else evaluated.get("score", DEFAULT_POINT.score),
        interest=choose_range(min_side, max_distance, object_height, focal_px),
        camera=choose_view(object_height, focal_px),
        as_evaluated=bool(evaluated) and score is None and not range_given,
    )
