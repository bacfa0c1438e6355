"""The feed of a video file."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.sources.feeds.feed import Picture
from curate.sources.feeds.queued import QueuedFeed
from curate.sources.video import FrameReader, ReadOptions, Remark, VideoIndex, index_video

_QUEUED_FRAMES = 16
_CLOSE_TIMEOUT_S = 5.0  # indexing a large file cannot be interrupted


class FileFeed(QueuedFeed):
    """Gives every frame of a file, in order. Damaged frames are skipped; `fault` says at the end where the file breaks.

    Args:
        path: Of the file.
        options: Which stream to read, and what the file does not tell.

    Attributes:
        index: Index of the video; None until the first frame.
    """

    def __init__(self, path: Path, options: ReadOptions | None = None) -> None:
        self.index: VideoIndex | None = None
        self._path, self._options = path, options
        super().__init__(str(path), _QUEUED_FRAMES, close_timeout_s=_CLOSE_TIMEOUT_S)

    def pictures(self) -> Iterator[Picture]:
        self.index = index_video(self._path, self._options)
        reader = FrameReader(self.index)
        try:
            for frame in reader.read(range(self.index.frames)):
                self.limit_memory(frame.pixels.nbytes)  # the size may change
                yield Picture(frame.index, float(frame.time_s), frame.pixels, time.monotonic())
        finally:
            self.remarks: Sequence[Remark] = reader.remarks
        self.fault = "; ".join(fault for fault in (reader.fault, self.index.fault) if fault) or None
