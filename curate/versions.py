"""The files that hold the history of a dataset: version files, HEAD, and how far `redo` goes.

    DATASET/HEAD                     "000002": the current version
    DATASET/REDO                     "000004": the version that `undo` or `checkout` left; `redo` walks towards it
    DATASET/versions/000002.json     one version

Each has a checksum, so that damage on disk is an error and no other version (decision 0035). Loads no table and no
library, so that shell completion can read a dataset's names. Callers that write hold the lock of `curate.store.Store`.
"""

import binascii
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from curate.errors import StoreError, closest
from curate.files import LARGEST_TEXT, read_regular, write_atomically
from curate.formatting import curate_command

TABLE_FILE = re.compile(r"tables/([a-z]+)-([0-9a-f]{20})\.parquet", re.ASCII)  # its table, and the hash of its bytes
_VERSION_FILE = re.compile(r"[0-9]{6,9}\.json", re.ASCII)
# the number; then, in files of newer versions, its checksum in blanks and tabs, which other readers strip
_NUMBER_FILE = re.compile(r"([0-9]{6,9})(?:\n([ \t]{16}))?\n?", re.ASCII)
_LARGEST_ID = 2**63 - 1
_RESTORE = "Restore it from a copy; or move it away to go on without that version."


def dataset_folders(folder: Path) -> list[Path]:
    """The datasets directly in a folder, by name; none where the folder cannot be read."""
    try:
        return sorted(entry.parent for entry in folder.glob("*/HEAD"))
    except OSError:
        return []


