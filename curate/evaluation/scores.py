"""COCO's scores: AP and AR, overall, by class, by size and in the range of interest.

hotcoco computes them by the definitions of cocodataset/cocoapi, cocoeval.py; the tests compare every number with
pycocotools. Sizes use COCO's inclusive bounds (`sizes.COCO_AREA_RANGES`).

The range of interest uses COCO's mechanism for area ranges with the shorter side in place of the area: objects outside
it are ignored, and so are detections outside it that match no object. One pass evaluates all ranges.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from hotcoco import COCO
from numpy.typing import NDArray

from curate.boxes import shorter_side
from curate.dataset import Dataset, Predictions
from curate.errors import DataError
from curate.evaluation.coco_results import check_known_ids
from curate.evaluation.coco_run import (
    AP50,
    AP75,
    AR_DETECTIONS,
    NO_UPPER_BOUND,
    OUTSIDE_ALL_RANGES,
    evaluate_ranges,
    load_detections,
    mean_defined,
    to_coco,
)
from curate.evaluation.matching import counted_objects, marked_objects
from curate.operating_point import MAX_DETECTIONS
from curate.sizes import COCO_AREA_RANGES, SIZES, RangeOfInterest

_BATCH_BYTES = 1 << 20


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; None without objects of that size. `truth` is the number of its objects that count."""

    name: str
    truth: int
    ap: float | None
    ap50: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None


@dataclass(frozen=True)
class RangeScores:
    """Scores of objects with a shorter side of at least `min_side_px`; `truth` is the number of those that count."""

    min_side_px: float
    truth: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ar_100: float | None


@dataclass(frozen=True)
class SideScores:
    """AP if only objects with a shorter side of at least `min_side_px` counted.

    Attributes:
        distance_m: Distance of an object of that side; None at 0 pixels and for an unknown camera.
    """

    min_side_px: float
    truth: int
    ap: float | None
    ap50: float | None
    distance_m: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scores:
    """COCO's twelve scores, 0 to 1, and those of classes and ranges; None where there is no object to find.

    Attributes:
        images: Number of evaluated images, including those without objects.
        truth: Number of objects to find, without crowds and marked objects (`matching.counted_objects`).
        detections: Number of detections.
        ap: Mean over the IoU thresholds 0.50, 0.55, … 0.95 and the classes.
        ar_1: Mean recall with the best detection per image and class; `ar_10` with the best 10, `ar_100` with the best
            `max_detections`.
        classes: In declared order.
        range_of_interest: None if no range was given.
        by_min_side: One entry for each of the given smallest sides.
        max_detections: Highest number of detections per image and class; COCO's is 100.
    """

    images: int
    truth: int
    detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar_1: float | None
    ar_10: float | None
    ar_100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    classes: tuple[ClassScores, ...]
    range_of_interest: RangeScores | None = None
    by_min_side: tuple[SideScores, ...] = ()
    max_detections: int = MAX_DETECTIONS


def score(
    truth: Dataset,
    predictions: Predictions,
    range_of_interest: RangeOfInterest | None = None,
    min_sides_px: Sequence[float] = (),
    max_detections: int = MAX_DETECTIONS,
) -> Scores:
    """Evaluate detections against the truth of the same images.

    Args:
        truth: The labelled images to evaluate; in images without objects, false positives count.
        predictions: Detections on these images, of all scores; they are not clipped to the image.
        range_of_interest: Adds the scores in this range.
        min_sides_px: Adds AP for each of these as the smallest side that counts.
        max_detections: Highest number of detections per image and class that count.

    Raises:
        DataError: The image or class of a detection is not in `truth`.
        UsageError: A smallest side is negative or not finite.
    """
    check_known_ids(truth, predictions)
    requested = [range_of_interest] if range_of_interest is not None else []
    ranges = [*requested, *map(RangeOfInterest, min_sides_px)]
    coco_truth = to_coco(truth, predictions)
    coco_detections = load_detections(coco_truth, predictions)
    areas = list(COCO_AREA_RANGES.values())
    limits = [*(min(number, max_detections) for number in AR_DETECTIONS), max_detections]
    precision, recall = evaluate_ranges(coco_truth, coco_detections, areas, limits)
    counted = truth.boxes.loc[counted_objects(truth), "class_id"].to_numpy()
    position = {class_id: index for index, class_id in enumerate(sorted(truth.class_names))}  # COCOeval sorts by id
    area = {name: index for index, name in enumerate(COCO_AREA_RANGES)}
    all_ = area["all"]
    in_range = _score_ranges(truth, predictions, coco_truth, coco_detections, ranges, max_detections)
    return Scores(
        images=len(truth.images),
        truth=len(counted),
        detections=len(predictions.boxes),
        ap=mean_defined(precision[..., all_, -1]),
        ap50=mean_defined(precision[AP50, ..., all_, -1]),
        ap75=mean_defined(precision[AP75, ..., all_, -1]),
        ar_1=mean_defined(recall[..., all_, 0]),
        ar_10=mean_defined(recall[..., all_, 1]),
        ar_100=mean_defined(recall[..., all_, 2]),
        **{f"ap_{size}": mean_defined(precision[..., area[size], -1]) for size in SIZES},  # pyright: ignore[reportArgumentType]
        **{f"ar_{size}": mean_defined(recall[..., area[size], -1]) for size in SIZES},  # pyright: ignore[reportArgumentType]
        classes=tuple(
            ClassScores(
                name=entry.name,
                truth=int((counted == entry.id).sum()),
                ap=mean_defined(precision[:, :, position[entry.id], all_, -1]),
                ap50=mean_defined(precision[AP50, :, position[entry.id], all_, -1]),
                **{f"ap_{size}": mean_defined(precision[:, :, position[entry.id], area[size], -1]) for size in SIZES},
            )
            for entry in truth.classes
        ),
        range_of_interest=in_range[0] if requested else None,
        by_min_side=tuple(
            SideScores(one.min_side_px, one.truth, one.ap, one.ap50) for one in in_range[len(requested) :]
        ),
        max_detections=max_detections,
    )


