"""The thread that passes detected frames to the outputs, beside the detector; also measures latency."""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curate.errors import CurateError, DataError
from curate.monitor.detections import FrameDetections
from curate.monitor.outputs.drawing import Drawer
from curate.monitor.triggers.event import Event
from curate.sources.feeds.feed import Picture

logger = logging.getLogger(__name__)
_POLL_S = 0.1
_RETRY_S = 10.0  # until an output that failed gets frames again
_SHORTEST_S = 1e-4
_BIN_RATIO = 1.02  # between the bounds of neighbouring bins: percentiles are exact to 2 %
_BINS = math.ceil(math.log(1e4 / _SHORTEST_S, _BIN_RATIO))


@dataclass(frozen=True, eq=False)
class WatchedFrame:
    """One frame with its detections and events.

    Attributes:
        picture: The frame as it came from the source.
        detections: What counts in it.
        events: Events that fired in it.
        drawn: H×W×3 uint8 RGB with boxes; the plain frame where no output wants them.
    """

    picture: Picture
    detections: FrameDetections
    events: tuple[Event, ...]
    drawn: NDArray[np.uint8]


class Output(Protocol):
    """Takes frame after frame.

    Attributes:
        wants_boxes: Whether it uses `WatchedFrame.drawn`.
    """

    wants_boxes: bool

    def take(self, frame: WatchedFrame) -> None:
        """Take the next frame; called in the output thread."""
        ...


class Latencies:
    """A histogram of times, in constant memory."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS + 1, dtype=np.int64)
        self.last_s: float | None = None

    def add(self, seconds: float) -> None:
        self.last_s = seconds
        place = math.log(max(seconds, _SHORTEST_S) / _SHORTEST_S, _BIN_RATIO)
        self._counts[min(int(place), _BINS)] += 1

    def percentile_ms(self, percent: float) -> float | None:
        """Return a percentile in milliseconds; None without times."""
        total = int(self._counts.sum())
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), math.ceil(total * percent / 100)))
        return round(_SHORTEST_S * _BIN_RATIO ** (place + 0.5) * 1000, 2)


_Item = tuple[Picture, FrameDetections, tuple[Event, ...]]


class OutputThread:
    """Passes frames to outputs while the detector works on the next ones.

    Args:
        outputs: Closed by their creator, after this thread.
        drawer: Draws the boxes, once per frame.
        latencies: Gets the age of each frame once all outputs have taken it.
        queue_size: Frames that may wait; `put` blocks on a full queue.
        on_loss: Called with the error for each frame that an output does not get: it fails, as on a full disk, and is
            tried again after some seconds. None: a failure ends the watch.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        drawer: Drawer,
        latencies: Latencies,
        queue_size: int,
        *,
        on_loss: Callable[[CurateError], None] | None = None,
    ) -> None:
        self._outputs, self._drawer, self._latencies = tuple(outputs), drawer, latencies
        self._on_loss = on_loss
        self._failed: dict[int, tuple[float, CurateError]] = {}  # by place among outputs: when and why
        self._wants_boxes = any(output.wants_boxes for output in outputs)
        self._error: BaseException | None = None
        self._queue: queue.Queue[_Item | None] = queue.Queue(queue_size)
        self._thread = threading.Thread(target=self._run, name="curate-output", daemon=True)
        self._thread.start()

    def put(self, picture: Picture, detections: FrameDetections, events: Sequence[Event]) -> None:
        """Queue a frame; blocks while the queue is full.

        Raises:
            CurateError: An output failed before.
        """
        self._put((picture, detections, tuple(events)))

    def close(self) -> None:
        """Wait until all frames are done. May be called again.

        Raises:
            CurateError: An output failed.
        """
        if self._thread.is_alive():
            try:
                self._put(None)
            finally:
                self._thread.join()
        if (error := self._error) is not None:
            self._error = None
            raise error

    def _put(self, item: _Item | None) -> None:
        while True:
            if self._error is not None:
                raise self._error
            try:
                self._queue.put(item, timeout=_POLL_S)
                return
            except queue.Full:
                continue

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                self._pass_on(*item)
        except BaseException as error:
            logger.info("outputs end: %s: %s", type(error).__name__, error)
            self._error = error

    def _pass_on(self, picture: Picture, detections: FrameDetections, events: tuple[Event, ...]) -> None:
        drawn = picture.pixels
        if self._wants_boxes:
            drawn = self._drawer.draw(picture.pixels, detections, events)
        frame = WatchedFrame(picture, detections, events, drawn)
        for place, output in enumerate(self._outputs):
            self._give(place, output, frame)
        self._latencies.add(time.monotonic() - picture.arrived_s)

    def _give(self, place: int, output: Output, frame: WatchedFrame) -> None:
        failed_s, error = self._failed.get(place, (0.0, None))
        if error is None or time.monotonic() - failed_s >= _RETRY_S:
            try:
                output.take(frame)
            except (CurateError, OSError) as failure:
                error = failure if isinstance(failure, CurateError) else DataError(failure.strerror or str(failure))
                if self._on_loss is None:
                    raise
                logger.info("output %s fails: %s; next attempt in %g s", type(output).__name__, error, _RETRY_S)
                self._failed[place] = time.monotonic(), error
            else:
                self._failed.pop(place, None)
                return
        if self._on_loss is not None:
            self._on_loss(error)
