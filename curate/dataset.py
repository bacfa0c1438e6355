"""`Dataset` and `Predictions`: the two frozen values that every part of curate takes and returns.

A dataset is its folder, its classes and three pandas tables. Operations return a new dataset; what a caller holds
never changes. The rules below are checked at construction, and only for the tables that an operation replaced.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from curate.boxes import Boxes, as_boxes
from curate.errors import DataError, unknown_name

CORNERS = ["x0", "y0", "x1", "y1"]
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
    {"images": IMAGE_COLUMNS, "boxes": BOX_COLUMNS, "problems": PROBLEM_COLUMNS}
)
PREDICTION_COLUMNS: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {
        "image_id": ("int64", None),
        "class_id": ("int32", None),
        **dict.fromkeys(CORNERS, ("float64", None)),
        "score": ("float64", None),
    }
)


class ClassEntry(NamedTuple):
    """A class: an id from 1 that lives as long as the class and is never given to another, and its name."""

    id: int
    name: str


@dataclass(frozen=True)
class NextIds:
    """The ids that the next new image, box and class get; they only ever grow."""

    image: int = 1
    box: int = 1
    class_: int = 1

    def merged(self, other: "NextIds") -> "NextIds":
        """The larger of each."""
        return NextIds(max(self.image, other.image), max(self.box, other.box), max(self.class_, other.class_))


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
    result.update({name: table[name] for name in table.columns if name not in columns})
    return pd.DataFrame(result).reset_index(drop=True)


def _conforms(table: pd.DataFrame, columns: Mapping[str, tuple[str, Any]]) -> bool:
    index = table.index
    return (
        isinstance(index, pd.RangeIndex)
        and (index.start, index.step, index.name) == (0, 1, None)
        and list(table.columns[: len(columns)]) == list(columns)
        and all(str(found) == dtype for found, (dtype, _) in zip(table.dtypes, columns.values(), strict=False))
        and all(_has_text_categories(table[name]) for name, (dtype, _) in columns.items() if dtype == "category")
    )


def _as_type(values: pd.Series, dtype: str, place: str) -> pd.Series:
    if str(values.dtype) != dtype:
        fact = f"column {values.name!r} does not fit its type"
        _refuse(_misfits(values, dtype), values.to_numpy(), place, fact, _TYPE_WORDS.get(dtype, dtype))
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


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, boxes and classes under one folder.

    Attributes:
        root: the dataset folder; paths in the tables are relative to it.
        classes: in declared order.
        images: columns `IMAGE_COLUMNS`, one row an image.
        boxes: columns `BOX_COLUMNS`, one row a box, in pixels.
        problems: columns `PROBLEM_COLUMNS`, one row a fault that an import met.
        aliases: names that were merged, renamed or dropped → the class that holds them now (None: dropped), so that
            older XML joins the right class when it comes back.
        next_ids: see `NextIds`.

    Raises:
        DataError: a table breaks a rule; the message names the row.
    """

    root: Path
    classes: tuple[ClassEntry, ...] = ()
    images: pd.DataFrame = field(default_factory=lambda: conform({}, IMAGE_COLUMNS))
    boxes: pd.DataFrame = field(default_factory=lambda: conform({}, BOX_COLUMNS))
    problems: pd.DataFrame = field(default_factory=lambda: conform({}, PROBLEM_COLUMNS))
    aliases: Mapping[str, int | None] = field(default_factory=dict)
    next_ids: NextIds = field(default_factory=NextIds)

    def __post_init__(self) -> None:
        self._settle(set(TABLES) | {"classes"})

    def replace(self, **changes: Any) -> Self:
        """A copy with some attributes replaced; only what depends on them is checked again."""
        if unknown := changes.keys() - {attribute.name for attribute in fields(self)}:
            raise TypeError(f"a dataset has no {', '.join(sorted(unknown))}")
        copy = object.__new__(type(self))
        for attribute in fields(self):
            object.__setattr__(copy, attribute.name, changes.get(attribute.name, getattr(self, attribute.name)))
        copy._settle(set(changes))
        return copy

    def _settle(self, changed: set[str]) -> None:
        """Conform and check what changed; raise the id counters over the ids in use."""
        for name in TABLES.keys() & changed:
            object.__setattr__(self, name, conform(getattr(self, name), TABLES[name], place=name))
        if "classes" in changed:
            object.__setattr__(self, "classes", _check_classes(self.classes))
        if "images" in changed:
            _check_images(self.images)
        if changed & {"boxes", "images", "classes"}:
            _check_boxes(self)
        used = NextIds(
            _last(self.images["image_id"]) + 1,
            _last(self.boxes["box_id"]) + 1,
            max((entry.id for entry in self.classes), default=0) + 1,
        )
        object.__setattr__(self, "next_ids", self.next_ids.merged(used))

    @property
    def class_names(self) -> dict[int, str]:
        """Id → name, in declared order."""
        return dict(self.classes)

    @property
    def boxes_xyxy(self) -> Boxes:
        """The boxes as an (n, 4) array of pixel edges."""
        return self.boxes[CORNERS].to_numpy(dtype=np.float64)

    def class_id(self, name: str) -> int:
        """The id of a class.

        Raises:
            UsageError: there is no such class; the message lists those there are.
        """
        for entry in self.classes:
            if entry.name == name:
                return entry.id
        raise unknown_name("class", name, [entry.name for entry in self.classes], place=self.root)

    def class_counts(self) -> dict[str, int]:
        """How many boxes each class has, in declared order; classes without boxes count 0."""
        counts = self.boxes["class_id"].value_counts()
        return {entry.name: int(counts.get(entry.id, 0)) for entry in self.classes}

    def select(self, split: str | None = None, label_states: Iterable[str] | None = ("labelled",)) -> Self:
        """The images of one split (None: all) in the given states (None: any), with their boxes."""
        wanted = np.ones(len(self.images), dtype=bool)
        if split is not None:
            wanted &= (self.images["split"] == split).to_numpy(dtype=bool, na_value=False)
        if label_states is not None:
            wanted &= self.images["label_state"].isin(list(label_states)).to_numpy(dtype=bool)
        return self.keep_images(wanted)

    def keep_images(self, wanted: Any) -> Self:
        """Only the images where the boolean array `wanted` is true, with their boxes."""
        images = self.images[wanted]
        boxes = self.boxes[self.boxes["image_id"].isin(images["image_id"]).to_numpy()]
        return self.replace(images=images, boxes=boxes)

    def image_file(self, path: str) -> Path:
        """The file behind a `path` of the images table."""
        return self.root / path


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a detector found: boxes with scores, in original pixels. Never truth.

    Boxes may leave the image and are never clipped for scoring.

    Attributes:
        boxes: columns `PREDICTION_COLUMNS`, one row a detection.

    Raises:
        DataError: a box or score that is not finite, or a box without area; the message names its index.
    """

    boxes: pd.DataFrame = field(default_factory=lambda: conform({}, PREDICTION_COLUMNS))

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", conform(self.boxes, PREDICTION_COLUMNS, place="predictions"))
        values = self.boxes[[*CORNERS, "score"]].to_numpy(dtype=np.float64)
        _refuse(~np.isfinite(values).all(axis=1), values, "predictions", "a number is not finite", "finite numbers")
        empty = (values[:, 2] <= values[:, 0]) | (values[:, 3] <= values[:, 1])
        _refuse(empty, values, "predictions", "the box has no area", "x0 < x1 and y0 < y1")

    @property
    def boxes_xyxy(self) -> Boxes:
        """The boxes as an (n, 4) array of pixel edges."""
        return self.boxes[CORNERS].to_numpy(dtype=np.float64)


def _last(ids: pd.Series) -> int:
    return int(ids.max()) if len(ids) else 0


def _refuse(wrong: Any, values: Any, place: str, fact: str, expected: str) -> None:
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


def _check_classes(classes: Iterable[tuple[int, str]]) -> tuple[ClassEntry, ...]:
    classes = tuple(ClassEntry(*entry) for entry in classes)
    for position, entry in enumerate(classes):
        place = f"classes, entry {position}"
        if not isinstance(entry.name, str) or not entry.name.strip() or entry.name != entry.name.strip():
            raise DataError(
                "not a class name", place=place, got=repr(entry.name), expected="text without outer white space"
            )
        if not isinstance(entry.id, int | np.integer) or not 1 <= entry.id < 2**31:
            raise DataError("not a class id", place=place, got=repr(entry.id), expected="a whole number, 1 or more")
    for what, seen in (("id", [entry.id for entry in classes]), ("name", [entry.name for entry in classes])):
        twice = [value for index, value in enumerate(seen) if value in seen[:index]]
        if twice:
            raise DataError(f"a class {what} is there twice", place="classes", got=repr(twice[0]))
    return tuple(ClassEntry(int(entry.id), entry.name) for entry in classes)


def _check_images(images: pd.DataFrame) -> None:
    ids, paths = images["image_id"].to_numpy(), images["path"]
    _refuse(ids < 1, ids, "images", "not an image id", "1 or more")
    _refuse(images["image_id"].duplicated().to_numpy(), ids, "images", "an image id is there twice", "unique ids")
    names = paths.to_numpy(dtype=object)
    _refuse(paths.isna().to_numpy(), names, "images", "an image has no path", "a path")
    _refuse(paths.duplicated().to_numpy(), names, "images", "a path is there twice", "unique paths")
    unsafe = np.fromiter((not _is_relative(name) for name in names), dtype=bool, count=len(names))
    _refuse(unsafe, names, "images", "a path leaves the dataset folder", "a POSIX path relative to it")
    sizes = images[["width", "height"]].to_numpy()
    _refuse((sizes <= 0).any(axis=1), sizes, "images", "an image has no area", "width and height of 1 or more")
    states = images["label_state"]
    _refuse(
        ~states.isin(LABEL_STATES).to_numpy(),
        states.to_numpy(),
        "images",
        "unknown label state",
        ", ".join(LABEL_STATES),
    )


def _is_relative(path: str) -> bool:
    if "\\" not in path and ".." not in path and not path.startswith("/"):
        return path not in ("", ".")
    parts = PurePosixPath(path).parts
    return not path.startswith("/") and ".." not in parts and "\\" not in path


def _check_boxes(dataset: Dataset) -> None:
    boxes, images = dataset.boxes, dataset.images
    ids = boxes["box_id"].to_numpy()
    _refuse(ids < 1, ids, "boxes", "not a box id", "1 or more")
    _refuse(boxes["box_id"].duplicated().to_numpy(), ids, "boxes", "a box id is there twice", "unique ids")
    known = np.isin(boxes["class_id"].to_numpy(), [entry.id for entry in dataset.classes])
    _refuse(~known, boxes["class_id"].to_numpy(), "boxes", "unknown class id", "an id of the classes")
    rows = pd.Index(images["image_id"]).get_indexer(pd.Index(boxes["image_id"]))
    _refuse(rows < 0, boxes["image_id"].to_numpy(), "boxes", "unknown image id", "an id of the images table")
    corners = as_boxes(dataset.boxes_xyxy)
    width, height = images["width"].to_numpy()[rows], images["height"].to_numpy()[rows]
    _refuse(~np.isfinite(corners).all(axis=1), corners, "boxes", "a corner is not finite", "finite pixels")
    x0, y0, x1, y1 = corners.T
    inside = (x0 >= 0) & (x0 < x1) & (x1 <= width) & (y0 >= 0) & (y0 < y1) & (y1 <= height)
    _refuse(~inside, corners, "boxes", "the box is not inside its image", "0 ≤ x0 < x1 ≤ width, 0 ≤ y0 < y1 ≤ height")
