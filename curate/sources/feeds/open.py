"""Finds out what SOURCE of `watch` means: a file, a folder of files, a camera, a stream or a pipe."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from curate.errors import UsageError
from curate.files import suggest_file
from curate.sources.feeds.address import parse_live
from curate.sources.feeds.feed import Feed
from curate.sources.feeds.file import FileFeed
from curate.sources.feeds.live import STALL_S, open_live
from curate.sources.feeds.raw_pipe import RawFeed, RawLayout
from curate.sources.video import ReadOptions
from curate.sources.video_folder import find_videos

_PIPE = "-"


@dataclass(frozen=True)
class Source:
    """A source to watch.

    Attributes:
        name: For messages and events, without credentials.
        file: The file; None for live sources and pipes.
        open: Opens it.
    """

    name: str
    file: Path | None
    open: Callable[[], Feed]

    @property
    def is_recorded(self) -> bool:
        """Whether it is a recording, as far as is known before it is opened."""
        return self.file is not None or self.name == _PIPE


def choose_sources(
    text: str,
    *,
    raw: str | None = None,
    stall_s: float = STALL_S,
    reading: ReadOptions | None = None,
    on_note: Callable[[str], None] = lambda _: None,
) -> list[Source]:
    """Find what to watch, without opening it.

    Args:
        text: A path, the number of a camera, a URL, or `-` for raw frames on stdin.
        raw: Layout of raw frames, see `RawLayout.parse`.
        stall_s: Seconds without a frame after which a live source counts as stalled.
        reading: What the user says about video files.
        on_note: Called with a sentence about files in a folder that are not videos.

    Raises:
        UsageError: The source does not exist, is a pipe without a layout, or an option does not apply to it.
    """
    if not (math.isfinite(stall_s) and stall_s > 0):
        raise UsageError("invalid duration", place="--stall", got=stall_s, expected="seconds, more than 0")
    live = None if text == _PIPE else parse_live(text)
    if text == _PIPE or live is not None:
        _refuse_reading(reading, _PIPE if live is None else live.shown)
    if text == _PIPE:
        return [_pipe_source(raw)]
    if raw is not None:
        raise UsageError("applies to the source - only", place="--raw", got=text)
    if live is not None:
        return [Source(live.shown, None, partial(open_live, text, stall_s=stall_s))]
    path = Path(text)
    if path.is_dir():
        found = find_videos(path)
        if note := found.note():
            on_note(note)
        return [_file_source(file, reading) for file in found.videos]
    if not path.exists():
        remedy = suggest_file(path) or "A camera is a number, a stream a URL such as rtsp://HOST/PATH."
        raise UsageError("no such file or folder", place=text, remedy=remedy)
    if not path.is_file():
        remedy = "To watch a pipe, send raw frames: `… | curate watch RUN - --raw WIDTHxHEIGHT@FPS`."
        raise UsageError("not a regular file", place=text, remedy=remedy)
    return [_file_source(path, reading)]


def _refuse_reading(reading: ReadOptions | None, name: str) -> None:
    for option, value in {} if reading is None else vars(reading).items():
        if value is not None:
            raise UsageError("applies to files on this machine only", place=f"--{option}", got=name)


def _pipe_source(raw: str | None) -> Source:
    if raw is None:
        expected = "--raw WIDTHxHEIGHT@FPS, such as --raw 640x480@30"
        raise UsageError("raw frames need a layout", place=_PIPE, expected=expected)
    layout = RawLayout.parse(raw)
    if sys.stdin is None:
        raise UsageError("stdin is closed", place=_PIPE)
    return Source(_PIPE, None, partial(RawFeed, sys.stdin.buffer, layout))


def _file_source(path: Path, reading: ReadOptions | None) -> Source:
    printable = str(path).encode("utf-8", "backslashreplace").decode()  # file names may not be UTF-8
    return Source(printable, path, partial(FileFeed, path, reading))
