"""Which frames of a video to take: by time, at given times, keyframes, one a scene.

The frame for a time t is the last one that is shown at t: the last with a time stamp of at most t, where t counts from
the video's first frame. All times are fractions, so that a frame is never missed by a rounding.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from curate.errors import MissingError, UsageError
from curate.sources.times import format_seconds, parse_seconds
from curate.sources.video import FrameReader, VideoIndex

_SCENE_SIDE_PX = 256  # scenes are found in small pictures just as well


class Choice(Protocol):
    """A rule that picks frames of a video."""

    def __call__(self, index: VideoIndex) -> Iterable[int]:
        """Positions of frames, in any order, perhaps twice or outside of what is wanted."""
        ...


@dataclass(frozen=True)
class Every:
    """One frame each `period_s` seconds, counted from `start_s`."""

    period_s: Fraction
    start_s: Fraction = Fraction(0)

    def __call__(self, index: VideoIndex) -> Iterable[int]:
        """The frames shown at start, start + period, … while the video lasts."""
        end_s = Fraction(index.duration_s).limit_denominator(10**6)
        count = max(0, -((self.start_s - end_s) // self.period_s))
        return (index.frame_at(self.start_s + step * self.period_s) for step in range(count))


@dataclass(frozen=True)
class At:
    """The frames shown at given times, of any video and of named ones."""

    times: tuple[tuple[str | None, Fraction], ...]

    def of(self, video_id: str) -> "At":
        """Only those of one video."""
        return At(tuple(one for one in self.times if one[0] in (None, video_id)))

    def __call__(self, index: VideoIndex) -> Iterable[int]:
        """One frame a time; none for times after the video's end."""
        end_s = index.duration_s
        return [index.frame_at(time_s) for _, time_s in self.times if time_s < end_s]


@dataclass(frozen=True)
class Keyframes:
    """Every frame that the encoder stored whole."""

    def __call__(self, index: VideoIndex) -> Iterable[int]:
        """All keyframes."""
        return np.flatnonzero(index.is_keyframe).tolist()


@dataclass(frozen=True)
class Scenes:
    """The middle frame of every scene, as PySceneDetect's adaptive detector finds them."""

    def __call__(self, index: VideoIndex) -> Iterable[int]:
        """One frame a scene; needs the whole video decoded.

        Raises:
            MissingError: PySceneDetect is not installed.
        """
        cuts = [0, *_find_cuts(index), index.frames]
        return [(first + last) // 2 for first, last in pairwise(cuts) if last > first]


def choose_frames(
    index: VideoIndex,
    choice: Choice,
    *,
    start_s: Fraction = Fraction(0),
    end_s: Fraction | None = None,
    max_frames: int | None = None,
) -> list[int]:
    """Pick frames of a video.

    Args:
        index: the video.
        choice: the rule.
        start_s: nothing that is shown before.
        end_s: nothing that is first shown at this time or later.
        max_frames: at most so many, evenly spread over what the rule picked.

    Returns:
        Positions in the index, ascending, each once.
    """
    if start_s >= index.duration_s:
        return []
    first = max(0, index.frame_at(start_s))
    picked = sorted({frame for frame in choice(index) if first <= frame < index.frames})
    if end_s is not None:
        picked = [frame for frame in picked if index.time(frame) < end_s]
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
        video_id, _, time = line.partition("#")[0].strip().rpartition(" ")
        if time:
            times.append((video_id.strip() or None, parse_seconds(time, place=f"{path}, line {number}")))
    return At(tuple(times))


def format_times(times: Iterable[tuple[str, Fraction]]) -> str:
    """Video ids and times as lines that `read_times` reads back."""
    return "".join(f"{video_id} {format_seconds(time_s)}\n" for video_id, time_s in times)


def _find_cuts(index: VideoIndex) -> list[int]:
    """First frames of the scenes after the first one."""
    try:
        from scenedetect import AdaptiveDetector, FrameTimecode
    except ImportError as error:
        raise MissingError(
            "PySceneDetect is not installed", place="--scenes", remedy="pip install 'curate-vision[scenes]'"
        ) from error
    from curate.images import shrink

    detector, fps = AdaptiveDetector(), index.fps or 25.0
    cuts = []
    for frame in FrameReader(index).read(range(index.frames)):
        picture = np.ascontiguousarray(shrink(frame.pixels, _SCENE_SIDE_PX)[..., ::-1])
        cuts += detector.process_frame(FrameTimecode(frame.index, fps), picture)
    return sorted({cut.frame_num for cut in cuts})
