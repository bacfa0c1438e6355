"""A thread that does one thing after another, while those who ask for them go on at once."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Pause:
    """What is at the head of the line could not be done; it is tried again after so long.

    Attributes:
        seconds: how long.
        is_asked_for: whether the other side wants it so; else the end of the watch cuts it short.
        steps_back: whether it lets all others go first, now and later, and what comes cuts the pause short.
    """

    seconds: float
    is_asked_for: bool = False
    steps_back: bool = False


class WaitingLine(Generic[Item]):
    """Items in their order, done by one thread; what has to be tried again holds up the rest, unless it steps back.

    Args:
        name: of the thread.
        work: does an item; returns a pause where it has to be tried again. Must not raise.
        stop: breaks off the item at hand, from another thread.
    """

    def __init__(self, name: str, work: Callable[[Item], Pause | None], stop: Callable[[], None]) -> None:
        self._work, self._stop_work = work, stop
        self._items: deque[Item] = deque()
        self._aside: deque[Item] = deque()  # done when there are no others
        self._changed = threading.Condition()
        self._deadline: float | None = None  # set: the line is closed, by `time.monotonic`
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Add an item and return at once; False where the line is closed."""
        with self._changed:
            if self._deadline is not None:
                return False
            self._items.append(item)
            self._changed.notify()
            return True

    def put_aside(self, item: Item) -> None:
        """Add an item that has stepped back before; those that come by `put` go first."""
        with self._changed:
            self._aside.append(item)
            self._changed.notify()

    @property
    def pending(self) -> int:
        """How many items are not done, the one at hand included."""
        with self._changed:
            return len(self._items) + len(self._aside)

    def finish(self, deadline: float) -> None:
        """Take nothing more, and go on with what is there until `deadline`, by `time.monotonic`."""
        with self._changed:
            if self._deadline is None:
                self._deadline = deadline
                self._changed.notify()

    def has_ended(self, wait_s: float) -> bool:
        """Wait so long for the thread's end."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End as soon as the item at hand lets go."""
        with self._changed:
            self._deadline = time.monotonic() if self._deadline is None else self._deadline
            self._stopped = True
            self._changed.notify()
        self._stop_work()

    def left(self) -> list[Item]:
        """What was not done, in order, what stepped back last; to be asked for after `stop`."""
        with self._changed:
            return [*self._items, *self._aside]

    def _run(self) -> None:
        while (line := self._next()) is not None:
            pause = self._work(line[0])  # only this thread takes anything out
            with self._changed:
                if pause is None:
                    line.popleft()
                    continue
                if pause.steps_back:
                    self._aside.append(line.popleft())
                self._wait(pause)

    def _next(self) -> deque[Item] | None:
        """The line whose first item is next; None where the thread has to end."""
        with self._changed:
            while not (self._items or self._aside) and self._deadline is None:
                self._changed.wait()
            line = self._items or self._aside
            return line if line and not self._stopped else None

    def _wait(self, pause: Pause) -> None:
        until = time.monotonic() + pause.seconds
        was_open = self._deadline is None
        may_pass = pause.steps_back and not pause.is_asked_for and not self._items
        while not self._stopped and (rest_s := until - time.monotonic()) > 0:
            if may_pass and self._items:
                return
            if self._deadline is not None:
                if was_open and not pause.is_asked_for:
                    return  # once more, now that the watch ends
                if until >= self._deadline:
                    self._stopped = True
                    return
            self._changed.wait(rest_s)
