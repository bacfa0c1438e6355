"""A video file that a web server gives: every frame, without writing it to disk."""

import time
from collections.abc import Iterator
from fractions import Fraction

from curate.errors import DataError
from curate.sources.feeds.feed import LiveTroubleError, Picture
from curate.sources.feeds.queued import QueuedFeed
from curate.sources.feeds.stream import StreamConnection, StreamEndedError

_WAITING = 16  # frames that are decoded ahead
_CLOSING_S = 1.0
_USUAL_GAP_S = 1 / 25
_MISSING_S = 1.0  # what a header says too much is rarely more


class RemoteFileFeed(QueuedFeed):
    """Reads such a file; it waits for whoever takes the frames.

    Damaged frames are left out. Where the connection breaks, the frames before are all there is; `fault` then tells.
    Where the server is silent while `close` is called, the thread is left to itself, as `LiveFeed.close` says.

    Args:
        connection: open, and nothing read from it yet.
        name: of the file, without passwords.
    """

    def __init__(self, connection: StreamConnection, name: str) -> None:
        self._connection = connection
        super().__init__(name, _WAITING, closing_s=_CLOSING_S)

    def pictures(self) -> Iterator[Picture]:
        """Yield every frame that is whole.

        Raises:
            DataError: there is none.
        """
        times, index = _Times(), 0
        try:
            while not self.closed.is_set():
                for frame in self._connection.read_frames():
                    timestamp_s = times.tell(self._connection.tell_time(frame))
                    yield Picture(index, timestamp_s, self._connection.convert(frame), time.monotonic())
                    index += 1
        except StreamEndedError as error:
            self.fault = self._tell_missing(times.last_s, error.detail)
        except LiveTroubleError as error:
            self.fault = f"stops after {times.last_s:.2f} s: {error.detail}"
        finally:
            self._connection.close()
        if not index and not self.closed.is_set():
            raise DataError("no frame of it can be read", place=self.name, got=self.fault)

    def _tell_missing(self, last_s: float, ending: str) -> str | None:
        whole_s = self._connection.duration_s
        if whole_s is not None and whole_s - last_s > _MISSING_S:
            return f"stops after {last_s:.2f} s of {whole_s:.2f} s: {ending}"
        return f"frames are missing: {self._connection.damage}" if self._connection.damage else None


class _Times:
    """Seconds from the first frame; where a frame's stamp is missing or goes back, one frame after the last."""

    def __init__(self) -> None:
        self.last_s = 0.0
        self._first: Fraction | None = None
        self._gap_s = _USUAL_GAP_S
        self._began = False

    def tell(self, stamp: Fraction | None) -> float:
        if self._first is None:
            self._first = stamp
        own_s = float(stamp - self._first) if stamp is not None and self._first is not None else 0.0
        if self._began and own_s > self.last_s:
            self._gap_s, self.last_s = own_s - self.last_s, own_s
        elif self._began:
            self.last_s += self._gap_s
        self._began = True
        return self.last_s
