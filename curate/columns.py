"""The tables of a dataset: their columns, types and defaults, and how rows are converted to them.

A new column of images or boxes is one line here: stored versions without it get its default, imports join it by its
`reimport` rule, and the FiftyOne app shows it if `in_app` is set.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from curate.errors import DataError
from curate.formatting import count_of

CORNERS = ["x0", "y0", "x1", "y1"]
# Optional columns of boxes, all ten or none: points of a face in pixels, left and right as seen in the image; NaN where
# unknown. They may lie outside the image. `curate.formats.joining` has their rule for re-imports.
LANDMARKS = [
    f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy"
]
SPLITS = ("train", "val", "test")  # the splits that curate makes and exports; others are allowed
LABEL_STATES = ("unlabelled", "proposed", "labelled", "incomplete")
Action = Literal["repaired", "quarantined", "noted"]
ACTIONS: tuple[Action, ...] = get_args(Action)
_WITHOUT_IMAGE = frozenset({"file_name", "image_broken", "image_missing", "image_unclear"})


class Reimport(Enum):
    """What a second import of an image does to the value that the dataset has, where the source has the column."""

    KEEP = auto()  # the dataset's value stays
    FILL = auto()  # only a missing value is replaced
    REPLACE = auto()  # the source's value replaces it if the source has an annotation of the image
    MATCH = auto()  # of boxes: equal in all these columns, a box is the same box and keeps its id


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        dtype: pandas' name of the type.
        default: Value where rows do not have the column; None: they must have it.
    """

    dtype: str
    default: Any

    @property
    def python_type(self) -> type:
        """The type of a single value."""
        return _PYTHON_TYPES[self.dtype]


@dataclass(frozen=True)
class JoinedColumn(Column):
    """A column of a table that imports join.

    Attributes:
        reimport: What a second import does to its values.
        in_app: Whether the FiftyOne app shows it.
    """

    reimport: Reimport
    in_app: bool


_PYTHON_TYPES = {"int32": int, "int64": int, "Int64": int, "float64": float, "bool": bool, "str": str, "category": str}

