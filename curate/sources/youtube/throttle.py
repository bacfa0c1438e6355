"""How the workers wait: for a site that asks for it, between two videos, and to keep below a rate."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from curate.sources.youtube.failures import FetchError

_PATIENCE = 3  # times to wait where a site answers 429
_FIRST_WAIT_S = 5.0
_LONGEST_WAIT_S = 120.0
_T = TypeVar("_T")


class StoppedError(BaseException):
    """Ends a worker's job wherever it is; no `except Exception` on the way holds it up."""


def wait(seconds: float, stop: threading.Event) -> None:
    """Wait, unless everything stops."""
    stop.wait(seconds)


class Patience:
    """Shared by all workers.

    Args:
        sleep_s: between the starts of two videos.
        rate_limit: bytes a second, of all workers together; None for no limit.
        tell: told why nothing happens for a while.

    Attributes:
        stop: set when all work is to end.
    """

    def __init__(self, sleep_s: float, rate_limit: float | None, tell: Callable[[str], None]) -> None:
        self.stop = threading.Event()
        self._sleep_s = sleep_s
        self._rate_limit = rate_limit
        self._tell = tell
        self._lock = threading.Lock()
        self._next_start = 0.0
        self._next_bytes = 0.0

    def check_stop(self) -> None:
        """Raise when all work is to end."""
        if self.stop.is_set():
            raise StoppedError

    def pause(self, seconds: float) -> None:
        """Wait; raises when all work is to end."""
        self.check_stop()
        wait(seconds, self.stop)
        self.check_stop()

    def pause_after(self, failed: int) -> None:
        """Wait before another attempt, longer each time."""
        self.pause(min(2.0 ** (failed - 1), 10))

    def take(self, size: int) -> None:
        """Be told of bytes that came; waits to keep all workers together below the rate."""
        self.check_stop()
        if not self._rate_limit:
            return
        with self._lock:
            now = time.monotonic()
            self._next_bytes = max(now, self._next_bytes) + size / self._rate_limit
            late_s = self._next_bytes - now
        self.pause(late_s)

    def take_turn(self) -> None:
        """Keep the starts of two videos apart."""
        if not self._sleep_s:
            return
        with self._lock:
            now = time.monotonic()
            mine = max(now, self._next_start)
            self._next_start = mine + self._sleep_s
        if mine > now:
            self._tell(f"the next starts in {mine - now:.0f} s")
        self.pause(mine - now)

    def patiently(self, attempt: Callable[[], _T]) -> _T:
        """Try, and where the site answers 429, wait as long as it asks, or twice as long each time."""
        for tried in range(_PATIENCE + 1):
            try:
                return attempt()
            except FetchError as error:
                seconds = error.failure.retry_after_s
                if seconds is None:
                    seconds = _FIRST_WAIT_S * 2**tried
                if error.failure.status != 429 or tried == _PATIENCE or seconds > _LONGEST_WAIT_S:
                    raise
                self._tell(f"a site asks to wait {seconds:.0f} s")
                self.pause(seconds)
        raise AssertionError("unreachable")