def _score_ranges(
    truth: Dataset,
    predictions: Predictions,
    coco_truth: COCO,
    coco_detections: COCO,
    ranges: Sequence[RangeOfInterest],
    max_detections: int,
) -> list[RangeScores]:
    """Evaluate with shorter sides in place of areas; changes `coco_truth` and `coco_detections` in place."""
    if not ranges:
        return []
    truth_sides = np.where(marked_objects(truth), OUTSIDE_ALL_RANGES, shorter_side(truth.boxes_xyxy))
    sides = shorter_side(predictions.boxes_xyxy)
    coco_truth.update_anns(ids=truth.boxes["box_id"].to_numpy(), area=truth_sides)
    coco_detections.update_anns(ids=np.arange(1, len(sides) + 1), area=sides)
    bounds = [(float(interest.min_side_px), NO_UPPER_BOUND) for interest in ranges]
    precision, recall = evaluate_ranges(coco_truth, coco_detections, bounds, [max_detections])
    counted = counted_objects(truth)
    return [
        RangeScores(
            min_side_px=interest.min_side_px,
            truth=int((interest.contains(truth.boxes_xyxy) & counted).sum()),
            ap=mean_defined(precision[..., place, -1]),
            ap50=mean_defined(precision[AP50, ..., place, -1]),
            ap75=mean_defined(precision[AP75, ..., place, -1]),
            ar_100=mean_defined(recall[..., place, -1]),
        )
        for place, interest in enumerate(ranges)
    ]


def self_check_ap(coco_json_path: Path) -> float | None:
    """The AP of a COCO file's own objects as detections of score 1: 1 to within 1e-9 for a valid file.

    The limit of detections per image is the largest number of objects in an image.

    Returns:
        None if the file has no object that counts.

    Raises:
        DataError: The file is not readable as COCO, or the image or category of an annotation is missing.
    """
    try:
        # hotcoco's own reader takes twice as long, since it returns the objects one by one
        document, batches = _read_in_batches(coco_json_path.read_bytes())
        images, classes = document["images"], document["categories"]
        columns = [_annotation_columns(annotations) for annotations in batches]
        ids, image_ids, class_ids, is_crowd, boxes = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        if is_crowd.all():
            return None
        known = np.isin(image_ids, [entry["id"] for entry in images])
        known &= np.isin(class_ids, [entry["id"] for entry in classes])
        if unknown := ids[~known & ~is_crowd].tolist():
            raise DataError(
                "the image or category of the annotation is missing", place=f"{coco_json_path}, annotation {unknown[0]}"
            )
        coco = COCO.from_arrays(images, classes, image_ids, class_ids, boxes, ids=ids, iscrowd=is_crowd)
        results = np.column_stack([image_ids, boxes, np.ones(len(ids)), class_ids])[~is_crowd]
        detections = coco.load_res(results)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"not readable as COCO: {error}", place=coco_json_path) from error
    most = int(np.unique(results[:, 0], return_counts=True)[1].max())
    curves = evaluate_ranges(coco, detections, [COCO_AREA_RANGES["all"]], (1, 10, max(most, 100)))
    return mean_defined(curves.precision[..., 0, -1])


def _read_in_batches(data: bytes) -> tuple[dict[str, Any], Iterator[list[dict[str, Any]]]]:
    """A COCO document without its annotations, and the annotations in batches: as a Python object, each takes 1 kB.

    The searched marks cannot occur in a JSON string, where a backslash precedes each quotation mark. A file that lacks
    them was written by another tool, and is one batch.
    """
    opening, closing, between = b'"annotations":[', b'],"categories":', b'},{"id":'
    start, end = data.find(opening) + len(opening), data.find(closing)
    if not len(opening) <= start < end:
        document = orjson.loads(data)
        return document, iter([document["annotations"]])

    def batches() -> Iterator[list[dict[str, Any]]]:
        position = start
        while position < end:
            cut = data.find(between, position + _BATCH_BYTES, end)
            cut = cut + 1 if cut > 0 else end
            yield orjson.loads(b"[%b]" % data[position:cut])
            position = cut + 1

    return orjson.loads(data[:start] + data[end:]), batches()


def _annotation_columns(annotations: list[dict[str, Any]]) -> tuple[NDArray[Any], ...]:
    """Ids, image ids, class ids, crowd flags, boxes as (n, 4) left, top, width, height."""
    return (
        *(np.array([entry[key] for entry in annotations], np.int64) for key in ("id", "image_id", "category_id")),
        np.array([bool(entry.get("iscrowd")) for entry in annotations], bool),
        np.array([entry["bbox"] for entry in annotations], np.float64).reshape(len(annotations), 4),
    )