IMAGE_COLUMNS: Mapping[str, JoinedColumn] = MappingProxyType(
    {
        "image_id": JoinedColumn("int64", None, Reimport.KEEP, in_app=True),
        # POSIX, relative to the dataset folder, unique
        "path": JoinedColumn("str", None, Reimport.KEEP, in_app=False),
        # pixels, upright
        "width": JoinedColumn("int32", None, Reimport.REPLACE, in_app=False),
        "height": JoinedColumn("int32", None, Reimport.REPLACE, in_app=False),
        # null: in no split yet
        "split": JoinedColumn("str", pd.NA, Reimport.FILL, in_app=True),
        # name of the import or video that the image came from
        "source": JoinedColumn("str", "", Reimport.KEEP, in_app=True),
        # null unless the image is a frame of a known video
        "video_id": JoinedColumn("str", pd.NA, Reimport.FILL, in_app=True),
        "frame_index": JoinedColumn("Int64", pd.NA, Reimport.KEEP, in_app=True),
        # seconds from the video's first frame
        "timestamp_s": JoinedColumn("float64", np.nan, Reimport.KEEP, in_app=True),
        # one of LABEL_STATES
        "label_state": JoinedColumn("str", "unlabelled", Reimport.REPLACE, in_app=True),
        # LabelImg's mark of an image that a person has checked
        "verified": JoinedColumn("bool", False, Reimport.REPLACE, in_app=False),
        # of the file's bytes
        "sha256": JoinedColumn("str", "", Reimport.REPLACE, in_app=False),
    }
)
BOX_COLUMNS: Mapping[str, JoinedColumn] = MappingProxyType(
    {
        "box_id": JoinedColumn("int64", None, Reimport.KEEP, in_app=True),
        "image_id": JoinedColumn("int64", None, Reimport.MATCH, in_app=False),
        "class_id": JoinedColumn("int32", None, Reimport.MATCH, in_app=False),
        # pixel edges: 0 ≤ x0 < x1 ≤ width, 0 ≤ y0 < y1 ≤ height
        "x0": JoinedColumn("float64", None, Reimport.MATCH, in_app=False),
        "y0": JoinedColumn("float64", None, Reimport.MATCH, in_app=False),
        "x1": JoinedColumn("float64", None, Reimport.MATCH, in_app=False),
        "y1": JoinedColumn("float64", None, Reimport.MATCH, in_app=False),
        "difficult": JoinedColumn("bool", False, Reimport.REPLACE, in_app=True),
        "truncated": JoinedColumn("bool", False, Reimport.REPLACE, in_app=True),
        "occluded": JoinedColumn("bool", False, Reimport.REPLACE, in_app=True),
        "crowd": JoinedColumn("bool", False, Reimport.REPLACE, in_app=True),
        # Pascal VOC's view point, kept for export
        "pose": JoinedColumn("category", pd.NA, Reimport.REPLACE, in_app=False),
        # the class name that the annotator wrote
        "original_class": JoinedColumn("category", pd.NA, Reimport.REPLACE, in_app=False),
    }
)
BOX_FLAGS = tuple(name for name, column in BOX_COLUMNS.items() if column.dtype == "bool")
VIDEO_COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "video_id": Column("str", None),  # unique; the images table refers to it
        "path": Column("str", None),  # POSIX, relative to the dataset folder, unique
        "stream": Column("Int64", pd.NA),  # number of the video stream in its file, from 1; null: the container's best
        "origin": Column("str", pd.NA),  # id shared by all clips of one recording; null: this file alone
        "link": Column("str", pd.NA),  # null for a local file
        "title": Column("str", pd.NA),
        "uploader": Column("str", pd.NA),
        "licence": Column("str", pd.NA),
        "upload_date": Column("str", pd.NA),  # ISO 8601
        "clip_start_s": Column("float64", np.nan),  # position in the whole video; NaN if the file is the whole video
        "clip_end_s": Column("float64", np.nan),
        "fetched_at": Column("str", pd.NA),  # UTC, ISO 8601
        "width": Column("int32", None),  # pixels, upright
        "height": Column("int32", None),
        "fps": Column("float64", np.nan),  # number of frames / duration
        "frames": Column("Int64", pd.NA),
        "duration_s": Column("float64", np.nan),  # measured
        "codec": Column("str", pd.NA),
        "sha256": Column("str", ""),  # of the file's bytes
    }
)
PROBLEM_COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "source": Column("str", ""),  # the folder that was imported, relative to the dataset folder
        "file": Column("str", ""),  # POSIX, relative to that folder
        "line": Column("Int64", pd.NA),
        "object": Column("Int64", pd.NA),  # position in the file, from 1
        "kind": Column("str", None),
        "detail": Column("str", ""),
        "action": Column("str", None),  # one of ACTIONS
    }
)
TABLES: Mapping[str, Mapping[str, Column]] = MappingProxyType(
    {"images": IMAGE_COLUMNS, "boxes": BOX_COLUMNS, "videos": VIDEO_COLUMNS, "problems": PROBLEM_COLUMNS}
)
PREDICTION_COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "image_id": Column("int64", None),
        "class_id": Column("int32", None),
        **dict.fromkeys(CORNERS, Column("float64", None)),
        "score": Column("float64", None),
    }
)


def app_fields(columns: Mapping[str, JoinedColumn]) -> dict[str, type]:
    """The columns that the FiftyOne app shows, with the type of a value."""
    return {name: column.python_type for name, column in columns.items() if column.in_app}


