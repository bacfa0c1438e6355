"""Matching of detections with objects.

The rules are COCO's (cocodataset/cocoapi, cocoeval.py, `evaluateImg`), at one operating point and without a limit on
the detections per image. In each image and class, detections choose in order of falling score (equal scores: table
order). Each takes the free object with the highest IoU at or above the threshold (equal IoU: the later row). Objects
that count come before ignored ones, whatever the IoU. Crowds are ignored and absorb any number of detections, by the
share of the detection that they cover. Objects that `ignore_difficult` marks are ignored and absorb any number of
detections by IoU, as in Pascal VOC (VOC devkit, VOCevaldet.m). Every other object is taken once.

In `match`, detections choose among the objects of their class. In `match_any_class`, for the confusion matrix, they
choose among all objects of their image, so that the best-scored detection on an object decides its detected class.
There is no other difference; crowds still absorb only detections of their own class.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.boxes import Boxes, xyxy_to_xywh
from curate.dataset import Dataset, Predictions
from curate.evaluation.coco_results import check_known_ids
from curate.operating_point import DEFAULT_POINT, OperatingPoint
from curate.sizes import RangeOfInterest

PAIRS_AT_ONCE = 1 << 20  # limits the memory of `overlapping_pairs` to about 100 MB
IOU_BELOW_ONE = 1 - 1e-10  # cocoeval.py: what a threshold of 1 means in floating point

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]

_MARK = "ignored"  # further column of `truth.boxes`


def ignore_difficult(truth: Dataset) -> Dataset:
    """Mark the difficult objects, so that they count neither as found nor as missed; nor do detections on them."""
    return truth.replace(boxes=truth.boxes.assign(**{_MARK: truth.boxes["difficult"].to_numpy(dtype=bool)}))


def marked_objects(truth: Dataset) -> Flags:
    """Which objects `ignore_difficult` marked. (m,)"""
    return truth.boxes[_MARK].to_numpy(dtype=bool) if _MARK in truth.boxes else np.zeros(len(truth.boxes), dtype=bool)


def counted_objects(truth: Dataset) -> Flags:
    """Which objects are to be found, of any size: all but crowds and marked ones. (m,)"""
    return ~truth.boxes["crowd"].to_numpy(dtype=bool) & ~marked_objects(truth)


@dataclass(frozen=True, eq=False)
class Matches:
    """Which detection found which object, for the rows of `predictions.boxes` (n,) and `truth.boxes` (m,).

    Attributes:
        truth_row: (n,) Row in `truth.boxes` that each detection found, −1 for none.
        detection_row: (m,) Row in `predictions.boxes` that found each object, −1 for none; the last one for a crowd.
        kept: (n,) Whether the score reaches the operating point; other detections are left out.
        detection_ignored: (n,) Kept detections that are neither true nor false positives: they found an ignored object,
            or found none and are outside the range of interest.
        truth_ignored: (m,) Crowds, marked objects, and objects outside the range of interest.
    """

    truth_row: Rows
    detection_row: Rows
    kept: Flags
    detection_ignored: Flags
    truth_ignored: Flags

    @property
    def found(self) -> Flags:
        """(m,) Objects that count and were found. Every object is found, missed or ignored."""
        return ~self.truth_ignored & (self.detection_row >= 0)

    @property
    def missed(self) -> Flags:
        """(m,) Objects that count and were not found."""
        return ~self.truth_ignored & (self.detection_row < 0)

    @property
    def true_positives(self) -> Flags:
        """(n,) Detections that found an object that counts."""
        return ~self.detection_ignored & (self.truth_row >= 0)

    @property
    def false_positives(self) -> Flags:
        """(n,) Kept detections that found no object and are not ignored."""
        return self.kept & ~self.detection_ignored & (self.truth_row < 0)


class Pairs(NamedTuple):
    """Pairs of a detection and an object that overlap: rows (p,), rows (p,), overlaps (p,)."""

    detection: Rows
    truth: Rows
    overlap: NDArray[np.float64]

    def where(self, selected: Flags) -> "Pairs":
        """Keep the pairs where `selected` (p,) is true."""
        return Pairs(self.detection[selected], self.truth[selected], self.overlap[selected])


def match(
    truth: Dataset,
    predictions: Predictions,
    point: OperatingPoint = DEFAULT_POINT,
    range_of_interest: RangeOfInterest | None = None,
) -> Matches:
    """Match detections with objects of their class.

    Args:
        truth: The labelled images to evaluate.
        predictions: Detections on these images; their order decides between equal scores.
        point: Lowest IoU of a match, and lowest score of a detection.
        range_of_interest: Objects outside it are ignored, and so are detections outside it that find no object.

    Raises:
        DataError: The image or class of a detection is not in `truth`.
    """
    return _match(truth, predictions, point, range_of_interest, within_class=True)


def match_any_class(
    truth: Dataset,
    predictions: Predictions,
    point: OperatingPoint = DEFAULT_POINT,
    range_of_interest: RangeOfInterest | None = None,
) -> Matches:
    """Match as `match` does, but with objects of any class.

    Raises:
        DataError: The image or class of a detection is not in `truth`.
    """
    return _match(truth, predictions, point, range_of_interest, within_class=False)


def _match(
    truth: Dataset,
    predictions: Predictions,
    point: OperatingPoint,
    range_of_interest: RangeOfInterest | None,
    *,
    within_class: bool,
) -> Matches:
    check_known_ids(truth, predictions)
    crowd = truth.boxes["crowd"].to_numpy(dtype=bool)
    scores = predictions.boxes["score"].to_numpy(dtype=np.float64)
    truth_ignored, outside = ~counted_objects(truth), np.zeros(len(scores), dtype=bool)
    absorbs = truth_ignored.tolist()
    if range_of_interest is not None:
        truth_ignored |= ~range_of_interest.contains(truth.boxes_xyxy)
        outside = ~range_of_interest.contains(predictions.boxes_xyxy)
    kept = scores >= point.score

    pairs = overlapping_pairs(truth, predictions, kept, min(point.iou, IOU_BELOW_ONE), within_class=within_class)
    if not within_class:
        truth_class, detection_class = truth.boxes["class_id"].to_numpy(), predictions.boxes["class_id"].to_numpy()
        pairs = pairs.where(~crowd[pairs.truth] | (truth_class[pairs.truth] == detection_class[pairs.detection]))
    rank = np.empty(len(scores), dtype=np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    # candidates of each detection in order, detections by rank: evaluateImg's loop ends with the first free candidate
    order = np.lexsort((-pairs.truth, -pairs.overlap, truth_ignored[pairs.truth], rank[pairs.detection]))
    truth_row, detection_row = [-1] * len(scores), [-1] * len(crowd)
    for detection, candidate in zip(pairs.detection[order].tolist(), pairs.truth[order].tolist(), strict=True):
        if truth_row[detection] < 0 and (detection_row[candidate] < 0 or absorbs[candidate]):
            truth_row[detection] = candidate
            detection_row[candidate] = detection

    rows = np.array(truth_row, dtype=np.int64)
    found_nothing = rows < 0
    ignored = kept & found_nothing & outside
    ignored[~found_nothing] = truth_ignored[rows[~found_nothing]]
    return Matches(rows, np.array(detection_row, dtype=np.int64), kept, ignored, truth_ignored)


def overlapping_pairs(
    truth: Dataset, predictions: Predictions, kept: Flags, at_least: float, *, within_class: bool
) -> Pairs:
    """Pair each kept detection with the objects of its image (and class) that it overlaps by at least `at_least`.

    Pairs without any overlap are left out. Overlap is IoU; with a crowd, the share of the detection that it covers.
    """
    crowd = truth.boxes["crowd"].to_numpy(dtype=bool)
    detections_xywh, truth_xywh = xyxy_to_xywh(predictions.boxes_xyxy), xyxy_to_xywh(truth.boxes_xyxy)
    blocks = [
        Pairs(detection, other, overlap).where((overlap >= at_least) & (overlap > 0))
        for detection, other in _pairs_by_block(
            _groups(truth, predictions.boxes, within_class=within_class),
            _groups(truth, truth.boxes, within_class=within_class),
            np.flatnonzero(kept),
        )
        for overlap in [_overlap(detections_xywh[detection], truth_xywh[other], crowd[other])]
    ]
    if not blocks:
        return Pairs(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
    return Pairs(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))


def _groups(truth: Dataset, rows: pd.DataFrame, *, within_class: bool) -> Rows:
    """Group number of each row, equal within an image (and class). (n,)"""
    groups = pd.Index(truth.images["image_id"]).get_indexer(rows["image_id"].to_numpy()).astype(np.int64)
    if within_class:
        classes = pd.Index([entry.id for entry in truth.classes], dtype="int64")
        groups = groups * len(classes) + classes.get_indexer(rows["class_id"].to_numpy(dtype=np.int64))
    return groups


def _pairs_by_block(detection_groups: Rows, truth_groups: Rows, detections: Rows) -> Iterator[tuple[Rows, Rows]]:
    """All pairs of the same group as (detection rows, truth rows), in blocks of about `PAIRS_AT_ONCE`."""
    by_group = np.argsort(truth_groups, kind="stable")
    sorted_groups = truth_groups[by_group]
    first = np.searchsorted(sorted_groups, detection_groups[detections], side="left")
    count = np.searchsorted(sorted_groups, detection_groups[detections], side="right") - first
    detections, first, count = detections[count > 0], first[count > 0], count[count > 0]
    block = (np.cumsum(count) - 1) // PAIRS_AT_ONCE
    for members in np.split(np.arange(len(detections)), np.flatnonzero(np.diff(block)) + 1):
        counts = count[members]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, … for each detection
        yield np.repeat(detections[members], counts), by_group[np.repeat(first[members], counts) + within]


def _overlap(detection_xywh: Boxes, truth_xywh: Boxes, crowd: Flags) -> NDArray[np.float64]:
    """Overlap of each pair, computed as in cocoapi's maskApi.c (`bbIou`). (p, 4), (p, 4), (p,) → (p,)"""
    d, t = detection_xywh.T, truth_xywh.T
    width = np.minimum(d[0] + d[2], t[0] + t[2]) - np.maximum(d[0], t[0])
    height = np.minimum(d[1] + d[3], t[1] + t[3]) - np.maximum(d[1], t[1])
    shared = np.where((width > 0) & (height > 0), width * height, 0.0)
    own = d[2] * d[3]
    return shared / np.where(crowd, own, own + t[2] * t[3] - shared)
