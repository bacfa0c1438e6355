"""From frames to what counts in them: detect, follow, keep what is sure and in range, ask the triggers."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import numpy as np

from curate.engines.base import Detections, Detector
from curate.monitor.detections import Seen
from curate.monitor.tracker import UNSURE_FROM, Tracker
from curate.monitor.triggers.event import Event
from curate.sizes import RangeOfInterest
from curate.sources.feeds.feed import Picture


class EventSource(Protocol):
    """What makes events of what was seen; see `triggers.Triggers`."""

    def judge(self, seen: Seen, width: int, height: int, now: datetime) -> list[Event]:
        """The events of one frame."""
        ...


class Judge:
    """Looks at the frames of one source.

    Tracks are of everything, so that who comes nearer keeps the id; what counts is what evaluation would count: scores
    from `score` on, in the range of interest.

    Args:
        detector: finds objects.
        score: least score of what counts.
        interest: its range; None: all sizes.
        triggers: make events; None: there are none.
        clock: tells what time it is at a frame's `timestamp_s`.
        first_track: id of the first track.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        score: float,
        interest: RangeOfInterest | None,
        triggers: EventSource | None,
        clock: Callable[[float], datetime],
        first_track: int = 1,
    ) -> None:
        self._detector, self._score, self._interest = detector, score, interest
        self._triggers, self._clock = triggers, clock
        self._tracker = Tracker(sure_from=score, first_id=first_track)

    @property
    def next_track(self) -> int:
        """The id that the next new track would get."""
        return self._tracker.next_id

    def look(self, pictures: Sequence[Picture]) -> list[tuple[Seen, list[Event]]]:
        """What counts in each of the frames, which are taken for one after the other, and the events there."""
        answers = self._detector.predict([picture.pixels for picture in pictures])
        return [self._judge(picture, found) for picture, found in zip(pictures, answers, strict=True)]

    def _judge(self, picture: Picture, found: Detections) -> tuple[Seen, list[Event]]:
        x0, y0, x1, y1 = found.boxes_xyxy.T
        usable = np.isfinite(found.boxes_xyxy).all(axis=1) & (x0 < x1) & (y0 < y1)
        usable &= found.scores >= min(UNSURE_FROM, self._score)
        rows = np.flatnonzero(usable)
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        boxes, scores, indices = found.boxes_xyxy[rows], found.scores[rows], found.class_indices[rows]
        tracks = self._tracker.follow(boxes, scores, indices, picture.timestamp_s)
        counts = scores >= self._score
        if self._interest is not None:
            counts &= self._interest.contains(boxes)
        seen = Seen(picture.index, picture.timestamp_s, boxes[counts], scores[counts], indices[counts], tracks[counts])
        if self._triggers is None:
            return seen, []
        height, width = picture.pixels.shape[:2]
        return seen, self._triggers.judge(seen, width, height, self._clock(picture.timestamp_s))
