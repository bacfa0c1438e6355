"""`FrameReader`: frames of a video by number, decoding no more than they need.

Requested frames that lie close together are decoded in one pass, from a packet where decoding can start to the last
packet that is needed, without those that no other frame depends on. The passes are planned beforehand, so the file is
read forwards, with seeks only over long gaps.
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
from curate.sources.video.remarks import Remark, size_changes


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    Attributes:
        index: Position in `VideoIndex.pts`.
        time_s: Exact seconds from the first frame.
        pixels: H×W×3 uint8 RGB, upright; sizes may differ within a video.
    """

    index: int
    time_s: Fraction
    pixels: NDArray[np.uint8]


class FrameReader:
    """Reads frames of a video by number.

    Args:
        index: Of the video.
        threads: Most threads for decoding, 0 for the decoder's choice; always one for H.264, where more hide damage.

    Attributes:
        fault: Why frames are missing from the latest `read`; None if all came.
        decoded: Number of packets that the latest `read` gave to the decoder.
    """

    def __init__(self, index: VideoIndex, *, threads: int = 0) -> None:
        self.fault: str | None = None
        self.decoded = 0
        self._index = index
        self._size_change: Remark | None = None
        self._threads = threads
        self._converter = RgbConverter(index.rotation, index.mirrored, index.depth)

    @property
    def remarks(self) -> list[Remark]:
        """What is unusual about the video and the frames read so far, once for each kind."""
        size_change = [self._size_change] if self._size_change else []
        return [*self._index.remarks, *size_change, *self._converter.remarks]

    def read(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield each requested frame once, in order.

        Frames that are damaged, or may depend on a damaged one, are skipped; `fault` then says why.

        Args:
            indices: Positions in the index, ascending.

        Raises:
            DataError: The file can no longer be opened.
            UsageError: `indices` is not ascending, or outside the index.
        """
        frames = self._check(indices)
        self.fault, self.decoded = None, 0
        return self._read(frames)

    def _read(self, frames: list[int]) -> Iterator[Frame]:
        missing, last = dict.fromkeys(frames), None
        decoding = choose_decoding(self._index, self._threads)
        damage = None
        for number, decoded in decoding.decode(frames):
            self.decoded = decoding.sent
            if last is not None and number < last.index:
                damage = damage or "time stamps contradict the order of the frames"
                continue
            try:
                pixels = self._converter.convert(decoded)
            except FFmpegError as error:
                damage = damage or describe_error(error)
                continue
            del missing[number]
            last = Frame(number, self._index.time(number), pixels)
            self._remark_on(last)
            yield last
        self.decoded = decoding.sent
        if missing:
            self.fault = _describe_missing(self._index, list(missing), last, decoding.damage or damage)

    def _remark_on(self, frame: Frame) -> None:
        height, width = frame.pixels.shape[:2]
        first = self._index.width, self._index.height
        if (width, height) != first and self._size_change is None:
            self._size_change = size_changes(first, (width, height), frame.time_s)

    def _check(self, indices: Sequence[int]) -> list[int]:
        frames = [int(frame) for frame in indices]
        place = self._index.path
        if any(a > b for a, b in pairwise(frames)):
            raise UsageError("frame indices are not in ascending order", place=place)
        for frame in (frames[0], frames[-1]) if frames else ():
            if not 0 <= frame < self._index.frames:
                raise UsageError(
                    "frame index is out of range", place=place, got=frame, expected=f"0 to {self._index.frames - 1}"
                )
        return list(dict.fromkeys(frames))


def _describe_missing(index: VideoIndex, missing: list[int], last: Frame | None, damage: str | None) -> str:
    damage = damage or "the decoder shows fewer frames than the file contains"
    if last is None:
        return f"no frame can be read: {damage}"
    if missing[0] > last.index:
        return f"stops after {float(last.time_s):.2f} s: {damage}"
    at_s = float(index.time(missing[0]))
    count = "1 frame is" if len(missing) == 1 else f"{len(missing)} frames are"
    return f"{count} missing, the first at {at_s:.2f} s: {damage}"
