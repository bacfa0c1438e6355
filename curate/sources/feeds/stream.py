"""Connections to streams through FFmpeg: RTSP, HTTP, RTMP, UDP and others."""

import logging
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack
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

from curate.sources.containers import STREAM_FORMATS, VIDEO_FORMATS
from curate.sources.feeds.address import LiveAddress
from curate.sources.feeds.checking_proxy import CheckingProxy
from curate.sources.feeds.feed import LiveFrame, LiveSourceError
from curate.sources.feeds.ffmpeg_errors import (
    NO_CODEC,
    NO_VIDEO,
    as_ffmpeg_error,
    describe_open_error,
    describe_stream_error,
)
from curate.sources.video.container import READ_ERRORS, choose_stream, is_picture, prepare_decoder
from curate.sources.video.pictures import RgbConverter, read_orientation
from curate.sources.video.remarks import Remark

logger = logging.getLogger(__name__)
_HTTP = "http,tcp,crypto"  # the proxy encrypts
# no local files, whatever a playlist or a redirect names
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
# only a server whose every address is checked may name others
_FORMATS = {
    "rtsp": f"{VIDEO_FORMATS},rtsp,rtp,sdp",
    "rtsps": f"{VIDEO_FORMATS},rtsp,rtp,sdp",
    "http": STREAM_FORMATS,
    "https": STREAM_FORMATS,
    "rtp": f"{VIDEO_FORMATS},rtp,sdp",
}
_RTSP_OPTIONS = {"rtsp_transport": "tcp+udp", "rtsp_flags": "prefer_tcp", "allowed_media_types": "video"}
_SEGMENTED = frozenset({"hls", "dash"})  # formats whose files hold seconds of frames each
_BUSY_WINDOW_S = 5.0  # frames are skipped after this time without a pause
_MIN_IDLE_SHARE = 0.02
_MIN_WAIT_S = 0.002  # a packet that took less was in a buffer
_CLOCK_JUMP_S = 5.0


class StreamEndedError(LiveSourceError):
    """The stream ended without an error."""


class StreamOpener:
    """Connects to one stream; see `Opener`.

    Args:
        address: Of the stream.
        open_timeout_s: Seconds to connect, and again to find out what the stream contains.
        stall_s: Seconds without a packet after which the connection counts as dead.
    """

    def __init__(self, address: LiveAddress, *, open_timeout_s: float, stall_s: float) -> None:
        self.name = address.shown
        self._address, self._open_timeout_s, self._stall_s = address, open_timeout_s, stall_s

    def open(self) -> "StreamConnection":
        """See `Opener.open`."""
        started_s = time.monotonic()
        over_http = self._address.scheme in ("http", "https")
        with ExitStack() as stack:
            proxy = CheckingProxy(self._address.text, self._open_timeout_s, self._stall_s) if over_http else None
            if proxy is not None:
                stack.callback(proxy.close)
            try:
                container = av.open(
                    proxy.link if proxy else self._address.text,
                    options=self._make_options() | ({"http_proxy": proxy.url} if proxy else {}),
                    timeout=(self._open_timeout_s, self._stall_s),
                    metadata_errors="replace",
                )
            except READ_ERRORS as error:
                elapsed_s = time.monotonic() - started_s
                _raise_refusal(proxy)
                reason = as_ffmpeg_error(proxy.error) if proxy and proxy.error else error
                raise describe_open_error(self._address, reason, elapsed_s, self._open_timeout_s) from None
            stack.callback(container.close)
            stream = self._prepare(container)
            stack.pop_all()
        context = stream.codec_context
        logger.info(
            "%s: connected in %.1f s: %s, %s, %d×%d",
            self.name, time.monotonic() - started_s, container.format.name, context.name, context.width, context.height,
        )  # fmt: skip
        return StreamConnection(container, stream, self._stall_s, proxy)

    def _make_options(self) -> dict[str, str]:
        stall_us = str(round(self._stall_s * 1e6))
        options = {
            "protocol_whitelist": _PROTOCOLS[self._address.scheme],
            "format_whitelist": _FORMATS.get(self._address.scheme, VIDEO_FORMATS),
            "rw_timeout": stall_us,
            "fpsprobesize": "0",  # the frame rate is not needed
        }
        if self._address.scheme in ("rtsp", "rtsps"):
            options |= _RTSP_OPTIONS | {"timeout": stall_us}
        return options

    def _prepare(self, container: InputContainer) -> VideoStream:
        if is_picture(container):
            raise LiveSourceError("the URL leads to a picture or a text, not a video")
        stream = choose_stream(container, None)
        if stream is None:
            raise LiveSourceError(NO_VIDEO)
        if stream.codec_context is None or not stream.time_base:
            raise LiveSourceError(NO_CODEC)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        prepare_decoder(stream.codec_context, threads=0)
        return stream


