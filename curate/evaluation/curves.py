"""Curves over all scores at one IoU: precision and recall, score histogram, best threshold.

A detection is correct if `matching.match`, over all scores, gives it an object that counts; ignored detections are left
out. As in COCO (cocodataset/cocoapi, cocoeval.py, `evaluateImg` and `accumulate`), the best detections per image and
class are used, up to a limit, equal scores are ordered by image id and row, and AP is the mean of the precision at the
recalls 0, 0.01, … 1, each the highest at that recall or beyond. AP at IoU 0.5 is thus COCO's AP50, or that of the
range.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from curate.dataset import ClassEntry, Dataset, Predictions
from curate.evaluation.matching import Flags, Matches, Rows
from curate.operating_point import MAX_DETECTIONS

RECALLS = np.linspace(0.0, 1.0, 101)  # cocoeval.py, Params.setDetParams
SCORE_BINS = 20


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The detections that count, best score first, each correct or false.

    Attributes:
        row: (n,) Row in the table of predictions.
        class_id: (n,) Detected class.
        score: (n,) Falling.
        correct: (n,) Whether the detection found an object.
        objects: Class id → number of objects to find.
    """

    row: Rows
    class_id: Rows
    score: NDArray[np.float64]
    correct: Flags
    objects: Mapping[int, int]

    def where(self, selected: Flags) -> "Outcomes":
        """Keep the detections where `selected` (n,) is true, and all objects."""
        return replace(
            self,
            row=self.row[selected],
            class_id=self.class_id[selected],
            score=self.score[selected],
            correct=self.correct[selected],
        )

    def precision_at_recalls(self, class_id: int) -> NDArray[np.float64] | None:
        """Precision at `RECALLS` (101,), 0 at recalls that are not reached; None for a class without objects."""
        if not self.objects[class_id]:
            return None
        correct = np.cumsum(self.correct[self.class_id == class_id])
        precision = correct / np.arange(1, len(correct) + 1)
        highest_from_here = np.maximum.accumulate(precision[::-1])[::-1]
        reached = np.searchsorted(correct / self.objects[class_id], RECALLS, side="left")
        return np.append(highest_from_here, 0.0)[reached]

    def ap(self) -> float | None:
        """The mean AP of the classes that have objects; None if no class has any."""
        curves = [self.precision_at_recalls(class_id) for class_id in self.objects]
        defined = [curve.mean() for curve in curves if curve is not None]
        return float(np.mean(defined)) if defined else None


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision at each recall, per class and in the mean; None without objects.

    Attributes:
        recall: 0, 0.01, … 1.
        classes: Class name → precision at these recalls, in declared order.
        mean: Over the classes that have objects.
    """

    recall: tuple[float, ...]
    classes: Mapping[str, tuple[float, ...] | None]
    mean: tuple[float, ...] | None


@dataclass(frozen=True)
class ScoreHistogram:
    """Correct and false detections by score.

    Attributes:
        edges: Edges of the bins, rising; each bin includes its lower edge, the last one both.
        true_positives, false_positives: One count per bin.
    """

    edges: tuple[float, ...]
    true_positives: tuple[int, ...]
    false_positives: tuple[int, ...]


@dataclass(frozen=True)
class BestF1:
    """The score with the highest F1 = 2·precision·recall / (precision + recall); of equal ones the highest score."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Threshold:
    """The lowest score at which a class reaches the target precision, and the score with the best F1.

    Attributes:
        class_: Name of the class.
        score, precision, recall: Over all detections of at least this score. None without a target precision, where no
            score reaches it, and where the class has no objects.
        best_f1: None where no object of the class is found.
    """

    class_: str
    score: float | None
    precision: float | None
    recall: float | None
    best_f1: BestF1 | None


def top_detections(predictions: Predictions, most: int = MAX_DETECTIONS) -> Predictions:
    """The `most` best-scored detections of each image and class, in table order; of equal scores the first."""
    table = predictions.boxes
    ranked = table.sort_values("score", ascending=False, kind="stable")
    place = ranked.groupby(["image_id", "class_id"], sort=False).cumcount().to_numpy()
    kept = np.sort(ranked.index.to_numpy()[place < most])
    return predictions if len(kept) == len(table) else Predictions(table.iloc[kept])


def rank_outcomes(truth: Dataset, predictions: Predictions, matches: Matches) -> Outcomes:
    """Rank the detections that count as COCO does.

    Args:
        truth: The labelled images.
        predictions: From `top_detections`.
        matches: Of these two, over all scores.
    """
    table = predictions.boxes
    score = table["score"].to_numpy(dtype=np.float64)
    order = np.lexsort((np.arange(len(table)), table["image_id"].to_numpy(), -score))
    order = order[(matches.true_positives | matches.false_positives)[order]]
    counted = truth.boxes["class_id"].to_numpy()[~matches.truth_ignored]
    return Outcomes(
        row=order,
        class_id=table["class_id"].to_numpy(dtype=np.int64)[order],
        score=score[order],
        correct=matches.true_positives[order],
        objects={entry.id: int((counted == entry.id).sum()) for entry in truth.classes},
    )


def trace_precision_recall(outcomes: Outcomes, classes: tuple[ClassEntry, ...]) -> PrecisionRecall:
    """Precision at each recall, per class and in the mean."""
    curves = {entry.name: outcomes.precision_at_recalls(entry.id) for entry in classes}
    defined = [curve for curve in curves.values() if curve is not None]
    return PrecisionRecall(
        recall=tuple(RECALLS.tolist()),
        classes={name: None if curve is None else tuple(curve.tolist()) for name, curve in curves.items()},
        mean=tuple(np.mean(defined, axis=0).tolist()) if defined else None,
    )


def count_scores(outcomes: Outcomes, bins: int = SCORE_BINS) -> ScoreHistogram:
    """The histogram of the scores of all classes, from 0 to 1 or to the extreme scores."""
    scores = outcomes.score
    low, high = scores.min(initial=0.0), scores.max(initial=1.0)
    edges = low + (high - low) * np.arange(bins + 1) / bins  # in this order of operations, 0.15 is exact
    counts = (np.histogram(scores[selected], edges)[0] for selected in (outcomes.correct, ~outcomes.correct))
    correct, false = (tuple(one.tolist()) for one in counts)
    return ScoreHistogram(tuple(edges.tolist()), correct, false)


def choose_threshold(outcomes: Outcomes, entry: ClassEntry, precision: float | None = None) -> Threshold:
    """Find the lowest score at which a class reaches a precision, and the score with the best F1.

    Args:
        outcomes: Of all classes.
        entry: The class.
        precision: Target precision of all detections of at least that score.
    """
    objects, own = outcomes.objects[entry.id], outcomes.where(outcomes.class_id == entry.id)
    if not objects or not own.correct.any():
        return Threshold(entry.name, None, None, None, None)
    last = np.append(np.flatnonzero(np.diff(own.score)), len(own.score) - 1)  # equal scores count together
    correct, number = np.cumsum(own.correct)[last], last + 1
    scores, precisions, recalls = own.score[last], correct / number, correct / objects
    f1 = 2 * correct / (number + objects)
    best = int(np.argmax(f1))
    best_f1 = BestF1(float(scores[best]), float(precisions[best]), float(recalls[best]), float(f1[best]))
    reached = np.flatnonzero(precisions >= precision) if precision is not None else np.empty(0, dtype=np.int64)
    if not len(reached):
        return Threshold(entry.name, None, None, None, best_f1)
    lowest = reached[-1]
    return Threshold(entry.name, float(scores[lowest]), float(precisions[lowest]), float(recalls[lowest]), best_f1)
