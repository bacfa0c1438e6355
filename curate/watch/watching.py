"""The loop of `watch`: take frames, judge them, hand them on."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from curate.monitor.frame_judge import Judge
from curate.monitor.outputs.event_log import Announcer, event_of
from curate.monitor.outputs.thread import OutputThread
from curate.sources.feeds.feed import Feed, Notice, Picture

_TURN_S = 0.1  # at most so long until somebody who wants to stop is heard


@dataclass
class Counts:
    """What was seen so far: frames, detections that count, and the monotonic clock at the first frame."""

    frames: int = 0
    detections: int = 0
    began_s: float | None = None


def watch_feed(
    feed: Feed,
    judge: Judge,
    outputs: OutputThread,
    announcer: Announcer,
    *,
    batch: int,
    clock: Callable[[float], datetime],
    counts: Counts,
    turn: Callable[[], bool],
) -> None:
    """Watch a source until it ends or somebody wants to stop.

    Args:
        feed: gives the frames; it is not closed.
        judge: finds what counts in them.
        outputs: get every frame.
        announcer: gets every event.
        batch: frames for the detector at once.
        clock: what time it is at a `timestamp_s`.
        counts: grows on the way.
        turn: called after each batch, and at least ten times a second; true ends the watch.

    Raises:
        CurateError: the source cannot be opened, or an output failed.
    """
    while not feed.ended and not turn():
        taken = feed.take(batch, _TURN_S)
        for notice in (one for one in taken if isinstance(one, Notice)):
            announcer.announce(event_of(notice, clock(notice.timestamp_s)))
        pictures = [one for one in taken if isinstance(one, Picture)]
        if not pictures:
            continue
        counts.began_s = pictures[0].arrived_s if counts.began_s is None else counts.began_s
        for picture, (seen, events) in zip(pictures, judge.look(pictures), strict=True):
            counts.frames += 1
            counts.detections += len(seen.scores)
            outputs.put(picture, seen, [announcer.announce(event) for event in events])
