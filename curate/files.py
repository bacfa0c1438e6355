"""Files: reading them; lists of names in any Unicode encoding; outputs, checked first, written whole or not at all."""

import codecs
import errno
import fcntl
import gc
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import IO

from curate.errors import DataError, UsageError, closest
from curate.plain_text import clean_name


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


LARGEST_TEXT = 1 << 26  # bytes of a list of names, a map, a card
_NOT_REGULAR = errno.EINVAL, "it is no regular file"
# without O_NONBLOCK, opening a pipe waits for its writer
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def read_regular(path: str | os.PathLike[str], limit: int | None = None) -> bytes:
    """Read a whole file with few system calls; imports do this for every image and annotation.

    Only files on a disk are read: a pipe or a device may never end, and files that the kernel makes as they are read,
    such as those in `/proc`, tell others about this machine.

    Args:
        path: The file, or a link to one.
        limit: The most bytes that it may have; None for any number.

    Raises:
        OSError: The file cannot be read, is no regular file, or is larger than the limit.
    """
    descriptor = os.open(path, _OPEN)
    try:
        size = _regular_size(descriptor, path)
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, the limit is {limit:,}", os.fspath(path))
        data = os.read(descriptor, size + 1)
        if not size and data:
            raise OSError(*_NOT_REGULAR, os.fspath(path))
        while len(data) < size and (piece := os.read(descriptor, size - len(data))):
            data += piece
        return data
    finally:
        os.close(descriptor)


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file to read it in pieces; only one on a disk, as `read_regular`.

    Raises:
        OSError: The file cannot be read, or is no regular file.
    """
    descriptor = os.open(path, _OPEN)
    try:
        _regular_size(descriptor, path)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _regular_size(descriptor: int, path: str | os.PathLike[str]) -> int:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        number, fact = (errno.EISDIR, "Is a directory") if stat.S_ISDIR(status.st_mode) else _NOT_REGULAR
        raise OSError(number, fact, os.fspath(path))
    return status.st_size


TEMPORARY = ".tmp"
_OUR_TEMPORARY = re.compile(r"\.curate-\d+-[0-9a-f]{16}\.tmp", re.ASCII)
OVERWRITE_REMEDY = "Choose another name, or replace it with --overwrite."


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read a list of names, one a line, as `read_list`. Each name is returned once, without what names cannot hold.

    Raises:
        DataError: The file cannot be read, has another encoding, or has lost characters.
    """
    return tuple(dict.fromkeys(name for name in map(clean_name, read_list(path)) if name))


def read_list(path: str | os.PathLike[str]) -> list[str]:
    """Read the lines of a list of names, as `read_text`.

    Raises:
        DataError: The file cannot be read, has another encoding, or has lost characters.
    """
    return read_text(path, "list of names").splitlines()


def read_text(path: str | os.PathLike[str], what: str, limit: int = LARGEST_TEXT) -> str:
    """Read a text of at most `limit` bytes that has names: UTF-8, or UTF-16 with its mark.

    Other encodings are not guessed: bytes of one are text of another, and wrong names would become classes.

    Raises:
        DataError: The file cannot be read, has another encoding, or has lost characters.
    """
    try:
        data = read_regular(path, limit)
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except OSError as error:
        raise DataError(
            f"the {what} cannot be read: {error.strerror}", place=path, remedy=suggest_file(path)
        ) from error
    except UnicodeDecodeError as error:
        raise _not_unicode(path, what, error.object[error.start : error.start + 4].hex(" ")) from error
    if lost := {"\ufffd", "\0"} & set(text):
        raise _not_unicode(path, what, repr(min(lost)))
    return text


def _not_unicode(path: str | os.PathLike[str], what: str, found: str) -> DataError:
    return DataError(
        f"the encoding of the {what} is not understood",
        place=path,
        got=found,
        expected="UTF-8, or UTF-16 with a byte order mark",
        remedy="Save the file as UTF-8.",
    )


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

    Several processes may write one file: each writes its whole content, and the last one stays.

    Args:
        path: The file.
        write: Called with the open binary file.

    Raises:
        OSError: The file cannot be written, as on a full disk; the error names it, and nothing is left of it.
    """
    with failures_at(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path.parent) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        sync_folder(path.parent)


@contextmanager
def failures_at(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file that is written in errors that name none, or its temporary name."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or is_temporary(os.path.basename(error.filename))):
            error.filename, error.filename2 = os.fspath(path), None
        raise


@contextmanager
def temporary_file(folder: str | os.PathLike[str]) -> Iterator[BufferedRandom]:
    """A new binary file to write and read, with a name of its own in a folder; removed after the block.

    To keep it, flush it and rename `file.name` inside the block. It is locked while the block runs: thus
    `remove_leftovers` knows, also from another machine or container, that its writer lives.
    """
    while True:
        path = temporary_name(folder)
        file = open(path, "x+b")  # noqa: SIM115 - closed below
        with suppress(OSError):  # no locks on this disk: then it is never taken for a leftover
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # another process removed it as a leftover, before it was locked
    try:
        yield file
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
        with suppress(OSError):  # what was kept is flushed; the rest may not fit on the disk
            file.close()


def temporary_name(folder: str | os.PathLike[str]) -> str:
    """The path of a temporary file of ours in a folder; each call gives another one."""
    return os.path.join(folder, f".curate-{os.getpid()}-{os.urandom(8).hex()}{TEMPORARY}")


def is_temporary(name: str) -> bool:
    """Whether a file name is one of `temporary_name`."""
    return _OUR_TEMPORARY.fullmatch(name) is not None


def leftovers(folder: str | os.PathLike[str]) -> list[str]:
    """Files directly in a folder that look like temporary files of ours; some may still be written."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.path for entry in entries if is_temporary(entry.name) and entry.is_file(follow_symlinks=False)
            )
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove_leftovers(folder: str | os.PathLike[str], *, dry_run: bool = False) -> dict[str, int]:
    """Remove temporary files of ours directly in a folder whose writers were killed, and nothing else.

    Returns:
        File → bytes, of those that were removed, or with `dry_run` would be.
    """
    removed: dict[str, int] = {}
    for path in leftovers(folder):
        with suppress(OSError):  # it is locked, or gone; what cannot be removed stays
            descriptor = os.open(path, _OPEN | os.O_RDWR | os.O_NOFOLLOW)  # NFS locks what is open for writing
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not dry_run:
                    os.unlink(path)
                removed[path] = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
    return removed


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that renames in it survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
