"""Fields and documents of the app, made from tables without FiftyOne.

A *document* is what FiftyOne stores for one image. These are the dicts that its own `Sample.to_mongo_dict` makes, built
here directly because its objects take ten times as long (decision 0017; a test compares the two).
"""

import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from curate.boxes import area, shorter_side
from curate.columns import BOX_COLUMNS, CORNERS, IMAGE_COLUMNS, app_fields
from curate.dataset import Dataset, Predictions
from curate.evaluation.mistakes import Mistakes
from curate.sizes import SIZES, RangeOfInterest, size_index

TRUTH, PROPOSALS = "ground_truth", "proposals"
SIZES_FIELD = "object_sizes"  # sizes of all objects of an image, for FiftyOne's histograms
FOUND, MISSED, IGNORED = "found", "missed", "ignored"  # outcome of an object
RIGHT, FALSE_POSITIVE = "right", "false positive"  # outcome of a detection, or IGNORED

# attribute → type, in addition to `label`
_MEASURES = {"size": str, "area_px": float, "side_px": float, "in_range": bool}
IMAGE_FIELDS: Mapping[str, type] = app_fields(IMAGE_COLUMNS)
_BOX_FIELDS: Mapping[str, type] = app_fields(BOX_COLUMNS)
TRUTH_FIELDS: Mapping[str, type] = {**_MEASURES, **_BOX_FIELDS}
DETECTION_FIELDS: Mapping[str, type] = {**_MEASURES, "outcome": str, "kind": str, "confused_with": str, "iou": float}


@dataclass(frozen=True, eq=False)
class JudgedRun:
    """A run's detections and mistakes.

    Attributes:
        name: Name of the run, as given.
        field: Its field in the app, from `run_fields`.
        truth: The evaluated images.
        predictions: Detections on them, of all scores; those below the operating point are not shown.
        mistakes: Mistakes at the operating point.
    """

    name: str
    field: str
    truth: Dataset
    predictions: Predictions
    mistakes: Mistakes

    @property
    def truth_fields(self) -> Mapping[str, type]:
        """Fields of an object: its outcome, kind of mistake, and IoU."""
        return {self.field: str, f"{self.field}_kind": str, f"{self.field}_iou": float}

    @property
    def count_fields(self) -> tuple[str, str, str]:
        """Fields of an image: number of missed objects, of false positives, and of both."""
        return f"{self.field}_missed", f"{self.field}_false_positives", self.mistakes_field

    @property
    def missed_sizes_field(self) -> str:
        """Field of an image: sizes of its missed objects."""
        return f"{self.field}_missed_sizes"

    @property
    def false_sizes_field(self) -> str:
        """Field of an image: sizes of its false positives."""
        return f"{self.field}_false_positive_sizes"

    @property
    def mistakes_field(self) -> str:
        """Field of an image: number of mistakes."""
        return f"{self.field}_mistakes"


