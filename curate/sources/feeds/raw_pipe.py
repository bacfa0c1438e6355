"""Raw frames from a pipe, one after the other without headers, as `ffmpeg -f rawvideo -pix_fmt rgb24 -` writes them."""

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
_WAITING = 4  # frames read ahead
_PATIENCE_S = 0.1


@dataclass(frozen=True)
class RawLayout:
    """How the bytes of a pipe are frames.

    Attributes:
        width, height: in pixels.
        fps: frames a second, since a pipe tells no times.
        pixel_format: bytes a pixel: red green blue, blue green red, or grey.
    """

    width: int
    height: int
    fps: Fraction
    pixel_format: PixelFormat = "rgb24"

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or self.fps <= 0:
            got = f"{self.width}×{self.height} at {self.fps}"
            raise UsageError("not a shape of frames", place="--raw", got=got, expected="such as 640x480@30")
        if self.pixel_format not in _CHANNELS:
            expected = ", ".join(_CHANNELS)
            raise UsageError("unknown pixels", place="--raw", got=self.pixel_format, expected=expected)

    @classmethod
    def parse(cls, text: str) -> "RawLayout":
        """Read WIDTHxHEIGHT@FPS, and after another @ the pixels: `640x480@30`, `1280x720@30000/1001@bgr24`.

        Raises:
            UsageError: it is not written so.
        """
        sides, _, rest = text.partition("@")
        fps, _, pixel_format = rest.partition("@")
        width, _, height = sides.lower().partition("x")
        try:
            return cls(int(width), int(height), Fraction(fps or 30), pixel_format or "rgb24")  # pyright: ignore[reportArgumentType]
        except (ValueError, ZeroDivisionError):
            raise UsageError(
                "not a shape of frames", place="--raw", got=repr(text), expected="such as 640x480@30"
            ) from None

    @property
    def frame_bytes(self) -> int:
        """Of one frame."""
        return self.width * self.height * _CHANNELS[self.pixel_format]

    def as_rgb(self, data: bytes) -> NDArray[np.uint8]:
        """The bytes of one frame as H×W×3 uint8 RGB."""
        pixels = np.frombuffer(data, dtype=np.uint8).reshape(self.height, self.width, -1)
        if self.pixel_format == "gray":
            return np.repeat(pixels, 3, axis=2)
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.pixel_format == "bgr24" else pixels


class RawFeed(QueuedFeed):
    """Reads a pipe; whoever writes into it has to wait.

    Args:
        pipe: an open file that has a descriptor.
        layout: of its frames.
    """

    def __init__(self, pipe: BinaryIO, layout: RawLayout) -> None:
        self.layout = layout
        self._descriptor = pipe.fileno()
        super().__init__("-", _WAITING)

    def pictures(self) -> Iterator[Picture]:
        """Yield frame by frame, until the pipe ends.

        Raises:
            DataError: it ends before the first one.
        """
        index = 0
        while (data := self._read_frame(index)) is not None:
            yield Picture(index, float(index / self.layout.fps), self.layout.as_rgb(data), time.monotonic())
            index += 1
        if not index and not self.closed.is_set():
            fault, self.fault = self.fault, None
            raise DataError(fault or "the pipe ends before the first frame", place=self.name)

    def _read_frame(self, index: int) -> bytes | None:
        """The next frame's bytes; None at the end, or when nobody wants more."""
        wanted, data = self.layout.frame_bytes, bytearray()
        while len(data) < wanted:
            if self.closed.is_set():
                return None
            if not select.select([self._descriptor], [], [], _PATIENCE_S)[0]:
                continue
            part = os.read(self._descriptor, wanted - len(data))
            if not part:
                if data:
                    self.fault: str | None = f"the pipe ends within frame {index}: {len(data)} of {wanted} bytes"
                return None
            data += part
        return bytes(data)
