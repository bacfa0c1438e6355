"""Judgement of detections: all numbers and mistakes that `evaluate` returns and `report` and `view` show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.dataset import Dataset, Predictions
from curate.errors import UsageError
from curate.evaluation.confusion import Confusion, count_confusion
from curate.evaluation.costs import MistakeSummary, ap_costs
from curate.evaluation.curves import (
    PrecisionRecall,
    ScoreHistogram,
    Threshold,
    choose_threshold,
    count_scores,
    rank_outcomes,
    top_detections,
    trace_precision_recall,
)
from curate.evaluation.matching import counted_objects, ignore_difficult
from curate.evaluation.mistakes import Mistakes, find_mistakes
from curate.evaluation.scores import Scores, SideScores
from curate.evaluation.scores import score as score_predictions
from curate.formatting import count_of
from curate.operating_point import DEFAULT_POINT, MAX_DETECTIONS, OperatingPoint
from curate.result import Result
from curate.sizes import PinholeView, RangeOfInterest, choose_range, choose_view, sides_to_try

_MOST_NAMES = 3  # in a note
_LARGEST_LIMIT = 1_000_000_000  # of detections; hotcoco takes 64 bits


@dataclass(frozen=True)
class EvaluationOptions:
    """What counts in an evaluation.

    Attributes:
        interest: The range of interest; None for all objects.
        camera: Translates sides to distances; None if unknown.
        point: The operating point.
        precision: Target precision of the thresholds; None without a target.
        max_detections: Highest number of detections per image and class in AP, AR and curves; COCO's is 100.
        ignore_difficult: Whether difficult objects count neither as found nor as missed.

    Raises:
        UsageError: `precision` or `max_detections` is out of its range.
    """

    interest: RangeOfInterest | None = None
    camera: PinholeView | None = None
    point: OperatingPoint = DEFAULT_POINT
    precision: float | None = None
    max_detections: int = MAX_DETECTIONS
    ignore_difficult: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.max_detections <= _LARGEST_LIMIT:
            raise UsageError(
                "not a limit", place="--max-detections", got=self.max_detections, expected=f"1 to {_LARGEST_LIMIT}"
            )
        if self.precision is not None and not 0 < self.precision <= 1:
            raise UsageError("not a precision", place="--precision", got=self.precision, expected="over 0, up to 1")

    @classmethod
    def from_command(
        cls,
        *,
        min_side: float | None = None,
        max_distance: float | None = None,
        object_height: float | None = None,
        focal_px: float | None = None,
        iou: float | None = None,
        score: float | None = None,
        precision: float | None = None,
        max_detections: int | None = None,
        ignore_difficult: bool | None = None,
    ) -> "EvaluationOptions":
        """Build them from the options of a command; None stands for the default.

        Raises:
            UsageError: Options are out of range, or do not go together.
        """
        point = OperatingPoint(
            iou=DEFAULT_POINT.iou if iou is None else iou,
            score=DEFAULT_POINT.score if score is None else score,
        )
        interest = choose_range(min_side, max_distance, object_height, focal_px)
        limit = MAX_DETECTIONS if max_detections is None else max_detections
        return cls(interest, choose_view(object_height, focal_px), point, precision, limit, bool(ignore_difficult))

    def mark(self, truth: Dataset) -> Dataset:
        """The truth, with the difficult objects marked if they do not count."""
        return ignore_difficult(truth) if self.ignore_difficult else truth


@dataclass(frozen=True, kw_only=True)
class EvaluateResult(Result, Scores):
    """COCO's scores, and the mistakes at the operating point; None where there is no object.

    Attributes:
        split: "all" for a dataset without splits.
        operating_point: For `errors` and `confusion`; its IoU also for the others below.
        errors: Mistakes in the range of interest; `ap_cost` is over all scores, like everything below.
        confusion: At the operating point, in the range of interest.
        ignore_difficult: Whether difficult objects count neither as found nor as missed.
        wished_precision: Target precision of `thresholds`.
        thresholds: One entry per class.
        report: The page written into the run's folder, if any.
        against: The kept evaluation of another run, if one was requested.
        unreadable: Paths of images that could not be decoded: their objects count as missed.
    """

    split: str
    operating_point: OperatingPoint
    errors: MistakeSummary
    confusion: Confusion
    ignore_difficult: bool
    wished_precision: float | None
    thresholds: tuple[Threshold, ...]
    precision_recall: PrecisionRecall
    score_histogram: ScoreHistogram
    report: Path | None = None
    against: dict[str, Any] | None = None
    unreadable: tuple[str, ...] = ()

    def to_json(self) -> Any:
        """The document, with `against` only if it was requested, and `unreadable` only if there are such images."""
        document = {"split": self.split, **super().to_json()}
        document["thresholds"] = [{"class": entry.pop("class_"), **entry} for entry in document["thresholds"]]
        if self.against is None:
            del document["against"]
        if not self.unreadable:
            del document["unreadable"]
        return document


@dataclass(frozen=True, eq=False)
class Judgement:
    """Detections, their truth, and the outcome.

    Attributes:
        truth: The labelled images that were evaluated; see `EvaluationOptions.mark`.
        predictions: Detections on them, in the current classes of the dataset.
        result: All numbers; its notes are for the person who reads them.
        mistakes: At the operating point; `result.errors` counts them.
    """

    truth: Dataset
    predictions: Predictions
    result: EvaluateResult
    mistakes: Mistakes


def judge(
    truth: Dataset,
    predictions: Predictions,
    options: EvaluationOptions = EvaluationOptions(),
    *,
    split: str = "all",
    notes: Sequence[str] = (),
) -> Judgement:
    """Compute all scores, curves and mistakes of detections.

    Args:
        truth: The labelled images to evaluate.
        predictions: Detections on these images, of all scores.
        options: What counts.
        split: Name of the split for the result.
        notes: Notes for the result.

    Raises:
        DataError: The image or class of a detection is not in `truth`.
    """
    point, interest = options.point, options.interest
    truth = options.mark(truth)
    objects = truth.boxes_xyxy[counted_objects(truth)]
    sides = sides_to_try(objects, *([interest.min_side_px] if interest else []))
    scores = score_predictions(truth, predictions, interest, sides, options.max_detections)
    mistakes = find_mistakes(truth, predictions, point, interest)
    ranked = top_detections(predictions, options.max_detections)
    mistakes_of_all_scores = find_mistakes(truth, ranked, point.over_all_scores(), interest)
    outcomes = rank_outcomes(truth, ranked, mistakes_of_all_scores.matches)
    costs = ap_costs(mistakes_of_all_scores, outcomes)
    result = EvaluateResult(
        split=split,
        **{**vars(scores), "by_min_side": _with_distances(scores.by_min_side, options.camera)},
        operating_point=point,
        errors=MistakeSummary(**vars(mistakes.counts()), ap_cost=costs),
        confusion=count_confusion(truth, predictions, point, interest),
        ignore_difficult=options.ignore_difficult,
        wished_precision=options.precision,
        thresholds=tuple(choose_threshold(outcomes, entry, options.precision) for entry in truth.classes),
        precision_recall=trace_precision_recall(outcomes, truth.classes),
        score_histogram=count_scores(outcomes),
        notes=(*notes, *_note_crowded_images(truth, mistakes, options.max_detections)),
    )
    return Judgement(truth, predictions, result, mistakes)


def _note_crowded_images(truth: Dataset, mistakes: Mistakes, limit: int) -> list[str]:
    """A note if images have more objects of a class than detections of it count: AP then cannot reach 100."""
    counted = truth.boxes.loc[~mistakes.matches.truth_ignored]
    numbers = counted.groupby(["image_id", "class_id"]).size()
    crowded = numbers[numbers > limit].reset_index()
    if not len(crowded):
        return []
    names = [entry.name for entry in truth.classes if entry.id in set(crowded["class_id"])]
    more = ", …" if len(names) > _MOST_NAMES else ""
    return [
        f"{count_of(crowded['image_id'].nunique(), 'image')} with more than {limit} objects of a class "
        f"({', '.join(names[:_MOST_NAMES])}{more}): AP, AR and curves use the best {limit} detections of an image and "
        f"class, the numbers of missed objects use all. --max-detections {numbers.max()} makes room for all objects."
    ]


def _with_distances(entries: tuple[SideScores, ...], camera: PinholeView | None) -> tuple[SideScores, ...]:
    if camera is None:
        return entries
    return tuple(replace(entry, distance_m=camera.distance_m(entry.min_side_px)) for entry in entries)
