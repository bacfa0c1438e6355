"""The files that hold the history of a dataset: version files, HEAD, and how far `redo` goes.

    DATASET/HEAD                     "000002": the current version
    DATASET/REDO                     "000004": the version that `undo` or `checkout` left; `redo` walks towards it
    DATASET/versions/000002.json     one version

Loads no table and no library, so that shell completion can read a dataset's names. Callers that write hold the lock of
`curate.store.Store`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.errors import StoreError, closest
from curate.files import write_atomically
from curate.formatting import curate_command


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
        return sorted(int(file.stem) for file in self.folder.glob("[0-9]*.json") if file.stem.isdecimal())

    def head(self) -> int | None:
        """The version that HEAD names; None if HEAD is missing or damaged."""
        return self._named_in(self._head)

    def set_head(self, number: int) -> None:
        """Make a version current."""
        write_atomically(self._head, lambda file: file.write(f"{number:06d}\n".encode()))

    def read(self, number: int) -> dict[str, Any]:
        """The document of a version file.

        Raises:
            StoreError: The version does not exist or cannot be read.
        """
        path = self.file(number)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StoreError(
                f"there is no version {number}",
                place=self.root,
                expected=f"one of {_ranges(known)}" if (known := self.numbers()) else "0, the only version",
                remedy=f"{curate_command('log', self.root, '--all')} lists all versions." if known else None,
            ) from None
        except (OSError, ValueError) as error:
            raise StoreError(f"the version file cannot be read: {error}", place=path) from error
        if not isinstance(document, dict):
            raise StoreError("the version file cannot be read: it holds no mapping", place=path)
        return document

    def ancestry(self, number: int) -> Iterator[int]:
        """A version, its parent, and so on, without version 0; ends early at a version file that cannot be read."""
        seen: set[int] = set()
        while number and number not in seen:
            yield number
            seen.add(number)
            try:
                number = int(self.read(number)["parent"])
            except (StoreError, KeyError, TypeError, ValueError):
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
            write_atomically(self._redo, lambda file: file.write(f"{head:06d}\n".encode()))

    def _named_in(self, file: Path) -> int | None:
        """The version that a file names; None if the file or the version is missing or damaged."""
        try:
            number = int(file.read_text())
        except (OSError, ValueError):
            return None
        return number if number == 0 or self.file(number).is_file() else None


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 4, 7, 8] → "1–4, 7, 8"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 3 else ", ".join(map(str, run)) for run in runs)
