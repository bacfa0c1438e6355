"""The detections of one frame that count."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.boxes import Boxes

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
