"""Versions of a dataset on disk: load, commit, history, undo, redo, check out. All files have common formats.

    DATASET/HEAD                     "000002"
    DATASET/versions/000002.json     operation, arguments, parent version, tables of the result
    DATASET/tables/boxes-1f3a….parquet

A commit writes tables first, then the version file, then HEAD, each with fsync and rename. If a process is killed, HEAD
still names a complete version; temporary files are removed by the next commit. Version 0 is the empty dataset.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curate import __version__
from curate.columns import TABLES
from curate.dataset import ClassEntry, Dataset, NextIds
from curate.errors import CurateError, StoreError, system_error
from curate.files import LARGEST_TEXT, read_regular, remove_leftovers
from curate.formatting import curate_command
from curate.paths import refuse_links
from curate.table_files import TABLES_FOLDER, read_table, write_table
from curate.versions import VersionFiles, find_card

_LOCK_TIMEOUT_S = 300
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """An entry of the history.

    Attributes:
        version: Its number, from 1.
        operation: The command that made it.
        arguments: Arguments of the command.
        parent: The version that it was made from; 0 is the empty dataset.
        time: UTC, ISO 8601.
        tool_version: Version of curate.
        classes, aliases, next_ids: As in `Dataset`.
        counts: {"before": …, "after": …}, each {"images": n, "boxes": n, "classes": {name: n}}.
        tables: Table name → file, relative to the dataset folder; without videos, there is no table of videos.
        replaces: An earlier version of the same `Work`, which this one holds too; None for other versions.
        card: SHA-256 of the dataset's card at that time; None without a card, and in files of older versions.
    """

    version: int
    operation: str
    arguments: Mapping[str, Any]
    parent: int
    time: str
    tool_version: str
    classes: tuple[ClassEntry, ...]
    aliases: Mapping[str, int | None]
    next_ids: NextIds
    counts: Mapping[str, Any]
    tables: Mapping[str, str]
    replaces: int | None = None
    card: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of the version file."""
        return asdict(self) | {"classes": [{"id": entry.id, "name": entry.name} for entry in self.classes]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Version":
        """The version of a version file's document."""
        classes = tuple(ClassEntry(entry["id"], entry["name"]) for entry in document["classes"])
        return cls(**{**document, "classes": classes, "next_ids": NextIds(**document["next_ids"])})


class Store:
    """A dataset folder."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._files = VersionFiles(self.root)

    def exists(self) -> bool:
        """Whether the folder has a dataset."""
        return self._files.exist()

    def require(self) -> None:
        """Check that the folder has a dataset.

        Raises:
            StoreError: It has none; the message has the closest name of a dataset.
        """
        self._files.require()

    def head(self) -> int:
        """Number of the current version; 0 before the first.

        Raises:
            StoreError: The folder has no dataset, or its HEAD is damaged.
        """
        self._files.require()
        return self._files.head()

    @property
    def mark(self) -> str | None:
        """Identifies the dataset, independent of its folder and version; None before the first version."""
        if not (numbers := self._files.numbers()):
            return None
        self._files.read(numbers[0])  # raises if it is damaged
        return hashlib.sha256(read_regular(self._files.file(numbers[0]))).hexdigest()[:20]

    def load(self, version: int | None = None) -> Dataset:
        """Read a version (default: the current one).

        Raises:
            StoreError: The folder has no dataset, or the version does not exist or is damaged.
        """
        head = self.head()
        number = head if version is None else version
        return Dataset(self.root) if number == 0 else self._load(self.read_version(number))

    def read_version(self, number: int) -> Version:
        """The history entry of a version.

        Raises:
            StoreError: The version does not exist or cannot be read.
        """
        return Version.from_json(self._files.read(number))

    def history(self) -> list[Version]:
        """The versions that led to the current one, newest first."""
        entries, number = [], self.head()
        while number:
            entries.append(self.read_version(number))
            number = entries[-1].parent
        return entries

    def lineage(self) -> list[int]:
        """Numbers of `history`; ends early at a version file that cannot be read, where `history` raises an error."""
        return list(self._files.ancestry(self.head()))

    def all_versions(self, damaged: list[StoreError] | None = None, *, replaced: bool = False) -> list[Version]:
        """All versions whose files can be read, newest first, also those that did not lead to the current one.

        Args:
            damaged: Takes the errors of the files that cannot be read, or are missing.
            replaced: Whether to return versions that later commits of the same work replaced, too.
        """
        entries = list(self._readable(damaged))
        if damaged is not None:
            damaged.extend(self._files.gaps({entry.version: entry.parent for entry in entries}))
        left_out = set() if replaced else {entry.replaces for entry in entries}
        return [entry for entry in entries if entry.version not in left_out]

    def commit(
        self, operation: str, arguments: Mapping[str, Any], change: Callable[[Dataset], Dataset]
    ) -> tuple[int, Dataset]:
        """Apply `change` to the current version and make the result the new version, atomically.

        `change` runs under the lock, on the version that is current at that time, which may be newer than the one that
        the caller loaded. It must be quick. If it changes nothing, no version is made. The folder is created if it does
        not exist.

        Returns:
            Number of the current version, and its dataset.

        Raises:
            StoreError: Another process holds the lock too long, or the folder cannot be written.
        """
        return self.begin(operation, arguments).commit(change)

    def begin(self, operation: str, arguments: Mapping[str, Any]) -> "Work":
        """Begin long work with several commits that become a single entry of the history."""
        return Work(self, operation, arguments)

    def _commit(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        change: Callable[[Dataset], Dataset],
        amends: int | None,
    ) -> tuple[int, Dataset, bool]:
        """As `commit`, and replace the current version if it is `amends`. Also returns whether a version was made."""
        with self.locked():
            number = self.head() if self.exists() else 0
            parent = self.read_version(number) if number else None
            amended = parent if number == amends else None
            before = self._load(parent) if parent else Dataset(self.root)
            # ids of versions that were undone are not given again; the newest version knows all of them
            newest = max(self._files.numbers(), default=0)
            if newest > number:
                before = before.replace(next_ids=before.next_ids.merged(self.read_version(newest).next_ids))
            after = change(before)
            if not parent and _is_empty(after):
                return number, after, False
            tables = self._write_tables(after, before, parent)
            if parent and (tables, after.classes, dict(after.aliases)) == (
                parent.tables,
                parent.classes,
                parent.aliases,
            ):
                return number, after, False
            entry = Version(
                version=newest + 1,
                operation=operation,
                arguments=json.loads(json.dumps(arguments, default=str)),
                parent=amended.parent if amended else number,
                time=datetime.now(UTC).isoformat(timespec="seconds"),
                tool_version=__version__,
                classes=after.classes,
                aliases=dict(after.aliases),
                next_ids=after.next_ids,
                counts={"before": amended.counts["before"] if amended else _counts(before), "after": _counts(after)},
                tables=tables,
                replaces=amended.version if amended else None,
                card=card_digest(self.root),
            )
            self._files.write(entry.version, entry.to_json())
            self._files.set_head(entry.version)
            logger.info("%s: version %d by %s, %s", self.root, entry.version, operation, entry.counts["after"])
            return entry.version, after, True

    def undo(self) -> tuple[int, int]:
        """Move HEAD to the parent of the current version. No version is deleted.

        Returns:
            Numbers of the version that is current now, and of the one that was undone.

        Raises:
            StoreError: There is nothing to undo.
        """
        self.head()  # raises if there is no dataset; the lock would create the folder
        with self.locked():
            undone = self.head()
            if undone == 0:
                raise StoreError("there is nothing to undo", place=self.root, got="the empty version 0")
            now = self.read_version(undone).parent
            self._files.leave(undone, now)
            self._files.set_head(now)
            return now, undone

    def redo(self) -> int:
        """Move HEAD one version towards the one that `undo` or `check_out` left.

        Returns:
            Number of the version that is current now.

        Raises:
            StoreError: Nothing was undone, or something was committed since.
        """
        self.head()
        with self.locked():
            following = self._files.next_towards_redo(self.head())
            self._require_tables(following)
            self._files.set_head(following)
            return following

    def check_out(self, version: int) -> int | None:
        """Make any version the current one. No version is deleted.

        Returns:
            Number of the version that was current before; None if HEAD was damaged, which this mends.

        Raises:
            StoreError: The version does not exist, or one of its tables is missing.
        """
        self._files.require()
        with self.locked():
            self._require_tables(version)
            try:
                before = self.head()
            except StoreError:
                before = None
            else:
                self._files.leave(before, version)
            self._files.set_head(version)
            return before

    # ------------------------------------------------------------------ files

    def _require_tables(self, version: int) -> None:
        tables = self.read_version(version).tables.values() if version else ()
        if lost := [table for table in tables if not (self.root / table).is_file()]:
            raise StoreError(f"a table of version {version} is missing", place=self.root / lost[0])

    def _readable(self, damaged: list[StoreError] | None = None) -> Iterator[Version]:
        """The versions whose files can be read, newest first; errors of others go to `damaged`."""
        for number in reversed(self._files.numbers()):
            try:
                yield self.read_version(number)
            except StoreError as error:
                if damaged is not None:
                    damaged.append(error)

    def _load(self, entry: Version) -> Dataset:
        try:
            tables = {name: read_table(self.root, file) for name, file in entry.tables.items()}
            return Dataset(self.root, entry.classes, **tables, aliases=entry.aliases, next_ids=entry.next_ids)
        except CurateError as error:
            fact, place, got, expected = error.fact, error.place, error.got, error.expected
            cause: Exception = error
        except Exception as error:  # a table may hold anything, if it was not curate that wrote it
            fact, place, got, expected = f"{type(error).__name__}: {error}", "its tables", None, None
            cause = error
        is_file = place in entry.tables.values()
        raise StoreError(
            f"a table of version {entry.version} cannot be read: {fact if is_file else f'{place}: {fact}'}",
            place=self.root / str(place) if is_file else self._files.file(entry.version),
            got=got,
            expected=expected,
            remedy=f"{curate_command('undo', self.root)} goes back to version {entry.parent}.",
        ) from cause

    def _write_tables(self, after: Dataset, before: Dataset, parent: Version | None) -> dict[str, str]:
        files = {}
        for name in TABLES:
            if name == "videos" and not len(after.videos):
                continue
            if parent and getattr(after, name) is getattr(before, name):
                files[name] = parent.tables[name]
            else:
                files[name] = write_table(self.root, name, getattr(after, name))
        return files

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the dataset's lock: inside the block nobody else commits. Removes what killed processes left.

        Raises:
            StoreError: Another process holds the lock too long, or the folder cannot be written.
        """
        from filelock import FileLock, Timeout

        try:
            self.root.mkdir(parents=True, exist_ok=True)
            start = time.monotonic()
            with FileLock(self.root / ".lock", timeout=_LOCK_TIMEOUT_S):
                logger.debug("%s: locked after a wait of %.2f s", self.root, time.monotonic() - start)
                for folder in ("versions", TABLES_FOLDER):
                    refuse_links(self.root, folder)
                for folder in (self.root, self._files.folder, self.root / TABLES_FOLDER):
                    remove_leftovers(folder)
                yield
        except Timeout as error:
            raise StoreError(
                f"another process has locked the dataset for more than {_LOCK_TIMEOUT_S} s",
                place=self.root,
                remedy="Wait for it, or end it.",
            ) from error
        except OSError as error:
            place = error.filename or self.root
            raise system_error(error, "the dataset cannot be written", place=place, kind=StoreError) from error


class Work:
    """Long work on a dataset with several commits.

    Each commit replaces the version of the commit before: the history has one entry, and one `undo` takes all back.
    Versions that other processes commit in between are not replaced.
    """

    def __init__(self, store: Store, operation: str, arguments: Mapping[str, Any]) -> None:
        self._store, self._operation, self._arguments = store, operation, arguments
        self._made: int | None = None

    def commit(self, change: Callable[[Dataset], Dataset]) -> tuple[int, Dataset]:
        """Apply `change` to the current version; see `Store.commit`."""
        number, dataset, is_new = self._store._commit(self._operation, self._arguments, change, self._made)
        self._made = number if is_new else self._made  # otherwise `number` may be another process's version
        return number, dataset


def _is_empty(dataset: Dataset) -> bool:
    return not (dataset.classes or dataset.aliases or any(len(getattr(dataset, name)) for name in TABLES))


def card_digest(root: Path) -> str | None:
    """SHA-256 of a dataset's card; None without one that can be read."""
    try:
        return hashlib.sha256(read_regular(card, LARGEST_TEXT)).hexdigest() if (card := find_card(root)) else None
    except OSError:
        return None


def _counts(dataset: Dataset) -> dict[str, Any]:
    return {"images": len(dataset.images), "boxes": len(dataset.drawn_boxes), "classes": dataset.class_counts()}