def run_fields(names: Sequence[str]) -> list[str]:
    """Field name of each run, with the characters of a field: `run_first` for the run `first`."""
    fields: list[str] = []
    for name in names:
        plain = "run_" + (re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_") or "other")
        numbered = (f"{plain}_{number}" for number in count(2))
        fields.append(plain if plain not in fields else next(one for one in numbered if one not in fields))
    return fields


def make_documents(
    dataset: Dataset,
    runs: Sequence[JudgedRun],
    interest: RangeOfInterest | None,
    tags: Mapping[int, Sequence[str]] = MappingProxyType({}),
) -> Iterator[dict[str, Any]]:
    """Make one document per image, in the order of paths, without the keys that FiftyOne adds, such as `_id`.

    Args:
        dataset: All images and their objects.
        runs: Detections and mistakes of each run.
        interest: Range of interest; None for all objects.
        tags: Image id → tags.
    """
    images = dataset.images.sort_values("path")
    sides = _sides(dataset.images)
    drawn = dataset.drawn_boxes
    proposed = dataset.boxes.drop(drawn.index)
    labels = {TRUTH: _group(_truth_documents(dataset, drawn, runs, interest, sides), drawn["image_id"])}
    if len(proposed):
        labels[PROPOSALS] = _group(_truth_documents(dataset, proposed, (), interest, sides), proposed["image_id"])
    for run in runs:
        kept = run.predictions.boxes[run.mistakes.matches.kept]
        labels[run.field] = _group(
            _detection_documents(run, kept, interest, sides, dataset.class_names), kept["image_id"]
        )
    counted = {field: values for run in runs for field, values in _image_values(run).items()}
    columns = {name: _values(images[name], kind) for name, kind in IMAGE_FIELDS.items()}
    paths, widths, heights = (images[name].tolist() for name in ("path", "width", "height"))
    rows = zip(paths, widths, heights, *columns.values(), strict=True)
    for path, width, height, *values in rows:
        facts = dict(zip(columns, values, strict=True))
        image_id = facts["image_id"]
        yield {
            "filepath": str(dataset.image_file(path).absolute()),
            "tags": list(tags.get(image_id, ())),
            "metadata": {"_cls": "ImageMetadata", "width": width, "height": height},
            "_media_type": "image",
            "_rand": random.Random(path).random(),  # noqa: S311 FiftyOne shuffles by it
            **{name: value for name, value in facts.items() if value is not None},
            **{
                field: {"_cls": "Detections", "detections": by_image.get(image_id, [])}
                for field, by_image in labels.items()
            },
            SIZES_FIELD: [one["size"] for one in labels[TRUTH].get(image_id, ())],
            **{field: values[image_id] for field, values in counted.items() if image_id in values},
        }


def _truth_documents(
    dataset: Dataset,
    boxes: pd.DataFrame,
    runs: Sequence[JudgedRun],
    interest: RangeOfInterest | None,
    sides: pd.DataFrame,
) -> list[dict[str, Any]]:
    columns = _measures(boxes, interest) | {name: _values(boxes[name], kind) for name, kind in _BOX_FIELDS.items()}
    for run in runs:
        columns |= _outcomes_of_truth(run, boxes["box_id"])
    labels = boxes["class_id"].map(dataset.class_names).tolist()
    return _label_documents(labels, _relative(boxes, sides), columns)


def _outcomes_of_truth(run: JudgedRun, box_ids: pd.Series) -> dict[str, list[Any]]:
    """Values of `JudgedRun.truth_fields` for each object; None for objects of images that were not evaluated."""
    matches, missed = run.mistakes.matches, run.mistakes.missed
    states = np.select([matches.missed, matches.found], [MISSED, FOUND], default=IGNORED)
    state = pd.Series(states, index=run.truth.boxes["box_id"].to_numpy())
    by_box = missed.set_index(missed["box_id"].astype("int64"))
    columns = (state, by_box["kind"], by_box["iou"])
    return {
        name: _values(box_ids.map(column), kind)
        for (name, kind), column in zip(run.truth_fields.items(), columns, strict=True)
    }


def _detection_documents(
    run: JudgedRun,
    kept: pd.DataFrame,
    interest: RangeOfInterest | None,
    sides: pd.DataFrame,
    names: Mapping[int, str],
) -> list[dict[str, Any]]:
    matches = run.mistakes.matches
    outcomes = np.select([matches.false_positives, matches.true_positives], [FALSE_POSITIVE, RIGHT], default=IGNORED)
    wrong = run.mistakes.false_positives.set_index("detection")
    rows = pd.Series(np.flatnonzero(matches.kept))
    columns = _measures(kept, interest) | {
        "confidence": kept["score"].tolist(),
        "outcome": outcomes[matches.kept].tolist(),
        "kind": _values(rows.map(wrong["kind"]), str),
        "confused_with": _values(rows.map(wrong["confused_with"]).map(names), str),
        "iou": _values(rows.map(wrong["iou"]), float),
    }
    return _label_documents(kept["class_id"].map(names).tolist(), _relative(kept, sides), columns)


def _measures(boxes: pd.DataFrame, interest: RangeOfInterest | None) -> dict[str, list[Any]]:
    corners = boxes[CORNERS].to_numpy(dtype=np.float64)
    areas = area(corners)
    in_range = interest.contains(corners).tolist() if interest else [True] * len(boxes)
    sizes = np.array(SIZES, dtype=object)[size_index(areas)].tolist()
    return {"size": sizes, "area_px": areas.tolist(), "side_px": shorter_side(corners).tolist(), "in_range": in_range}


def _label_documents(
    labels: list[str], relative: list[list[float]], columns: Mapping[str, list[Any]]
) -> list[dict[str, Any]]:
    from bson import ObjectId

    names = list(columns)
    return [
        {
            "_id": ObjectId(),
            "_cls": "Detection",
            "attributes": {},
            "tags": [],
            "label": label,
            "bounding_box": box,
            **{name: value for name, value in zip(names, values, strict=True) if value is not None},
        }
        for label, box, *values in zip(labels, relative, *columns.values(), strict=True)
    ]


def _sides(images: pd.DataFrame) -> pd.DataFrame:
    return images.set_index("image_id")[["width", "height"]]


def _relative(boxes: pd.DataFrame, sides: pd.DataFrame) -> list[list[float]]:
    """[x, y, width, height] relative to the size of the image. (n, 4)"""
    x0, y0, x1, y1 = boxes[CORNERS].to_numpy(dtype=np.float64).T
    width, height = sides.loc[boxes["image_id"]].to_numpy(dtype=np.float64).T
    return np.stack([x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height], axis=1).tolist()


def _image_values(run: JudgedRun) -> dict[str, dict[int, Any]]:
    """Field → image id → value, for the evaluated images."""
    image_ids = run.truth.images["image_id"].tolist()
    missed, wrong = run.mistakes.missed, run.mistakes.false_positives
    values: dict[str, dict[int, Any]] = {}
    for field, rows in zip(run.count_fields, (missed, wrong, run.mistakes.table), strict=True):
        values[field] = dict.fromkeys(image_ids, 0) | Counter(rows["image_id"].tolist())
    for field, rows in ((run.missed_sizes_field, missed), (run.false_sizes_field, wrong)):
        values[field] = {image_id: [] for image_id in image_ids}
        for image_id, size in zip(rows["image_id"].tolist(), rows["size"].tolist(), strict=True):
            values[field][image_id].append(size)
    return values


def _group(documents: list[dict[str, Any]], image_ids: pd.Series) -> dict[int, list[dict[str, Any]]]:
    grouped: dict[int, list[dict[str, Any]]] = {}
    for image_id, document in zip(image_ids.tolist(), documents, strict=True):
        grouped.setdefault(image_id, []).append(document)
    return grouped


def _values(column: pd.Series, kind: type) -> list[Any]:
    """Plain values of one type; None for missing values."""
    if kind in (int, bool) and column.dtype == kind:  # no value can be missing
        return column.tolist()
    return [
        None if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) else kind(value)
        for value in column.tolist()
    ]
