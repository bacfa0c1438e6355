"""The feed of a video file on a web server, which is not written to disk."""

import time
from collections.abc import Iterator, Sequence
from fractions import Fraction

from curate.errors import DataError
from curate.sources.feeds.feed import LiveSourceError, Picture
from curate.sources.feeds.queued import QueuedFeed
from curate.sources.feeds.stream import StreamConnection, StreamEndedError
from curate.sources.video.remarks import Remark

_QUEUED_FRAMES = 16
_CLOSE_TIMEOUT_S = 1.0
_DEFAULT_GAP_S = 1 / 25
_MISSING_S = 1.0  # headers may promise this much too much


class RemoteFileFeed(QueuedFeed):
    """Gives every frame of such a file, in order.

    Damaged frames are skipped. If the connection breaks, the feed ends and `fault` says where. If the server is silent
    while `close` is called, the thread is left to end by itself, see `LiveFeed.close`.

    Args:
        connection: Open, and nothing read from it yet.
        name: Of the file, without credentials.
    """

    def __init__(self, connection: StreamConnection, name: str) -> None:
        self._connection = connection
        super().__init__(name, _QUEUED_FRAMES, close_timeout_s=_CLOSE_TIMEOUT_S)

    def pictures(self) -> Iterator[Picture]:
        """Yield every frame that is not damaged.

        Raises:
            DataError: There is none.
        """
        clock, index = _FrameClock(), 0
        try:
            while not self.closed.is_set():
                for frame in self._connection.read_frames():
                    timestamp_s = clock.advance(self._connection.time_of(frame))
                    yield Picture(index, timestamp_s, self._connection.convert(frame), time.monotonic())
                    index += 1
        except StreamEndedError as error:
            self.fault = self._find_missing(clock.last_s, error.detail)
        except LiveSourceError as error:
            self.fault = f"stops after {clock.last_s:.2f} s: {error.detail}"
        finally:
            self.remarks: Sequence[Remark] = self._connection.remarks
            self._connection.close()
        if not index and not self.closed.is_set():
            raise DataError("no frame can be read", place=self.name, got=self.fault)

    def _find_missing(self, last_s: float, reason: str) -> str | None:
        duration_s = self._connection.duration_s
        if duration_s is not None and duration_s - last_s > _MISSING_S:
            return f"stops after {last_s:.2f} s of {duration_s:.2f} s: {reason}"
        return f"frames are missing: {self._connection.damage}" if self._connection.damage else None


class _FrameClock:
    """Seconds from the first frame; a time stamp that is missing or goes back counts as one frame after the last."""

    def __init__(self) -> None:
        self.last_s = 0.0
        self._first: Fraction | None = None
        self._gap_s = _DEFAULT_GAP_S
        self._started = False

    def advance(self, stamp: Fraction | None) -> float:
        if self._first is None:
            self._first = stamp
        own_s = float(stamp - self._first) if stamp is not None and self._first is not None else 0.0
        if self._started and own_s > self.last_s:
            self._gap_s, self.last_s = own_s - self.last_s, own_s
        elif self._started:
            self.last_s += self._gap_s
        self._started = True
        return self.last_s
