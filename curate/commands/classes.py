"""`merge-classes`, `rename-class`, `drop-class`: change the classes of a dataset."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.curation.class_maps import parse_drops, parse_merges, parse_renames, read_map
from curate.curation.classes import drop, merge, rename
from curate.dataset import Dataset
from curate.errors import UsageError
from curate.result import Result
from curate.store import Store


@dataclass(frozen=True)
class ClassesResult(Result):
    """Boxes per class before and after; `version` is None for a dry run."""

    version: int | None
    before: dict[str, int]
    after: dict[str, int]


def merge_classes(
    dataset: str | os.PathLike[str],
    sources: Sequence[str] = (),
    into: str | None = None,
    *,
    map: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
) -> ClassesResult:
    """Merge classes into another; every box keeps the annotator's class name in `original_class`.

    Args:
        dataset: The dataset folder.
        sources: Classes to merge.
        into: The class that gets their boxes.
        map: YAML file with `target: [source, …]` or `source: target` entries; replaces `sources` and `into`.
        dry_run: Whether to return the counts without changing the dataset.

    Raises:
        UsageError: Unknown class; the message lists the classes and the closest name.
        DataError: The map cannot be read.
    """
    if map is not None and (sources or into):
        raise UsageError("--map and class names are mutually exclusive", place="merge-classes")
    if map is None and (not sources or into is None):
        raise UsageError(
            "no classes to merge given", place="merge-classes", expected="SOURCE… --into TARGET, or --map FILE"
        )
    merges = parse_merges(read_map(map), place=map) if map is not None else {str(into): tuple(sources)}

    def change(before: Dataset) -> Dataset:
        for target, names in merges.items():
            before = merge(before, names, target)
        return before

    arguments = {"merges": {target: list(names) for target, names in merges.items()}}
    return _apply("merge-classes", dataset, arguments, change, dry_run=dry_run)


def rename_class(
    dataset: str | os.PathLike[str],
    old: str | None = None,
    new: str | None = None,
    *,
    map: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
) -> ClassesResult:
    """Rename a class, or several at once.

    Args:
        dataset: The dataset folder.
        old: The class.
        new: Its new name.
        map: YAML file with `old: new` entries; replaces `old` and `new`.
        dry_run: Whether to return the counts without changing the dataset.

    Raises:
        UsageError: Unknown class, or another class has the new name.
        DataError: The map cannot be read.
    """
    if (map is None) == (old is None or new is None):
        raise UsageError("expected either OLD NEW or --map FILE", place="rename-class")
    names = parse_renames(read_map(map), place=map) if map is not None else {str(old): str(new)}
    return _apply("rename-class", dataset, {"renames": names}, lambda before: rename(before, names), dry_run=dry_run)


def drop_class(
    dataset: str | os.PathLike[str],
    names: Sequence[str] = (),
    *,
    map: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
) -> ClassesResult:
    """Remove classes and their boxes; the images stay.

    Args:
        dataset: The dataset folder.
        names: Classes to remove.
        map: YAML list of class names; replaces `names`.
        dry_run: Whether to return the counts without changing the dataset.

    Raises:
        UsageError: Unknown class.
        DataError: The map cannot be read.
    """
    if (map is None) == (not names):
        raise UsageError("expected either NAME… or --map FILE", place="drop-class")
    dropped = parse_drops(read_map(map), place=map) if map is not None else tuple(names)
    return _apply("drop-class", dataset, {"names": dropped}, lambda before: drop(before, dropped), dry_run=dry_run)


def _apply(
    operation: str,
    dataset: str | os.PathLike[str],
    arguments: Mapping[str, Any],
    change: Callable[[Dataset], Dataset],
    *,
    dry_run: bool,
) -> ClassesResult:
    store = Store(dataset)
    counts: dict[str, dict[str, int]] = {}

    def counted(before: Dataset) -> Dataset:
        after = change(before)
        counts.update(before=before.class_counts(), after=after.class_counts())
        return after

    store.head()  # raises if there is no dataset; a commit would create one
    version = None
    if dry_run:
        counted(store.load())
    else:
        version, _ = store.commit(operation, arguments, counted)
    return ClassesResult(version=version, before=counts["before"], after=counts["after"])
