"""Files that grow while a program runs: lines are whole, and what a killed program left is kept."""

import fcntl
import itertools
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from curate.errors import DataError, is_disk_full

INTERRUPTED = "-interrupted"
_LOCK_TIMEOUT_S = 1.0
_LOCK_POLL_S = 0.005


def append_line(path: Path, text: bytes) -> bool:
    """Append a line, beside other writers too. Creates file and folder; the file may be moved away between two lines.

    Returns:
        Whether the file ended within a line, as after a power failure; the new line then begins behind its end.

    Raises:
        OSError: The line cannot be written; the file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        is_regular = path.is_file() or not path.exists()
        # O_NONBLOCK: a pipe without a reader is an error instead of blocking forever
        flags = (os.O_RDWR if is_regular else os.O_WRONLY) | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o644)
        try:
            if not is_regular:
                if os.write(descriptor, text + b"\n") <= len(text):
                    raise OSError(None, "line was cut short")
                return False
            _wait_for_lock(descriptor)
            if not _is_at(path, descriptor):
                continue  # it was moved away meanwhile
            size = os.fstat(descriptor).st_size
            is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            append_whole(descriptor, (b"\n" if is_torn else b"") + text + b"\n")
            return is_torn
        finally:
            os.close(descriptor)


def check_appendable(path: Path) -> None:
    """Open a file briefly the way `append_line` does; a pipe need not have a reader yet.

    Raises:
        OSError: Lines cannot be appended to it. A full disk is none: there may be space when there is a line.
    """
    is_new = not path.exists()
    if not is_new and not path.is_file():
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | (os.O_CREAT if is_new else 0), 0o644)
    except OSError as error:
        if is_disk_full(error):
            return
        raise
    try:
        if is_new and _lock(descriptor) and os.fstat(descriptor).st_size == 0:
            Path(os.path.realpath(path)).unlink()
    finally:
        os.close(descriptor)


def append_whole(descriptor: int, data: bytes) -> None:
    """Append bytes to a regular file that no other process changes.

    Raises:
        OSError: They cannot be written, as on a full disk; the file is as it was.
    """
    size, written = os.fstat(descriptor).st_size, 0
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except BaseException:
        os.ftruncate(descriptor, size)
        raise


def _wait_for_lock(descriptor: int) -> None:
    until = time.monotonic() + _LOCK_TIMEOUT_S
    while not _lock(descriptor):
        if time.monotonic() > until:
            raise TimeoutError(None, "another program has locked the file")
        time.sleep(_LOCK_POLL_S)


def _lock(descriptor: int) -> bool:
    """Lock a file until it is closed; False where another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def free_name(path: Path) -> Path:
    """The path itself, or the first of `NAME-2.SUFFIX`, `NAME-3.SUFFIX`, … where there is nothing."""
    return next(name for name in itertools.chain((path,), _numbered(path)) if not os.path.lexists(name))


def _numbered(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))


class PartFile:
    """An output under the hidden name `.NAME.part.SUFFIX` beside its place, until it is finished.

    It is locked meanwhile, so that two writers do not mix. What a killed writer or a full disk left is kept.

    Args:
        place: Of the finished output.
        suffix: Of the part; default: that of the place.
        least_bytes: Smaller parts have no content.
        beside: Whether the output gets a name beside it where another process writes one with this name.

    Attributes:
        place: As given, or the name beside it.
        path: Of the part.
        descriptor: Of the part, for reading and appending.
        kept: Where the part of an earlier writer is now; None where there was none.

    Raises:
        DataError: Another process writes it.
        OSError: It cannot be created.
    """

    def __init__(self, place: Path, *, suffix: str | None = None, least_bytes: int = 1, beside: bool = False) -> None:
        self.kept: Path | None = None
        names = itertools.chain((place,), _numbered(place) if beside else ())
        for self.place in names:
            self.path = self.place.with_name(f".{self.place.stem}.part{suffix or place.suffix}")
            if (self.place == place or not os.path.lexists(self.place)) and self._open(least_bytes):
                return
        remedy = "End it, or choose another name."
        raise DataError("another process is writing this file", place=place, remedy=remedy)

    def _open(self, least_bytes: int) -> bool:
        """Open and lock the part; False where another process has locked it."""
        while True:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            try:
                if not _lock(self.descriptor):
                    os.close(self.descriptor)
                    return False
                if not _is_at(self.path, self.descriptor):
                    os.close(self.descriptor)
                    continue  # it was moved meanwhile
                if os.fstat(self.descriptor).st_size >= least_bytes:
                    self.kept = _keep(self.path)
                    os.close(self.descriptor)
                    continue
                os.ftruncate(self.descriptor, 0)
                return True
            except BaseException:
                os.close(self.descriptor)
                raise

    def finish(self, *, replace: bool) -> Path:
        """Move it to its place, or beside it where a file has appeared that is not to be replaced; return the path.

        Raises:
            OSError: It cannot be moved.
        """
        place = self.place if replace else free_name(self.place)
        os.replace(self.path, place)
        self.close()
        return place

    def discard(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leave it to the next writer; without content delete it. May be called again."""
        if self.descriptor >= 0:
            if not os.fstat(self.descriptor).st_size and _is_at(self.path, self.descriptor):
                self.path.unlink()
            os.close(self.descriptor)
            self.descriptor = -1


def keep_parts(folder: Path, suffix: str, *, least_bytes: int) -> list[Path]:
    """Give names of their own to all parts in a folder that no process is writing any more, and return them.

    What cannot be opened or renamed stays: it is someone else's, or its writer has finished it meanwhile.
    """
    kept = []
    for part in sorted(folder.glob(f".*.part{suffix}")):
        with suppress(OSError):
            descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                status = os.fstat(descriptor)
                is_part = stat.S_ISREG(status.st_mode) and status.st_size >= least_bytes
                if is_part and _lock(descriptor) and _is_at(part, descriptor):
                    kept.append(_keep(part))
            finally:
                os.close(descriptor)
    return kept


def _keep(part: Path) -> Path:
    stem = part.stem.removeprefix(".").removesuffix(".part")
    kept = free_name(part.with_name(f"{stem}{INTERRUPTED}{part.suffix}"))
    os.rename(part, kept)
    return kept


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        found, own = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (found.st_ino, found.st_dev) == (own.st_ino, own.st_dev)
