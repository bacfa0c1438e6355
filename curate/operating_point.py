"""The operating point: the score from which a detection counts, and the IoU at which it finds an object.

This module has the defaults of both, and COCO's limit of detections. It imports no library, so that the command line
can show them in `--help`.
"""

import math
from dataclasses import dataclass, replace

from curate.errors import UsageError


def check_score(score: float) -> None:
    """Refuse a threshold that is not a score.

    Raises:
        UsageError: It is not from 0 to 1.
    """
    if not 0 <= score <= 1:
        raise UsageError("not a score", place="--score", got=score, expected="0 to 1")


@dataclass(frozen=True)
class OperatingPoint:
    """Where detections become finds and mistakes.

    Attributes:
        iou: Lowest IoU of a detection with the object that it finds; over 0, up to 1.
        score: Lowest score of a detection that counts, 0 to 1; minus infinity for all detections.

    Raises:
        UsageError: One of them is out of its range.
    """

    iou: float
    score: float

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise UsageError("not an IoU threshold", place="operating point", got=self.iou, expected="over 0, up to 1")
        if self.score != -math.inf:
            check_score(self.score)

    @property
    def ap_name(self) -> str:
        """What papers call AP at this IoU: "AP50" at 0.5."""
        return f"AP{100 * self.iou:g}"

    def over_all_scores(self) -> "OperatingPoint":
        """The same IoU without a lowest score."""
        return replace(self, score=-math.inf)


DEFAULT_POINT = OperatingPoint(iou=0.5, score=0.5)
MAX_DETECTIONS = 100  # per image and class, COCO's rule: AP, AR 100 and AR by size use the best so many
