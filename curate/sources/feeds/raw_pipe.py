"""The feed of raw frames from a pipe, as `ffmpeg -f rawvideo -pix_fmt rgb24 -` writes them."""

import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError, UsageError
from curate.sources.feeds.feed import Picture
from curate.sources.feeds.queued import QueuedFeed

PixelFormat = Literal["rgb24", "bgr24", "gray"]
_CHANNELS = {"rgb24": 3, "bgr24": 3, "gray": 1}
_QUEUED_FRAMES = 4
_POLL_S = 0.1
_FORM = "WIDTHxHEIGHT@FPS such as 640x480@30"


@dataclass(frozen=True)
class RawLayout:
    """Layout of the frames in a pipe.

    Attributes:
        width, height: In pixels.
        fps: Frames per second, since raw frames carry no times.
        pixel_format: Order of the bytes of a pixel.
    """

    width: int
    height: int
    fps: Fraction
    pixel_format: PixelFormat = "rgb24"

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or self.fps <= 0:
            got = f"{self.width}×{self.height} at {self.fps}"
            raise UsageError("invalid frame layout", place="--raw", got=got, expected=_FORM)
        if self.pixel_format not in _CHANNELS:
            expected = f"one of {', '.join(_CHANNELS)}"
            raise UsageError("unknown pixel format", place="--raw", got=self.pixel_format, expected=expected)

    @classmethod
    def parse(cls, text: str) -> "RawLayout":
        """Parse WIDTHxHEIGHT@FPS with an optional @FORMAT: `640x480@30`, `1280x720@30000/1001@bgr24`.

        Raises:
            UsageError: The text has another form.
        """
        size, _, rest = text.partition("@")
        fps, _, pixel_format = rest.partition("@")
        width, _, height = size.lower().partition("x")
        try:
            return cls(int(width), int(height), Fraction(fps or 30), pixel_format or "rgb24")  # pyright: ignore[reportArgumentType]
        except (ValueError, ZeroDivisionError):
            raise UsageError("invalid frame layout", place="--raw", got=repr(text), expected=_FORM) from None

    @property
    def frame_bytes(self) -> int:
        """Bytes per frame."""
        return self.width * self.height * _CHANNELS[self.pixel_format]

    def as_rgb(self, data: bytes) -> NDArray[np.uint8]:
        """Convert the bytes of one frame to H×W×3 uint8 RGB."""
        pixels = np.frombuffer(data, dtype=np.uint8).reshape(self.height, self.width, -1)
        if self.pixel_format == "gray":
            return np.repeat(pixels, 3, axis=2)
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.pixel_format == "bgr24" else pixels


class RawFeed(QueuedFeed):
    """Gives every frame of a pipe; its writer waits while the queue is full.

    Args:
        pipe: An open file with a descriptor.
        layout: Layout of the frames.
    """

    def __init__(self, pipe: BinaryIO, layout: RawLayout) -> None:
        self.layout = layout
        self._descriptor = pipe.fileno()
        super().__init__("-", _QUEUED_FRAMES)

    def pictures(self) -> Iterator[Picture]:
        """Yield the frames until the pipe ends.

        Raises:
            DataError: It ends before the first frame.
        """
        index = 0
        while (data := self._read_frame(index)) is not None:
            yield Picture(index, float(index / self.layout.fps), self.layout.as_rgb(data), time.monotonic())
            index += 1
        if not index and not self.closed.is_set():
            fault, self.fault = self.fault, None
            raise DataError(fault or "the pipe ends before the first frame", place=self.name)

    def _read_frame(self, index: int) -> bytes | None:
        """Read the bytes of the next frame; None at the end, or once the feed is closed."""
        size, data = self.layout.frame_bytes, bytearray()
        while len(data) < size:
            if self.closed.is_set():
                return None
            if not select.select([self._descriptor], [], [], _POLL_S)[0]:
                continue
            part = os.read(self._descriptor, size - len(data))
            if not part:
                if data:
                    self.fault: str | None = f"the pipe ends within frame {index}: {len(data)} of {size} bytes"
                return None
            data += part
        return bytes(data)
