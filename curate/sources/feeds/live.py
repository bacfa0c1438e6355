"""The feed of a camera or stream: gives the latest frame, and reconnects whenever the source breaks.

Every connection, failure and wait is logged.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import SystemRandom

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError, UsageError
from curate.sources.feeds.address import LiveAddress, parse_live
from curate.sources.feeds.feed import Connection, Feed, LiveSourceError, Notice, Opener, Picture
from curate.sources.feeds.remote_file import RemoteFileFeed
from curate.sources.feeds.stream import StreamOpener
from curate.sources.video.remarks import Remark

STALL_S = 10.0

logger = logging.getLogger(__name__)
_OPEN_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 1.0
_TICK_S = 1e-6
_jitter = SystemRandom().uniform


class LiveFeed:
    """Reads a live source in a thread, without end; see `Feed`.

    Frames that are not taken in time are replaced by newer ones. If the source goes silent, ends or fails, it is opened
    again after a wait that doubles with each failure.

    Args:
        address: URL of a stream, or number of a camera.
        stall_s: Seconds without a frame after which the source counts as stalled.
        first_wait_s: Wait before the first attempt to reconnect.
        max_wait_s: Longest wait between two attempts.
        opener: Connects to the source; None chooses one for the address.

    Raises:
        UsageError: The address is invalid.
    """

    is_live = True

    def __init__(
        self,
        address: str,
        *,
        stall_s: float = STALL_S,
        first_wait_s: float = 0.5,
        max_wait_s: float = 30.0,
        opener: Opener | None = None,
    ) -> None:
        self._opener = opener or _choose_opener(_require_live(address), stall_s)
        self.name = self._opener.name
        self.ended = False
        self.fault: str | None = None
        self._connection: Connection | None = None  # the latest one
        self._stall_s, self._first_wait_s, self._max_wait_s = stall_s, first_wait_s, max_wait_s
        self._mailbox = _Mailbox()
        self._closed = threading.Event()
        self._clock = _SourceClock()
        self._frames = 0
        self._failures = 0  # since the latest frame
        self._thread = threading.Thread(target=self._run, name="curate-live", daemon=True)
        self._thread.start()

    @property
    def remarks(self) -> Sequence[Remark]:
        """See `Feed.remarks`; those of the latest connection."""
        return self._connection.remarks if self._connection is not None else ()

    def take(self, limit: int, timeout_s: float) -> list[Picture | Notice]:
        """See `Feed.take`."""
        try:
            return self._mailbox.take(timeout_s)
        except DataError:
            self.ended = True
            raise

    def close(self) -> None:
        """End the thread; see `Feed.close`.

        FFmpeg and camera drivers cannot be interrupted while they wait for data: after a second the thread is left to
        end by itself, when its own timeout is over (`stall_s`, or 20 s while it connects).
        """
        self._closed.set()
        self._thread.join(_CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            logger.info("%s: thread still waiting for data, left to end by itself", self.name)
        self.ended = True
        self._mailbox.close()

    def _run(self) -> None:
        try:
            self._read_forever()
        except DataError as error:
            self._mailbox.fail(error)
        except Exception as error:
            self._mailbox.fail(DataError(f"reading failed: {type(error).__name__}", place=self.name))
            raise

    def _read_forever(self) -> None:
        wait_s = self._first_wait_s
        while not self._closed.is_set():
            started_s = time.monotonic()
            error = self._read_one_connection()
            if self._closed.is_set():
                return
            if not self._clock.is_running:
                raise DataError(error.detail, place=self.name, remedy=error.remedy)
            self._report(error)
            # a source that breaks right after each connection is tried less and less often, too
            if time.monotonic() - started_s > wait_s:
                wait_s = self._first_wait_s
            jittered_s = wait_s * _jitter(0.5, 1.0)
            logger.info(
                "%s: %s; attempt %d to reconnect in %.1f s", self.name, error.detail, self._failures, jittered_s
            )
            self._closed.wait(jittered_s)
            wait_s = min(2 * wait_s, self._max_wait_s)

    def _read_one_connection(self) -> LiveSourceError:
        """Connect, and pass frames on until the source fails."""
        connection = None
        try:
            logger.debug("%s: connecting", self.name)
            connection = self._connection = self._opener.open()
            self._read(connection)
        except LiveSourceError as error:
            return error
        finally:
            if connection is not None:
                connection.close()
        return LiveSourceError("the feed was closed")

    def _read(self, connection: Connection) -> None:
        last_s = time.monotonic()
        while not self._closed.is_set():
            for frame in connection.read():
                if frame.due_in_s and self._closed.wait(frame.due_in_s):
                    return
                self._frames += 1
                if frame.convert is not None:
                    last_s = time.monotonic()
                    self._post(frame.convert, last_s)
            if time.monotonic() - last_s >= self._stall_s:
                raise LiveSourceError(f"no intact frame for {self._stall_s:g} s", kind="stalled")

    def _post(self, convert: Callable[[], NDArray[np.uint8]], arrived_s: float) -> None:
        timestamp_s = self._clock.timestamp_s(arrived_s)
        if self._failures:
            logger.info("%s: frames again, attempt %d to reconnect succeeded", self.name, self._failures)
            self._failures = 0
            self._mailbox.post_notice(Notice("back", timestamp_s, "frames come again"))
        index = self._frames - 1
        self._mailbox.post_frame(lambda: Picture(index, timestamp_s, convert(), arrived_s))

    def _report(self, error: LiveSourceError) -> None:
        self._failures += 1
        if self._failures == 1:
            self._mailbox.post_notice(Notice(error.kind, self._clock.timestamp_s(time.monotonic()), error.detail))


class _Mailbox:
    """Passes notices and the latest frame between threads; a frame that is not taken is replaced by the next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._notices: list[Notice] = []
        self._frame: Callable[[], Picture] | None = None
        self._error: DataError | None = None
        self._closed = False

    def post_frame(self, convert: Callable[[], Picture]) -> None:
        """Replace the frame; it is converted only when it is taken."""
        with self._changed:
            self._frame = convert
            self._changed.notify()

    def post_notice(self, notice: Notice) -> None:
        with self._changed:
            self._notices.append(notice)
            self._changed.notify()

    def fail(self, error: DataError) -> None:
        """Make `take` raise once everything before is taken."""
        with self._changed:
            self._error = error
            self._changed.notify()

    def close(self) -> None:
        """Make `take` return at once."""
        with self._changed:
            self._closed = True
            self._frame = None
            self._changed.notify_all()

    def take(self, timeout_s: float) -> list[Picture | Notice]:
        """Wait for something, and take everything, oldest first.

        Raises:
            DataError: `fail` was called, and there is nothing else.
        """
        with self._changed:
            self._changed.wait_for(self._has_any, timeout_s)
            notices, convert = self._notices, self._frame
            self._notices, self._frame = [], None
            if self._error is not None and not notices and convert is None:
                raise self._error
        items: list[Picture | Notice] = [*notices]
        if convert is not None:
            with suppress(LiveSourceError):  # the stream changed its format; the next frame may convert
                items.append(convert())
        return sorted(items, key=lambda item: item.timestamp_s)

    def _has_any(self) -> bool:
        return self._closed or bool(self._notices) or self._frame is not None or self._error is not None


