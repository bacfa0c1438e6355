"""Which detections `watch` counts: the same as the run's last evaluation, unless options say otherwise."""

from dataclasses import dataclass

from curate.curation.splits import VAL
from curate.inference.evaluations import read_options
from curate.operating_point import DEFAULT_POINT, check_score
from curate.run_folder.folder import RunFolder
from curate.sizes import PinholeView, RangeOfInterest, choose_range, choose_view


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


def default_batch_size(device: str) -> int:
    """The number of frames of a file to process at once: several keep a GPU busy; a CPU gains nothing."""
    if device == "cpu":
        return 1
    from curate.engines.training.device import select_device

    return 8 if select_device(device).type == "cuda" else 1
