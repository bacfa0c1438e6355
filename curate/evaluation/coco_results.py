"""COCO results files, and the check that predictions and truth use the same ids.

A results file is a JSON list of `{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`
(https://cocodataset.org/#format-results). Ids are `image_id` and class ids of the dataset; files of other tools may
have other ids, which `curate.inference.prediction_files` translates.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from curate.boxes import Boxes, xywh_to_xyxy, xyxy_to_xywh
from curate.columns import CORNERS
from curate.dataset import Dataset, Predictions
from curate.documents.json_reader import LARGEST_TABLE_BYTES, parse_json, read_json_bytes
from curate.errors import DataError, MissingError
from curate.files import no_garbage_collection, write_atomically
from curate.formatting import short_repr

_LARGEST = 1e100  # beyond it, areas and the score histogram overflow
_WHAT = "results"
_KEYS = ("image_id", "category_id", "bbox", "score")


class RowFault(NamedTuple):
    """Why a row cannot be used: what is wrong, what it has, and what it should have."""

    fact: str
    got: str
    expected: str

    def error(self, place: str) -> DataError:
        """The fault as an error."""
        return DataError(self.fact, place=place, got=self.got, expected=self.expected)


@dataclass(frozen=True, eq=False)
class ResultRows:
    """The usable rows of a results file, in its order, with the ids of the file.

    Attributes:
        path: The file.
        total: Number of rows in the file.
        entry: (n,) Place of each usable row in the file, from 0.
        image_ids: (n) Whole numbers or text.
        class_ids: (n,)
        boxes_xyxy: (n, 4) In pixels.
        scores: (n,)
        faults: What is wrong → number of rows that are left out for it.
        first_fault: The first of these rows as an error; None without one.
    """

    path: Path
    total: int
    entry: NDArray[np.int64]
    image_ids: list[int | str]
    class_ids: NDArray[np.int64]
    boxes_xyxy: Boxes
    scores: NDArray[np.float64]
    faults: Mapping[str, int]
    first_fault: DataError | None

    def as_predictions(self, image_ids: Any, class_ids: Any, selected: NDArray[np.bool_]) -> Predictions:
        """The rows where `selected` (n,) is true, with these ids (n,)."""
        return Predictions(
            pd.DataFrame(
                {
                    "image_id": np.asarray(image_ids, dtype=np.int64)[selected],
                    "class_id": np.asarray(class_ids, dtype=np.int32)[selected],
                    **dict(zip(CORNERS, self.boxes_xyxy[selected].T, strict=True)),
                    "score": self.scores[selected],
                }
            )
        )


def read_results(path: Path) -> Predictions:
    """Read a COCO results file in its own order, which decides between equal scores.

    Raises:
        MissingError: The file cannot be read.
        DataError: It is not a list of results, or a row is not valid. The message names the entry, counted from 0.
    """
    rows = read_rows(path)
    if rows.first_fault is not None:
        raise rows.first_fault
    if str in set(map(type, rows.image_ids)):
        row, name = next((row, id_) for row, id_ in enumerate(rows.image_ids) if isinstance(id_, str))
        raise _invalid("image_id", name, "a whole number").error(f"{path}, entry {rows.entry[row]}")
    return rows.as_predictions(rows.image_ids, rows.class_ids, np.ones(len(rows.entry), dtype=bool))


@no_garbage_collection()
def read_rows(path: Path) -> ResultRows:
    """Read a COCO results file, leaving out rows that are not valid.

    Raises:
        MissingError: The file cannot be read.
        DataError: It is not a list of results.
    """
    entries = _read_json(path)
    if not isinstance(entries, list):
        raise _not_a_list(entries, path)
    faulty: dict[int, RowFault] = {}
    if not _are_plain(entries):
        faulty = {place: fault for place, entry in enumerate(entries) if (fault := _fault_of_types(entry)) is not None}
    entry = np.delete(np.arange(len(entries)), list(faulty))
    plain = [entries[place] for place in entry.tolist()] if faulty else entries
    boxes = _as_boxes_xyxy([row["bbox"] for row in plain])
    scores = np.array([row["score"] for row in plain], dtype=np.float64)
    valid = np.ones(len(plain), dtype=bool)
    for row in np.flatnonzero(~_have_valid_values(boxes, scores)).tolist():
        faulty[int(entry[row])] = _fault_of_values(plain[row])
        valid[row] = False
    first, kept = min(faulty, default=0), plain if valid.all() else list(compress(plain, valid.tolist()))
    return ResultRows(
        path,
        len(entries),
        entry[valid],
        [_whole(row["image_id"]) for row in kept],
        np.array([row["category_id"] for row in kept], dtype=np.int64),
        boxes[valid],
        scores[valid],
        Counter(fault.fact for fault in faulty.values()),
        faulty[first].error(f"{path}, entry {first}") if faulty else None,
    )


def _not_a_list(document: Any, path: Path) -> DataError:
    is_dataset = isinstance(document, dict) and {"images", "annotations"} <= document.keys()
    return DataError(
        "not a COCO results file",
        place=path,
        got="a COCO dataset" if is_dataset else type(document).__name__,
        expected="a list of results",
        remedy="Give the detections of a model; `curate import-coco` reads datasets." if is_dataset else None,
    )


def _read_json(path: Path) -> Any:
    data = read_json_bytes(path, _WHAT, LARGEST_TABLE_BYTES, error=MissingError)
    return parse_json(data, path, _WHAT, allow_nan=True)  # a row with NaN is left out


def _are_plain(entries: list[Any]) -> bool:
    """Whether `_fault_of_types` finds nothing, asked of all rows at once."""
    if not set(map(type, entries)) <= {dict}:
        return False
    image_ids, class_ids, boxes, scores = ([entry.get(key) for entry in entries] for key in _KEYS)
    if not (
        set(map(type, image_ids)) <= {int} and set(map(type, class_ids)) <= {int} and set(map(type, boxes)) <= {list}
    ):
        return False
    if image_ids and not (-(2**63) <= min(image_ids) <= max(image_ids) < 2**63 and _fits(class_ids)):
        return False
    return set(map(len, boxes)) <= {4} and set(map(type, chain(chain.from_iterable(boxes), scores))) <= {int, float}


def _fits(class_ids: list[int]) -> bool:
    return min(class_ids) >= -(2**31) and max(class_ids) < 2**31


def _fault_of_types(entry: Any) -> RowFault | None:
    """What is wrong with the parts of a row; None where their numbers can be read."""
    if not isinstance(entry, dict):
        return RowFault("not a COCO result", type(entry).__name__, "an object")
    image_id, class_id, box, score = (entry.get(key) for key in _KEYS)
    if not (isinstance(image_id, str) and image_id.strip()) and not _is_whole(image_id, 2**63):
        return _invalid("image_id", image_id, "a whole number or a file name")
    if not _is_whole(class_id, 2**31):
        return _invalid("category_id", class_id, "a whole number of 32 bits")
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        return _invalid("bbox", box, "[x, y, width, height], each from -1e100 to 1e100")
    if not _is_number(score):
        return _invalid("score", score, "a number from 0 to 1e100")
    return None


def _invalid(key: str, value: Any, expected: str) -> RowFault:
    return RowFault(f"{key!r} is not valid", short_repr(value), expected)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_whole(value: Any, limit: int) -> bool:
    if type(value) is float and not value.is_integer():  # some tools write 7.0
        return False
    return _is_number(value) and -limit <= value < limit


def _whole(image_id: Any) -> int | str:
    return image_id if isinstance(image_id, str) else int(image_id)


def _as_boxes_xyxy(boxes_xywh: list[list[float]]) -> Boxes:
    flat = np.array(list(chain.from_iterable(boxes_xywh)), dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return xywh_to_xyxy(flat)


def _have_valid_values(boxes_xyxy: Boxes, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the numbers of each row make a detection. (n, 4), (n,) → (n,); comparisons with NaN are false."""
    has_area = (boxes_xyxy[:, :2] < boxes_xyxy[:, 2:]).all(axis=1)
    return has_area & (np.abs(boxes_xyxy) <= _LARGEST).all(axis=1) & (scores >= 0) & (scores <= _LARGEST)


def _fault_of_values(entry: Mapping[str, Any]) -> RowFault:
    box, score = entry["bbox"], entry["score"]
    if not all(math.isfinite(number) and abs(number) <= _LARGEST for number in box):
        return _invalid("bbox", box, "[x, y, width, height], each from -1e100 to 1e100")
    if not (math.isfinite(score) and abs(score) <= _LARGEST):
        return _invalid("score", score, "a number from 0 to 1e100")
    if score < 0:
        return RowFault("the score is negative", repr(score), "0 or more")
    return RowFault("the box has no area", repr(box), "a width and height above 0")


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
    write_atomically(path, lambda file: file.write(orjson.dumps(entries)))


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
