"""Progress of long work: library code calls a function that the caller passed, and prints nothing itself."""

import threading
from typing import Protocol

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


def one_at_a_time(progress: Progress) -> Progress:
    """Wrap a callback with a lock, for use from several threads."""
    lock = threading.Lock()

    def report(task: str, done: int, total: int, note: str = "") -> None:
        with lock:
            progress(task, done, total, note)

    return report
