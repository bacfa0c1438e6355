"""A camera or a stream: the newest frame first, connected again whenever it breaks."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from random import SystemRandom

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError, UsageError
from curate.sources.feeds.address import LiveAddress, parse_live
from curate.sources.feeds.feed import Connection, Feed, LiveTroubleError, Notice, Opener, Picture
from curate.sources.feeds.remote_file import RemoteFileFeed
from curate.sources.feeds.stream import StreamOpener


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


STALL_S = 10.0
_OPEN_S = 10.0
_CLOSING_S = 1.0
_TICK_S = 1e-6
_jitter = SystemRandom().uniform


class LiveFeed:
    """Reads a live source in a thread, for ever; see `Feed`.

    Nothing waits for whoever takes the frames: they get the newest. Where the source goes silent, ends or fails it is
    opened again, after a wait that doubles from one failure to the next.

    Args:
        address: of a stream, or the number of a camera.
        stall_s: seconds without a frame after which the source counts as stalled.
        first_wait_s: before the first attempt to open it again.
        longest_wait_s: between two attempts.
        opener: what connects; by default, what fits the address.

    Raises:
        UsageError: the address is none.
    """

    is_live = True

    def __init__(
        self,
        address: str,
        *,
        stall_s: float = STALL_S,
        first_wait_s: float = 0.5,
        longest_wait_s: float = 30.0,
        opener: Opener | None = None,
    ) -> None:
        self._opener = opener or _choose_opener(_require_live(address), stall_s)
        self.name = self._opener.name
        self.ended = False
        self.fault: str | None = None
        self._stall_s, self._first_wait_s, self._longest_wait_s = stall_s, first_wait_s, longest_wait_s
        self._mailbox = Mailbox()
        self._closed = threading.Event()
        self._clock = _Clock()
        self._frames = 0
        self._in_trouble = False
        self._thread = threading.Thread(target=self._run, name="curate-live", daemon=True)
        self._thread.start()

    def take(self, most: int, timeout_s: float) -> list[Picture | Notice]:
        """Wait at most so long for a frame or a notice; see `Feed.take`."""
        try:
            return self._mailbox.take(timeout_s)
        except DataError:
            self.ended = True
            raise

    def close(self) -> None:
        """End the thread; see `Feed.close`.

        Where FFmpeg or a camera's driver waits for data just then, nothing can wake it: after a second the thread is
        left to itself. It ends when the wait is over (after `stall_s`, or 20 s while it connects) and does no more.
        """
        self._closed.set()
        self._thread.join(_CLOSING_S)
        self.ended = True
        self._mailbox.close()

    def _run(self) -> None:
        try:
            self._watch()
        except DataError as error:
            self._mailbox.fail(error)
        except Exception as error:
            self._mailbox.fail(DataError(f"reading it failed: {type(error).__name__}", place=self.name))
            raise

    def _watch(self) -> None:
        wait_s = self._first_wait_s
        while not self._closed.is_set():
            began_s = time.monotonic()
            trouble = self._read_one_connection()
            if self._closed.is_set():
                return
            if not self._clock.runs:
                raise DataError(trouble.detail, place=self.name, remedy=trouble.remedy)
            self._tell(trouble)
            # a source that breaks off at once each time is asked ever less often too
            if time.monotonic() - began_s > wait_s:
                wait_s = self._first_wait_s
            self._closed.wait(wait_s * _jitter(0.5, 1.0))
            wait_s = min(2 * wait_s, self._longest_wait_s)

    def _read_one_connection(self) -> LiveTroubleError:
        """Show what comes until there is trouble."""
        connection = None
        try:
            connection = self._opener.open()
            self._show_all(connection)
        except LiveTroubleError as error:
            return error
        finally:
            if connection is not None:
                connection.close()
        return LiveTroubleError("it was closed")

    def _show_all(self, connection: Connection) -> None:
        last_s = time.monotonic()
        while not self._closed.is_set():
            for shot in connection.read():
                if shot.early_s and self._closed.wait(shot.early_s):
                    return
                self._frames += 1
                if shot.develop is not None:
                    last_s = time.monotonic()
                    self._show(shot.develop, last_s)
            if time.monotonic() - last_s >= self._stall_s:
                raise LiveTroubleError(f"no whole frame came for {self._stall_s:g} s", kind="stalled")

    def _show(self, develop: Callable[[], NDArray[np.uint8]], arrived_s: float) -> None:
        timestamp_s = self._clock.tell(arrived_s)
        if self._in_trouble:
            self._in_trouble = False
            self._mailbox.post_notice(Notice("back", timestamp_s, "frames come again"))
        index = self._frames - 1
        self._mailbox.post_frame(lambda: Picture(index, timestamp_s, develop(), arrived_s))

    def _tell(self, trouble: LiveTroubleError) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            self._mailbox.post_notice(Notice(trouble.kind, self._clock.tell(time.monotonic()), trouble.detail))


class _Clock:
    """Seconds since the first frame; never the same twice, whatever is asked."""

    def __init__(self) -> None:
        self._first_s: float | None = None
        self._last_s = -_TICK_S

    @property
    def runs(self) -> bool:
        return self._first_s is not None

    def tell(self, now_s: float) -> float:
        if self._first_s is None:
            self._first_s = now_s
        self._last_s = max(now_s - self._first_s, self._last_s + _TICK_S)
        return self._last_s


def open_live(address: str, *, stall_s: float = STALL_S) -> Feed:
    """Feed of a camera or a stream; for a file that a web server gives as a whole, one of every frame.

    An http address has to be opened to know which it is: that takes up to 20 s where the server is silent.

    Args:
        address: of a stream, or the number of a camera.
        stall_s: seconds without a frame after which the source counts as stalled.

    Raises:
        UsageError: the address is none.
        DataError: an http address cannot be opened; of the others `take` says so.
    """
    found = _require_live(address)
    opener = _choose_opener(found, stall_s)
    if not isinstance(opener, StreamOpener) or found.scheme not in ("http", "https"):
        return LiveFeed(address, stall_s=stall_s, opener=opener)
    try:
        connection = opener.open()
    except LiveTroubleError as error:
        raise DataError(error.detail, place=found.shown, remedy=error.remedy) from None
    if connection.is_finite:
        return RemoteFileFeed(connection, found.shown)
    return LiveFeed(address, stall_s=stall_s, opener=_OpenBefore(connection, opener))


class _OpenBefore:
    """An opener whose first connection is there already."""

    def __init__(self, connection: Connection, opener: Opener) -> None:
        self.name = opener.name
        self._connection: Connection | None = connection
        self._opener = opener

    def open(self) -> Connection:
        connection, self._connection = self._connection, None
        return connection or self._opener.open()


def _require_live(address: str) -> LiveAddress:
    found = parse_live(address)
    if found is None:
        raise UsageError("it is neither the address of a stream nor the number of a camera", place=address)
    return found


def _choose_opener(address: LiveAddress, stall_s: float) -> Opener:
    if address.camera is not None:
        from curate.sources.feeds.camera import CameraOpener

        return CameraOpener(address.camera)
    return StreamOpener(address, open_s=_OPEN_S, stall_s=stall_s)