class VersionFiles:
    """The version files of a dataset folder.

    Attributes:
        root: The dataset folder.
        folder: The folder of the version files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "versions"
        self._head, self._redo = root / "HEAD", root / "REDO"

    def exist(self) -> bool:
        """Whether the folder has a dataset."""
        return self._head.is_file() or any(self.folder.glob("[0-9]*.json"))

    def require(self) -> None:
        """Check that the folder has a dataset.

        Raises:
            StoreError: It has none; the message has the closest name of a dataset.
        """
        if self.exist():
            return
        similar = closest(self.root.name, (folder.name for folder in dataset_folders(self.root.parent)))
        if inside := [folder.name for folder in dataset_folders(self.root)]:
            remedy = f"Datasets in this folder: {', '.join(inside)}."
        elif similar:
            remedy = f"Did you mean {str(self.root.parent / similar)!r}?"
        else:
            remedy = "Create one with an import, such as `curate import-voc DATASET SOURCE`."
        raise StoreError("there is no dataset here", place=self.root, expected="a file HEAD", remedy=remedy)

    def file(self, number: int) -> Path:
        """The file of a version; it need not exist."""
        return self.folder / f"{number:06d}.json"

    def numbers(self) -> list[int]:
        """The numbers of the version files, in order, without names such as `000001 (copy).json`."""
        names = (file.name for file in self.folder.glob("[0-9]*.json"))
        return sorted(int(name.removesuffix(".json")) for name in names if _VERSION_FILE.fullmatch(name))

    def head(self) -> int:
        """The version that HEAD names; the first one if its commit was killed before it wrote HEAD.

        Raises:
            StoreError: HEAD is missing or damaged, so that nobody knows which version is current.
        """
        number = self._named_in(self._head)
        if number is not None:
            return number
        is_missing = not self._head.exists()
        if is_missing and self.numbers() == [1] and not self._redo.exists():
            return 1
        raise StoreError(
            f"the file {'is missing' if is_missing else 'is damaged'}: which version is current is not known",
            place=self._head,
            remedy=f"{curate_command('log', self.root, '--all')} lists the versions, and"
            f" {curate_command('checkout', self.root, 'N')} makes one of them current.",
        )

    def gaps(self, parents: Mapping[int, int]) -> Iterator[StoreError]:
        """Errors for what is missing: version files that others were made from, and the one that REDO names.

        Args:
            parents: Version → its parent, of the version files that can be read.
        """
        known = {0, *self.numbers()}
        for number, parent in parents.items():
            if parent not in known:
                yield StoreError(f"the file is missing: version {number} was made from it", place=self.file(parent))
        if os.path.lexists(self._redo) and self._named_in(self._redo) is None:
            yield StoreError("the file is damaged: what can be redone is not known", place=self._redo)

    def set_head(self, number: int) -> None:
        """Make a version current."""
        _write_number(self._head, number)

    def write(self, number: int, document: Mapping[str, Any]) -> None:
        """Write a version file, with its checksum."""
        text = json.dumps({**document, "checksum": _checksum(document)}, indent=1, ensure_ascii=False)
        # a file name that is not UTF-8 is written as a JSON escape
        data = text.encode("utf-8", "backslashreplace")
        write_atomically(self.file(number), lambda file: file.write(data))

    def read(self, number: int) -> dict[str, Any]:
        """The document of a version file, with the keys and types of `_SHAPE`.

        Raises:
            StoreError: The version does not exist, cannot be read, or is not what was written.
        """
        path = self.file(number)
        try:
            document = json.loads(read_regular(path, LARGEST_TEXT).decode("utf-8"))
            checksum = document.get("checksum") if isinstance(document, dict) else None
            fault = _fault(document, number)
            is_damaged = bool(fault) and (checksum is None or checksum != _checksum(document))
        except FileNotFoundError:
            raise StoreError(
                f"there is no version {number}",
                place=self.root,
                expected=f"one of {_ranges(known)}" if (known := self.numbers()) else "0, the only version",
                remedy=f"{curate_command('log', self.root, '--all')} lists all versions." if known else None,
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            fact = getattr(error, "strerror", None) or error
            raise StoreError(f"the version file cannot be read: {fact}", place=path, remedy=_RESTORE) from error
        if fault:
            remedy = _RESTORE if is_damaged else f"Use curate {document.get('tool_version')}, which wrote it."
            raise StoreError(f"the version file cannot be read: {fault}", place=path, remedy=remedy)
        return document

    def ancestry(self, number: int) -> Iterator[int]:
        """A version, its parent, and so on, without version 0; ends early at a version file that cannot be read.

        It ends in any case: the number of a parent is lower.
        """
        while number:
            yield number
            try:
                number = self.read(number)["parent"]
            except StoreError:
                return

    def next_towards_redo(self, head: int) -> int:
        """The version after `head` on the way to the one that `undo` or `checkout` left.

        Raises:
            StoreError: Nothing was left, or `head` is not on the way to it, as after a commit.
        """
        after = None
        for number in (*self.ancestry(self._named_in(self._redo) or 0), 0):
            if number == head and after is not None:
                return after
            after = number
        raise StoreError(
            "there is nothing to redo",
            place=self.root,
            got=f"version {head}",
            expected="a version that `undo` led to, without later changes",
            remedy=f"{curate_command('log', self.root, '--all')} lists all versions, and"
            f" {curate_command('checkout', self.root, 'N')} makes one of them current.",
        )

    def leave(self, head: int, target: int) -> None:
        """Remember, before `target` becomes current in place of `head`, how `redo` comes back.

        If `target` lies behind `head` on the way to the remembered version, that stays remembered.
        """
        if head in self.ancestry(self._named_in(self._redo) or 0):
            return
        if target == 0 or target in self.ancestry(head):
            _write_number(self._redo, head)

    def _named_in(self, file: Path) -> int | None:
        """The version that a file names; None if the file or the version is missing or damaged."""
        try:
            match = _NUMBER_FILE.fullmatch(read_regular(file, 100).decode("ascii"))
        except (OSError, ValueError):
            return None
        if not match or match[2] not in (None, _blanks(file.name, match[1])):
            return None
        number = int(match[1])
        return number if number == 0 or self.file(number).is_file() else None


def find_card(dataset: Path) -> Path | None:
    """The card of a dataset folder: in the folder, or beside it as in `datasets/NAME/{card.yaml,data/}`."""
    for path in (dataset / "card.yaml", dataset.resolve().parent / "card.yaml"):
        if path.is_file():
            return path
    return None


def _write_number(file: Path, number: int) -> None:
    text = f"{number:06d}"
    write_atomically(file, lambda out: out.write(f"{text}\n{_blanks(file.name, text)}\n".encode()))


def _blanks(name: str, number: str) -> str:
    """A checksum that readers who strip white space do not see: 16 bits, a blank for 0 and a tab for 1.

    It depends on the name of the file, so that REDO in place of HEAD is damage.
    """
    return f"{binascii.crc_hqx(f'{name} {number}'.encode(), 0):016b}".translate({ord("0"): " ", ord("1"): "\t"})


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:20]


def _fault(document: Any, number: int) -> str | None:
    """What is wrong with the document of a version file; None if nothing is."""
    if not isinstance(document, dict):
        return "it holds no mapping"
    written = document.pop("checksum", None)
    if missing := _SHAPE.keys() - _OPTIONAL - document.keys():
        return f"{min(missing)!r} is missing"
    if unknown := document.keys() - _SHAPE.keys():
        return f"unknown {min(unknown)!r}"
    for key, value in document.items():
        if not _SHAPE[key](value):
            return f"{key!r} has another form than curate writes"
    if document["version"] != number:
        return f"it is that of version {document['version']}"
    if max(document["parent"], document.get("replaces") or 0) >= number:
        return "a version before it has a higher number"
    if written is not None and written != _checksum(document):
        return "its content is not what was written"
    return None


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST_ID


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any, is_value: Callable[[Any], bool], keys: set[str] | None = None) -> bool:
    """Whether it is a mapping with such values, and with these keys if they are given."""
    return isinstance(value, dict) and (keys is None or value.keys() == keys) and all(map(is_value, value.values()))


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _is_class(value: Any) -> bool:
    return _is_mapping(value, lambda _: True, {"id", "name"}) and _is_number(value["id"]) and _is_text(value["name"])


def _are_counts(value: Any) -> bool:
    return (
        _is_mapping(value, lambda _: True, {"images", "boxes", "classes"})
        and _is_number(value["images"])
        and _is_number(value["boxes"])
        and _is_mapping(value["classes"], _is_number)
    )


def _are_tables(value: Any) -> bool:
    """Whether each table has a file of its own in the dataset folder, named as curate names it."""
    if not (_is_mapping(value, _is_text) and {"images", "boxes", "problems"} <= value.keys()):
        return False
    return all((match := TABLE_FILE.fullmatch(file)) and match[1] == name for name, file in value.items())


_SHAPE: Mapping[str, Callable[[Any], bool]] = {
    "version": _is_number,
    "operation": _is_text,
    "arguments": lambda value: isinstance(value, dict),
    "parent": _is_number,
    "time": _is_time,
    "tool_version": _is_text,
    "classes": lambda value: isinstance(value, list) and all(map(_is_class, value)),
    "aliases": lambda value: _is_mapping(value, lambda id_: id_ is None or _is_number(id_)),
    "next_ids": lambda value: _is_mapping(value, _is_number, {"image", "box", "class_"}),
    "counts": lambda value: _is_mapping(value, _are_counts, {"before", "after"}),
    "tables": _are_tables,
    "replaces": lambda value: value is None or _is_number(value),
    "card": lambda value: value is None or _is_text(value),
}
_OPTIONAL = {"replaces", "card"}  # not in files of older versions


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 4, 7, 8] → "1–4, 7, 8"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 3 else ", ".join(map(str, run)) for run in runs)
