"""Locks that several processes may hold at once; the kernel frees them when their holder dies. Linux and macOS.

`filelock`, which the store uses, has only locks for one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path


class Hold(IntEnum):
    """How a lock is held."""

    SHARED = fcntl.LOCK_SH
    ALONE = fcntl.LOCK_EX


@contextmanager
def held(file: Path, how: Hold) -> Iterator[None]:
    """Wait for the lock on a file, which is made if need be, and hold it."""
    descriptor = _take(file, how)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def try_hold(file: Path, how: Hold) -> Iterator[bool]:
    """Hold the lock if it is to be had at once; whether it was."""
    try:
        descriptor = _take(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _take(file: Path, how: int) -> int:
    """Open and lock; a file that its last holder deleted in between is not the one that others lock."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
            if _is_still(file, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_still(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False
