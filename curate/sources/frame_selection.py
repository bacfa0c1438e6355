"""Which frames of a video to take: by time, at given times, keyframes, one a scene.

The frame for a time t is the last one that is shown at t: the last with a time stamp of at most t, where t counts from
the video's first frame. All times are fractions, so that a frame is never missed by a rounding.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from curate.errors import MissingError, UsageError
from curate.images import shrink
from curate.sources.times import format_seconds, parse_seconds
from curate.sources.video import Frame, FrameReader, VideoIndex

_SCENE_SIDE_PX = 256  # scenes are found in small pictures just as well


Read = Callable[[Sequence[int]], Iterator[Frame]]
Time = str | float | Fraction


class Choice(Protocol):
    """A rule that picks frames of a video."""

    def __call__(self, index: VideoIndex, span: range, read: Read) -> Iterable[int]:
        """Positions of frames, in any order, perhaps twice or outside of what is wanted.

        Args:
            index: the video.
            span: the frames that can be wanted at all.
            read: decodes frames, for rules that have to see them.
        """
        ...


@dataclass(frozen=True)
class Every:
    """One frame each `period_s` seconds, counted from `start_s`, while the video lasts."""

    period_s: Fraction
    start_s: Fraction = Fraction(0)

    def __call__(self, index: VideoIndex, span: range, read: Read) -> Iterable[int]:
        """The frames during which a step falls: so a tiny step costs no more than all frames."""
        for frame in span:
            shown_s, until_s = index.time(frame), index.time(frame + 1)
            step = max(0, -((self.start_s - shown_s) // self.period_s))
            if self.start_s + step * self.period_s < until_s:
                yield frame


@dataclass(frozen=True)
class At:
    """The frames shown at given times, of any video and of named ones."""

    times: tuple[tuple[str | None, Fraction], ...]

    def of(self, video_id: str) -> "At":
        """Only those of one video."""
        return At(tuple(one for one in self.times if one[0] in (None, video_id)))

    def __call__(self, index: VideoIndex, span: range, read: Read) -> Iterable[int]:
        """One frame a time; none for times after the video's end."""
        end_s = index.time(index.frames)
        return [index.frame_at(time_s) for _, time_s in self.times if time_s < end_s]


@dataclass(frozen=True)
class Keyframes:
    """Every frame that the encoder stored whole."""

    def __call__(self, index: VideoIndex, span: range, read: Read) -> Iterable[int]:
        """All keyframes."""
        return np.flatnonzero(index.is_keyframe).tolist()


@dataclass(frozen=True)
class Scenes:
    """The middle frame of every scene, as PySceneDetect's adaptive detector finds them.

    Raises:
        MissingError: PySceneDetect is not installed.
    """

    def __post_init__(self) -> None:
        if find_spec("scenedetect") is None:
            raise MissingError(
                "PySceneDetect is not installed", place="--scenes", remedy="pip install 'curate-vision[scenes]'"
            )

    def __call__(self, index: VideoIndex, span: range, read: Read) -> Iterable[int]:
        """One frame a scene; the whole span is decoded."""
        cuts = [span.start, *_find_cuts(index, span, read), span.stop]
        return [(first + last) // 2 for first, last in pairwise(cuts) if last > first]


def parse_choice(
    *,
    every: Time | None = None,
    fps: Time | None = None,
    at: str | os.PathLike[str] | None = None,
    keyframes: bool = False,
    scenes: bool = False,
    start: Time = 0,
) -> Choice:
    """The rule behind the options of `sample-frames`, of which at most one way to choose is given; see there.

    Raises:
        UsageError: several ways, or one that is not understood.
        MissingError: PySceneDetect is not installed.
    """
    ways = {"--every": every, "--fps": fps, "--at": at, "--keyframes": keyframes, "--scenes": scenes}
    chosen = [option for option, value in ways.items() if value is not None and value is not False]
    if len(chosen) > 1:
        raise UsageError("frames are chosen in one way at a time", got=", ".join(chosen), expected="one of them")
    if at is not None:
        return read_times(Path(at))
    if keyframes or scenes:
        return Keyframes() if keyframes else Scenes()
    period_s = parse_seconds("2s" if every is None else every, place="--every")
    if fps is not None:
        rate = _parse_rate(fps)
        period_s = 1 / rate if rate else Fraction(0)
    if not period_s:
        raise UsageError("not a step", place=chosen[0] if chosen else "--every", got=0, expected="more than 0")
    return Every(period_s, parse_seconds(start, place="--start"))


def _parse_rate(fps: Time) -> Fraction:
    try:
        rate = Fraction(str(fps))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(-1)
    if rate < 0:
        raise UsageError("not a rate", place="--fps", got=repr(fps), expected="frames a second such as 0.5, 2 or 1/3")
    return rate


def choose_frames(
    index: VideoIndex,
    choice: Choice,
    *,
    start_s: Fraction = Fraction(0),
    end_s: Fraction | None = None,
    max_frames: int | None = None,
    read: Read | None = None,
) -> list[int]:
    """Pick frames of a video.

    Args:
        index: the video.
        choice: the rule.
        start_s: nothing that is over by then.
        end_s: nothing that is first shown at this time or later.
        max_frames: at most so many, evenly spread over what the rule picked.
        read: decodes frames for rules that have to see them; default: a reader of its own.

    Returns:
        Positions in the index, ascending, each once.
    """
    first = max(0, index.frame_at(start_s)) if start_s < index.time(index.frames) else index.frames
    stop = index.frames if end_s is None else 1 + index.frame_at(end_s)
    if end_s is not None and stop and index.time(stop - 1) == end_s:
        stop -= 1
    span = range(first, max(first, stop))
    picked = sorted({frame for frame in choice(index, span, read or FrameReader(index).read) if frame in span})
    if max_frames is None or len(picked) <= max_frames:
        return picked
    return [picked[place] for place in np.linspace(0, len(picked) - 1, max_frames).round().astype(int)]


def read_times(path: Path) -> At:
    """Read a file of times: one a line, after the id of a video where it is meant for that one only; `#` comments.

    Raises:
        UsageError: the file cannot be read, or a line is not understood.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the times cannot be read: {error}", place=path) from error
    times: list[tuple[str | None, Fraction]] = []
    for number, line in enumerate(lines, start=1):
        written = line.partition("#")[0].strip()
        if written:
            times.append(_read_time(written, f"{path}, line {number}"))
    return At(tuple(times))


def _read_time(written: str, place: str) -> tuple[str | None, Fraction]:
    try:
        return None, parse_seconds(written, place=place)  # "2 s" is a time, not a video called "2"
    except UsageError:
        video_id, *rest = written.rsplit(None, 1)
        if not rest:
            raise
        return video_id, parse_seconds(rest[0], place=place)


def format_times(times: Iterable[tuple[str, Fraction]]) -> str:
    """Video ids and times as lines that `read_times` reads back."""
    return "".join(f"{video_id} {format_seconds(time_s)}\n" for video_id, time_s in times)


def _find_cuts(index: VideoIndex, span: range, read: Read) -> list[int]:
    """First frames of the scenes after the first one."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector, fps = AdaptiveDetector(), index.fps or 25.0
    cuts = []
    for frame in read(span):
        picture = np.ascontiguousarray(shrink(frame.pixels, _SCENE_SIDE_PX)[..., ::-1])
        cuts += detector.process_frame(FrameTimecode(frame.index, fps), picture)
    return sorted({cut.frame_num for cut in cuts})
