"""COCOeval over our tables. hotcoco takes the place of pycocotools; its quirks are handled here alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

from curate.boxes import area, xyxy_to_xywh
from curate.dataset import Dataset, Predictions
from curate.evaluation.matching import marked_objects, overlapping_pairs

AR_DETECTIONS = (1, 10)  # per image and class; the third AR has the limit of AP
NO_UPPER_BOUND = 1e10  # cocoeval.py's infinity
OUTSIDE_ALL_RANGES = 1e11  # an area
LOWEST_IOU = 0.5  # of COCO's thresholds
AP50, AP75 = 0, 5  # positions in the IoU thresholds 0.50, 0.55, … 0.95


class Curves(NamedTuple):
    """What COCOeval accumulates; −1 where there is no object.

    Axes: T IoU thresholds, R recalls, K classes in the order of their ids, A area ranges, M numbers of detections.
    """

    precision: NDArray[np.float64]  # (T, R, K, A, M)
    recall: NDArray[np.float64]  # (T, K, A, M)


def to_coco(truth: Dataset, predictions: Predictions) -> COCO:
    """Convert the truth for hotcoco; `load_detections` adds detections.

    An object that is marked (`matching.ignore_difficult`) has an area outside all ranges, so it is ignored. COCO gives
    such an object one detection only, so it is there as often as there are `predictions` that can find it.
    """
    images, boxes = truth.images, truth.boxes
    marked = marked_objects(truth)
    areas = np.where(marked, OUTSIDE_ALL_RANGES, area(truth.boxes_xyxy))
    rows, ids = np.arange(len(boxes)), boxes["box_id"].to_numpy(dtype=np.int64)
    if marked.any():
        everything = np.ones(len(predictions.boxes), dtype=bool)
        pairs = overlapping_pairs(truth, predictions, everything, LOWEST_IOU, within_class=True)
        times = np.bincount(pairs.truth[marked[pairs.truth]], minlength=len(boxes))
        extra = np.repeat(rows, np.maximum(times - 1, 0))
        rows, ids = np.append(rows, extra), np.append(ids, ids.max() + 1 + np.arange(len(extra)))
    return COCO.from_arrays(
        [
            {"id": image_id, "width": width, "height": height}
            for image_id, width, height in zip(
                images["image_id"].tolist(), images["width"].tolist(), images["height"].tolist(), strict=True
            )
        ],
        [{"id": entry.id, "name": entry.name} for entry in truth.classes],
        boxes["image_id"].to_numpy(dtype=np.int64)[rows],
        boxes["class_id"].to_numpy(dtype=np.int64)[rows],
        xyxy_to_xywh(truth.boxes_xyxy)[rows],
        ids=ids,
        area=areas[rows],
        iscrowd=boxes["crowd"].to_numpy(dtype=np.int64)[rows],
    )


def load_detections(truth: COCO, predictions: Predictions) -> COCO:
    """Convert detections on this truth for hotcoco, which numbers them from 1 in table order."""
    table = predictions.boxes
    columns = [table["image_id"], xyxy_to_xywh(predictions.boxes_xyxy), table["score"], table["class_id"]]
    return truth.load_res(np.column_stack(columns).astype(np.float64))


def evaluate_ranges(
    truth: COCO, detections: COCO, area_ranges: Sequence[tuple[float, float]], max_detections: Sequence[int]
) -> Curves:
    """Match and accumulate for each area range (axis A) and number of detections (axis M).

    Args:
        truth: From `to_coco`.
        detections: From `load_detections`.
        area_ranges: Lowest and highest area, both inclusive.
        max_detections: Numbers of detections per image and class; the highest one bounds matching.
    """
    distinct = list(dict.fromkeys(area_ranges))  # hotcoco 1.3 returns wrong numbers for a range that is given twice
    run = COCOeval(truth, detections, "bbox")
    run.params.area_rng = [list(bounds) for bounds in distinct]  # hotcoco ignores changes in place
    run.params.area_rng_lbl = [str(place) for place in range(len(distinct))]
    limits = sorted(set(max_detections))
    run.params.max_dets = limits
    run.evaluate()
    run.accumulate()
    accumulated = run.eval or {}
    places = [distinct.index(bounds) for bounds in area_ranges]
    precision, recall = np.asarray(accumulated["precision"]), np.asarray(accumulated["recall"])
    numbers = [limits.index(number) for number in max_detections]
    return Curves(precision[..., places, :][..., numbers], recall[..., places, :][..., numbers])


def mean_defined(values: NDArray[np.float64]) -> float | None:
    """The mean of the defined values (cocoeval.py, `summarize`); None where there is none."""
    defined = values[values > -1]
    return float(defined.mean()) if len(defined) else None
