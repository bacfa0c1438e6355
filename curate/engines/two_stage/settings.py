"""Settings of the two-stage pipeline that `--set` can change, besides its classifier's training recipe."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class TwoStageSettings:
    """How detector and classifier work together.

    Attributes:
        detector: The first stage: a run's folder, or ENGINE:NAME with `detector_weights`.
        detector_weights: A file.
        score: Boxes of the detector with a lower score are not classified; detections with a lower one are left out.
        merge_iou: Of the detector's boxes that overlap by more than this IoU, whatever their classes, only the one with
            the highest score is kept.
        classes_per_box: Each box becomes detections of at most so many classes, the most probable ones.
        margin: What a crop shows around the box at each end, as a share of the box's longer side.
        min_side_px: Boxes with a shorter side below this are not trained on; 0 takes all.
        shift: Largest random shift of a training box, as a share of its sides: a detector's boxes are not exact either.
        scale: Largest random relative change of a training box's sides.
    """

    detector: str = ""
    detector_weights: str = ""
    score: _Share = 0.05
    merge_iou: _Share = 0.5
    classes_per_box: Annotated[int, Field(ge=1)] = 3
    margin: Annotated[float, Field(ge=0, le=2)] = 0.3
    min_side_px: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    shift: Annotated[float, Field(ge=0, le=0.4)] = 0.1
    scale: _Share = 0.2
