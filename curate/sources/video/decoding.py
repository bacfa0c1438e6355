"""Decoding no more of a video than the wanted frames need, and knowing which of them are damaged."""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from curate.sources.video.container import READ_ERRORS, describe_error, open_video, prepare_decoder
from curate.sources.video.index import VideoIndex
from curate.sources.video.packets import Packets

_LONG_GAP = 100  # packets; passing over one costs microseconds, a seek some hundred
_CUT_UP, _MARKED = "a packet is incomplete", "the decoder marks a frame as damaged"
_TORN = "packets are missing that they may depend on"


class Decoding(Protocol):
    """One pass over a video.

    Attributes:
        trouble: what is wrong with the first damaged packet that was met.
        sent: how many packets went to the decoder.
    """

    trouble: str | None
    sent: int

    def decode(self, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, frame) for the wanted frames that are whole."""
        ...


def choose_decoding(index: VideoIndex, threads: int) -> Decoding:
    """Planned where the packets of each frame are known, else in order."""
    return DecodingInOrder(index, threads) if index.packets is None else PlannedDecoding(index, index.packets, threads)


@dataclass
class Run:
    """A stretch of packets to decode in one go.

    Attributes:
        start: packet at which decoding begins.
        last: last packet that is needed.
        wanted: frame numbers by time stamp.
    """

    start: int
    last: int
    wanted: dict[int, int]


def plan_runs(packets: Packets, wanted: Sequence[int]) -> list[Run]:
    """The shortest stretches that hold the wanted frames, in order; what is between two of them is never decoded."""
    runs: list[Run] = []
    trailing = _count_unshown_after(packets.shown)
    for frame in wanted:
        place = int(packets.frames[frame])
        start, last = int(packets.starts[place]), place + int(trailing[place])
        if not runs or start > runs[-1].last:
            runs.append(Run(start, last, {}))
        runs[-1].last = max(runs[-1].last, last)
        runs[-1].wanted[int(packets.pts[place])] = frame
    return runs


def _count_unshown_after(shown: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many packets that show nothing follow each: the second field of a picture is one."""
    places = np.arange(len(shown))
    following = np.minimum.accumulate(np.where(shown, places, len(shown))[::-1])[::-1]
    return np.append(following[1:], len(shown)) - places - 1


class PlannedDecoding:
    """Decodes run by run.

    A frame is left out when a damaged packet lies between the last one that heals and its own: it may depend on it.
    Decoding goes on all the same, since what comes later may be whole again.
    """

    def __init__(self, index: VideoIndex, packets: Packets, threads: int) -> None:
        self.trouble: str | None = None
        self.sent = 0
        self._index, self._packets, self._threads = index, packets, threads

    def decode(self, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, frame) for the wanted frames that are whole."""
        with _Source(self._index, self._packets, self._threads) as source:
            for run in plan_runs(self._packets, wanted):
                yield from self._decode_run(run, source)

    def _decode_run(self, run: Run, source: "_Source") -> Iterator[tuple[int, VideoFrame]]:
        source.approach(run.start)
        table, context = self._packets, source.context
        queue = _Queue(run.wanted, table)
        try:
            for place, packet in source.between(run.start, run.last):
                stamp = int(table.pts[place])
                if table.starts[place] < run.start or (table.droppable[place] and stamp not in run.wanted):
                    continue
                self.sent += 1
                try:
                    if packet.is_corrupt or packet.pts != stamp:
                        raise ValueError(_CUT_UP if packet.is_corrupt else "the file has changed")
                    frames = context.decode(packet)
                except (FFmpegError, ValueError) as error:
                    queue.mark_broken(place)
                    self.trouble = self.trouble or describe_error(error)
                    continue
                if table.shown[place]:
                    queue.awaited[stamp] = place
                yield from queue.sift(frames)
                if queue.done:
                    break
            else:
                yield from queue.sift(context.decode(None))
                yield from queue.empty()
        except READ_ERRORS as error:
            self.trouble = self.trouble or describe_error(error)
        if queue.broken and self.trouble is None:
            self.trouble = _MARKED if len(queue.broken) > len(table.torn) else _TORN
        context.flush_buffers()


class DecodingInOrder:
    """Decodes everything from the first packet to the last wanted frame, which is known by its number alone.

    Damage costs the frames up to the next keyframe.
    """

    def __init__(self, index: VideoIndex, threads: int) -> None:
        self.trouble: str | None = None
        self.sent = 0
        self._index, self._threads = index, threads

    def decode(self, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, frame) for the wanted frames that are whole."""
        left, number, whole, ended = set(wanted), 0, True, False
        with open_video(self._index.path, self._index.stream) as (container, stream):
            prepare_decoder(stream.codec_context, self._threads)
            packets = container.demux(stream)
            while left and not ended:
                try:
                    packet = next(packets, None)
                    ended = packet is None or not packet.size
                    self.sent += not ended
                    if packet is not None and packet.is_corrupt:
                        whole, self.trouble = False, self.trouble or _CUT_UP
                    frames = stream.codec_context.decode(None if ended else packet)
                except READ_ERRORS as error:
                    whole = not number  # a recording may begin within a scene, with packets that show nothing
                    self.trouble = self.trouble or (describe_error(error) if number else None)
                    continue
                for frame in frames:
                    whole = not frame.is_corrupt and (whole or frame.key_frame)
                    if not whole:
                        self.trouble = self.trouble or _MARKED
                    if number in left:
                        left.discard(number)
                        if whole:
                            yield number, frame
                    number += 1


