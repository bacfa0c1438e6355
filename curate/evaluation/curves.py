"""Right and wrong by score, at one IoU: precision and recall, the histogram of scores, the best threshold.

A detection is right when `matching.match`, over all scores, gives it an object that counts; what it ignores is left
out. As in COCO (cocodataset/cocoapi, cocoeval.py, `evaluateImg` and `accumulate`), the best 100 detections an image and
class take part, equal scores stand in the order of image ids and rows, and AP is the mean of the precision at the
recalls 0, 0.01, … 1, each the highest at that recall or beyond. So the AP here is COCO's AP50, or that of the range.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from curate.dataset import ClassEntry, Dataset, Predictions
from curate.evaluation.coco_run import MAX_DETECTIONS
from curate.evaluation.matching import Flags, Matches, Rows

RECALLS = np.linspace(0.0, 1.0, 101)  # cocoeval.py, Params.setDetParams
SCORE_BINS = 20


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The detections that count, best score first, each right or wrong.

    Attributes:
        row: (n,) in the table of predictions.
        class_id: (n,) what each is taken for.
        score: (n,) falling.
        right: (n,) whether it found an object.
        objects: class id → objects to find.
    """

    row: Rows
    class_id: Rows
    score: NDArray[np.float64]
    right: Flags
    objects: Mapping[int, int]

    def where(self, wanted: Flags) -> "Outcomes":
        """Only the detections where the boolean array `wanted` (n,) is true; the objects stay."""
        return replace(
            self,
            row=self.row[wanted],
            class_id=self.class_id[wanted],
            score=self.score[wanted],
            right=self.right[wanted],
        )

    def precision_at_recalls(self, class_id: int) -> NDArray[np.float64] | None:
        """Precision at `RECALLS` (101,), 0 beyond what is reached; None for a class without objects."""
        if not self.objects[class_id]:
            return None
        right = np.cumsum(self.right[self.class_id == class_id])
        precision = right / np.arange(1, len(right) + 1)
        highest_from_here = np.maximum.accumulate(precision[::-1])[::-1]
        reached = np.searchsorted(right / self.objects[class_id], RECALLS, side="left")
        return np.append(highest_from_here, 0.0)[reached]

    def ap(self) -> float | None:
        """The mean AP of the classes that have objects; None where none has."""
        curves = [self.precision_at_recalls(class_id) for class_id in self.objects]
        defined = [curve.mean() for curve in curves if curve is not None]
        return float(np.mean(defined)) if defined else None


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision at each recall, of each class and of their mean; None without objects.

    Attributes:
        recall: 0, 0.01, … 1.
        classes: class name → precision at these recalls, in declared order.
        mean: over the classes that have objects.
    """

    recall: tuple[float, ...]
    classes: Mapping[str, tuple[float, ...] | None]
    mean: tuple[float, ...] | None


@dataclass(frozen=True)
class ScoreHistogram:
    """How many right and wrong detections have which score.

    Attributes:
        edges: of the bins, rising; each holds its lower edge, the last one both.
        true_positives, false_positives: a count for each bin.
    """

    edges: tuple[float, ...]
    true_positives: tuple[int, ...]
    false_positives: tuple[int, ...]


@dataclass(frozen=True)
class BestF1:
    """The score with the highest F1 = 2·precision·recall / (precision + recall); of several, the highest score."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Threshold:
    """The lowest score from which on a class's detections are as precise as wished, and where F1 is best.

    Attributes:
        class_: the name.
        score, precision, recall: counting all detections of at least this score; None where nothing was wished, where
            no score is precise enough, or where the class has no objects.
        best_f1: None where the class has no objects, or none is found.
    """

    class_: str
    score: float | None
    precision: float | None
    recall: float | None
    best_f1: BestF1 | None


def strongest(predictions: Predictions, most: int = MAX_DETECTIONS[-1]) -> Predictions:
    """The `most` detections of the best score in each image and class, in table order; equal scores: the first."""
    table = predictions.boxes
    ranked = table.sort_values("score", ascending=False, kind="stable")
    place = ranked.groupby(["image_id", "class_id"], sort=False).cumcount().to_numpy()
    kept = np.sort(ranked.index.to_numpy()[place < most])
    return predictions if len(kept) == len(table) else Predictions(table.iloc[kept])


def rank_outcomes(truth: Dataset, predictions: Predictions, matches: Matches) -> Outcomes:
    """The detections that count, as COCO ranks them.

    Args:
        truth: the images that were matched.
        predictions: from `strongest`.
        matches: of these two, over all scores.
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
        right=matches.true_positives[order],
        objects={entry.id: int((counted == entry.id).sum()) for entry in truth.classes},
    )


def trace_precision_recall(outcomes: Outcomes, classes: tuple[ClassEntry, ...]) -> PrecisionRecall:
    """Precision against recall for each class, and their mean."""
    curves = {entry.name: outcomes.precision_at_recalls(entry.id) for entry in classes}
    defined = [curve for curve in curves.values() if curve is not None]
    return PrecisionRecall(
        recall=tuple(RECALLS.tolist()),
        classes={name: None if curve is None else tuple(curve.tolist()) for name, curve in curves.items()},
        mean=tuple(np.mean(defined, axis=0).tolist()) if defined else None,
    )


def count_scores(outcomes: Outcomes, bins: int = SCORE_BINS) -> ScoreHistogram:
    """How many right and wrong detections of all classes have which score, from 0 to 1, or as far as scores go."""
    scores = outcomes.score
    low, high = scores.min(initial=0.0), scores.max(initial=1.0)
    edges = low + (high - low) * np.arange(bins + 1) / bins  # in this order, 0.15 is 0.15
    counts = [np.histogram(scores[wanted], edges)[0] for wanted in (outcomes.right, ~outcomes.right)]
    right, wrong = (tuple(one.tolist()) for one in counts)
    return ScoreHistogram(tuple(edges.tolist()), right, wrong)


def choose_threshold(outcomes: Outcomes, entry: ClassEntry, precision: float | None = None) -> Threshold:
    """The lowest score of a class that is precise enough, and the one with the best F1.

    Args:
        outcomes: of all classes.
        entry: the class.
        precision: wished, over all detections of at least the score.
    """
    objects, mine = outcomes.objects[entry.id], outcomes.where(outcomes.class_id == entry.id)
    if not objects or not mine.right.any():
        return Threshold(entry.name, None, None, None, None)
    last = np.append(np.flatnonzero(np.diff(mine.score)), len(mine.score) - 1)  # of equal scores, all count
    right, number = np.cumsum(mine.right)[last], last + 1
    scores, precisions, recalls, f1 = mine.score[last], right / number, right / objects, 2 * right / (number + objects)
    best = int(np.argmax(f1))
    best_f1 = BestF1(float(scores[best]), float(precisions[best]), float(recalls[best]), float(f1[best]))
    enough = np.flatnonzero(precisions >= precision) if precision is not None else np.empty(0, dtype=np.int64)
    if not len(enough):
        return Threshold(entry.name, None, None, None, best_f1)
    lowest = enough[-1]
    return Threshold(entry.name, float(scores[lowest]), float(precisions[lowest]), float(recalls[lowest]), best_f1)
