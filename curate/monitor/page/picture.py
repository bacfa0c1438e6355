"""The newest frame as a JPEG, made once for all who watch, and only while somebody does."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.images import encode_rgb, shrink
from curate.monitor.detections import Seen

Pixels = NDArray[np.uint8]
Draw = Callable[[Pixels, Seen], Pixels]

_MOST_PER_S = 15
_LONGEST_SIDE_PX = 1920
_QUALITY = 80
_LOOK_S = 0.02  # a thread that has to wake another for each frame costs more than to look so often


@dataclass(frozen=True)
class Jpeg:
    """A frame as it is sent.

    Attributes:
        number: of the frames that were shown, from 1.
        content: the file.
    """

    number: int
    content: bytes


@dataclass(frozen=True, eq=False)
class _Shown:
    number: int
    pixels: Pixels
    seen: Seen | None


class LatestPicture:
    """Takes every frame of the video's thread, keeps the newest, and encodes it when it is asked for."""

    def __init__(self, draw: Draw | None = None) -> None:
        self._draw = draw
        self._shown: _Shown | None = None
        self._made: Jpeg | None = None
        self._made_at_s = float("-inf")
        self._turn = asyncio.Lock()

    @property
    def number(self) -> int:
        """How many frames were shown."""
        return self._shown.number if self._shown is not None else 0

    @property
    def seen(self) -> Seen | None:
        """What was found in the newest frame."""
        return self._shown.seen if self._shown is not None else None

    def show(self, pixels: Pixels, seen: Seen | None) -> None:
        """Keep a frame until the next one comes. For one thread; nothing is copied."""
        self._shown = _Shown(self.number + 1, pixels, seen)

    async def other_than(self, number: int, patience_s: float, ending: Callable[[], bool]) -> Jpeg | None:
        """The newest frame when it is another than `number`; None where none comes in time, or at the end.

        However many wait, a frame is encoded once, and at most 15 a second are.
        """
        try:
            async with asyncio.timeout(patience_s):
                while (shown := self._shown) is None or shown.number == number:
                    if ending():
                        return None
                    await asyncio.sleep(_LOOK_S)
                async with self._turn:
                    return await self._make(shown, number)
        except TimeoutError:
            return None

    async def _make(self, shown: _Shown, number: int) -> Jpeg:
        wait_s = self._made_at_s + 1 / _MOST_PER_S - time.monotonic()
        if wait_s > 0:
            if self._made is not None and self._made.number != number:
                return self._made  # somebody else's, and hardly older
            await asyncio.sleep(wait_s)
        shown = self._shown or shown
        if self._made is None or self._made.number != shown.number:
            self._made_at_s = time.monotonic()
            content = encode_rgb(shrink(self._drawn(shown), _LONGEST_SIDE_PX), ".jpg", quality=_QUALITY)
            self._made = Jpeg(shown.number, content)
        return self._made

    def _drawn(self, shown: _Shown) -> Pixels:
        if self._draw is None or shown.seen is None:
            return shown.pixels
        return self._draw(shown.pixels, shown.seen)
