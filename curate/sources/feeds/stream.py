"""Streams that FFmpeg can reach: RTSP, HTTP and its kin."""

import time
from collections.abc import Callable, Generator
from fractions import Fraction
from functools import partial
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.error import ExitError, FFmpegError
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from curate.sources.feeds.address import LiveAddress
from curate.sources.feeds.feed import LiveTroubleError, Shot
from curate.sources.feeds.ffmpeg_errors import NO_VIDEO, tell_error, tell_unopened
from curate.sources.video.container import READ_ERRORS, choose_stream, is_picture, prepare_decoder
from curate.sources.video.pictures import RgbConverter, read_orientation

_WINDOW_S = 5.0  # so long it must have been busy without a pause before frames are left out
_IDLE_SHARE = 0.02
_WAIT_S = 0.002  # less than this is no waiting for the network
_JUMP_S = 5.0


class Backlog:
    """Says which packets to decode, so that a decoder that is too slow stays near the present.

    A packet that is there at once may have lain in a buffer. Where hardly any had to be waited for, the buffers fill,
    and what is shown gets older and older: then only keyframes are decoded until the buffers are empty and the next
    keyframe comes.
    """

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._waited_s = 0.0
        self._skipping = False
        self._caught_up = False

    def admits(self, is_keyframe: bool, waited_s: float, now_s: float) -> bool:
        """Tell whether to decode the next packet.

        Args:
            is_keyframe: whether decoding can start with it.
            waited_s: how long it took to come.
            now_s: of the monotonic clock.
        """
        over = now_s - self._since_s >= _WINDOW_S
        if self._skipping:
            self._caught_up = self._caught_up or waited_s > _WAIT_S
            # a stream that is refreshed piece by piece has no keyframes at all
            if over or (is_keyframe and self._caught_up):
                self._begin(now_s, skipping=False)
                return True
            return is_keyframe
        self._waited_s += waited_s
        if over:
            self._begin(now_s, skipping=self._waited_s < _IDLE_SHARE * (now_s - self._since_s))
        return True

    def _begin(self, now_s: float, *, skipping: bool) -> None:
        self._since_s, self._waited_s, self._skipping, self._caught_up = now_s, 0.0, skipping, False


class Pace:
    """Says when frames are due that come in lumps, as in HLS, where each file holds seconds of them."""

    def __init__(self) -> None:
        self._offset_s: float | None = None

    def early_s(self, stamp_s: float, now_s: float) -> float:
        """Seconds to wait before a frame is shown; 0 where it is late, and after a jump of the stream's clock."""
        offset_s = now_s - stamp_s
        if self._offset_s is None or abs(offset_s - self._offset_s) > _JUMP_S:
            self._offset_s = offset_s
        return max(0.0, self._offset_s - offset_s)


_HTTP = "http,https,httpproxy,tls,tcp,crypto"
# no file of this machine, whatever a playlist or a redirection says
_PROTOCOLS = {
    "rtsp": "rtp,srtp,udp,tcp",
    "rtsps": "rtp,srtp,udp,tcp,tls",
    "http": _HTTP,
    "https": _HTTP,
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp",
    "udp": "udp",
    "rtp": "rtp,srtp,udp",
    "tcp": "tcp",
}
_IN_LUMPS = frozenset({"hls", "dash"})
_RTSP = {"rtsp_transport": "tcp+udp", "rtsp_flags": "prefer_tcp", "allowed_media_types": "video"}


class StreamEndedError(LiveTroubleError):
    """Nothing more comes, and nothing failed."""