class StreamConnection:
    """An open stream; see `Connection`.

    Attributes:
        stream: The video stream.
        duration_s: Duration in seconds; None where unknown, as for live streams.
        is_finite: Whether it is a file on a web server.
        damage: The first damage so far; None without.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        stall_s: float,
        proxy: CheckingProxy | None,
    ) -> None:
        self.stream = stream
        self.damage: str | None = None
        self.duration_s = _find_duration(container, stream)
        is_segmented = container.format.name in _SEGMENTED
        self._proxy = proxy
        self.is_finite = proxy is not None and (bool(self.duration_s) or (not is_segmented and container.size > 0))
        self._container, self._stall_s = container, stall_s
        self._packets = cast(Generator[av.Packet, None, None], container.demux(stream))
        self._converter: RgbConverter | None = None
        self._flushed = False
        self._pace = Pace() if is_segmented else None
        self._backlog = Backlog(time.monotonic())

    def read(self) -> list[LiveFrame]:
        """See `Connection.read`. Damaged frames, and those skipped to keep up, come without a picture."""
        started_s = time.monotonic()
        packet = self._next_packet()
        if packet is None:
            return [self._make_frame(frame) for frame in self._decode(None)]
        now_s = time.monotonic()
        if self._pace is None and not self._backlog.should_decode(packet.is_keyframe, now_s - started_s, now_s):
            return [LiveFrame(None)]
        return [self._make_frame(frame) for frame in self._decode(packet)]

    def read_frames(self) -> list[VideoFrame]:
        """Return the undamaged frames of the next packet.

        Raises:
            StreamEndedError: The stream ended.
            LiveSourceError: No packet came for too long, or the connection failed.
        """
        return [frame for frame in self._decode(self._next_packet()) if not frame.is_corrupt]

    def time_of(self, frame: VideoFrame) -> Fraction | None:
        """Seconds on the stream's own clock; None where the frame has no time stamp."""
        if frame.pts is None or self.stream.time_base is None:
            return None
        return frame.pts * self.stream.time_base

    def convert(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert to H×W×3 uint8 RGB, upright.

        Raises:
            LiveSourceError: The frame's pixel format cannot be converted.
        """
        try:
            if self._converter is None:
                self._converter = RgbConverter(*read_orientation(frame))
            return self._converter.convert(frame)
        except FFmpegError as error:
            raise LiveSourceError(f"frames cannot be converted to RGB (pixel format {frame.format.name})") from error

    @property
    def remarks(self) -> Sequence[Remark]:
        """What was unusual about the frames so far."""
        return self._converter.remarks if self._converter else ()

    def close(self) -> None:
        """Close the connection."""
        self._packets.close()
        self._container.close()
        if self._proxy is not None:
            self._proxy.close()

    def _next_packet(self) -> av.Packet | None:
        """The next packet; None once at the end, to flush the decoder."""
        started_s = time.monotonic()
        try:
            packet = next(self._packets, None)
            while packet is not None and not packet.size:
                packet = next(self._packets, None)
        except READ_ERRORS as error:
            _raise_refusal(self._proxy)
            if time.monotonic() - started_s >= self._stall_s or isinstance(error, ExitError):
                raise LiveSourceError(f"no data for {self._stall_s:g} s", kind="stalled") from None
            raise LiveSourceError(describe_stream_error(error)) from None
        if packet is None:
            _raise_refusal(self._proxy)
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

    def _make_frame(self, frame: VideoFrame) -> LiveFrame:
        if frame.is_corrupt:
            return LiveFrame(None)
        if self._converter is None:
            self.convert(frame)  # raises here rather than in the thread that takes the picture
        stamp = self.time_of(frame)
        due_in_s = 0.0
        if self._pace is not None and stamp is not None:
            due_in_s = self._pace.due_in_s(float(stamp), time.monotonic())
        return LiveFrame(partial(self.convert, frame), due_in_s)


class Backlog:
    """Decides which packets to decode, so that a slow decoder stays close to the present.

    A packet that is available at once may come from a buffer. If hardly any packet had to be waited for, the buffers
    are filling and the latency grows. Then only keyframes are decoded, up to the first one after the buffers are empty.
    """

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._waited_s = 0.0
        self._is_skipping = False
        self._caught_up = False

    def should_decode(self, is_keyframe: bool, waited_s: float, now_s: float) -> bool:
        """Decide about the next packet.

        Args:
            is_keyframe: Whether decoding can start with it.
            waited_s: How long it took to arrive.
            now_s: Monotonic time.
        """
        window_is_over = now_s - self._since_s >= _BUSY_WINDOW_S
        if self._is_skipping:
            self._caught_up = self._caught_up or waited_s > _MIN_WAIT_S
            # the window ends skipping too, since streams with gradual refresh have no keyframes
            if window_is_over or (is_keyframe and self._caught_up):
                self._start_window(now_s, is_skipping=False)
                return True
            return is_keyframe
        self._waited_s += waited_s
        if window_is_over:
            is_busy = self._waited_s < _MIN_IDLE_SHARE * (now_s - self._since_s)
            self._start_window(now_s, is_skipping=is_busy)
        return True

    def _start_window(self, now_s: float, *, is_skipping: bool) -> None:
        if is_skipping:
            logger.info("decoder is too slow for the stream: decoding keyframes only until it has caught up")
        self._since_s, self._waited_s, self._is_skipping, self._caught_up = now_s, 0.0, is_skipping, False


class Pace:
    """Computes when frames are due that arrive many at once, as in HLS, where each file holds seconds of them."""

    def __init__(self) -> None:
        self._offset_s: float | None = None

    def due_in_s(self, stamp_s: float, now_s: float) -> float:
        """Seconds until a frame is due; 0 for a late one, and after a jump of the stream's clock."""
        offset_s = now_s - stamp_s
        if self._offset_s is None or abs(offset_s - self._offset_s) > _CLOCK_JUMP_S:
            self._offset_s = offset_s
        return max(0.0, self._offset_s - offset_s)


def _raise_refusal(proxy: CheckingProxy | None) -> None:
    """Raise if the server has named a host that is not contacted; FFmpeg's own error would be a 403."""
    if proxy is not None and proxy.refusal:
        remedy = "If the video is there, name that address itself."
        raise LiveSourceError(f"the server leads to another host: {proxy.refusal}", remedy=remedy)


def _find_duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None
