"""Frames of a video by their number: exactly those, decoding no more than they need.

Frames of one *run* are decoded in one go: from a packet where decoding can start to the last packet that is wanted,
leaving out what nobody needs. Runs are found beforehand, so the file is read forwards, with a seek only over long gaps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from curate.errors import UsageError
from curate.sources.video.container import describe_error
from curate.sources.video.decoding import choose_decoding
from curate.sources.video.index import VideoIndex
from curate.sources.video.pictures import RgbConverter


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video.

    Attributes:
        index: its position in `VideoIndex.pts`.
        time_s: seconds from the first frame, exactly.
        pixels: H×W×3 uint8 RGB, upright.
    """

    index: int
    time_s: Fraction
    pixels: NDArray[np.uint8]


class FrameReader:
    """Reads frames of a video by number.

    Args:
        index: of the video.
        threads: at most so many for decoding, 0 for the decoder's own choice; one where more would hide damage (H.264).

    Attributes:
        fault: why frames are missing from the last `read`; None if all came.
        decoded: how many packets the last `read` gave to the decoder.
    """

    def __init__(self, index: VideoIndex, *, threads: int = 0) -> None:
        self.fault: str | None = None
        self.decoded = 0
        self._index = index
        self._threads = threads
        turned = index.rotation in (90, 270)
        stored = (index.height, index.width) if turned else (index.width, index.height)
        self._converter = RgbConverter(*stored, index.rotation, index.mirrored)

    def read(self, wanted: Sequence[int]) -> Iterator[Frame]:
        """Yield each wanted frame once, in order.

        A frame that is damaged, or that may depend on a damaged one, is left out; `fault` then tells.

        Args:
            wanted: positions in the index, ascending.

        Raises:
            DataError: the file cannot be opened any more.
            UsageError: `wanted` is not ascending, or not in the index.
        """
        frames = self._check(wanted)
        self.fault, self.decoded = None, 0
        return self._read(frames)

    def _read(self, frames: list[int]) -> Iterator[Frame]:
        missing, last = dict.fromkeys(frames), None
        decoding = choose_decoding(self._index, self._threads)
        trouble = None
        for number, decoded in decoding.decode(frames):
            self.decoded = decoding.sent
            if last is not None and number < last.index:
                trouble = trouble or "time stamps contradict the order in which frames are shown"
                continue
            try:
                pixels = self._converter.convert(decoded)
            except FFmpegError as error:
                trouble = trouble or describe_error(error)
                continue
            del missing[number]
            last = Frame(number, self._index.time(number), pixels)
            yield last
        self.decoded = decoding.sent
        if missing:
            self.fault = self._tell(list(missing), last, decoding.trouble or trouble)

    def _check(self, wanted: Sequence[int]) -> list[int]:
        frames = [int(frame) for frame in wanted]
        place = self._index.path
        if any(a > b for a, b in pairwise(frames)):
            raise UsageError("the frames to read are not in ascending order", place=place)
        for frame in (frames[0], frames[-1]) if frames else ():
            if not 0 <= frame < self._index.frames:
                raise UsageError("no such frame", place=place, got=frame, expected=f"0 to {self._index.frames - 1}")
        return list(dict.fromkeys(frames))

    def _tell(self, missing: list[int], last: Frame | None, trouble: str | None) -> str:
        trouble = trouble or "the decoder shows fewer frames than the file holds"
        if last is None:
            return f"no frame can be read: {trouble}"
        if missing[0] > last.index:
            return f"stops after {float(last.time_s):.2f} s: {trouble}"
        at_s = float(self._index.time(missing[0]))
        count = "1 frame is" if len(missing) == 1 else f"{len(missing)} frames are"
        return f"{count} missing, the first at {at_s:.2f} s: {trouble}"
