"""Decodes requested frames of a video and as little else as possible, and finds out which of them are damaged."""

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

_LONG_GAP = 100  # packets; skipping one takes a few microseconds, a seek some hundred
_INCOMPLETE_PACKET = "a packet is incomplete"
_MARKED_FRAME = "the decoder marks a frame as damaged"
_MISSING_PACKETS = "packets are missing on which frames may depend"


class Decoding(Protocol):
    """One pass over a video.

    Attributes:
        damage: Description of the first damage; None without.
        sent: Number of packets given to the decoder.
    """

    damage: str | None
    sent: int

    def decode(self, numbers: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, frame) for the requested frames that are intact."""
        ...


def choose_decoding(index: VideoIndex, threads: int) -> Decoding:
    """Plan the decoding where the packets of each frame are known; otherwise decode in order."""
    return DecodingInOrder(index, threads) if index.packets is None else PlannedDecoding(index, index.packets, threads)


@dataclass
class Pass:
    """A range of packets to decode in one go.

    Attributes:
        start: Packet where decoding starts.
        last: Last packet that is needed.
        frames: Numbers of the requested frames, by time stamp.
    """

    start: int
    last: int
    frames: dict[int, int]


def plan_passes(packets: Packets, numbers: Sequence[int]) -> list[Pass]:
    """Plan the shortest ranges that contain the requested frames, in order; packets between them are not decoded."""
    passes: list[Pass] = []
    trailing = _count_unshown_after(packets.shown)
    for number in numbers:
        place = int(packets.frames[number])
        start, last = int(packets.starts[place]), place + int(trailing[place])
        if not passes or start > passes[-1].last:
            passes.append(Pass(start, last, {}))
        passes[-1].last = max(passes[-1].last, last)
        passes[-1].frames[int(packets.pts[place])] = number
    return passes


def _count_unshown_after(shown: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of packets after each that show nothing, such as the second field of a frame."""
    places = np.arange(len(shown))
    following = np.minimum.accumulate(np.where(shown, places, len(shown))[::-1])[::-1]
    return np.append(following[1:], len(shown)) - places - 1


class PlannedDecoding:
    """Decodes pass by pass.

    A frame is skipped if a damaged packet lies between the last one that ends damage and its own, since it may depend
    on it. Decoding continues, since later frames may be intact.
    """

    def __init__(self, index: VideoIndex, packets: Packets, threads: int) -> None:
        self.damage: str | None = None
        self.sent = 0
        self._index, self._packets, self._threads = index, packets, threads

    def decode(self, numbers: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, frame) for the requested frames that are intact."""
        with _PacketReader(self._index, self._packets, self._threads) as reader:
            for one in plan_passes(self._packets, numbers):
                yield from self._decode_pass(one, reader)

    def _decode_pass(self, one: Pass, reader: "_PacketReader") -> Iterator[tuple[int, VideoFrame]]:
        reader.approach(one.start)
        table, context = self._packets, reader.context
        queue = _FrameQueue(one.frames, table)
        try:
            for place, packet in reader.between(one.start, one.last):
                stamp = int(table.pts[place])
                if table.starts[place] < one.start or (table.droppable[place] and stamp not in one.frames):
                    continue
                self.sent += 1
                try:
                    if packet.is_corrupt or packet.pts != stamp:
                        raise ValueError(_INCOMPLETE_PACKET if packet.is_corrupt else "the file has changed")
                    frames = context.decode(packet)
                except (FFmpegError, ValueError) as error:
                    queue.mark_damaged(place)
                    self.damage = self.damage or describe_error(error)
                    continue
                if table.shown[place]:
                    queue.expected[stamp] = place
                yield from queue.add(frames)
                if queue.done:
                    break
            else:
                yield from queue.add(context.decode(None))
                yield from queue.flush()
        except READ_ERRORS as error:
            self.damage = self.damage or describe_error(error)
        if queue.damaged and self.damage is None:
            self.damage = _MARKED_FRAME if len(queue.damaged) > len(table.torn) else _MISSING_PACKETS
        context.flush_buffers()


class DecodingInOrder:
    """Decodes everything from the first packet to the last requested frame; frames are identified by counting.

    Damage costs the frames up to the next keyframe.
    """

    def __init__(self, index: VideoIndex, threads: int) -> None:
        self.damage: str | None = None
        self.sent = 0
        self._index, self._threads = index, threads

    def decode(self, numbers: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, frame) for the requested frames that are intact."""
        remaining, number, intact, ended = set(numbers), 0, True, False
        with open_video(self._index.path, self._index.stream) as (container, stream):
            prepare_decoder(stream.codec_context, self._threads)
            packets = container.demux(stream)
            while remaining and not ended:
                try:
                    packet = next(packets, None)
                    ended = packet is None or not packet.size
                    self.sent += not ended
                    if packet is not None and packet.is_corrupt:
                        intact, self.damage = False, self.damage or _INCOMPLETE_PACKET
                    frames = stream.codec_context.decode(None if ended else packet)
                except READ_ERRORS as error:
                    intact = not number  # a recording may start within a scene, with packets that show nothing
                    self.damage = self.damage or (describe_error(error) if number else None)
                    continue
                for frame in frames:
                    intact = not frame.is_corrupt and (intact or frame.key_frame)
                    if not intact:
                        self.damage = self.damage or _MARKED_FRAME
                    if number in remaining:
                        remaining.discard(number)
                        if intact:
                            yield number, frame
                    number += 1


