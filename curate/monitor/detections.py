"""What was found in one frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.boxes import Boxes

NO_TRACK = -1


@dataclass(frozen=True, eq=False)
class Seen:
    """The detections of one frame that count: sure enough, and in the range of interest; best first.

    Attributes:
        frame_index: of the source, from 0; those that a live source left out count too.
        timestamp_s: seconds from the source's first frame.
        boxes_xyxy: (n, 4) float64, pixel edges of the frame.
        scores: (n,) float64 in 0..1.
        class_indices: (n,) int64, positions in the detector's `classes`, from 0.
        track_ids: (n,) int64, from 1; `NO_TRACK` where a detection is of no track yet.
    """

    frame_index: int
    timestamp_s: float
    boxes_xyxy: Boxes
    scores: NDArray[np.float64]
    class_indices: NDArray[np.int64]
    track_ids: NDArray[np.int64]
