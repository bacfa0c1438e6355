"""What a live source has shown and nobody has taken yet: one frame, and what happened."""

import threading
from collections.abc import Callable
from contextlib import suppress

from curate.errors import DataError
from curate.sources.feeds.feed import Notice, Picture
from curate.sources.feeds.live_base import LiveTroubleError


class Mailbox:
    """Between the thread that reads and the one that takes. A frame that was not taken makes room for the next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._notices: list[Notice] = []
        self._frame: Callable[[], Picture] | None = None
        self._error: DataError | None = None
        self._closed = False

    def post_frame(self, develop: Callable[[], Picture]) -> None:
        """Put the newest frame in; it is made a picture only when it is taken."""
        with self._changed:
            self._frame = develop
            self._changed.notify()

    def post_notice(self, notice: Notice) -> None:
        """Put a notice in."""
        with self._changed:
            self._notices.append(notice)
            self._changed.notify()

    def fail(self, error: DataError) -> None:
        """Let every `take` from now on raise."""
        with self._changed:
            self._error = error
            self._changed.notify()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._frame = None
            self._changed.notify_all()

    def take(self, timeout_s: float) -> list[Picture | Notice]:
        """Wait at most so long, and take all there is, oldest first.

        Raises:
            DataError: the source has failed for good, and all else was taken.
        """
        with self._changed:
            self._changed.wait_for(self._has_any, timeout_s)
            notices, develop = self._notices, self._frame
            self._notices, self._frame = [], None
            if self._error is not None and not notices and develop is None:
                raise self._error
        found: list[Picture | Notice] = [*notices]
        if develop is not None:
            with suppress(LiveTroubleError):  # a new format in the middle of a stream; the next frame may do
                found.append(develop())
        return sorted(found, key=lambda one: one.timestamp_s)

    def _has_any(self) -> bool:
        return self._closed or bool(self._notices) or self._frame is not None or self._error is not None