class _FrameQueue:
    """Frames that wait until all frames before them are known to be intact, and packets whose frames are still to come.

    The wait is needed because a decoder may mark a damaged frame after it has shown frames that depend on it.

    Args:
        frames: Numbers of the requested frames, by time stamp.
        packets: Of the stream.

    Attributes:
        expected: Packet of each frame to come, by time stamp.
        damaged: Damaged packets, and those right after missing ones, in decode order.
    """

    def __init__(self, frames: dict[int, int], packets: Packets) -> None:
        self.expected: dict[int, int] = {}
        self.damaged: list[int] = packets.torn.tolist()
        self._requested, self._heals = dict(frames), packets.heals
        self._late: dict[int, int] = {}
        self._held: deque[tuple[int, int, VideoFrame]] = deque()

    @property
    def done(self) -> bool:
        """Whether all requested frames have come."""
        return not self._requested and not self._held

    def mark_damaged(self, place: int) -> None:
        insort(self.damaged, place)

    def add(self, frames: list[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
        """Add decoded frames; yield (number, frame) for the requested ones that are known to be intact."""
        for frame in frames:
            stamp = frame.pts
            if stamp is None or (stamp not in self.expected and stamp not in self._late):
                continue
            place = self.expected.pop(stamp) if stamp in self.expected else self._late.pop(stamp)
            for skipped in [other for other in self.expected if other < stamp]:
                self._late[skipped] = self.expected.pop(skipped)  # frames come in order, so it will not come
            if frame.is_corrupt:
                self.mark_damaged(place)
            if stamp in self._requested:
                self._held.append((self._requested.pop(stamp), place, frame))
        if self._held:
            yield from self._release(min(self.expected.values(), default=len(self._heals)))

    def flush(self) -> Iterator[tuple[int, VideoFrame]]:
        """Yield the frames that still wait, at the end of the stream."""
        yield from self._release(len(self._heals))

    def _release(self, end: int) -> Iterator[tuple[int, VideoFrame]]:
        while self._held and self._held[0][1] < end:
            number, place, frame = self._held.popleft()
            if bisect_right(self.damaged, place) == bisect_left(self.damaged, self._heals[place]):
                yield number, frame


class _PacketReader:
    """Reads the packets of one stream by position, forwards; going back opens the file again."""

    def __init__(self, index: VideoIndex, packets: Packets, threads: int) -> None:
        self._index, self._packets, self._threads = index, packets, threads
        self._stack = ExitStack()
        self._open()

    def __enter__(self) -> "_PacketReader":
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
        """Move close to a packet, before decoding starts there."""
        if place < self._next:
            self._open()
        if place - self._next > _LONG_GAP:
            self._seek(place)

    def between(self, first: int, last: int) -> Iterator[tuple[int, Packet]]:
        """Yield (position, packet) from first to last, inclusive.

        Raises:
            FFmpegError: Reading fails.
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
        """Seek to a packet shortly before a position, or to the start of the file where that fails."""
        try:
            self._container.seek(int(self._packets.pts[place]), stream=self._stream)
            packet = next(self._stored, None)
            matches = np.flatnonzero(self._packets.pts == packet.pts) if packet is not None else ()
        except (*READ_ERRORS, TypeError):
            packet, matches = None, ()
        if packet is not None and len(matches) == 1 and self._next <= matches[0] <= place:
            self._next, self._stored = int(matches[0]), chain([packet], self._stored)
        else:
            self._open()
