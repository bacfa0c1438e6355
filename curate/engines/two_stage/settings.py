"""What `--set` can change of the two-stage pipeline, beyond how its classifier is trained."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class TwoStage:
    """How detector and classifier work together.

    Attributes:
        detector: the first stage: a run's folder, or ENGINE:NAME with `detector_weights`.
        detector_weights: a file.
        score: boxes of the detector with a lower score are not looked at, and detections with a lower one not told.
        merge_iou: of boxes of the detector that overlap more than this, whatever their classes, only the best stays.
        classes_per_box: at most so many classes of each box are told, the most probable ones.
        margin: what a crop shows around the box at each end, as a share of its longer side.
        min_side_px: boxes with a shorter side than this are not trained on; 0 takes all.
        shift: largest shift of a training box, as a share of its sides: those of a detector do not fit exactly either.
        scale: largest relative change of a training box's sides.
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
