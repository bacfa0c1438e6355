"""Chooses frames of a video: at regular times, at given times, keyframes, one per scene.

The frame at time t is the last one with a time stamp of at most t, where t counts from the video's first frame. All
times are fractions: rounding cannot pick a neighbouring frame.
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

from curate.errors import DataError, MissingError, UsageError
from curate.files import read_text
from curate.images import resize, shrink
from curate.sources.times import format_seconds, parse_seconds
from curate.sources.video import Frame, FrameReader, VideoIndex
from curate.sources.video.options import parse_rate

_SCENE_SIDE_PX = 256  # small pictures are enough to find scenes
_MIN_SCENE_S = Fraction(3, 5)  # PySceneDetect's default on its command line

Read = Callable[[Sequence[int]], Iterator[Frame]]
Time = str | float | Fraction


class Choice(Protocol):
    """A rule that picks frames of a video."""

    def __call__(self, index: VideoIndex, span: range, read: Read) -> Iterable[int]:
        """Indices of frames, in any order; repeated ones and those outside `span` are ignored.

        Args:
            index: The video.
            span: The frames between start and end time.
            read: Decodes frames, for rules that inspect pixels.
        """
        ...


@dataclass(frozen=True)
class Every:
    """One frame every `period_s` seconds from `start_s` to the end of the video."""

    period_s: Fraction
    start_s: Fraction = Fraction(0)

    def __call__(self, index: VideoIndex, span: range, read: Read) -> Iterable[int]:
        # loops over frames, not times: a tiny period costs no more than all frames
        for frame in span:
            shown_s, until_s = index.time(frame), index.time(frame + 1)
            periods = max(0, -((self.start_s - shown_s) // self.period_s))
            if self.start_s + periods * self.period_s < until_s:
                yield frame


@dataclass(frozen=True)
class At:
    """The frames at given times; a time with a video id counts for that video only."""

    times: tuple[tuple[str | None, Fraction], ...]

    def of(self, video_id: str) -> "At":
        """The times for one video."""
        return At(tuple(one for one in self.times if one[0] in (None, video_id)))

    def __call__(self, index: VideoIndex, span: range, read: Read) -> Iterable[int]:
        end_s = index.time(index.frames)
        return [index.frame_at(time_s) for _, time_s in self.times if time_s < end_s]


@dataclass(frozen=True)
class Keyframes:
    """All keyframes: frames that the encoder stored whole."""

    def __call__(self, index: VideoIndex, span: range, read: Read) -> Iterable[int]:
        return np.flatnonzero(index.is_keyframe).tolist()


@dataclass(frozen=True)
class Scenes:
    """The frame in the middle, by time, of every scene that PySceneDetect's adaptive detector finds.

    Raises:
        MissingError: PySceneDetect is not installed.
    """

    def __post_init__(self) -> None:
        if find_spec("scenedetect") is None:
            raise MissingError(
                "PySceneDetect is not installed", place="--scenes", remedy="pip install 'curate-vision[scenes]'"
            )

    def __call__(self, index: VideoIndex, span: range, read: Read) -> Iterable[int]:
        cuts = [span.start, *_find_cuts(index, span, read), span.stop]
        return [
            index.frame_at((index.time(first) + index.time(last)) / 2) for first, last in pairwise(cuts) if last > first
        ]


def parse_choice(
    *,
    every: Time | None = None,
    fps: Time | None = None,
    at: str | os.PathLike[str] | None = None,
    keyframes: bool = False,
    scenes: bool = False,
    start: Time = 0,
) -> Choice:
    """The rule for the options of `sample-frames`. At most one of `every`, `fps`, `at`, `keyframes`, `scenes` is given.

    Raises:
        UsageError: Several are given, or a value is malformed.
        MissingError: PySceneDetect is not installed.
    """
    ways = {"--every": every, "--fps": fps, "--at": at, "--keyframes": keyframes, "--scenes": scenes}
    chosen = [option for option, value in ways.items() if value is not None and value is not False]
    if len(chosen) > 1:
        raise UsageError("these options are mutually exclusive", place=", ".join(chosen), expected="one of them")
    if at is not None:
        return read_times(Path(at))
    if keyframes or scenes:
        return Keyframes() if keyframes else Scenes()
    period_s = parse_seconds("2s" if every is None else every, place="--every")
    if fps is not None:
        rate = parse_rate(fps, place="--fps")
        period_s = 1 / rate if rate else Fraction(0)
    if not period_s:
        raise UsageError("must be positive", place=chosen[0] if chosen else "--every", got=0)
    return Every(period_s, parse_seconds(start, place="--start"))


def choose_frames(
    index: VideoIndex,
    choice: Choice,
    *,
    start_s: Fraction = Fraction(0),
    end_s: Fraction | None = None,
    max_frames: int | None = None,
    read: Read | None = None,
) -> list[int]:
    """Choose frames of a video.

    Args:
        index: The video.
        choice: The rule.
        start_s: Skip frames that end by this time.
        end_s: Skip frames that begin at this time or later.
        max_frames: At most this many frames, evenly spread over those that the rule picks.
        read: Decodes frames for rules that inspect pixels. Default: a new reader.

    Returns:
        Frame indices, ascending, without repetition.
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
    """Read a file of times: one per line, optionally after the id of the video it is for; `#` starts a comment.

    Raises:
        UsageError: The file cannot be read, or a line is malformed.
    """
    try:
        lines = read_text(path, "file").splitlines()
    except DataError as error:
        raise UsageError(error.fact, place=path, got=error.got, expected=error.expected) from error
    times: list[tuple[str | None, Fraction]] = []
    for number, line in enumerate(lines, start=1):
        written = line.partition("#")[0].strip()
        if written:
            times.append(_read_time(written, f"{path}, line {number}"))
    return At(tuple(times))


def _read_time(written: str, place: str) -> tuple[str | None, Fraction]:
    try:
        return None, parse_seconds(written, place=place)  # "2 s" is a time, not a video "2"
    except UsageError:
        video_id, *rest = written.rsplit(None, 1)
        if not rest:
            raise
        return video_id, parse_seconds(rest[0], place=place)


def format_times(times: Iterable[tuple[str, Fraction]]) -> str:
    """Video ids and times as lines for `read_times`."""
    return "".join(f"{video_id} {format_seconds(time_s)}\n" for video_id, time_s in times)


def _find_cuts(index: VideoIndex, span: range, read: Read) -> list[int]:
    """First frames of the scenes after the first one, at least `_MIN_SCENE_S` apart."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    # the detector counts frames, so its own shortest scene would be 15 s of a video with one frame per second
    detector, fps = AdaptiveDetector(min_scene_len=0), index.fps or 25.0
    found: set[int] = set()
    first_size: tuple[int, int] | None = None
    for frame in read(span):
        picture = np.ascontiguousarray(shrink(frame.pixels, _SCENE_SIDE_PX)[..., ::-1])
        first_size = first_size or picture.shape[1::-1]
        if picture.shape[1::-1] != first_size:  # pixels are compared with those of the picture before
            picture = resize(picture, *first_size)
        found |= {cut.frame_num for cut in detector.process_frame(FrameTimecode(frame.index, fps), picture)}
    cuts: list[int] = []
    for frame in sorted(found):
        if index.time(frame) - index.time(cuts[-1] if cuts else span.start) >= _MIN_SCENE_S:
            cuts.append(frame)
    return cuts
