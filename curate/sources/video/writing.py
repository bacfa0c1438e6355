"""`VideoWriter`: H.264 in MP4 frame by frame, with exact time stamps, orientation, and the audio of another file.

Until it is closed, the file is `.NAME.part.mp4` beside its place, written in fragments, so that it plays after a kill.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from curate.errors import CurateError, DataError, UsageError
from curate.growing_files import PartFile, keep_parts
from curate.sources.video.container import READ_ERRORS, describe_error, open_container

SUFFIX = ".mp4"
_LEAST_BYTES = 1024  # a header without a frame is shorter
_MAX_TICKS_PER_S = 1_000_000  # MP4 stores times in 32 bits
# no B-frames, which delay by a frame and lose the last frame's duration; no lookahead, which delays by ten
_ENCODER_OPTIONS = {"preset": "veryfast", "crf": "21", "bf": "0", "rc-lookahead": "0", "forced-idr": "1"}
_MAX_FRAGMENT_S = 10  # between keyframes: what a kill can cost
_MAX_FRAGMENT_FRAMES = 600
_COPIED_CODECS = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})  # players support these in MP4
_AAC_SAMPLES = 1024  # per frame
_AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})
_DEFAULT_RATE = 48_000


def check_place(path: Path) -> None:
    """Check that a video can be written to a path.

    Raises:
        UsageError: The suffix is not `.mp4`, or the folder does not exist.
    """
    if path.suffix.lower() != SUFFIX:
        raise UsageError("unsupported video format", place=path, expected=f"a name that ends in {SUFFIX}")
    if not path.parent.is_dir():
        raise UsageError("folder does not exist", place=path.parent, remedy="Create it first.")


def keep_interrupted_videos(folder: Path) -> list[Path]:
    """Give names of their own to the parts of videos that killed processes left in a folder, and return them."""
    return keep_parts(folder, SUFFIX, least_bytes=_LEAST_BYTES)


class VideoWriter:
    """Writes one file; frames of another size than the first are scaled to fit into it, with black bars.

    Args:
        path: Of the file; must end in `.mp4`.
        time_base: Seconds per tick of the time stamps.
        rate: Frames per second, approximately; the time stamps decide.
        rotation: 0, 90, 180 or 270: degrees clockwise by which players turn stored frames; `write` takes upright ones.
        mirrored: Whether players mirror stored frames left to right before.
        pixel_aspect: Width of a stored pixel divided by its height.
        audio_from: Video whose audio is added, at its own times.
        replace: Whether a file at its place is replaced; otherwise the video gets a name beside it.
        on_kept: Called with the path of what an earlier writer of this file left when it was killed.
        on_moved: Called with the path that the video gets, where another process writes one with its name.

    Attributes:
        path: As given; once it is closed, that of the finished file.
        fault: Why audio is missing; None where it is complete.

    Raises:
        UsageError: The suffix is not `.mp4`, or the folder does not exist.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        time_base: Fraction,
        rate: Fraction,
        rotation: int = 0,
        mirrored: bool = False,
        pixel_aspect: Fraction = Fraction(1),
        audio_from: Path | None = None,
        replace: bool = True,
        on_kept: Callable[[Path], None] = lambda _: None,
        on_moved: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self.path = Path(path)
        self.fault: str | None = None
        self._rotation, self._mirrored, self._rate = rotation, mirrored, rate
        self._pixel_aspect = pixel_aspect
        self._key_s: Fraction | None = None  # of the latest keyframe
        self._first_s = self._end_s = Fraction(0)
        self._time_base = max(time_base, Fraction(1, _MAX_TICKS_PER_S)) if time_base.numerator == 1 else time_base
        self._given_base = time_base
        self._part: PartFile | None = None
        self._replace, self._on_kept, self._on_moved = replace, on_kept, on_moved
        self._audio_from = audio_from
        self._audio: list[_AudioTrack] = []
        self._container: OutputContainer | None = None
        self._is_closed = False
        self._durations: dict[int, int] = {}
        check_place(self.path)

    def write(self, pixels: NDArray[np.uint8], pts: int, duration: int) -> None:
        """Add a frame.

        Args:
            pixels: H×W×3 uint8 RGB, upright.
            pts: Time stamp in ticks of the time base; later than the previous one.
            duration: Duration in ticks.

        Raises:
            DataError: The file cannot be written, as on a full disk.
        """
        if self._is_closed:
            raise UsageError("the video is closed", place=self.path)
        try:
            container = self._container = self._container or self._open(pixels)
            frame = self._encodable(pixels)
            frame.pts = round(pts * self._given_base / self._time_base)
            frame.time_base = self._time_base
            self._durations[frame.pts] = max(round(duration * self._given_base / self._time_base), 1)
            self._end_s = (pts + duration) * self._given_base
            self._set_keyframe(frame, pts * self._given_base)
            self._mux_audio(container, pts * self._given_base)
            self._mux(container, self._stream.encode(frame))
        except (FFmpegError, OSError, CurateError) as error:
            self._is_closed = True  # FFmpeg crashes if it is written to again
            self._abandon()
            raise self._write_error(error) from error

    def close(self, *, whole: bool = True) -> None:
        """Finish the file and move it to its place; without frames there is no file. May be called again.

        Args:
            whole: Whether the audio continues to its own end; otherwise it ends with the last frame.

        Raises:
            DataError: The file cannot be written, as on a full disk.
        """
        is_closed, self._is_closed = self._is_closed, True
        container = self._container
        if is_closed or container is None:
            return
        try:
            self._mux(container, self._stream.encode(None))
            self._mux_audio(container, None if whole else self._end_s)
            container.close()
            if self._part is not None:
                self.path = self._part.finish(replace=self._replace)
        except (FFmpegError, OSError) as error:
            raise self._write_error(error) from error
        finally:
            self._abandon()

    def _abandon(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            with suppress(FFmpegError, OSError):
                container.close()
        for track in self._audio:
            track.close()
        if self._part is not None:
            self._part.close()

    def _set_keyframe(self, frame: VideoFrame, time_s: Fraction) -> None:
        """Set keyframes by time, the first ones closer together: frames before a keyframe survive a kill."""
        if self._key_s is None:
            self._first_s = self._key_s = time_s
        elif time_s - self._key_s >= min(max(self._key_s - self._first_s, 1), _MAX_FRAGMENT_S):
            frame.pict_type = PictureType.I
            self._key_s = time_s

    def _open(self, first: NDArray[np.uint8]) -> OutputContainer:
        height, width = first.shape[1::-1] if self._rotation in (90, 270) else first.shape[:2]
        options = {
            "movflags": "hybrid_fragmented+delay_moov",
            "movie_timescale": str(self._time_base.denominator),  # otherwise a late start is rounded to milliseconds
            "flush_packets": "1",
        }
        self._part = PartFile(self.path, suffix=SUFFIX, least_bytes=_LEAST_BYTES, beside=not self._replace)
        if self._part.place != self.path:
            self._on_moved(self._part.place)
        if self._part.kept is not None:
            self._on_kept(self._part.kept)
        container = av.open(str(self._part.path), "w", format="mp4", options=options)
        stream = container.add_stream("libx264", rate=self._rate, options=_ENCODER_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.gop_size = _MAX_FRAGMENT_FRAMES
        stream.time_base = stream.codec_context.time_base = self._time_base
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG  # the matrix that OpenCV uses
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        if self._pixel_aspect != 1:
            stream.sample_aspect_ratio = self._pixel_aspect
        if self._rotation or self._mirrored:
            # FFmpeg turns first, then mirrors
            degrees = self._rotation if self._mirrored else -self._rotation
            stream.set_display_rotation(degrees, hflip=self._mirrored)
        self._stream = stream
        if self._audio_from is not None:
            self._audio = _open_audio(self._audio_from, container)
        return container

    def _encodable(self, pixels: NDArray[np.uint8]) -> VideoFrame:
        """Convert to the stored form, with even sides: odd ones repeat the last line."""
        if self._rotation:
            pixels = np.rot90(pixels, self._rotation // 90)
        if self._mirrored:
            pixels = pixels[:, ::-1]
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if pixels.shape[:2] != (self._stream.height, self._stream.width):
            pixels = _fit(pixels, self._stream.width, self._stream.height)
        # FFmpeg's own conversion takes six times as long; OpenCV's takes the colour of every other pixel
        planes = np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
        return VideoFrame.from_ndarray(planes, format="yuv420p")

    def _mux(self, container: OutputContainer, packets: list[av.Packet]) -> None:
        for packet in packets:
            if packet.pts is not None:
                packet.duration = self._durations.pop(packet.pts, packet.duration)
            container.mux(packet)

    def _mux_audio(self, container: OutputContainer, until_s: Fraction | None) -> None:
        for track in self._audio:
            for packet in track.take(until_s):
                container.mux(packet)
            self.fault = self.fault or track.fault

    def _write_error(self, error: Exception) -> CurateError:
        if isinstance(error, CurateError):
            return error
        fact = f"cannot write the video: {getattr(error, 'strerror', None) or error}"
        remedy = f"What was written so far is in {self._part.path}." if self._part is not None else None
        return DataError(fact, place=self.path, remedy=remedy)


def _fit(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale a picture to fit into a size, with its aspect ratio, and centre it between black bars. H×W×3"""
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    fitted_width, fitted_height = (max(round(side * scale), 1) for side in pixels.shape[1::-1])
    left, top = (width - fitted_width) // 2, (height - fitted_height) // 2
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    canvas[top : top + fitted_height, left : left + fitted_width] = cv2.resize(
        pixels, (fitted_width, fitted_height), interpolation=interpolation
    )
    return canvas


def _open_audio(path: Path, target: OutputContainer) -> list["_AudioTrack"]:
    """Add all audio streams of a file to another as new streams."""
    with open_container(path) as container:
        numbers = [stream.index for stream in container.streams.audio if stream.codec_context is not None]
    return [_AudioTrack(path, number, target) for number in numbers]


class _AudioTrack:
    """One audio stream of a file, read while the video is written; copied where MP4 supports its codec, else as AAC.

    Args:
        path: Of the file.
        number: Number of the stream.
        target: Gets a new stream; nothing has been written to it yet.

    Attributes:
        fault: Why it ends early; None where it does not.
    """

    def __init__(self, path: Path, number: int, target: OutputContainer) -> None:
        self.fault: str | None = None
        self._stack = ExitStack()
        self._container = self._stack.enter_context(open_container(path))
        self._source: AudioStream = self._container.streams[number]  # pyright: ignore[reportAttributeAccessIssue]
        for other in self._container.streams:
            if other.index != number:
                other.discard = Discard.all
        if self._source.codec_context.codec.canonical_name in _COPIED_CODECS:
            self._stream = target.add_stream_from_template(self._source)
            packets = self._copy()
        else:
            rate = self._source.codec_context.sample_rate
            self._stream = target.add_stream("aac", rate=rate if rate in _AAC_RATES else _DEFAULT_RATE)
            # PCM files often have only the number of channels
            self._stream.codec_context.layout = "mono" if self._source.codec_context.channels == 1 else "stereo"
            packets = self._encode()
        self._packets = self._until_fault(packets)
        self._next: Packet | None = None

    def take(self, until_s: Fraction | None) -> Iterator[Packet]:
        """Yield the next packets that start before a time of the file; None: all that remain."""
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = packet
            if until_s is not None and (packet.pts or 0) * (packet.time_base or 1) >= until_s:
                return
            self._next = None
            yield packet

    def close(self) -> None:
        """Close the source file."""
        self._stack.close()

    def _until_fault(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        try:
            yield from packets
        except READ_ERRORS as error:
            self.fault = f"audio ends early: {describe_error(error)}"

    def _copy(self) -> Iterator[Packet]:
        for packet in self._container.demux(self._source):
            if packet.size and packet.pts is not None and not packet.is_corrupt:
                packet.stream = self._stream
                yield packet

    def _encode(self) -> Iterator[Packet]:
        context = self._stream.codec_context
        resampler = AudioResampler("fltp", context.layout, context.sample_rate, frame_size=_AAC_SAMPLES)
        for frame in self._container.decode(self._source):
            for part in resampler.resample(frame):
                yield from self._stream.encode(part)
        for part in resampler.resample(None):
            yield from self._stream.encode(part)
        yield from self._stream.encode(None)
