"""What `evaluate` answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.evaluation.confusion import Confusion
from curate.evaluation.costs import MistakeSummary
from curate.evaluation.curves import PrecisionRecall, ScoreHistogram, Threshold
from curate.evaluation.scores import ClassScores, RangeScores, SideScores
from curate.result import Result


@dataclass(frozen=True)
class OperatingPoint:
    """Where objects count as found: overlap and score at least so much."""

    iou: float
    score: float


@dataclass(frozen=True)
class EvaluateResult(Result):
    """COCO's numbers and the mistakes at the operating point; None where there is no such object.

    Attributes:
        split: "all" where the dataset has no splits.
        truth, detections: boxes of each, of all scores.
        range_of_interest: the numbers within it; `errors` and what follows are then those within it too.
        by_min_side: the numbers of other ranges, from all objects to the largest.
        errors: at the operating point; what each kind costs is told over all scores, of AP50.
        confusion: at the operating point.
        wished_precision: that `thresholds` are for, if one was given.
        thresholds: one entry a class; `precision_recall` and `score_histogram` likewise over all scores.
        report: the page in the run's folder that tells all of this; None where none was written.
        against: another run's evaluation, where one was asked for.
    """

    split: str
    images: int
    truth: int
    detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar_1: float | None
    ar_10: float | None
    ar_100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    classes: tuple[ClassScores, ...]
    range_of_interest: RangeScores | None
    operating_point: OperatingPoint
    errors: MistakeSummary
    by_min_side: tuple[SideScores, ...]
    confusion: Confusion
    wished_precision: float | None
    thresholds: tuple[Threshold, ...]
    precision_recall: PrecisionRecall
    score_histogram: ScoreHistogram
    report: Path | None = None
    against: dict[str, Any] | None = None

    def to_json(self) -> Any:
        """The document, without what was not asked for."""
        document = super().to_json()
        document["thresholds"] = [{"class": entry.pop("class_"), **entry} for entry in document["thresholds"]]
        if self.against is None:
            del document["against"]
        return document
