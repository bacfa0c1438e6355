"""Builders of truth and predictions for the evaluation tests, and pycocotools as the oracle."""

import contextlib
import io
import random
from pathlib import Path

import numpy as np
import pandas as pd
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from curate.boxes import area, clip, shorter_side, xyxy_to_xywh
from curate.columns import BOX_COLUMNS, CORNERS, PREDICTION_COLUMNS, conform
from curate.dataset import Dataset, Predictions

STATS = [
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar_1",
    "ar_10",
    "ar_100",
    "ar_small",
    "ar_medium",
    "ar_large",
]


def build_truth(rows, images=(1,), classes=((1, "face"), (2, "mask")), side_px=1000):
    """Truth from rows of (image_id, class_id, x0, y0, x1, y1[, crowd]); box ids are 1, 2, … in row order."""
    table = pd.DataFrame(
        [(*row, False)[:7] for row in rows], columns=["image_id", "class_id", *CORNERS, "crowd"]
    ).assign(box_id=np.arange(1, len(rows) + 1))
    return Dataset(Path("truth"), tuple(classes), build_images(images, side_px), conform(table, BOX_COLUMNS))


def build_images(ids, side_px=1000):
    """An images table of labelled squares."""
    return pd.DataFrame(
        {
            "image_id": pd.Series(list(ids), dtype="int64"),
            "path": pd.Series([f"{image_id}.jpg" for image_id in ids], dtype="str"),
            "width": pd.Series([side_px] * len(ids), dtype="int32"),
            "height": pd.Series([side_px] * len(ids), dtype="int32"),
            "label_state": pd.Series(["labelled"] * len(ids), dtype="str"),
        }
    )


def build_predictions(rows):
    """Predictions from rows of (image_id, class_id, x0, y0, x1, y1, score)."""
    return Predictions(conform(pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS)), PREDICTION_COLUMNS))


def perfect_predictions(truth):
    """The truth as predictions, with scores that fall from 1."""
    table = truth.boxes.loc[~truth.boxes["crowd"], ["image_id", "class_id", *CORNERS]]
    return Predictions(table.assign(score=np.linspace(1, 0.6, len(table))))


def awkward_case(seed, images=6, per_image=12, detections_per_object=4.0, crowds=True):
    """Truth and predictions with everything in which evaluators differ.

    Ids with gaps and unsorted, images and classes without objects, crowds, boxes of exactly 32² and 96² px,
    thirds of pixels, the same box twice, tied scores, over 100 detections of a class in an image, detections
    that leave the image.
    """
    random = np.random.default_rng(seed)
    classes = [(9, "b"), (2, "a"), (40, "nowhere"), (5, "rare")]
    image_ids = random.permutation(np.arange(1, 5 * images))[:images]
    with_objects = image_ids[: max(1, images - 2)]
    count = per_image * len(with_objects)
    sides = random.choice([6, 16, 31, 32, 33, 64, 95, 96, 97, 144, 300], size=(count, 2))
    square = random.random(count) < 0.5
    sides[square, 1] = sides[square, 0]
    grid = random.choice([1.0, 0.5, 1 / 3], size=(count, 1))
    corner = np.floor(random.random((count, 2)) * 400 / grid) * grid
    boxes = np.concatenate([corner, corner + sides], axis=1)
    boxes[1::7] = boxes[0::7][: len(boxes[1::7])]
    truth = Dataset(
        Path("truth"),
        tuple(classes),
        build_images(image_ids, 800),
        pd.DataFrame(
            {
                "box_id": random.permutation(np.arange(1, 3 * count))[:count],
                "image_id": random.choice(with_objects, count),
                "class_id": random.choice([9, 2, 5], count, p=[0.7, 0.25, 0.05]),
                **dict(zip(CORNERS, boxes.T, strict=True)),
                "crowd": (random.random(count) < 0.1) & crowds,
            }
        ),
    )
    guesses = int(count * detections_per_object)
    source = random.integers(0, count, guesses)
    kind = random.random(guesses)
    offset = np.where(kind < 0.3, 0.0, np.where(kind < 0.6, 0.1, 0.4))[:, None]
    reach = np.tile(boxes[source, 2:] - boxes[source, :2], 2)
    near = boxes[source] + offset * reach * random.uniform(-1, 1, (guesses, 4)) / 2
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    near += np.where(random.random((guesses, 1)) < 0.1, -300, 0)
    table = pd.DataFrame(
        {
            "image_id": np.where(
                random.random(guesses) < 0.1,
                random.choice(image_ids, guesses),
                truth.boxes["image_id"].to_numpy()[source],
            ),
            "class_id": np.where(
                random.random(guesses) < 0.2,
                random.choice([9, 2, 40, 5], guesses),
                truth.boxes["class_id"].to_numpy()[source],
            ),
            **dict(zip(CORNERS, near.T, strict=True)),
            "score": np.where(random.random(guesses) < 0.7, random.random(guesses).round(1), random.random(guesses)),
        }
    )
    return truth, Predictions(table)


