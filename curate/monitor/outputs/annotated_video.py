"""The watched video with boxes drawn on it, as a file."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from curate.monitor.outputs.thread import Shown
from curate.sources.feeds.feed import Feed, Picture
from curate.sources.feeds.file import FileFeed
from curate.sources.feeds.raw_pipe import RawFeed
from curate.sources.video.writing import VideoWriter

_FINE = Fraction(1, 90_000)  # seconds a tick where the source has none of its own, as in MPEG transport streams
_USUAL_RATE = Fraction(30)


@dataclass(frozen=True)
class Timing:
    """When the frames of a source show.

    Attributes:
        time_base: seconds a tick.
        rate: frames a second, about.
        stamp: the tick of a frame.
        last_duration: of the last frame, in ticks; None: as long as the one before.
    """

    time_base: Fraction
    rate: Fraction
    stamp: Callable[[Picture], int]
    last_duration: int | None


def timing_of(feed: Feed) -> Timing:
    """The times of a file's frames to the tick, of a pipe's by their number, of others by arrival."""
    if isinstance(feed, FileFeed) and (index := feed.index) is not None:
        rate = Fraction(index.fps).limit_denominator(1001) if index.fps else _USUAL_RATE
        return Timing(index.time_base, rate, lambda picture: int(index.pts[picture.index]), index.last_duration)
    if isinstance(feed, RawFeed):
        rate = feed.layout.fps
        return Timing(1 / rate, rate, lambda picture: picture.index, 1)
    return Timing(_FINE, _USUAL_RATE, lambda picture: round(picture.timestamp_s / _FINE), None)


class AnnotatedVideo:
    """Writes one file of one source: every frame that was watched, when it was, with the source's audio.

    Args:
        path: of the file.
        feed: where the frames come from.

    Attributes:
        fault: why audio is missing.
    """

    wants_boxes = True

    def __init__(self, path: Path, feed: Feed) -> None:
        self._path, self._feed = path, feed
        self._timing: Timing | None = None
        self._writer: VideoWriter | None = None
        self._held: tuple[int, Shown] | None = None  # until it is known when the next frame shows
        self._duration = round(1 / _USUAL_RATE / _FINE)

    @property
    def fault(self) -> str | None:
        """See the class."""
        return self._writer.fault if self._writer else None

    def take(self, shown: Shown) -> None:
        """Write the frame before this one."""
        timing = self._timing = self._timing or timing_of(self._feed)
        stamp = timing.stamp(shown.picture)
        if self._held is not None:
            stamp = max(stamp, self._held[0] + 1)
            self._duration = stamp - self._held[0]
            self._write(timing, self._duration)
        self._held = stamp, shown

    def close(self) -> None:
        """Write the last frame, and finish the file; audio beyond it only where the source was watched to its end."""
        whole = self._feed.ended
        try:
            if self._held is not None and self._timing is not None:
                self._write(self._timing, self._timing.last_duration or self._duration)
        finally:
            if self._writer is not None:
                self._writer.close(whole=whole)

    def _write(self, timing: Timing, duration: int) -> None:
        if self._writer is None:
            self._writer = self._open(timing)
        (stamp, shown), self._held = self._held, None  # pyright: ignore[reportGeneralTypeIssues]
        self._writer.write(shown.drawn, stamp, duration)

    def _open(self, timing: Timing) -> VideoWriter:
        index = self._feed.index if isinstance(self._feed, FileFeed) else None
        return VideoWriter(
            self._path,
            time_base=timing.time_base,
            rate=timing.rate,
            rotation=index.rotation if index else 0,
            mirrored=index.mirrored if index else False,
            pixel_aspect=index.pixel_aspect if index else Fraction(1),
            audio_from=index.path if index else None,
        )
