"""All that is told of detections at one operating point beside COCO's numbers, from one matching over all scores."""

from dataclasses import dataclass

import numpy as np

from curate.dataset import Dataset, Predictions
from curate.evaluation.confusion import Confusion, count_confusion
from curate.evaluation.costs import MistakeSummary, ap_costs
from curate.evaluation.curves import (
    PrecisionRecall,
    ScoreHistogram,
    Threshold,
    choose_threshold,
    count_scores,
    rank_outcomes,
    strongest,
    trace_precision_recall,
)
from curate.evaluation.mistakes import Mistakes, find_mistakes
from curate.sizes import RangeOfInterest


@dataclass(frozen=True)
class Judgement:
    """What went wrong, what was confused, and which score to cut at.

    Attributes:
        mistakes: each at the operating point; `errors` counts them.
        thresholds: one entry a class, in declared order.
    """

    mistakes: Mistakes
    errors: MistakeSummary
    confusion: Confusion
    thresholds: tuple[Threshold, ...]
    precision_recall: PrecisionRecall
    score_histogram: ScoreHistogram


def judge(
    truth: Dataset,
    predictions: Predictions,
    iou: float = 0.5,
    score: float = 0.5,
    range_of_interest: RangeOfInterest | None = None,
    precision: float | None = None,
) -> Judgement:
    """Find and weigh the mistakes.

    Mistakes and confusion are those of detections of at least `score`; costs, curves and thresholds look at all.

    Args:
        truth: the labelled images to look at.
        predictions: detections on these images.
        iou: at which an object counts as found.
        score: of the operating point.
        range_of_interest: see `matching.match`.
        precision: for which to look for the lowest score.

    Raises:
        DataError: a detection's image or class is not in `truth`.
        UsageError: `iou` is not a share.
    """
    mistakes = find_mistakes(truth, predictions, iou, score, range_of_interest)
    counted = strongest(predictions)
    of_all_scores = find_mistakes(truth, counted, iou, -np.inf, range_of_interest)
    outcomes = rank_outcomes(truth, counted, of_all_scores.matches)
    return Judgement(
        mistakes=mistakes,
        errors=MistakeSummary(**vars(mistakes.counts()), ap_cost=ap_costs(of_all_scores, outcomes)),
        confusion=count_confusion(truth, predictions, iou, score, range_of_interest),
        thresholds=tuple(choose_threshold(outcomes, entry, precision) for entry in truth.classes),
        precision_recall=trace_precision_recall(outcomes, truth.classes),
        score_histogram=count_scores(outcomes),
    )