def jittered(truth, seed=0, share=0.15):
    """Realistic predictions: slightly moved and resized truth, with misses and false positives."""
    random = np.random.default_rng(seed)
    boxes = truth.boxes[random.random(len(truth.boxes)) < 0.85]
    xyxy = boxes[CORNERS].to_numpy()
    sides = np.tile(xyxy[:, 2:] - xyxy[:, :2], 2)
    moved = np.concatenate([xyxy + sides * random.normal(0, share, xyxy.shape), xyxy + 3 * sides])
    moved = clip(moved, 1e6, 1e6)
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    twice = pd.concat([boxes, boxes], ignore_index=True)
    table = twice[["image_id", "class_id"]].assign(
        **dict(zip(CORNERS, moved.T, strict=True)), score=random.random(len(twice)).round(2)
    )
    return Predictions(table[random.random(len(table)) < 0.8])


def oracle(truth, predictions, *, area_ranges=None, by_side=False, class_id=None, max_detections=None, iou=None):
    """A finished pycocotools evaluation; `predictions` are a table of ours or a list of COCO results."""
    measure = shorter_side if by_side else area
    coco_truth, coco_detections = COCO(), COCO()
    shared = {
        "images": [{"id": image_id} for image_id in truth.images["image_id"].tolist()],
        "categories": [{"id": entry.id, "name": entry.name} for entry in truth.classes],
    }
    coco_truth.dataset = {**shared, "annotations": _annotations(truth.boxes, truth.boxes_xyxy, measure)}
    if isinstance(predictions, Predictions):
        rows = predictions.boxes.assign(box_id=np.arange(1, len(predictions.boxes) + 1), crowd=False)
        found = _annotations(rows, predictions.boxes_xyxy, measure)
    else:
        found = [
            {**result, "id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
            for number, result in enumerate(predictions, 1)
        ]
    coco_detections.dataset = {**shared, "annotations": found}
    with contextlib.redirect_stdout(io.StringIO()):
        coco_truth.createIndex()
        coco_detections.createIndex()
        run = COCOeval(coco_truth, coco_detections, "bbox")
        if area_ranges is not None:
            run.params.areaRng = area_ranges
        if class_id is not None:
            run.params.catIds = [class_id]
        if max_detections is not None:
            run.params.maxDets = max_detections
        if iou is not None:
            run.params.iouThrs = np.array([iou])
        run.evaluate()
        if iou is None:
            run.accumulate()
            run.summarize()
    return run


def oracle_numbers(run):
    """pycocotools' twelve scores by field name, with None in place of −1."""
    return {name: None if value == -1 else value for name, value in zip(STATS, run.stats, strict=True)}


def _annotations(rows, boxes_xyxy, measure):
    return [
        {"id": a, "image_id": b, "category_id": c, "bbox": d, "area": e, "iscrowd": int(f), "score": g}
        for a, b, c, d, e, f, g in zip(
            rows["box_id"].tolist(),
            rows["image_id"].tolist(),
            rows["class_id"].tolist(),
            xyxy_to_xywh(boxes_xyxy).tolist(),
            measure(boxes_xyxy).tolist(),
            rows["crowd"].tolist(),
            rows["score"].tolist() if "score" in rows else [1.0] * len(rows),
            strict=True,
        )
    ]


def golden_case():
    """Faces and masks with jitter; `random.Random` gives these numbers in every version of Python."""
    throw = random.Random(2020).random
    objects, detections = [], []
    for image_id in range(1, 9):
        for _ in range(12):
            x, y, side = 300 * throw(), 300 * throw(), 20 + 100 * throw()
            class_id = 1 + (throw() < 0.3)
            objects.append((image_id, class_id, x, y, x + side, y + side))
            for _ in range(int(3 * throw())):
                reach = side * 2 * throw() ** 3
                dx, dy, grow = reach * (throw() - 0.5), reach * (throw() - 0.5), 0.7 + 0.6 * throw()
                guess = class_id if throw() < 0.8 else 3 - class_id
                box = (x + dx, y + dy, x + dx + side * grow, y + dy + side * grow)
                detections.append((image_id, guess, *box, 0.3 + 0.7 * throw()))
    return build_truth(objects, images=range(1, 9)), build_predictions(detections)
