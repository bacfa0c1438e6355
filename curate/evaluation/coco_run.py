"""One pass of COCOeval over our tables: hotcoco in the place of pycocotools, with its quirks kept here."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

from curate.boxes import xyxy_to_xywh
from curate.dataset import Dataset, Predictions

MAX_DETECTIONS = (1, 10, 100)  # an image and class; AP and AR by size take the last
NO_UPPER_BOUND = 1e10  # cocoeval.py's infinity
AP50, AP75 = 0, 5  # positions in the IoU thresholds 0.50, 0.55, … 0.95


class Curves(NamedTuple):
    """What COCOeval accumulates; −1 where there is no object. T IoU thresholds, R recalls, K classes by id, A, M."""

    precision: NDArray[np.float64]  # (T, R, K, A, M)
    recall: NDArray[np.float64]  # (T, K, A, M)


def to_coco(truth: Dataset) -> COCO:
    """The truth as hotcoco takes it; detections join it by `load_detections`."""
    images, boxes = truth.images, truth.boxes
    return COCO.from_arrays(
        [
            {"id": image_id, "width": width, "height": height}
            for image_id, width, height in zip(
                images["image_id"].tolist(), images["width"].tolist(), images["height"].tolist(), strict=True
            )
        ],
        [{"id": entry.id, "name": entry.name} for entry in truth.classes],
        boxes["image_id"].to_numpy(dtype=np.int64),
        boxes["class_id"].to_numpy(dtype=np.int64),
        xyxy_to_xywh(truth.boxes_xyxy),
        ids=boxes["box_id"].to_numpy(dtype=np.int64),
        iscrowd=boxes["crowd"].to_numpy(dtype=np.int64),
    )


def load_detections(truth: COCO, predictions: Predictions) -> COCO:
    """Detections beside their truth; hotcoco numbers them from 1 in table order."""
    table = predictions.boxes
    columns = [table["image_id"], xyxy_to_xywh(predictions.boxes_xyxy), table["score"], table["class_id"]]
    return truth.load_res(np.column_stack(columns).astype(np.float64))


def evaluate_ranges(
    truth: COCO, detections: COCO, area_ranges: Sequence[tuple[float, float]], most: Sequence[int]
) -> Curves:
    """Match and accumulate, once for each area range and number of detections, along the axes A and M.

    Args:
        truth: from `to_coco`.
        detections: from `load_detections`.
        area_ranges: lowest and highest area, both inclusive.
        most: detections an image and class, rising; all are matched up to the last.
    """
    distinct = list(dict.fromkeys(area_ranges))  # with one range given twice, hotcoco 1.3 answers wrongly for both
    run = COCOeval(truth, detections, "bbox")
    run.params.area_rng = [list(bounds) for bounds in distinct]  # hotcoco takes whole assignments only
    run.params.area_rng_lbl = [str(place) for place in range(len(distinct))]
    run.params.max_dets = list(most)
    run.evaluate()
    run.accumulate()
    accumulated = run.eval or {}
    places = [distinct.index(bounds) for bounds in area_ranges]
    precision, recall = np.asarray(accumulated["precision"]), np.asarray(accumulated["recall"])
    return Curves(precision[..., places, :], recall[..., places, :])


def mean_defined(values: NDArray[np.float64]) -> float | None:
    """The mean of what is defined, as cocoeval.py's `summarize` takes it."""
    defined = values[values > -1]
    return float(defined.mean()) if len(defined) else None
