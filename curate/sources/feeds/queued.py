"""Base of feeds that give every frame: a thread decodes into a queue, and waits while it is full."""

import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from curate.errors import CurateError, DataError
from curate.sources.feeds.feed import Notice, Picture
from curate.sources.video.remarks import Remark

logger = logging.getLogger(__name__)
_MAX_QUEUE_BYTES = 2**28
_POLL_S = 0.1  # within which the thread notices `close`


class QueuedFeed(ABC):
    """Gives the frames that `pictures` yields, in order; see `Feed`.

    Args:
        name: See `Feed`.
        queue_size: Frames that are decoded ahead.
        close_timeout_s: How long `close` waits for a thread that cannot be interrupted; None: until it ends.

    Attributes:
        closed: Set by `close`; `pictures` checks it where it waits.
    """

    is_live = False

    def __init__(self, name: str, queue_size: int, *, close_timeout_s: float | None = None) -> None:
        self.name = name
        self.ended = False
        self.fault: str | None = None
        self.remarks: Sequence[Remark] = ()
        self.closed = threading.Event()
        self._close_timeout_s = close_timeout_s
        self._error: CurateError | None = None
        self._queue: queue.Queue[Picture | CurateError | None] = queue.Queue(queue_size)
        self._thread = threading.Thread(target=self._run, name="curate-decode", daemon=True)
        self._thread.start()

    @abstractmethod
    def pictures(self) -> Iterator[Picture]:
        """Yield the frames, in the feed's thread; set `fault` at the end if some are missing."""

    def limit_memory(self, frame_bytes: int) -> None:
        """Limit the queue to 256 MB of frames of this size, but not below two frames."""
        self._queue.maxsize = min(self._queue.maxsize, max(_MAX_QUEUE_BYTES // frame_bytes, 2))

    def take(self, limit: int, timeout_s: float) -> list[Picture | Notice]:
        """See `Feed.take`."""
        taken: list[Picture | Notice] = []
        with suppress(queue.Empty):
            while len(taken) < limit and not self.ended and self._error is None:
                item = self._queue.get(timeout=timeout_s) if not taken else self._queue.get_nowait()
                if isinstance(item, Picture):
                    taken.append(replace(item, arrived_s=time.monotonic()))
                elif item is None:
                    self.ended = True
                else:
                    self._error = item
        if self._error is not None and not taken:  # frames from before the error are returned first
            self.ended = True
            raise self._error
        return taken

    def close(self) -> None:
        """See `Feed.close`."""
        self.closed.set()
        self._thread.join(self._close_timeout_s)
        if self._thread.is_alive():
            logger.info("%s: thread still reading after %s s, left to end by itself", self.name, self._close_timeout_s)
        self.ended = True

    def _run(self) -> None:
        last: CurateError | None = None
        try:
            for picture in self.pictures():
                if not self._put(picture):
                    return
        except CurateError as error:
            last = error
        except OSError as error:
            last = DataError(f"reading failed: {error.strerror or error}", place=self.name)
        except Exception as error:
            self.fault = f"reading failed: {type(error).__name__}"
            self._put(None)  # `take` must not wait forever
            raise
        self._put(last)

    def _put(self, item: Picture | CurateError | None) -> bool:
        """Wait for room in the queue; False once the feed is closed."""
        while not self.closed.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False
