"""The tables of a dataset: which columns each has, of which type, and how rows are made to fit them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from curate.errors import DataError

CORNERS = ["x0", "y0", "x1", "y1"]
# Optional, and then all ten: a face's points in pixels, left and right as seen in the picture; NaN where unknown. They
# may lie outside the image.
LANDMARKS = [
    f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy"
]
LABEL_STATES = ("unlabelled", "proposed", "labelled", "incomplete")

IMAGE_COLUMNS: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {  # column: (dtype, value where a producer gives none)
        "image_id": ("int64", None),
        "path": ("str", None),  # POSIX, relative to the dataset folder, unique
        "width": ("int32", None),  # upright pixels
        "height": ("int32", None),
        "split": ("str", pd.NA),  # null: in no split yet
        "source": ("str", ""),  # the import or video that it came from
        "video_id": ("str", pd.NA),  # null unless it is a frame of a known video
        "frame_index": ("Int64", pd.NA),
        "timestamp_s": ("float64", np.nan),  # seconds from the video's first frame
        "label_state": ("str", "unlabelled"),  # one of LABEL_STATES
        "verified": ("bool", False),  # LabelImg's own mark
        "sha256": ("str", ""),  # of the file's bytes
    }
)
BOX_COLUMNS: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {
        "box_id": ("int64", None),
        "image_id": ("int64", None),
        "class_id": ("int32", None),
        "x0": ("float64", None),  # pixel edges: 0 ≤ x0 < x1 ≤ width, 0 ≤ y0 < y1 ≤ height
        "y0": ("float64", None),
        "x1": ("float64", None),
        "y1": ("float64", None),
        "difficult": ("bool", False),
        "truncated": ("bool", False),
        "occluded": ("bool", False),
        "crowd": ("bool", False),
        "pose": ("category", pd.NA),  # VOC's view point, kept for export
        "original_class": ("category", pd.NA),  # what the annotator wrote
    }
)
VIDEO_COLUMNS: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {
        "video_id": ("str", None),  # unique; what `video_id` of the images names
        "path": ("str", None),  # POSIX, relative to the dataset folder, unique
        "origin": ("str", pd.NA),  # what was filmed: clips of one video have it in common; null: this file alone
        "link": ("str", pd.NA),  # null for a local file
        "title": ("str", pd.NA),
        "uploader": ("str", pd.NA),
        "licence": ("str", pd.NA),
        "upload_date": ("str", pd.NA),  # ISO 8601
        "clip_start_s": ("float64", np.nan),  # of the whole video; null where it is whole
        "clip_end_s": ("float64", np.nan),
        "fetched_at": ("str", pd.NA),  # UTC, ISO 8601
        "width": ("int32", None),  # upright pixels
        "height": ("int32", None),
        "fps": ("float64", np.nan),  # frames by duration
        "frames": ("Int64", pd.NA),
        "duration_s": ("float64", np.nan),  # measured
        "codec": ("str", pd.NA),
        "sha256": ("str", ""),  # of the file's bytes
    }
)
PROBLEM_COLUMNS: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {
        "source": ("str", ""),  # the folder that was imported, relative to the dataset folder
        "file": ("str", ""),  # POSIX, relative to that folder
        "line": ("Int64", pd.NA),
        "object": ("Int64", pd.NA),  # counted from 1 in the file
        "kind": ("str", ""),
        "detail": ("str", ""),
        "action": ("str", "noted"),  # repaired | quarantined | noted
    }
)
TABLES: Mapping[str, Mapping[str, tuple[str, Any]]] = MappingProxyType(
    {"images": IMAGE_COLUMNS, "boxes": BOX_COLUMNS, "videos": VIDEO_COLUMNS, "problems": PROBLEM_COLUMNS}
)
PREDICTION_COLUMNS: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {
        "image_id": ("int64", None),
        "class_id": ("int32", None),
        **dict.fromkeys(CORNERS, ("float64", None)),
        "score": ("float64", None),
    }
)


def conform(rows: Any, columns: Mapping[str, tuple[str, Any]], *, place: str = "table") -> pd.DataFrame:
    """Return `rows` (a table or a mapping of columns) with exactly the declared columns first, typed, others behind.

    Raises:
        DataError: a column without a default is missing, or a value does not fit its type; the message names the row.
    """
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    if _conforms(table, columns):  # as nearly always: operations start from a dataset's own tables
        return table.copy(deep=False)
    result: dict[str, Any] = {}
    for name, (dtype, default) in columns.items():
        if name in table:
            values = table[name]
        elif default is None and len(table):
            raise DataError(f"column {name!r} is missing", place=place, expected=", ".join(columns))
        else:
            values = pd.Series([default] * len(table), dtype=dtype, index=table.index)
        result[name] = _as_type(values, dtype, place)
    for name in table.columns:
        if name not in columns:
            result[name] = _as_type(table[name], "float64", place) if name in LANDMARKS else table[name]
    return pd.DataFrame(result).reset_index(drop=True)


def has_landmarks(boxes: pd.DataFrame) -> bool:
    """Whether a boxes table has the columns of `LANDMARKS`."""
    return set(LANDMARKS) <= set(boxes.columns)


def _conforms(table: pd.DataFrame, columns: Mapping[str, tuple[str, Any]]) -> bool:
    index = table.index
    return (
        isinstance(index, pd.RangeIndex)
        and (index.start, index.step, index.name) == (0, 1, None)
        and list(table.columns[: len(columns)]) == list(columns)
        and all(str(found) == dtype for found, (dtype, _) in zip(table.dtypes, columns.values(), strict=False))
        and all(_has_text_categories(table[name]) for name, (dtype, _) in columns.items() if dtype == "category")
        and all(table[name].dtype == "float64" for name in table.columns[len(columns) :] if name in LANDMARKS)
    )


def _as_type(values: pd.Series, dtype: str, place: str) -> pd.Series:
    if str(values.dtype) != dtype:
        fact = f"column {values.name!r} does not fit its type"
        refuse(_misfits(values, dtype), values.to_numpy(), place, fact, _TYPE_WORDS.get(dtype, dtype))
        values = values.astype(dtype)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if dtype == "category" and not _has_text_categories(values):  # an all-null column has no text to tell it
        values = values.cat.set_categories(values.cat.categories.astype("str"))
    return values


def _has_text_categories(values: pd.Series) -> bool:
    return values.cat.categories.dtype == "str"


_TYPE_WORDS = {
    "int32": "a whole number of 32 bits",
    "int64": "a whole number",
    "Int64": "a whole number, or none",
    "float64": "a number",
    "bool": "true or false",
}


def _misfits(values: pd.Series, dtype: str) -> np.ndarray:
    """Where a value would be changed by the type, which pandas' own conversion does without a word."""
    if dtype == "bool":
        return ~values.isin([True, False]).to_numpy(dtype=bool)
    if dtype in ("str", "category"):
        return np.zeros(len(values), dtype=bool)
    numbers: Any = pd.to_numeric(values, errors="coerce")
    missing = numbers.isna().to_numpy()
    allowed = values.isna().to_numpy() if dtype in ("Int64", "float64") else np.zeros(len(values), dtype=bool)
    if dtype == "float64":
        return missing & ~allowed
    bounds = np.iinfo(dtype.lower())
    known = numbers.fillna(0)
    whole = (known % 1 == 0) & (bounds.min <= known) & (known <= bounds.max)
    return (missing & ~allowed) | ~whole.to_numpy(dtype=bool)


def refuse(wrong: Any, values: Any, place: str, fact: str, expected: str) -> None:
    """Raise for the first row where the boolean array `wrong` is true; the message tells how many more there are."""
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        value = values[row]
        plain: Any = value.item() if isinstance(value, np.generic) else value
        shown = ", ".join(f"{number:g}" for number in plain) if np.ndim(plain) else repr(plain)
        more = int(wrong.sum()) - 1
        raise DataError(
            fact + (f", and so in {more} more rows" if more else ""),
            place=f"{place}, row {row}",
            got=shown,
            expected=expected,
        )
