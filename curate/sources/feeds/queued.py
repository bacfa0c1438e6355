"""A feed of which every frame counts: its thread waits for whoever takes them."""

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from curate.errors import CurateError, DataError
from curate.sources.feeds.feed import Notice, Picture

_MOST_BYTES = 2**28
_PATIENCE_S = 0.1  # how late a thread notices that nobody wants more


class QueuedFeed(ABC):
    """Gives what its `pictures` yields, in order; see `Feed`.

    Args:
        name: see `Feed`.
        waiting: frames that are decoded ahead.
        closing_s: how long `close` waits for a thread that cannot be interrupted; None: until it ends.

    Attributes:
        closed: whether nobody wants more, which `pictures` asks where it waits.
    """

    is_live = False

    def __init__(self, name: str, waiting: int, *, closing_s: float | None = None) -> None:
        self.name = name
        self.ended = False
        self.fault: str | None = None
        self.closed = threading.Event()
        self._closing_s = closing_s
        self._error: CurateError | None = None
        self._frames: queue.Queue[Picture | CurateError | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._read, name="curate-decode", daemon=True)
        self._thread.start()

    @abstractmethod
    def pictures(self) -> Iterator[Picture]:
        """Yield the frames, in the feed's own thread; at the end `fault` says why some are missing."""

    def limit_waiting(self, frame_bytes: int) -> None:
        """Let so many frames of that size wait that they take a quarter of a gigabyte at most, but two at least."""
        self._frames.maxsize = min(self._frames.maxsize, max(_MOST_BYTES // frame_bytes, 2))

    def take(self, most: int, timeout_s: float) -> list[Picture | Notice]:
        """Wait at most so long for a frame, and take those that are there; see `Feed.take`."""
        taken: list[Picture | Notice] = []
        with suppress(queue.Empty):  # nothing came in time, or nothing more is there
            while len(taken) < most and not self.ended and self._error is None:
                found = self._frames.get(timeout=timeout_s) if not taken else self._frames.get_nowait()
                if isinstance(found, Picture):
                    taken.append(replace(found, arrived_s=time.monotonic()))
                elif found is None:
                    self.ended = True
                else:
                    self._error = found
        if self._error is not None and not taken:  # what came before it is given first
            self.ended = True
            raise self._error
        return taken

    def close(self) -> None:
        """End the thread; see `Feed.close`."""
        self.closed.set()
        self._thread.join(self._closing_s)
        self.ended = True

    def _read(self) -> None:
        last: CurateError | None = None
        try:
            for picture in self.pictures():
                if not self._put(picture):
                    return
        except CurateError as error:
            last = error
        except OSError as error:
            last = DataError(f"it cannot be read on: {error.strerror or error}", place=self.name)
        except Exception as error:
            self.fault = f"reading it failed: {type(error).__name__}"
            self._put(None)  # whoever waits for frames must not wait for ever
            raise
        self._put(last)

    def _put(self, found: Picture | CurateError | None) -> bool:
        """Wait until there is room; False where nobody wants more."""
        while not self.closed.is_set():
            try:
                self._frames.put(found, timeout=_PATIENCE_S)
                return True
            except queue.Full:
                continue
        return False
