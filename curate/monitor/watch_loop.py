"""The loop of a watch: detect, track, keep what counts, evaluate triggers, and pass each frame to the outputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from curate.engines.base import Detections, Detector
from curate.monitor.detections import FrameDetections
from curate.monitor.outputs.event_log import EventPublisher, make_stream_event
from curate.monitor.outputs.thread import OutputThread
from curate.monitor.tracker import LOWEST_SCORE, Tracker
from curate.monitor.triggers.engine import Triggers
from curate.monitor.triggers.event import Event
from curate.sizes import RangeOfInterest
from curate.sources.feeds.feed import Feed, Notice, Picture

_POLL_S = 0.1  # longest wait for a frame before `turn` is called again


class FrameAnalyzer:
    """Finds detections and events in the frames of one source, in order.

    All detections are tracked, so that an object that comes nearer keeps its track. Those that evaluation would count
    are returned: scores from `score` on, in the range of interest.

    Args:
        detector: Finds objects.
        score: Lowest score that counts.
        interest: Range of interest; None for all sizes.
        triggers: Make events of detections.
        clock: Returns the time of a frame from its `timestamp_s`.
        first_track: ID of the first track.
        on_new_size: Called with a sentence part about each change of the picture size, such as `at 3.00 s from 640×480
            to 480×640`.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        score: float,
        interest: RangeOfInterest | None,
        triggers: Triggers,
        clock: Callable[[float], datetime],
        first_track: int = 1,
        on_new_size: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._detector, self._score, self._interest = detector, score, interest
        self._triggers, self._clock = triggers, clock
        self._tracker = Tracker(min_score=score, first_id=first_track)
        self._size: tuple[int, int] | None = None  # width and height of the latest picture
        self._on_new_size = on_new_size

    @property
    def next_track(self) -> int:
        """ID of the next new track."""
        return self._tracker.next_id

    def analyze(self, pictures: Sequence[Picture]) -> list[tuple[FrameDetections, list[Event]]]:
        """Return detections and events of each of these consecutive frames."""
        results = self._detector.predict([picture.pixels for picture in pictures])
        return [self._analyze(picture, result) for picture, result in zip(pictures, results, strict=True)]

    def _analyze(self, picture: Picture, result: Detections) -> tuple[FrameDetections, list[Event]]:
        height, width = picture.pixels.shape[:2]
        self._follow_size(width, height, picture.timestamp_s)
        x0, y0, x1, y1 = result.boxes_xyxy.T
        usable = np.isfinite(result.boxes_xyxy).all(axis=1) & (x0 < x1) & (y0 < y1)
        usable &= result.scores >= min(LOWEST_SCORE, self._score)
        rows = np.flatnonzero(usable)
        rows = rows[np.argsort(-result.scores[rows], kind="stable")]
        boxes, scores, classes = result.boxes_xyxy[rows], result.scores[rows], result.class_indices[rows]
        tracks = self._tracker.update(boxes, scores, classes, picture.timestamp_s)
        counts = scores >= self._score
        if self._interest is not None:
            counts &= self._interest.contains(boxes)
        detections = FrameDetections(
            picture.index, picture.timestamp_s, boxes[counts], scores[counts], classes[counts], tracks[counts]
        )
        return detections, self._triggers.evaluate(detections, width, height, self._clock(picture.timestamp_s))

    def _follow_size(self, width: int, height: int, timestamp_s: float) -> None:
        """Let tracks go on at the same place of the picture where its size changes."""
        before, self._size = self._size, (width, height)
        if before is not None and before != self._size:
            self._tracker.scale(width / before[0], height / before[1])
            self._on_new_size(f"at {timestamp_s:.2f} s from {before[0]}×{before[1]} to {width}×{height}")


@dataclass
class Counts:
    """Totals of a watch so far.

    Attributes:
        frames: Frames that the detector saw.
        detections: Detections that count.
        started_s: `time.monotonic()` at the arrival of the first frame.
    """

    frames: int = 0
    detections: int = 0
    started_s: float | None = None


def watch_feed(
    feed: Feed,
    analyzer: FrameAnalyzer,
    outputs: OutputThread,
    publisher: EventPublisher,
    *,
    batch: int,
    clock: Callable[[float], datetime],
    counts: Counts,
    turn: Callable[[], bool],
) -> None:
    """Watch a source until it ends or `turn` returns true.

    Args:
        feed: Frames and notices; not closed here.
        analyzer: Finds detections and events.
        outputs: Get every frame.
        publisher: Gets every event.
        batch: Most frames per call of the detector.
        clock: Returns the time of a `timestamp_s`.
        counts: Updated with every frame.
        turn: Called after each batch and at least ten times per second; true ends the watch.

    Raises:
        CurateError: The source cannot be opened, or an output failed.
    """
    while not feed.ended and not turn():
        items = feed.take(batch, _POLL_S)
        for notice in (item for item in items if isinstance(item, Notice)):
            publisher.publish(make_stream_event(notice, clock(notice.timestamp_s)))
        pictures = [item for item in items if isinstance(item, Picture)]
        if not pictures:
            continue
        counts.started_s = pictures[0].arrived_s if counts.started_s is None else counts.started_s
        for picture, (detections, events) in zip(pictures, analyzer.analyze(pictures), strict=True):
            counts.frames += 1
            counts.detections += len(detections.scores)
            outputs.put(picture, detections, [publisher.publish(event) for event in events])
