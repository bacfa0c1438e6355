"""What becomes of each frame after the detector: drawn, written, shown; in a thread beside it."""

import math
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curate.errors import CurateError
from curate.monitor.detections import Seen
from curate.monitor.outputs.drawing import Drawer
from curate.monitor.triggers.event import Event
from curate.sources.feeds.feed import Picture

_SHORTEST_S = 1e-4
_STEP = 1.02  # bounds of the bins grow by it, so that a percentile is right to two percent
_BINS = math.ceil(math.log(1e4 / _SHORTEST_S, _STEP))


class Latencies:
    """Counts times in bins."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS + 1, dtype=np.int64)
        self.last_s: float | None = None

    def add(self, seconds: float) -> None:
        """Count one."""
        self.last_s = seconds
        place = math.log(max(seconds, _SHORTEST_S) / _SHORTEST_S, _STEP)
        self._counts[min(int(place), _BINS)] += 1

    def percentile_ms(self, percent: float) -> float | None:
        """The time that so many percent stay below, in milliseconds; None where there is none."""
        total = int(self._counts.sum())
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), math.ceil(total * percent / 100)))
        return round(_SHORTEST_S * _STEP ** (place + 0.5) * 1000, 2)


_PATIENCE_S = 0.1


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame with what was found in it.

    Attributes:
        picture: the frame as it came.
        seen: what counts in it.
        events: that fired in it.
        drawn: H×W×3 uint8 RGB with boxes; the frame itself where no output wants them.
    """

    picture: Picture
    seen: Seen
    events: tuple[Event, ...]
    drawn: NDArray[np.uint8]


class Output(Protocol):
    """Takes frame after frame.

    Attributes:
        wants_boxes: whether it shows `Shown.drawn`.
    """

    wants_boxes: bool

    def take(self, shown: Shown) -> None:
        """Take the next frame. It is called in the outputs' thread."""
        ...


class OutputThread:
    """Gives frames to outputs, beside whoever detects in the next ones.

    Args:
        outputs: whoever made them closes them, after this thread.
        drawer: draws the boxes, once a frame.
        latencies: gets how old each frame is when it is done.
        waiting: frames that may wait; whoever brings more has to wait, too.
        leave_out: whether an output that fails is left out from then on, and told; else its failure ends the watch.

    Attributes:
        problems: failures of outputs that were left out.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        drawer: Drawer,
        latencies: Latencies,
        waiting: int,
        *,
        leave_out: bool = False,
    ) -> None:
        self.problems: list[str] = []
        self._outputs, self._drawer, self._latencies = list(outputs), drawer, latencies
        self._leave_out = leave_out
        self._wants_boxes = any(output.wants_boxes for output in outputs)
        self._error: BaseException | None = None
        self._frames: queue.Queue[tuple[Picture, Seen, tuple[Event, ...]] | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._work, name="curate-output", daemon=True)
        self._thread.start()

    def put(self, picture: Picture, seen: Seen, events: Sequence[Event]) -> None:
        """Hand over a frame, and wait where too many do.

        Raises:
            CurateError: what an output raised before.
        """
        self._put((picture, seen, tuple(events)))

    def close(self) -> None:
        """Wait until everything is done. May be called again.

        Raises:
            CurateError: what an output raised.
        """
        if self._thread.is_alive():
            try:
                self._put(None)
            finally:
                self._thread.join()
        if (error := self._error) is not None:
            self._error = None
            raise error

    def _put(self, item: "tuple[Picture, Seen, tuple[Event, ...]] | None") -> None:
        while True:
            if self._error is not None:
                raise self._error
            try:
                self._frames.put(item, timeout=_PATIENCE_S)
                return
            except queue.Full:
                continue

    def _work(self) -> None:
        try:
            while (item := self._frames.get()) is not None:
                self._show(*item)
        except BaseException as error:
            self._error = error

    def _show(self, picture: Picture, seen: Seen, events: tuple[Event, ...]) -> None:
        drawn = picture.pixels
        if self._wants_boxes:
            drawn = self._drawer.draw(picture.pixels, seen, events)
        shown = Shown(picture, seen, events, drawn)
        for output in tuple(self._outputs):
            try:
                output.take(shown)
            except CurateError as error:
                if not self._leave_out:
                    raise
                self._outputs.remove(output)
                self.problems.append(str(error))
        self._latencies.add(time.monotonic() - picture.arrived_s)