class _Queue:
    """What went into a decoder and has not come out, and frames that wait until all before them are known to be whole.

    A decoder may flag a damaged frame later than it shows frames that depend on it, hence the waiting.

    Args:
        wanted: frame numbers by time stamp.
        packets: of the stream.

    Attributes:
        awaited: packet of each frame to come, by time stamp.
        broken: damaged packets, and those before which some are missing, in decode order.
    """

    def __init__(self, wanted: dict[int, int], packets: Packets) -> None:
        self.awaited: dict[int, int] = {}
        self.broken: list[int] = packets.torn.tolist()
        self._wanted, self._heals = dict(wanted), packets.heals
        self._late: dict[int, int] = {}
        self._held: deque[tuple[int, int, VideoFrame]] = deque()

    @property
    def done(self) -> bool:
        """Whether all wanted frames have come."""
        return not self._wanted and not self._held

    def mark_broken(self, place: int) -> None:
        """Note a damaged packet."""
        insort(self.broken, place)

    def sift(self, frames: list[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
        """Take what the decoder gave; yield (number, frame) for those that are wanted and known to be whole."""
        for frame in frames:
            stamp = frame.pts
            if stamp is None or (stamp not in self.awaited and stamp not in self._late):
                continue
            place = self.awaited.pop(stamp) if stamp in self.awaited else self._late.pop(stamp)
            for passed in [other for other in self.awaited if other < stamp]:
                self._late[passed] = self.awaited.pop(passed)  # the decoder shows frames in order: it will not come
            if frame.is_corrupt:
                self.mark_broken(place)
            if stamp in self._wanted:
                self._held.append((self._wanted.pop(stamp), place, frame))
        if self._held:
            yield from self._release(min(self.awaited.values(), default=len(self._heals)))

    def empty(self) -> Iterator[tuple[int, VideoFrame]]:
        """Yield what still waits, now that nothing more comes."""
        yield from self._release(len(self._heals))

    def _release(self, end: int) -> Iterator[tuple[int, VideoFrame]]:
        while self._held and self._held[0][1] < end:
            number, place, frame = self._held.popleft()
            if bisect_right(self.broken, place) == bisect_left(self.broken, self._heals[place]):
                yield number, frame


class _Source:
    """Packets of one stream by their place, read forwards; going back opens the file again."""

    def __init__(self, index: VideoIndex, packets: Packets, threads: int) -> None:
        self._index, self._packets, self._threads = index, packets, threads
        self._stack = ExitStack()
        self._open()

    def __enter__(self) -> "_Source":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        self._stack.close()
        self._container, self._stream = self._stack.enter_context(open_video(self._index.path, self._index.stream))
        prepare_decoder(self._stream.codec_context, self._threads)
        self._stored: Iterator[Packet] = self._container.demux(self._stream)
        self._next = 0

    @property
    def context(self) -> VideoCodecContext:
        return self._stream.codec_context

    def approach(self, place: int) -> None:
        """Get ready to read from a place on, and the decoder to begin there."""
        if place < self._next:
            self._open()
        if place - self._next > _LONG_GAP:
            self._seek(place)

    def between(self, first: int, last: int) -> Iterator[tuple[int, Packet]]:
        """(place, packet) from first to last, inclusive.

        Raises:
            FFmpegError: the file cannot be read on.
        """
        for packet in self._stored:
            if not packet.size:
                continue
            place = self._next
            self._next += 1
            if place >= first:
                yield place, packet
            if place >= last:
                return

    def _seek(self, place: int) -> None:
        """Move to a packet shortly before a place; to the file's beginning where that does not work."""
        try:
            self._container.seek(int(self._packets.pts[place]), stream=self._stream)
            packet = next(self._stored, None)
            found = np.flatnonzero(self._packets.pts == packet.pts) if packet is not None else ()
        except (*READ_ERRORS, TypeError):
            packet, found = None, ()
        if packet is not None and len(found) == 1 and self._next <= found[0] <= place:
            self._next, self._stored = int(found[0]), chain([packet], self._stored)
        else:
            self._open()
