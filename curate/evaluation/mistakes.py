"""Missed objects and false positives, each with its size and kind.

The kinds are TIDE's (Bolya, Foley, Hays, Hoffman: TIDE, A General Toolbox for Identifying Object Detection Errors,
ECCV 2020, arXiv 2008.08115, section 2.2), tried in the order of its published code (dbolya/tide, quantify.py). With
t_f the IoU of the operating point and t_b = 0.1, the best IoU with any object of the image decides the kind of a false
positive:

    localisation  the correct class, with t_b ≤ IoU < t_f
    class         another class, with IoU ≥ t_f
    duplicate     the correct class with IoU ≥ t_f, but a better detection has that object
    background    IoU ≤ t_b with every object
    both          all others: another class, with t_b < IoU < t_f
    missed        an object that no detection found, and that no localisation or class error explains

An error *explains* a missed object if that object decided its kind: once the error is fixed, the object is found. TIDE
counts such an object once, as the error. Here every missed object has a row, whose kind is the reason of the miss, so
that counts by size include *all* misses.

Two choices of this module: an IoU of exactly t_f with the correct class is a duplicate (the paper allows both), and
objects outside the range of interest are never missed but can decide what a detection was confused with. Crowds cannot.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.boxes import area
from curate.columns import CORNERS
from curate.dataset import Dataset, Predictions
from curate.evaluation.matching import Matches, Pairs, Rows, match, overlapping_pairs
from curate.operating_point import DEFAULT_POINT, OperatingPoint
from curate.sizes import SIZES, RangeOfInterest, count_by_size, size_index

KINDS = ("missed", "class", "localisation", "both", "duplicate", "background")
BACKGROUND_IOU = 0.1

MISTAKE_COLUMNS: Mapping[str, str] = {
    "image_id": "int64",
    "box_id": "Int64",  # the missed object; null for a false positive
    "class_id": "int32",
    "size": "str",  # of the missed object, or of the detection; one of SIZES
    "kind": "str",  # one of KINDS; for a miss: missed, or the kind of the false positive that explains it
    "score": "float64",  # null for a miss
    "iou": "float64",  # with the object that decided the kind; for a miss: of the error that explains it, else the best
    "confused_with": "Int32",  # the other class, for the kinds class and both; else null
    "detection": "Int64",  # row in predictions.boxes of the false positive, or of the error that explains the miss
    "x0": "float64",
    "y0": "float64",
    "x1": "float64",
    "y1": "float64",
}


@dataclass(frozen=True)
class MistakeCounts:
    """The contract's `errors`.

    Attributes:
        missed: Size → number of missed objects.
        false_positives: Size → number of false positives.
        kinds: Kind → number of mistakes, each counted once: the false positives of the kind, and for `missed` the
            objects that no false positive explains. All of `KINDS` are keys.
    """

    missed: Mapping[str, int]
    false_positives: Mapping[str, int]
    kinds: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Mistakes:
    """The mistakes at one operating point.

    Attributes:
        table: Columns `MISTAKE_COLUMNS`; missed objects in the order of the truth, then false positives in the order of
            the predictions.
        matches: Which detection found which object.
    """

    table: pd.DataFrame
    matches: Matches

    @property
    def missed(self) -> pd.DataFrame:
        return self.table.loc[self.table["box_id"].notna()]

    @property
    def false_positives(self) -> pd.DataFrame:
        return self.table.loc[self.table["box_id"].isna()]

    def counts(self) -> MistakeCounts:
        """Count the mistakes by size and kind; sizes and kinds without mistakes count 0."""
        missed, false_positives = self.missed, self.false_positives
        once = Counter([*(kind for kind in missed["kind"] if kind == "missed"), *false_positives["kind"]])
        return MistakeCounts(
            missed=count_by_size(missed[CORNERS]),
            false_positives=count_by_size(false_positives[CORNERS]),
            kinds={kind: once[kind] for kind in KINDS},
        )


def find_mistakes(
    truth: Dataset,
    predictions: Predictions,
    point: OperatingPoint = DEFAULT_POINT,
    range_of_interest: RangeOfInterest | None = None,
) -> Mistakes:
    """List the missed objects and false positives of `match`, with the kind of each.

    Args:
        truth: The labelled images to evaluate.
        predictions: Detections on these images.
        point: Its IoU is t_f; detections below its score are left out.
        range_of_interest: Objects outside it cannot be missed; see `match`.

    Raises:
        DataError: The image or class of a detection is not in `truth`.
    """
    matches = match(truth, predictions, point, range_of_interest)
    pairs = overlapping_pairs(truth, predictions, matches.kept, 0.0, within_class=False)
    pairs = pairs.where(~truth.boxes["crowd"].to_numpy(dtype=bool)[pairs.truth])
    truth_class = truth.boxes["class_id"].to_numpy(dtype=np.int64)
    detection_class = predictions.boxes["class_id"].to_numpy(dtype=np.int64)

    errors = _false_positives(pairs, matches, truth_class, detection_class, point.iou)
    explained_by = _explanations(errors, matches, predictions.boxes["score"].to_numpy(dtype=np.float64))
    best_iou = np.zeros(len(truth_class))
    np.maximum.at(best_iou, pairs.truth, pairs.overlap)

    missed = np.flatnonzero(matches.missed)
    cause = explained_by[missed]  # positions in `errors`, −1 for none
    explained = cause >= 0
    kind = np.full(len(missed), "missed", dtype=object)
    kind[explained] = errors["kind"].to_numpy(dtype=object)[cause[explained]]
    detection = np.full(len(missed), -1)
    detection[explained] = errors["detection"].to_numpy()[cause[explained]]
    overlap = best_iou[missed]
    overlap[explained] = errors["iou"].to_numpy()[cause[explained]]
    misses = pd.DataFrame({"kind": kind, "iou": overlap, "detection": detection})
    misses["confused_with"] = np.where(kind == "class", detection_class[detection] if len(detection_class) else -1, -1)
    misses = _with_boxes(misses, truth.boxes.iloc[missed])
    wrong = _with_boxes(errors.drop(columns="truth"), predictions.boxes.iloc[errors["detection"]])
    return Mistakes(_concatenate([misses, wrong]), matches)


def _false_positives(
    pairs: Pairs, matches: Matches, truth_class: Rows, detection_class: Rows, iou: float
) -> pd.DataFrame:
    """One row per false positive: detection, kind, iou, truth (row that decided the kind, or −1), confused_with."""
    rows = np.flatnonzero(matches.false_positives)
    own = truth_class[pairs.truth] == detection_class[pairs.detection]
    own_iou, own_truth = (values[rows] for values in _best(pairs, own, len(detection_class)))
    other_iou, other_truth = (values[rows] for values in _best(pairs, ~own, len(detection_class)))
    kind = np.select(
        [
            (own_iou >= BACKGROUND_IOU) & (own_iou < iou),
            other_iou >= iou,
            own_iou >= iou,
            np.maximum(own_iou, other_iou) <= BACKGROUND_IOU,
        ],
        ["localisation", "class", "duplicate", "background"],
        default="both",
    )
    by_other = np.isin(kind, ["class", "both"]) | ((kind == "background") & (other_iou > own_iou))
    decided_on = np.where(by_other, other_truth, own_truth)
    confused = np.full(len(rows), -1)
    named = np.isin(kind, ["class", "both"])
    confused[named] = truth_class[decided_on[named]]
    return pd.DataFrame(
        {
            "detection": rows,
            "kind": kind.astype(object),
            "iou": np.where(by_other, other_iou, own_iou),
            "truth": decided_on,
            "confused_with": confused,
        }
    )


def _best(pairs: Pairs, selected: NDArray[np.bool_], detections: int) -> tuple[NDArray[np.float64], Rows]:
    """Highest overlap of each detection in the selected pairs, and its row of truth (the first on a tie); or 0, −1."""
    best, row = np.zeros(detections), np.full(detections, -1)
    detection, other, overlap = pairs.where(selected)
    order = np.lexsort((-other, overlap))  # of several assignments to one element the last one wins
    best[detection[order]] = overlap[order]
    row[detection[order]] = other[order]
    return best, row


def _explanations(errors: pd.DataFrame, matches: Matches, scores: NDArray[np.float64]) -> Rows:
    """Position in `errors` of the best-scored error that explains each object, −1 for none. (m,)"""
    explained_by = np.full(len(matches.detection_row), -1)
    positions = np.flatnonzero(errors["kind"].isin(["class", "localisation"]).to_numpy(dtype=bool))
    # the best-scored and first error comes last
    order = np.lexsort((-positions, scores[errors["detection"].to_numpy()[positions]]))
    explained_by[errors["truth"].to_numpy()[positions[order]]] = positions[order]
    return explained_by


def _with_boxes(rows: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """Add image, class, corners, size, and box id or score from `boxes` to `rows`."""
    columns = [name for name in ("image_id", "box_id", "class_id", "score", *CORNERS) if name in boxes]
    sizes = np.array(SIZES, dtype=object)[size_index(area(boxes[CORNERS]))]
    return rows.assign(size=sizes, **{name: boxes[name].to_numpy() for name in columns})


def _concatenate(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Join tables with the columns and types of `MISTAKE_COLUMNS`; −1 becomes null."""
    columns: dict[str, Any] = {}
    for name, dtype in MISTAKE_COLUMNS.items():
        values = [
            part[name].astype(dtype)  # pyright: ignore[reportCallIssue, reportArgumentType]
            if name in part
            else pd.Series([pd.NA if dtype == "Int64" else np.nan] * len(part), dtype=dtype)
            for part in parts
        ]
        column = pd.concat(values, ignore_index=True)
        columns[name] = column.mask(column == -1) if name in ("confused_with", "detection") else column
    return pd.DataFrame(columns)
