"""Shared and exclusive file locks, which the kernel releases when their process ends. Linux and macOS.

`filelock`, which the store uses, has exclusive locks only.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

logger = logging.getLogger(__name__)


class LockMode(IntEnum):
    """How a lock is held."""

    SHARED = fcntl.LOCK_SH
    EXCLUSIVE = fcntl.LOCK_EX


@contextmanager
def file_lock(file: Path, mode: LockMode) -> Iterator[None]:
    """Hold the lock on a file, which is created if needed; waits until it is free."""
    try:
        descriptor = _acquire(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("waiting for the %s lock on %s", mode.name.lower(), file)
        descriptor = _acquire(file, mode)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def try_file_lock(file: Path, mode: LockMode) -> Iterator[bool]:
    """Hold the lock if it is free now; yields whether it is held."""
    try:
        descriptor = _acquire(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _acquire(file: Path, operation: int) -> int:
    """Open and lock the file; again if its last holder has deleted it in between, since others lock a new one then."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, operation)
            if _is_same_file(file, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_same_file(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False
