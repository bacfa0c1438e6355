"""A thread that works through a queue of items, while `put` returns at once."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Retry:
    """The result of work that failed and is to be tried again.

    Attributes:
        wait_s: Seconds until then.
        is_requested: Whether the receiver asked for this wait; other waits end early when the watch ends.
        deprioritise: Whether all other items go first, now and later; a new item ends the wait early.
    """

    wait_s: float
    is_requested: bool = False
    deprioritise: bool = False


class Worker(Generic[Item]):
    """Works through items in order, in one thread. An item that is retried holds up the rest unless deprioritised.

    Args:
        name: Of the thread.
        work: Handles an item; returns a `Retry` if it has to be tried again. Must not raise.
        interrupt: Breaks off the current item; called from another thread.
    """

    def __init__(self, name: str, work: Callable[[Item], Retry | None], interrupt: Callable[[], None]) -> None:
        self._work, self._interrupt = work, interrupt
        self._items: deque[Item] = deque()
        self._deprioritised: deque[Item] = deque()
        self._changed = threading.Condition()
        self._deadline: float | None = None  # of `time.monotonic`; set once the queue is closed
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Add an item and return at once; False once the queue is closed."""
        with self._changed:
            if self._deadline is not None:
                return False
            self._items.append(item)
            self._changed.notify()
            return True

    def put_deprioritised(self, item: Item) -> None:
        """Add an item that was deprioritised before; items from `put` go first."""
        with self._changed:
            self._deprioritised.append(item)
            self._changed.notify()

    @property
    def pending(self) -> int:
        """Number of items that are not done, the current one included."""
        with self._changed:
            return len(self._items) + len(self._deprioritised)

    def finish(self, deadline: float) -> None:
        """Close the queue, and continue with what it holds until `deadline` of `time.monotonic`."""
        with self._changed:
            if self._deadline is None:
                self._deadline = deadline
                self._changed.notify()

    def has_ended(self, wait_s: float) -> bool:
        """Wait up to `wait_s` for the thread to end, and return whether it has."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Close the queue, and end the thread as soon as the current item returns."""
        with self._changed:
            self._deadline = time.monotonic() if self._deadline is None else self._deadline
            self._stopped = True
            self._changed.notify()
        self._interrupt()

    def remaining(self) -> list[Item]:
        """Items that were not done, in order, deprioritised ones last; valid after `stop`."""
        with self._changed:
            return [*self._items, *self._deprioritised]

    def _run(self) -> None:
        while (queue := self._next_queue()) is not None:
            retry = self._work(queue[0])  # only this thread removes items
            with self._changed:
                if retry is None:
                    queue.popleft()
                    continue
                if retry.deprioritise:
                    self._deprioritised.append(queue.popleft())
                self._wait(retry)

    def _next_queue(self) -> deque[Item] | None:
        """The queue whose first item is next; None where the thread has to end."""
        with self._changed:
            while not (self._items or self._deprioritised) and self._deadline is None:
                self._changed.wait()
            queue = self._items or self._deprioritised
            return queue if queue and not self._stopped else None

    def _wait(self, retry: Retry) -> None:
        until = time.monotonic() + retry.wait_s
        was_open = self._deadline is None
        new_items_interrupt = retry.deprioritise and not retry.is_requested and not self._items
        while not self._stopped and (remaining_s := until - time.monotonic()) > 0:
            if new_items_interrupt and self._items:
                return
            if self._deadline is not None:
                if was_open and not retry.is_requested:
                    return  # one more attempt, now that the watch ends
                if until >= self._deadline:
                    self._stopped = True
                    return
            self._changed.wait(remaining_s)
