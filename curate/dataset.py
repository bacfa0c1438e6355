"""`Dataset` and `Predictions`: the two frozen values that every part of curate takes and returns.

A dataset is its folder, its classes and four pandas tables. Operations return a new dataset; what a caller holds
never changes. The rules below are checked at construction, and only for the tables that an operation replaced.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from curate.boxes import Boxes, as_boxes
from curate.columns import (
    ACTIONS,
    BOX_COLUMNS,
    CORNERS,
    IMAGE_COLUMNS,
    LABEL_STATES,
    PREDICTION_COLUMNS,
    PROBLEM_COLUMNS,
    TABLES,
    VIDEO_COLUMNS,
    conform,
    refuse,
)
from curate.errors import DataError, unknown_name


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


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, boxes and classes under one folder.

    Attributes:
        root: the dataset folder; paths in the tables are relative to it.
        classes: in declared order.
        images: columns `IMAGE_COLUMNS`, one row an image.
        boxes: columns `BOX_COLUMNS`, one row a box, in pixels.
        videos: columns `VIDEO_COLUMNS`, one row a video file; images may name others, of which nothing is known.
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
    videos: pd.DataFrame = field(default_factory=lambda: conform({}, VIDEO_COLUMNS))
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
        if "videos" in changed:
            _check_videos(self.videos)
        if "problems" in changed:
            _check_problems(self.problems)
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

    @property
    def drawn_boxes(self) -> pd.DataFrame:
        """The boxes without those that a model proposed."""
        proposed = self.images["image_id"][(self.images["label_state"] == "proposed").to_numpy(dtype=bool)]
        return self.boxes[~self.boxes["image_id"].isin(proposed).to_numpy()] if len(proposed) else self.boxes

    def class_counts(self) -> dict[str, int]:
        """How many boxes each class has, in declared order; classes without boxes count 0, and so do proposals."""
        counts = self.drawn_boxes["class_id"].value_counts()
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
        refuse(~np.isfinite(values).all(axis=1), values, "predictions", "a number is not finite", "finite numbers")
        empty = (values[:, 2] <= values[:, 0]) | (values[:, 3] <= values[:, 1])
        refuse(empty, values, "predictions", "the box has no area", "x0 < x1 and y0 < y1")

    @property
    def boxes_xyxy(self) -> Boxes:
        """The boxes as an (n, 4) array of pixel edges."""
        return self.boxes[CORNERS].to_numpy(dtype=np.float64)


def _last(ids: pd.Series) -> int:
    return int(ids.max()) if len(ids) else 0


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
    refuse(ids < 1, ids, "images", "not an image id", "1 or more")
    refuse(images["image_id"].duplicated().to_numpy(), ids, "images", "an image id is there twice", "unique ids")
    _check_paths(paths, "images")
    sizes = images[["width", "height"]].to_numpy()
    refuse((sizes <= 0).any(axis=1), sizes, "images", "an image has no area", "width and height of 1 or more")
    states = images["label_state"]
    refuse(
        ~states.isin(LABEL_STATES).to_numpy(),
        states.to_numpy(),
        "images",
        "unknown label state",
        ", ".join(LABEL_STATES),
    )


def _check_videos(videos: pd.DataFrame) -> None:
    names = videos["video_id"]
    refuse(names.isna().to_numpy(), names.to_numpy(dtype=object), "videos", "a video has no id", "a text")
    refuse(names.duplicated().to_numpy(), names.to_numpy(dtype=object), "videos", "an id is there twice", "unique ids")
    _check_paths(videos["path"], "videos")


def _check_problems(problems: pd.DataFrame) -> None:
    actions = problems["action"]
    refuse(~actions.isin(ACTIONS).to_numpy(), actions.to_numpy(), "problems", "unknown action", ", ".join(ACTIONS))


def _check_paths(paths: pd.Series, place: str) -> None:
    names = paths.to_numpy(dtype=object)
    refuse(paths.isna().to_numpy(), names, place, "a path is missing", "a path")
    refuse(paths.duplicated().to_numpy(), names, place, "a path is there twice", "unique paths")
    unsafe = np.fromiter((not _is_relative(name) for name in names), dtype=bool, count=len(names))
    refuse(unsafe, names, place, "a path leaves the dataset folder", "a POSIX path relative to it")


def _is_relative(path: str) -> bool:
    if "\\" not in path and ".." not in path and not path.startswith("/"):
        return path not in ("", ".")
    parts = PurePosixPath(path).parts
    return not path.startswith("/") and ".." not in parts and "\\" not in path


def _check_boxes(dataset: Dataset) -> None:
    boxes, images = dataset.boxes, dataset.images
    ids = boxes["box_id"].to_numpy()
    refuse(ids < 1, ids, "boxes", "not a box id", "1 or more")
    refuse(boxes["box_id"].duplicated().to_numpy(), ids, "boxes", "a box id is there twice", "unique ids")
    known = np.isin(boxes["class_id"].to_numpy(), [entry.id for entry in dataset.classes])
    refuse(~known, boxes["class_id"].to_numpy(), "boxes", "unknown class id", "an id of the classes")
    rows = pd.Index(images["image_id"]).get_indexer(pd.Index(boxes["image_id"]))
    refuse(rows < 0, boxes["image_id"].to_numpy(), "boxes", "unknown image id", "an id of the images table")
    corners = as_boxes(dataset.boxes_xyxy)
    width, height = images["width"].to_numpy()[rows], images["height"].to_numpy()[rows]
    refuse(~np.isfinite(corners).all(axis=1), corners, "boxes", "a corner is not finite", "finite pixels")
    x0, y0, x1, y1 = corners.T
    inside = (x0 >= 0) & (x0 < x1) & (x1 <= width) & (y0 >= 0) & (y0 < y1) & (y1 <= height)
    refuse(~inside, corners, "boxes", "the box is not inside its image", "0 ≤ x0 < x1 ≤ width, 0 ≤ y0 < y1 ≤ height")