def conform(rows: Any, columns: Mapping[str, Column], *, place: str = "table") -> pd.DataFrame:
    """Return `rows` (a table or a mapping of columns) with the declared columns first and typed, others after them.

    Raises:
        DataError: A column without a default is missing, or a value does not fit its type; the message names the row.
    """
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    if _conforms(table, columns):  # the usual case: operations start from a dataset's own tables
        return table.copy(deep=False)
    result: dict[str, Any] = {}
    for name, column in columns.items():
        if name in table:
            values = table[name]
        elif column.default is None and len(table):
            raise DataError(f"column {name!r} is missing", place=place, expected=", ".join(columns))
        else:
            values = pd.Series([column.default] * len(table), dtype=column.dtype, index=table.index)
        result[name] = _as_type(values, column.dtype, place)
    for name in table.columns:
        if name not in columns:
            result[name] = _as_type(table[name], "float64", place) if name in LANDMARKS else table[name]
    return pd.DataFrame(result).reset_index(drop=True)


def has_landmarks(boxes: pd.DataFrame) -> bool:
    """Whether a boxes table has the columns of `LANDMARKS`."""
    return set(LANDMARKS) <= set(boxes.columns)


def _conforms(table: pd.DataFrame, columns: Mapping[str, Column]) -> bool:
    index = table.index
    return (
        isinstance(index, pd.RangeIndex)
        and (index.start, index.step, index.name) == (0, 1, None)
        and list(table.columns[: len(columns)]) == list(columns)
        and all(str(dtype) == column.dtype for dtype, column in zip(table.dtypes, columns.values(), strict=False))
        and all(_has_text_categories(table[name]) for name, column in columns.items() if column.dtype == "category")
        and all(table[name].dtype == "float64" for name in table.columns[len(columns) :] if name in LANDMARKS)
    )


def _as_type(values: pd.Series, dtype: str, place: str) -> pd.Series:
    if str(values.dtype) != dtype:
        fact = f"column {values.name!r} does not fit its type"
        refuse(_misfits(values, dtype), values.to_numpy(), place, fact, _TYPE_WORDS.get(dtype, dtype))
        values = values.astype(dtype)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if dtype == "category" and not _has_text_categories(values):  # pandas infers no text type from an all-null column
        values = values.cat.set_categories(values.cat.categories.astype("str"))
    return values


def _has_text_categories(values: pd.Series) -> bool:
    return values.cat.categories.dtype == "str"


_TYPE_WORDS = {
    "int32": "a 32-bit whole number",
    "int64": "a whole number",
    "Int64": "a whole number or null",
    "float64": "a number",
    "bool": "true or false",
}


def _misfits(values: pd.Series, dtype: str) -> np.ndarray:
    """Where conversion would change a value; pandas converts such values without an error. (n,)"""
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


def causes_of_incomplete(faults: Iterable[tuple[str, str, bool]]) -> list[tuple[str, str]]:
    """Of quarantined problems, those that can make an image incomplete; others have no image in the dataset.

    Args:
        faults: File, kind, and whether the problem is one object's.

    Returns:
        File and kind of each.
    """
    rows = list(faults)
    absent = {file for file, kind, _ in rows if kind in _WITHOUT_IMAGE}
    return [
        (file, kind)
        for file, kind, is_object in rows
        if kind not in _WITHOUT_IMAGE and (is_object or file not in absent)
    ]


def refuse(wrong: Any, values: Any, place: str, fact: str, expected: str) -> None:
    """Raise for the first row where the boolean array `wrong` is true; the message counts the other rows.

    Raises:
        DataError: `wrong` is true in any row.
    """
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        value = values[row]
        plain: Any = value.item() if isinstance(value, np.generic) else value
        shown = ", ".join(f"{number:g}" for number in plain) if np.ndim(plain) else repr(plain)
        more = int(wrong.sum()) - 1
        others = f"; the same problem in {count_of(more, 'more row')}" if more else ""
        raise DataError(
            fact + others,
            place=f"{place}, row {row}",
            got=shown,
            expected=expected,
        )
