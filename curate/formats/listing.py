"""Lists the files of a source folder. Readers look files up in the list only, so an annotation cannot lead elsewhere.

Links inside the folder are followed: somebody has put them there.
"""

import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from curate.errors import DataError
from curate.files import suggest_file
from curate.formats.incoming import Problem
from curate.image_header import is_image_name


def list_files(
    folder: Path,
    *,
    inside: Sequence[str] = ("",),
    leave_out: Path | None = None,
    annotation_suffixes: tuple[str, ...] = (),
) -> tuple[list[str], list[Problem]]:
    """List the regular files of a folder and its subfolders; hidden ones are skipped.

    Args:
        folder: The source folder.
        inside: Subfolders to list, instead of all.
        leave_out: A subfolder to skip, such as the dataset's own.
        annotation_suffixes: Lower-case suffixes; files with them, and images, are reported if they cannot be opened.

    Returns:
        Files relative to `folder`, in no particular order, and the problems with names, folders and links.

    Raises:
        DataError: The folder does not exist.
    """
    if not folder.is_dir():
        if folder.exists():
            raise DataError("this is a file", place=folder, expected="a folder")
        raise DataError("there is no such folder", place=folder, remedy=suggest_file(folder))
    problems: list[Problem] = []
    found = [name for start in inside for name in _walk(folder, start, leave_out, annotation_suffixes, problems)]
    return found, problems


def folded(name: str) -> str:
    """A name as people compare it: without case, and with one of Unicode's spellings of each letter (NFC)."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def base_name(file: str) -> str:
    """The name of a POSIX path without its folders."""
    return file.rpartition("/")[2]


def _walk(
    folder: Path, start: str, leave_out: Path | None, suffixes: tuple[str, ...], problems: list[Problem]
) -> Iterator[str]:
    visited = {_identity(leave_out)} - {_identity(folder)} if leave_out is not None and leave_out.exists() else set()
    pending = [start]
    while pending:
        inner = pending.pop()
        try:
            entries = sorted(os.scandir(folder / inner), key=lambda entry: entry.name)
            identity = _identity(folder / inner)
        except OSError as error:
            detail = f"the folder: {error.strerror}"
            problems.append(Problem(inner, None, None, "unreadable_file", detail, "quarantined"))
            continue
        if identity in visited:  # a link that leads back up
            continue
        visited.add(identity)
        for entry in entries:
            name = f"{inner}/{entry.name}" if inner else entry.name
            if entry.name.startswith("."):
                continue
            if fault := _name_fault(name):
                shown = os.fsencode(name).decode("utf-8", "backslashreplace")
                problems.append(Problem(shown, None, None, "file_name", fault, "quarantined"))
            elif holds(entry.is_dir):
                pending.append(name)
            elif holds(entry.is_file):
                yield name
            elif name.lower().endswith(suffixes) or is_image_name(name):
                kind = "image_broken" if is_image_name(name) else "unreadable_file"
                problems.append(Problem(name, None, None, kind, "not a file, or a link to nothing", "quarantined"))


def holds(question: Callable[[], bool]) -> bool:
    """The answer of `entry.is_dir` or `entry.is_file`; False for a link to itself."""
    try:
        return question()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _name_fault(name: str) -> str | None:
    """Why a file of this name cannot be in a dataset, whose paths are portable text."""
    if "\\" in name:
        return "a backslash in the name"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    return None
