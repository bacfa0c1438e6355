"""`merge-classes`, `rename-class`, `drop-class`."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from curate.curation.classes import drop, merge, parse_drops, parse_merges, parse_renames, rename
from curate.dataset import Dataset
from curate.errors import DataError, UsageError
from curate.result import Result
from curate.store import Store


@dataclass(frozen=True)
class ClassesResult(Result):
    """Boxes of each class before and after; `version` is None for a dry run."""

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
    """Merge classes into another; every box keeps what the annotator wrote in `original_class`.

    Args:
        dataset: the dataset folder.
        sources: names of the classes that end.
        into: name of the class that takes their boxes.
        map: instead of both, a YAML file with `target: [source, …]` or `source: target` lines.
        dry_run: only tell what would come out.

    Raises:
        UsageError: an unknown class; the message lists the known ones and the closest.
    """
    if map is not None and (sources or into):
        raise UsageError("both a map and names are given", place="--map", remedy="Give one of them.")
    if map is None and (not sources or into is None):
        raise UsageError(
            "it is not said what to merge", place="merge-classes", expected="SOURCE… --into TARGET, or --map FILE"
        )
    merges = parse_merges(_read_yaml(map), place=map) if map is not None else {str(into): tuple(sources)}

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
    """Rename a class, or with `map`, a YAML file of `old: new` lines, many at once.

    Raises:
        UsageError: an unknown class, or a new name that another class has.
    """
    if (map is None) == (old is None or new is None):
        raise UsageError("it is not said what to rename", place="rename-class", expected="OLD NEW, or --map FILE")
    names = parse_renames(_read_yaml(map), place=map) if map is not None else {str(old): str(new)}
    return _apply("rename-class", dataset, {"renames": names}, lambda before: rename(before, names), dry_run=dry_run)


def drop_class(
    dataset: str | os.PathLike[str],
    names: Sequence[str] = (),
    *,
    map: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
) -> ClassesResult:
    """Take out classes with their boxes (`map`: a YAML list of names); the images stay.

    Raises:
        UsageError: an unknown class.
    """
    if (map is None) == (not names):
        raise UsageError("it is not said what to drop", place="drop-class", expected="NAME…, or --map FILE")
    gone = parse_drops(_read_yaml(map), place=map) if map is not None else tuple(names)
    return _apply("drop-class", dataset, {"names": gone}, lambda before: drop(before, gone), dry_run=dry_run)


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

    store.head()  # refuses a folder without a dataset before a commit would make one
    version = None
    if dry_run:
        counted(store.load())
    else:
        version, _ = store.commit(operation, arguments, counted)
    return ClassesResult(version=version, before=counts["before"], after=counts["after"])


def _read_yaml(path: str | os.PathLike[str]) -> object:
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"the map cannot be read: {' '.join(str(error).split())}", place=path) from error
