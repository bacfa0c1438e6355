"""How library code tells that long work moves on, without printing: it calls a function that the caller gave it."""

import threading
from typing import Protocol

UNKNOWN = -1
"""The total of what nobody knows the end of."""


class Progress(Protocol):
    """Called often and cheaply; the command line draws a bar, a notebook may ignore it."""

    def __call__(self, task: str, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` units (`UNKNOWN`: of who knows how many) of `task` are finished.

        `note` is shown beside the bar.
        """


def silent(task: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""


def one_at_a_time(progress: Progress) -> Progress:
    """The same, for several threads to call."""
    lock = threading.Lock()

    def report(task: str, done: int, total: int, note: str = "") -> None:
        with lock:
            progress(task, done, total, note)

    return report
