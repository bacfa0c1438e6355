"""`Dataset` and `Predictions`: the frozen values that most functions of curate take and return.

A dataset has a folder, classes and four pandas tables. Operations return a new dataset and do not change their input.
The rules below are checked at construction, for the tables that an operation replaced.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
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
from curate.paths import is_inside, is_name
from curate.plain_text import shown


class ClassEntry(NamedTuple):
    """A class: its name, and an id from 1 that stays the same and is never given to another class."""

    id: int
    name: str


@dataclass(frozen=True)
class NextIds:
    """The ids of the next new image, box and class; they never decrease."""

    image: int = 1
    box: int = 1
    class_: int = 1

    def merged(self, other: "NextIds") -> "NextIds":
        """The maximum of each."""
        return NextIds(max(self.image, other.image), max(self.box, other.box), max(self.class_, other.class_))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, boxes and classes in one folder.

    Attributes:
        root: The dataset folder; paths in the tables are relative to it.
        classes: In declared order.
        images: Columns `IMAGE_COLUMNS`, one row per image.
        boxes: Columns `BOX_COLUMNS`, one row per box, in pixels.
        videos: Columns `VIDEO_COLUMNS`, one row per video file; images may refer to videos that are not in it.
        problems: Columns `PROBLEM_COLUMNS`, one row per fault found by an import.
        aliases: Names that were merged, renamed or dropped → id of the class that has their boxes now (None: dropped).
            Older annotation files that are imported again get the right class by them.
        next_ids: See `NextIds`.

    Raises:
        DataError: A table breaks a rule; the message names the row.
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
        self._check(set(TABLES) | {"classes"})

    def replace(self, **changes: Any) -> Self:
        """A copy with some attributes replaced; only rules that depend on them are checked."""
        if unknown := changes.keys() - {attribute.name for attribute in fields(self)}:
            raise TypeError(f"a dataset has no {', '.join(sorted(unknown))}")
        copy = object.__new__(type(self))
        for attribute in fields(self):
            object.__setattr__(copy, attribute.name, changes.get(attribute.name, getattr(self, attribute.name)))
        copy._check(set(changes))
        return copy

    def _check(self, changed: set[str]) -> None:
        """Convert and check the changed attributes; raise the id counters above the ids in use."""
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
        """Class id → name, in declared order."""
        return dict(self.classes)

    @property
    def boxes_xyxy(self) -> Boxes:
        """The boxes as an (n, 4) array of pixel edges."""
        return self.boxes[CORNERS].to_numpy(dtype=np.float64)

    def find_class(self, name: str) -> ClassEntry:
        """A class by its name, which may also be given with the escapes of tables and messages.

        Raises:
            UsageError: The class does not exist; the message lists the classes.
        """
        for spelling in (str, shown, _in_message):
            for entry in self.classes:
                if spelling(entry.name) == name:
                    return entry
        raise unknown_name("class", name, [entry.name for entry in self.classes], place=self.root)

    @property
    def drawn_boxes(self) -> pd.DataFrame:
        """The boxes without proposals of models."""
        proposed = self.images["image_id"][(self.images["label_state"] == "proposed").to_numpy(dtype=bool)]
        return self.boxes[~self.boxes["image_id"].isin(proposed).to_numpy()] if len(proposed) else self.boxes

    def class_counts(self) -> dict[str, int]:
        """Number of boxes per class, in declared order, without proposals; 0 for classes without boxes."""
        counts = self.drawn_boxes["class_id"].value_counts()
        return {entry.name: int(counts.get(entry.id, 0)) for entry in self.classes}

    def select(self, split: str | None = None, label_states: Iterable[str] | None = ("labelled",)) -> Self:
        """The images of one split (None: all) in the given label states (None: all), with their boxes."""
        selected = np.ones(len(self.images), dtype=bool)
        if split is not None:
            selected &= (self.images["split"] == split).to_numpy(dtype=bool, na_value=False)
        if label_states is not None:
            selected &= self.images["label_state"].isin(list(label_states)).to_numpy(dtype=bool)
        return self.keep_images(selected)

    def keep_images(self, selected: Any) -> Self:
        """The images where the boolean array `selected` is true, with their boxes. (n,)"""
        images = self.images[selected]
        boxes = self.boxes[self.boxes["image_id"].isin(images["image_id"]).to_numpy()]
        return self.replace(images=images, boxes=boxes)

    def image_file(self, path: str) -> Path:
        """The file of a `path` in the images table."""
        return self.root / path


@dataclass(frozen=True, eq=False)
class Predictions:
    """Detections: boxes with scores, in pixels of the original images.

    A type of its own, so that they cannot be mistaken for truth. Boxes may leave the image; scoring does not clip them.

    Attributes:
        boxes: Columns `PREDICTION_COLUMNS`, one row per detection.

    Raises:
        DataError: A box or score is not finite, or a box has no area; the message names the row.
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


