"""What a SOURCE of `watch` means: a file, a folder of them, a camera, a stream, a pipe."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from curate.errors import UsageError
from curate.sources.feeds.address import parse_live
from curate.sources.feeds.feed import Feed
from curate.sources.feeds.file import FileFeed
from curate.sources.feeds.live import STALL_S, open_live
from curate.sources.feeds.raw_pipe import RawFeed, RawLayout
from curate.sources.video_library import list_videos

PIPE = "-"


@dataclass(frozen=True)
class Source:
    """One thing to watch.

    Attributes:
        name: for messages and events, without passwords.
        file: None where it is none.
        open: begins to read it.
    """

    name: str
    file: Path | None
    open: Callable[[], Feed]

    @property
    def is_recorded(self) -> bool:
        """Whether what it shows is not what happens now, as far as is known before it is opened."""
        return self.file is not None or self.name == PIPE


def choose_sources(text: str, *, raw: str | None = None, stall_s: float = STALL_S) -> list[Source]:
    """Find what to watch; nothing is opened yet.

    Args:
        text: a path; the number of a camera; an address; `-` for raw frames on stdin.
        raw: their layout, see `RawLayout.parse`.
        stall_s: seconds without a frame after which a live source counts as stalled.

    Raises:
        UsageError: there is no such thing, or a pipe without its layout.
    """
    if not (math.isfinite(stall_s) and stall_s > 0):
        raise UsageError("not a time", place="--stall", got=stall_s, expected="seconds, over 0")
    if text == PIPE:
        if raw is None:
            raise UsageError(
                "raw frames do not say how large they are",
                place="-",
                expected="--raw WIDTHxHEIGHT@FPS, such as --raw 640x480@30",
            )
        layout = RawLayout.parse(raw)
        if sys.stdin is None:
            raise UsageError("there is no pipe to read from: stdin is closed", place=PIPE)
        return [Source(PIPE, None, partial(RawFeed, sys.stdin.buffer, layout))]
    if raw is not None:
        raise UsageError("only a pipe has raw frames", place="--raw", got=text, expected="the source -")
    live = parse_live(text)
    if live is not None:
        return [Source(live.shown, None, partial(open_live, text, stall_s=stall_s))]
    path = Path(text)
    if path.is_dir():
        return [_of_file(file) for file in list_videos(path)]
    if not path.exists():
        raise UsageError(
            "there is no such file or folder",
            place=text,
            remedy="A camera is a number, a stream an address such as rtsp://HOST/PATH.",
        )
    if not path.is_file():
        remedy = "Of a pipe, give raw frames: `… | curate watch RUN - --raw WIDTHxHEIGHT@FPS`."
        raise UsageError("it is no regular file", place=text, remedy=remedy)
    return [_of_file(path)]


def _of_file(path: Path) -> Source:
    printable = str(path).encode("utf-8", "backslashreplace").decode()  # names may be no UTF-8, which files must be
    return Source(printable, path, partial(FileFeed, path))
