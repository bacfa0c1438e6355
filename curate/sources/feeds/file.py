"""Every frame of a video file, in order."""

import time
from collections.abc import Iterator
from pathlib import Path

from curate.sources.feeds.feed import Picture
from curate.sources.feeds.queued import QueuedFeed
from curate.sources.video import FrameReader, VideoIndex, index_video

_WAITING = 16  # frames that are decoded ahead
_CLOSING_S = 5.0  # reading the packets of a large file cannot be interrupted


class FileFeed(QueuedFeed):
    """Reads a file. A frame that is damaged is left out; at the end `fault` says where the file breaks.

    Args:
        path: of the file.

    Attributes:
        index: what is in the file; None until the first frame is there.
    """

    def __init__(self, path: Path) -> None:
        self.index: VideoIndex | None = None
        self._path = path
        super().__init__(str(path), _WAITING, closing_s=_CLOSING_S)

    def pictures(self) -> Iterator[Picture]:
        """Yield every frame that is whole."""
        self.index = index_video(self._path)
        self.limit_waiting(self.index.width * self.index.height * 3)
        reader = FrameReader(self.index)
        for frame in reader.read(range(self.index.frames)):
            yield Picture(frame.index, float(frame.time_s), frame.pixels, time.monotonic())
        self.fault = "; ".join(fault for fault in (reader.fault, self.index.fault) if fault) or None
