"""COCO results files, and the check that predictions and truth use the same ids.

A results file is a JSON list of `{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`
(https://cocodataset.org/#format-results). Ids are `image_id` and class ids of the dataset.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from curate.boxes import xywh_to_xyxy, xyxy_to_xywh
from curate.columns import CORNERS
from curate.dataset import Dataset, Predictions
from curate.errors import DataError, MissingError

_LARGEST = 1e100  # beyond it, areas and the score histogram overflow


def read_results(path: Path) -> Predictions:
    """Read a COCO results file in its own order, which decides between equal scores.

    Raises:
        MissingError: The file cannot be read.
        DataError: It is not a list of results. The message names the entry, counted from 0.
    """
    try:
        entries = orjson.loads(path.read_bytes())
    except OSError as error:
        raise MissingError(f"the results cannot be read: {error.strerror}", place=path) from error
    except orjson.JSONDecodeError as error:
        raise DataError(f"not a JSON file: {error}", place=path) from error
    if not isinstance(entries, list):
        raise DataError("not a COCO results file", place=path, got=type(entries).__name__, expected="a list of results")
    image_ids = _column(path, entries, "image_id", _whole_number)
    class_ids = _column(path, entries, "category_id", _whole_number)
    boxes_xyxy = xywh_to_xyxy(_column(path, entries, "bbox", _four_numbers))
    scores = _column(path, entries, "score", _number)
    try:
        return Predictions(
            pd.DataFrame(
                {
                    "image_id": np.asarray(image_ids, dtype=np.int64),
                    "class_id": np.asarray(class_ids, dtype=np.int32),
                    **dict(zip(CORNERS, boxes_xyxy.T, strict=True)),
                    "score": np.asarray(scores, dtype=np.float64),
                }
            )
        )
    except OverflowError as error:
        raise DataError("id is too large", place=path, expected="64-bit image ids, 32-bit class ids") from error
    except DataError as error:
        raise DataError(
            error.fact, place=f"{path}, {error.place}", got=error.got, expected=error.expected, remedy=error.remedy
        ) from error


def write_results(predictions: Predictions, path: Path) -> None:
    """Write a COCO results file for pycocotools' `loadRes`, in table order; an interruption leaves no partial file."""
    table = predictions.boxes
    entries = [
        {"image_id": image_id, "category_id": class_id, "bbox": bbox, "score": score}
        for image_id, class_id, bbox, score in zip(
            table["image_id"].tolist(),
            table["class_id"].tolist(),
            xyxy_to_xywh(predictions.boxes_xyxy).tolist(),
            table["score"].tolist(),
            strict=True,
        )
    ]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(orjson.dumps(entries))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_known_ids(truth: Dataset, predictions: Predictions) -> None:
    """Refuse detections whose image or class is not in `truth`.

    Raises:
        DataError: There is one; the message names the first row and its id.
    """
    table = predictions.boxes
    class_ids = np.array([entry.id for entry in truth.classes], dtype=np.int64)
    for column, word, known in (
        ("image_id", "image", truth.images["image_id"].to_numpy()),
        ("class_id", "class", class_ids),
    ):
        ids = table[column].to_numpy()
        unknown = ~np.isin(ids, known)
        if unknown.any():
            row = int(np.flatnonzero(unknown)[0])
            more = int(unknown.sum()) - 1
            raise DataError(
                f"unknown {word} id" + (f"; {more} more rows have the same problem" if more else ""),
                place=f"predictions, row {row}",
                got=int(ids[row]),
                expected=f"the id of one of the {len(known)} evaluated {'images' if word == 'image' else 'classes'}",
                remedy="Make the predictions with this version of the dataset.",
            )


def _column(path: Path, entries: list[Any], key: str, is_valid: Callable[[Any], bool]) -> list[Any]:
    """The value of `key` in each entry; the docstring of `is_valid` is the rule in the error message."""
    values = []
    for position, entry in enumerate(entries):
        place = f"{path}, entry {position}"
        if not isinstance(entry, dict):
            raise DataError("not a COCO result", place=place, got=type(entry).__name__, expected="an object")
        value = entry.get(key)
        if not is_valid(value):
            raise DataError(f"{key!r} is not valid", place=place, got=repr(value), expected=is_valid.__doc__)
        values.append(value)
    return values


def _whole_number(value: Any) -> bool:
    """a whole number"""
    return type(value) is int


def _number(value: Any) -> bool:
    """a number from -1e100 to 1e100"""
    return type(value) in (int, float) and abs(value) <= _LARGEST


def _four_numbers(value: Any) -> bool:
    """[x, y, width, height], each from -1e100 to 1e100"""
    return isinstance(value, list) and len(value) == 4 and all(map(_number, value))
