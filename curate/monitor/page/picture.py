"""The latest frame as a JPEG: encoded once for all viewers, and only on request."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.images import encode_rgb, shrink
from curate.monitor.detections import FrameDetections

Pixels = NDArray[np.uint8]
Draw = Callable[[Pixels, FrameDetections], Pixels]

_MAX_PER_S = 15
_MAX_SIDE_PX = 1920
_QUALITY = 80
_POLL_S = 0.02  # cheaper than waking the server's thread for each frame


@dataclass(frozen=True)
class Jpeg:
    """An encoded frame.

    Attributes:
        number: Of the shown frames, from 1.
        content: The JPEG file.
    """

    number: int
    content: bytes


@dataclass(frozen=True, eq=False)
class _Frame:
    number: int
    pixels: Pixels
    detections: FrameDetections | None


class LatestPicture:
    """Keeps the latest frame of the watch, and encodes it on demand.

    Args:
        draw: Makes the picture to show from a frame and its detections; None shows the plain frame.
    """

    def __init__(self, draw: Draw | None = None) -> None:
        self._draw = draw
        self._latest: _Frame | None = None
        self._encoded: Jpeg | None = None
        self._encoded_s = float("-inf")
        self._lock = asyncio.Lock()

    @property
    def number(self) -> int:
        """Number of frames shown so far."""
        return self._latest.number if self._latest is not None else 0

    @property
    def detections(self) -> FrameDetections | None:
        """Detections of the latest frame."""
        return self._latest.detections if self._latest is not None else None

    def show(self, pixels: Pixels, detections: FrameDetections | None) -> None:
        """Keep a frame until the next one, without copying it. Called from one thread only."""
        self._latest = _Frame(self.number + 1, pixels, detections)

    async def newer_than(self, number: int, timeout_s: float, ending: Callable[[], bool]) -> Jpeg | None:
        """Wait for a frame with another number; None at the timeout, or when the server ends.

        However many wait, each frame is encoded once, and at most 15 per second.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while (frame := self._latest) is None or frame.number == number:
                    if ending():
                        return None
                    await asyncio.sleep(_POLL_S)
                async with self._lock:
                    return await self._encode(frame, number)
        except TimeoutError:
            return None

    async def _encode(self, frame: _Frame, number: int) -> Jpeg:
        wait_s = self._encoded_s + 1 / _MAX_PER_S - time.monotonic()
        if wait_s > 0:
            if self._encoded is not None and self._encoded.number != number:
                return self._encoded  # just encoded for another viewer
            await asyncio.sleep(wait_s)
        frame = self._latest or frame
        if self._encoded is None or self._encoded.number != frame.number:
            self._encoded_s = time.monotonic()
            content = encode_rgb(shrink(self._drawn(frame), _MAX_SIDE_PX), ".jpg", quality=_QUALITY)
            self._encoded = Jpeg(frame.number, content)
        return self._encoded

    def _drawn(self, frame: _Frame) -> Pixels:
        if self._draw is None or frame.detections is None:
            return frame.pixels
        return self._draw(frame.pixels, frame.detections)