def _in_message(name: str) -> str:
    return repr(name)[1:-1]


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
    for what, values in (("id", [entry.id for entry in classes]), ("name", [entry.name for entry in classes])):
        repeated = [value for index, value in enumerate(values) if value in values[:index]]
        if repeated:
            raise DataError(f"duplicate class {what}", place="classes", got=repr(repeated[0]))
    return tuple(ClassEntry(int(entry.id), entry.name) for entry in classes)


def _check_images(images: pd.DataFrame) -> None:
    ids, paths = images["image_id"].to_numpy(), images["path"]
    refuse(ids < 1, ids, "images", "not an image id", "1 or more")
    refuse(images["image_id"].duplicated().to_numpy(), ids, "images", "duplicate image id", "unique ids")
    _check_paths(paths, "images")
    _check_names(images["split"], "images", "split")  # part of the names of files
    sizes = images[["width", "height"]].to_numpy()
    refuse((sizes <= 0).any(axis=1), sizes, "images", "the image has no area", "width and height of 1 or more")
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
    refuse(names.isna().to_numpy(), names.to_numpy(dtype=object), "videos", "the video id is missing", "text")
    refuse(names.duplicated().to_numpy(), names.to_numpy(dtype=object), "videos", "duplicate video id", "unique ids")
    _check_names(names, "videos", "video id")  # the folder of its frames, and part of their names
    _check_paths(videos["path"], "videos")


def _check_problems(problems: pd.DataFrame) -> None:
    actions = problems["action"]
    refuse(~actions.isin(ACTIONS).to_numpy(), actions.to_numpy(), "problems", "unknown action", ", ".join(ACTIONS))


def _check_paths(paths: pd.Series, place: str) -> None:
    names = paths.to_numpy(dtype=object)
    refuse(paths.isna().to_numpy(), names, place, "the path is missing", "text")
    refuse(paths.duplicated().to_numpy(), names, place, "duplicate path", "unique paths")
    unsafe = np.fromiter((not is_inside(name) for name in names), dtype=bool, count=len(names))
    refuse(unsafe, names, place, "the path leaves the dataset folder", "a POSIX path relative to it")


def _check_names(names: pd.Series, place: str, what: str) -> None:
    """Check values that become names of files and folders."""
    if bad := [name for name in names.dropna().unique() if not is_name(name)]:  # few names, many rows
        wrong, expected = names.isin(bad).to_numpy(dtype=bool), "text without / and \\, not '..'"
        refuse(wrong, names.to_numpy(dtype=object), place, f"the {what} is not a name", expected)


def _check_boxes(dataset: Dataset) -> None:
    boxes, images = dataset.boxes, dataset.images
    ids = boxes["box_id"].to_numpy()
    refuse(ids < 1, ids, "boxes", "not a box id", "1 or more")
    refuse(boxes["box_id"].duplicated().to_numpy(), ids, "boxes", "duplicate box id", "unique ids")
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
