"""Progress and warnings of long work: library code calls a function that the caller passed; it prints nothing."""

import threading
from collections.abc import Callable
from typing import Protocol

Warn = Callable[[str], object]
"""Callback for a sentence that a person must know before long work begins, rather than with its result."""

UNKNOWN = -1
"""The total of a task whose end is unknown."""


class Progress(Protocol):
    """Callback for progress, called often; the command line draws a bar."""

    def __call__(self, task: str, done: int, total: int, note: str = "") -> None:
        """Receive the progress of a task.

        Args:
            task: Name of the task; several may run at once.
            done: Number of finished units.
            total: Number of all units, or `UNKNOWN`.
            note: Text to show beside the bar.
        """


def silent(task: str, done: int, total: int, note: str = "") -> None:
    """Ignore progress: the default of library functions."""


def unheard(_: str) -> None:
    """Ignore warnings: the default of library functions, whose results have them as notes."""


def one_at_a_time(progress: Progress) -> Progress:
    """Wrap a callback with a lock, for use from several threads."""
    lock = threading.Lock()

    def report(task: str, done: int, total: int, note: str = "") -> None:
        with lock:
            progress(task, done, total, note)

    return report
