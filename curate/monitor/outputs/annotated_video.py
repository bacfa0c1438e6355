"""`watch --out`: the video with boxes drawn on it."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from curate.errors import CurateError
from curate.monitor.outputs.thread import WatchedFrame
from curate.monitor.problems import Problems
from curate.sources.feeds.feed import Feed, Picture
from curate.sources.feeds.file import FileFeed
from curate.sources.feeds.raw_pipe import RawFeed
from curate.sources.video.writing import VideoWriter

_TICK = Fraction(1, 90_000)  # seconds, for sources without a time base; that of MPEG transport streams
_DEFAULT_RATE = Fraction(30)


@dataclass(frozen=True)
class Timing:
    """Time stamps of a source's frames.

    Attributes:
        time_base: Seconds per tick.
        rate: Frames per second, approximately.
        stamp: Returns the time stamp of a frame, in ticks.
        last_duration: Of the last frame, in ticks; None: that of the frame before.
    """

    time_base: Fraction
    rate: Fraction
    stamp: Callable[[Picture], int]
    last_duration: int | None


def timing_of(feed: Feed) -> Timing:
    """Time stamps of a file as stored, of a pipe by frame number, of live sources by arrival."""
    if isinstance(feed, FileFeed) and (index := feed.index) is not None:
        rate = Fraction(index.fps).limit_denominator(1001) if index.fps else _DEFAULT_RATE
        return Timing(index.time_base, rate, lambda picture: int(index.pts[picture.index]), index.last_duration)
    if isinstance(feed, RawFeed):
        rate = feed.layout.fps
        return Timing(1 / rate, rate, lambda picture: picture.index, 1)
    return Timing(_TICK, _DEFAULT_RATE, lambda picture: round(picture.timestamp_s / _TICK), None)


class AnnotatedVideo:
    """Writes the video of one source: every watched frame at its own time, with the source's audio.

    After a failure, as on a full disk, the next frame begins a new file; the frames of the failed one are kept.

    Args:
        path: Of the file.
        feed: Source of the frames.
        replace: Whether a file at its place is replaced; otherwise the video gets a name beside it.
        problems: Gets what an earlier watch left when it was killed, and another name of the file.
    """

    wants_boxes = True

    def __init__(self, path: Path, feed: Feed, problems: Problems, *, replace: bool = True) -> None:
        self._path, self._feed, self._problems, self._replace = path, feed, problems, replace
        self._timing: Timing | None = None
        self._writer: VideoWriter | None = None
        self._held: tuple[int, WatchedFrame] | None = None  # until the next frame gives its duration
        self._duration = round(1 / _DEFAULT_RATE / _TICK)

    @property
    def fault(self) -> str | None:
        """Why audio is missing; None where it is complete."""
        return self._writer.fault if self._writer else None

    def take(self, frame: WatchedFrame) -> None:
        """Write the previous frame, whose duration is now known."""
        timing = self._timing = self._timing or timing_of(self._feed)
        stamp = timing.stamp(frame.picture)
        if self._held is not None:
            stamp = max(stamp, self._held[0] + 1)
            self._duration = stamp - self._held[0]
            self._write(timing, self._duration)
        self._held = stamp, frame

    def close(self) -> None:
        """Write the last frame and finish the file. Audio is complete only where the source was watched to its end."""
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
        (stamp, frame), self._held = self._held, None  # pyright: ignore[reportGeneralTypeIssues]
        try:
            self._writer.write(frame.drawn, stamp, duration)
        except CurateError:
            self._writer = None
            raise

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
            replace=self._replace,
            on_kept=self._problems.report_kept,
            on_moved=partial(self._problems.report_moved, self._path),
        )
