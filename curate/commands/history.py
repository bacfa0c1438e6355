"""`log`, `diff`, `undo`, `redo`, `checkout`: show and change the history of a dataset."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.columns import BOX_FLAGS, CORNERS, LANDMARKS
from curate.dataset import Dataset
from curate.errors import StoreError
from curate.formatting import curate_command
from curate.result import Result, as_json
from curate.store import Store


@dataclass(frozen=True)
class LogEntry:
    """A version.

    Attributes:
        parent: The version that it was made from; None for the first.
        state: "current"; "past" for the versions that led to the current one; "left" for others, which `undo` or
            `checkout` left and which `checkout` makes current again.
    """

    version: int
    operation: str
    arguments: Mapping[str, Any]
    parent: int | None
    time: str
    images: int
    boxes: int
    state: str


@dataclass(frozen=True)
class LogResult(Result):
    """Versions, newest first."""

    entries: tuple[LogEntry, ...]

    def to_json(self) -> Any:
        """The JSON document: a list of entries."""
        return as_json(self.entries)


def log(dataset: str | os.PathLike[str], *, all: bool = False) -> LogResult:
    """List the versions that led to the current one, newest first.

    Args:
        dataset: The dataset folder.
        all: Whether to list the other versions, too. What is damaged is left out, and in the notes.

    Raises:
        StoreError: The folder has no dataset; or, without `all`, HEAD or a version file cannot be read.
    """
    store = Store(dataset)
    damaged: list[StoreError] = []
    states: dict[int, str] = {}
    try:
        states = dict.fromkeys(store.lineage(), "past") | {store.head(): "current"}
    except StoreError as error:
        if not (all and store.exists()):
            raise
        damaged.append(error)
    entries = store.all_versions(damaged) if all else store.history()
    is_undone = not entries and bool(store.all_versions())
    notes = (f"Version 0 is current; {curate_command('log', dataset, '--all')} lists the others.",) if is_undone else ()
    notes += tuple(map(str, damaged))
    return LogResult(
        entries=tuple(
            LogEntry(
                entry.version,
                entry.operation,
                dict(entry.arguments),
                entry.parent or None,
                entry.time,
                entry.counts["after"]["images"],
                entry.counts["after"]["boxes"],
                states.get(entry.version, "left"),
            )
            for entry in entries
        ),
        notes=notes,
    )


@dataclass(frozen=True)
class DiffResult(Result):
    """Differences between two versions. A box counts as changed if its class, corners, flags or landmarks differ.

    Proposals are not counted; when accepted, they count as added.
    """

    from_: int
    to: int
    classes: dict[str, tuple[int, int]]
    images_added: int
    images_removed: int
    boxes_added: int
    boxes_removed: int
    boxes_changed: int

    def to_json(self) -> Any:
        """The JSON document, with the key `from`, which is reserved in Python."""
        document = super().to_json()
        return {"from": document.pop("from_"), **document}


def diff(dataset: str | os.PathLike[str], a: int, b: int) -> DiffResult:
    """Compare two versions of a dataset.

    Args:
        dataset: The dataset folder.
        a: Older version.
        b: Newer version.

    Raises:
        StoreError: A version does not exist.
    """
    store = Store(dataset)
    old, new = store.load(a), store.load(b)
    before, after = old.class_counts(), new.class_counts()
    old_images, new_images = set(old.images["image_id"]), set(new.images["image_id"])
    old_boxes, new_boxes = set(old.drawn_boxes["box_id"]), set(new.drawn_boxes["box_id"])
    return DiffResult(
        from_=a,
        to=b,
        classes={name: (before.get(name, 0), after.get(name, 0)) for name in dict.fromkeys([*before, *after])},
        images_added=len(new_images - old_images),
        images_removed=len(old_images - new_images),
        boxes_added=len(new_boxes - old_boxes),
        boxes_removed=len(old_boxes - new_boxes),
        boxes_changed=_count_changed(old, new),
    )


def _count_changed(old: Dataset, new: Dataset) -> int:
    columns = ["class_id", *CORNERS, *BOX_FLAGS]
    both = pd.merge(old.drawn_boxes, new.drawn_boxes, on="box_id", suffixes=("_old", "_new"))
    differs = np.zeros(len(both), dtype=bool)
    for column in columns:
        differs |= (both[f"{column}_old"] != both[f"{column}_new"]).to_numpy()
    for column in LANDMARKS:
        before, after = (_landmark(both, boxes, column, side) for boxes, side in ((old, "old"), (new, "new")))
        differs |= ~np.isclose(before, after, rtol=0, atol=0, equal_nan=True)
    return int(differs.sum())


def _landmark(both: pd.DataFrame, dataset: Dataset, column: str, side: str) -> NDArray[np.float64]:
    """A landmark coordinate of the boxes in both versions; NaN if the version has no landmarks. (n,)"""
    if column not in dataset.boxes:
        return np.full(len(both), np.nan)
    name = f"{column}_{side}" if f"{column}_{side}" in both else column  # pandas adds suffixes only to columns of both
    return both[name].to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class UndoResult(Result):
    """The version that is current now, and the undone one."""

    version: int
    undone: int


def undo(dataset: str | os.PathLike[str]) -> UndoResult:
    """Make the version before the current one current. No version is deleted.

    Raises:
        StoreError: There is nothing to undo.
    """
    version, undone = Store(dataset).undo()
    return UndoResult(version=version, undone=undone, notes=(f"{curate_command('redo', dataset)} brings it back.",))


@dataclass(frozen=True)
class RedoResult(Result):
    """The version that is current now."""

    version: int


def redo(dataset: str | os.PathLike[str]) -> RedoResult:
    """Make current again what the last `undo` undid; several times, as often as `undo` was called.

    After `checkout` of an earlier version it goes towards the version that was current before.

    Raises:
        StoreError: Nothing was undone, or the dataset was changed since.
    """
    return RedoResult(version=Store(dataset).redo())


@dataclass(frozen=True)
class CheckoutResult(Result):
    """The version that is current now, and the one that was current before; None if HEAD was damaged."""

    version: int
    before: int | None


def checkout(dataset: str | os.PathLike[str], version: int) -> CheckoutResult:
    """Make any version of `log(dataset, all=True)` current, or 0, the empty dataset. No version is deleted.

    Args:
        dataset: The dataset folder.
        version: Its number.

    Raises:
        StoreError: The version does not exist, or one of its tables is missing.
    """
    before = Store(dataset).check_out(version)
    notes = (f"{curate_command('checkout', dataset, before)} goes back.",) if before not in (version, None) else ()
    return CheckoutResult(version=version, before=before, notes=notes)
