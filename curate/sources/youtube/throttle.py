"""Waits that the workers share: when a site asks for it, between two videos, and to stay below a rate."""

import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from curate.sources.youtube.failures import FetchError, fail

logger = logging.getLogger(__name__)
_MAX_RETRIES = 3  # after answers with status 429
_FIRST_WAIT_S = 5.0
_MAX_WAIT_S = 120.0
_MAX_EARLY_S = 600.0  # sites make viewers wait for seconds, as long as an advertisement runs
_T = TypeVar("_T")


class StoppedError(BaseException):
    """Ends a worker's job at any point; not an `Exception`, so that nothing on the way catches it."""


def wait(seconds: float, stop: threading.Event) -> None:
    """Wait, or return early when `stop` is set. Tests replace this."""
    stop.wait(seconds)


class Throttle:
    """Shared by all workers; every wait ends with `StoppedError` once `stop` is set.

    Args:
        sleep_s: Least time between the starts of two videos.
        rate_limit: Bytes per second, of all workers together; None: no limit.
        report: Called with the reason of a long wait.

    Attributes:
        stop: Set when all work is to end.
    """

    def __init__(self, sleep_s: float, rate_limit: float | None, report: Callable[[str], None]) -> None:
        self.stop = threading.Event()
        self._sleep_s = sleep_s
        self._rate_limit = rate_limit
        self._report = report
        self._lock = threading.Lock()
        self._next_start_s = 0.0
        self._next_bytes_s = 0.0

    def check_stop(self) -> None:
        """Raise `StoppedError` if all work is to end."""
        if self.stop.is_set():
            raise StoppedError

    def pause(self, seconds: float) -> None:
        """Wait."""
        self.check_stop()
        wait(seconds, self.stop)
        self.check_stop()

    def pause_after_failure(self, failures: int) -> None:
        """Wait before another attempt: 1, 2, 4, … 10 s."""
        self.pause(min(2.0 ** (failures - 1), 10))

    def count_bytes(self, size: int) -> None:
        """Count received bytes, and wait to keep all workers together below the rate limit."""
        self.check_stop()
        if not self._rate_limit:
            return
        with self._lock:
            now_s = time.monotonic()
            self._next_bytes_s = max(now_s, self._next_bytes_s) + size / self._rate_limit
            wait_s = self._next_bytes_s - now_s
        self.pause(wait_s)

    def wait_for_turn(self) -> None:
        """Wait until the next video may start."""
        if not self._sleep_s:
            return
        with self._lock:
            now_s = time.monotonic()
            start_s = max(now_s, self._next_start_s)
            self._next_start_s = start_s + self._sleep_s
        if start_s > now_s:
            self._report(f"the next video starts in {start_s - now_s:.0f} s")
        self.pause(start_s - now_s)

    def wait_until(self, available_at: float, name: str) -> None:
        """Wait until the site gives a file away.

        Args:
            available_at: Unix time; one that is over does not wait.
            name: Of the video.

        Raises:
            FetchError: That is too long.
        """
        wait_s = math.ceil(available_at - time.time())
        if wait_s <= 0:
            return
        until = datetime.fromtimestamp(available_at).astimezone()
        if wait_s > _MAX_EARLY_S:
            when = until.isoformat(" ", timespec="minutes")
            detail = f"the site gives the file from {when} on"
            raise fail("other", detail, advice="Run the same command again then.")
        logger.info("%s: the site gives the file in %d s", name, wait_s)
        self._report(f"{name}: the site gives the file from {until:%H:%M:%S} on")
        self.pause(wait_s)

    def retry_when_limited(self, attempt: Callable[[], _T]) -> _T:
        """Call `attempt`; after status 429 wait as long as the site asks, or 5, 10, 20 s, and call it again."""
        for failures in range(_MAX_RETRIES + 1):
            try:
                return attempt()
            except FetchError as error:
                wait_s = error.failure.retry_after_s
                if wait_s is None:
                    wait_s = _FIRST_WAIT_S * 2**failures
                if error.failure.status != 429 or failures == _MAX_RETRIES or wait_s > _MAX_WAIT_S:
                    raise
                logger.info("attempt %d failed: %s; next attempt in %.0f s", failures + 1, error, wait_s)
                self._report(f"the site asks to wait {wait_s:.0f} s")
                self.pause(wait_s)
        raise AssertionError("unreachable")