class _SourceClock:
    """Seconds since the first frame, strictly ascending."""

    def __init__(self) -> None:
        self._first_s: float | None = None
        self._last_s = -_TICK_S

    @property
    def is_running(self) -> bool:
        """Whether there was a frame."""
        return self._first_s is not None

    def timestamp_s(self, now_s: float) -> float:
        if self._first_s is None:
            self._first_s = now_s
        self._last_s = max(now_s - self._first_s, self._last_s + _TICK_S)
        return self._last_s


def open_live(address: str, *, stall_s: float = STALL_S) -> Feed:
    """Open the feed of a camera or stream, or of a video file on a web server.

    Whether an http URL is a file is known only once it is open, which takes up to 20 s if the server is silent.

    Args:
        address: URL of a stream, or number of a camera.
        stall_s: Seconds without a frame after which a live source counts as stalled.

    Raises:
        UsageError: The address is invalid.
        DataError: An http URL cannot be opened; for other sources `take` raises it.
    """
    parsed = _require_live(address)
    opener = _choose_opener(parsed, stall_s)
    if not isinstance(opener, StreamOpener) or parsed.scheme not in ("http", "https"):
        return LiveFeed(address, stall_s=stall_s, opener=opener)
    try:
        connection = opener.open()
    except LiveSourceError as error:
        raise DataError(error.detail, place=parsed.shown, remedy=error.remedy) from None
    if connection.is_finite:
        return RemoteFileFeed(connection, parsed.shown)
    return LiveFeed(address, stall_s=stall_s, opener=_OpenedOpener(connection, opener))


class _OpenedOpener:
    """An opener whose first connection is open already."""

    def __init__(self, connection: Connection, opener: Opener) -> None:
        self.name = opener.name
        self._connection: Connection | None = connection
        self._opener = opener

    def open(self) -> Connection:
        connection, self._connection = self._connection, None
        return connection or self._opener.open()


def _require_live(address: str) -> LiveAddress:
    parsed = parse_live(address)
    if parsed is None:
        raise UsageError("not a live source", place=address, expected="a URL or the number of a camera")
    return parsed


def _choose_opener(address: LiveAddress, stall_s: float) -> Opener:
    if address.camera is not None:
        from curate.sources.feeds.camera import CameraOpener

        return CameraOpener(address.camera)
    return StreamOpener(address, open_timeout_s=_OPEN_TIMEOUT_S, stall_s=stall_s)