class StreamConnection:
    """A stream that is open; see `Connection`.

    Attributes:
        duration_s: in seconds; None where it is not known, as of what goes on for ever.
        is_finite: whether it is a file, of a web server that gives all of it.
        stream: the one whose frames are read.
        damage: the first damage in what came so far.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        stall_s: float,
        over_http: bool,
        make_converter: Callable[[VideoFrame], RgbConverter],
    ) -> None:
        self.stream = stream
        self.damage: str | None = None
        self.duration_s = _find_duration(container, stream)
        in_lumps = container.format.name in _IN_LUMPS
        self.is_finite = over_http and (bool(self.duration_s) or (not in_lumps and container.size > 0))
        self._container, self._stall_s, self._make_converter = container, stall_s, make_converter
        self._packets = cast(Generator[av.Packet, None, None], container.demux(stream))
        self._converter: RgbConverter | None = None
        self._flushed = False
        self._pace = Pace() if in_lumps else None
        self._backlog = Backlog(time.monotonic())

    def read(self) -> list[Shot]:
        """Wait for what comes next; see `Connection.read`.

        Damaged frames, and those that are left out to keep up, only count.
        """
        began_s = time.monotonic()
        packet = self._next_packet()
        if packet is None:
            return [self._make_shot(frame) for frame in self._decode(None)]
        now_s = time.monotonic()
        if self._pace is None and not self._backlog.admits(packet.is_keyframe, now_s - began_s, now_s):
            return [Shot(None)]
        return [self._make_shot(frame) for frame in self._decode(packet)]

    def read_frames(self) -> list[VideoFrame]:
        """The next packet's frames that are whole.

        Raises:
            StreamEndedError: nothing more comes.
            LiveTroubleError: nothing came for too long, or the connection failed.
        """
        return [frame for frame in self._decode(self._next_packet()) if not frame.is_corrupt]

    def tell_time(self, frame: VideoFrame) -> Fraction | None:
        """Seconds on the stream's own clock; None where the frame has no stamp."""
        if frame.pts is None or self.stream.time_base is None:
            return None
        return frame.pts * self.stream.time_base

    def convert(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """H×W×3 uint8 RGB, upright.

        Raises:
            LiveTroubleError: the frame has a format that cannot be converted.
        """
        try:
            if self._converter is None:
                self._converter = self._make_converter(frame)
            return self._converter.convert(frame)
        except FFmpegError as error:
            raise LiveTroubleError(f"its frames cannot be converted to RGB ({frame.format.name})") from error

    def close(self) -> None:
        """Close the connection."""
        self._packets.close()
        self._container.close()

    def _next_packet(self) -> av.Packet | None:
        """None once after the last."""
        began_s = time.monotonic()
        try:
            packet = next(self._packets, None)
            while packet is not None and not packet.size:
                packet = next(self._packets, None)
        except READ_ERRORS as error:
            if time.monotonic() - began_s >= self._stall_s or isinstance(error, ExitError):
                raise LiveTroubleError(f"nothing came for {self._stall_s:g} s", kind="stalled") from None
            raise LiveTroubleError(tell_error(error)) from None
        if packet is None and self._flushed:
            raise StreamEndedError("the connection was closed")
        self._flushed = packet is None
        return packet

    def _decode(self, packet: av.Packet | None) -> list[VideoFrame]:
        try:
            frames = self.stream.codec_context.decode(packet)
        except READ_ERRORS:
            self.damage = self.damage or "the data are damaged"
            return []
        if any(frame.is_corrupt for frame in frames):
            self.damage = self.damage or "the decoder marks a frame as damaged"
        return frames

    def _make_shot(self, frame: VideoFrame) -> Shot:
        if frame.is_corrupt:
            return Shot(None)
        if self._converter is None:
            self.convert(frame)  # that it can be converted is found out here, not by whoever takes a picture
        stamp = self.tell_time(frame)
        early_s = 0.0
        if self._pace is not None and stamp is not None:
            early_s = self._pace.early_s(float(stamp), time.monotonic())
        return Shot(partial(self.convert, frame), early_s)


class StreamOpener:
    """Connects to one stream; see `Opener`. Frames of every connection have the size of the very first.

    Args:
        address: of the stream.
        open_s: seconds a connection may take, and as long again until it is known what is in it.
        stall_s: seconds without any packet after which it counts as dead.
    """

    def __init__(self, address: LiveAddress, *, open_s: float, stall_s: float) -> None:
        self.name = address.shown
        self._address, self._open_s, self._stall_s = address, open_s, stall_s
        self._upright: tuple[int, int] | None = None

    def open(self) -> StreamConnection:
        """Connect; see `Opener.open`."""
        began_s = time.monotonic()
        try:
            container = av.open(
                self._address.text,
                options=self._choose_options(),
                timeout=(self._open_s, self._stall_s),
                metadata_errors="replace",
            )
        except READ_ERRORS as error:
            raise tell_unopened(self._address, error, time.monotonic() - began_s, self._open_s) from None
        try:
            stream = self._prepare(container)
        except LiveTroubleError:
            container.close()
            raise
        return StreamConnection(
            container, stream, self._stall_s, self._address.scheme in ("http", "https"), self._make_converter
        )

    def _choose_options(self) -> dict[str, str]:
        stall_us = str(round(self._stall_s * 1e6))
        options = {
            "protocol_whitelist": _PROTOCOLS[self._address.scheme],
            "rw_timeout": stall_us,
            "fpsprobesize": "0",  # the frame rate is of no interest
        }
        if self._address.scheme in ("rtsp", "rtsps"):
            options |= _RTSP | {"timeout": stall_us}
        return options

    def _prepare(self, container: InputContainer) -> VideoStream:
        if is_picture(container):
            raise LiveTroubleError("it is a picture or a text, not a stream")
        stream = choose_stream(container, None)
        if stream is None:
            raise LiveTroubleError(NO_VIDEO)
        if stream.codec_context is None or not stream.time_base:
            raise LiveTroubleError("its video cannot be decoded: FFmpeg does not know the codec")
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        prepare_decoder(stream.codec_context, threads=0)
        return stream

    def _make_converter(self, frame: VideoFrame) -> RgbConverter:
        rotation, mirrored = read_orientation(frame)
        sideways = rotation in (90, 270)
        if self._upright is None:
            self._upright = (frame.height, frame.width) if sideways else (frame.width, frame.height)
        width, height = self._upright
        return RgbConverter(*((height, width) if sideways else (width, height)), rotation, mirrored)


def _find_duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None
