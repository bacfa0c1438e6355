"""Output files: checked before long work, and written whole or not at all."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from curate.errors import UsageError, closest


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Disable the cyclic garbage collector inside the block (or the decorated function).

    The collector would scan objects that an import builds and keeps again and again; that takes a third of an import's
    time. Objects are still freed when their last reference goes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


TEMPORARY = ".tmp"
OVERWRITE_REMEDY = "Choose another name, or replace it with --overwrite."


def suggest_file(path: str | os.PathLike[str]) -> str | None:
    """A sentence that names the file or folder that is meant by a path where there is none; None without one."""
    missing = Path(path)
    if missing.exists() or not missing.parent.is_dir():
        return None
    similar = closest(missing.name, sorted(entry.name for entry in missing.parent.iterdir()))
    return f"Did you mean {str(missing.parent / similar)!r}?" if similar else None


def check_output_files(*files: str | os.PathLike[str] | None, overwrite: bool) -> None:
    """Check, before long work starts, that output files can take their names.

    Args:
        files: The files to write; None for those that were not requested.
        overwrite: Whether existing files may be replaced.

    Raises:
        UsageError: A name is a folder's, or a file exists and `overwrite` is false.
    """
    for file in map(Path, filter(None, files)):
        if file.is_dir():
            raise UsageError("this is a folder", place=file, expected="a file", remedy="Choose another name.")
        if file.exists() and not overwrite:
            raise UsageError("the file already exists", place=file, remedy=OVERWRITE_REMEDY)


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name, fsync it, rename it, and fsync the folder. Creates the folder.

    Args:
        path: The file.
        write: Called with the open binary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that renames in it survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
