"""A thread that works through a queue of items, while `put` returns at once."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ClosingThread:
    """A thread with a queue that can be closed.

    Args:
        name: Of the thread.
        run: What the thread does; it ends when `_stopped` is set, or at `_deadline` once that is.
        interrupt: Breaks off what is being done; called from another thread.
    """

    def __init__(self, name: str, run: Callable[[], None], interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._changed = threading.Condition()
        self._deadline: float | None = None  # of `time.monotonic`; set once the queue is closed
        self._stopped = False
        self._thread = threading.Thread(target=run, name=name, daemon=True)
        self._thread.start()

    def finish(self, deadline: float) -> None:
        """Take nothing more, and go on with what is there until `deadline` of `time.monotonic`."""
        with self._changed:
            if self._deadline is None:
                self._deadline = deadline
                self._changed.notify()

    def has_ended(self, wait_s: float) -> bool:
        """Wait up to `wait_s` for the thread to end, and return whether it has."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Break off what is being done, and end the thread."""
        with self._changed:
            self._deadline = time.monotonic() if self._deadline is None else self._deadline
            self._stopped = True
            self._changed.notify()
        self._interrupt()


class Worker(ClosingThread, Generic[Item]):
    """Works through items in order, in one thread.

    Args:
        name: Of the thread.
        work: Handles an item. Must not raise.
        interrupt: Breaks off the current item; called from another thread.
    """

    def __init__(self, name: str, work: Callable[[Item], None], interrupt: Callable[[], None]) -> None:
        self._work = work
        self._items: deque[Item] = deque()
        super().__init__(name, self._run, interrupt)

    def put(self, item: Item) -> bool:
        """Add an item and return at once; False once the queue is closed."""
        with self._changed:
            if self._deadline is not None:
                return False
            self._items.append(item)
            self._changed.notify()
            return True

    @property
    def pending(self) -> int:
        """Number of items that are not done, the current one included."""
        with self._changed:
            return len(self._items)

    def remaining(self) -> list[Item]:
        """Items that were not done, in order; valid after `stop`."""
        with self._changed:
            return [*self._items]

    def _run(self) -> None:
        while self._has_next():
            self._work(self._items[0])  # only this thread removes items
            with self._changed:
                self._items.popleft()

    def _has_next(self) -> bool:
        """Wait for an item; False where the thread has to end."""
        with self._changed:
            while not self._items and self._deadline is None:
                self._changed.wait()
            return bool(self._items) and not self._stopped
