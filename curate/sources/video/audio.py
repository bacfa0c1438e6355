"""The audio of a video, on its way into another file: copied where MP4 holds its codec, else as AAC."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard

from curate.sources.video.container import READ_ERRORS, describe_error

_HELD_BY_MP4 = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})  # and known to players there
_AAC_SAMPLES = 1024  # of a frame
_AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})
_USUAL_RATE = 48_000


def open_audio(path: Path, target: OutputContainer) -> list["AudioTrack"]:
    """All audio streams of a file, as new streams of another."""
    with _open(path) as container:
        numbers = [stream.index for stream in container.streams.audio if stream.codec_context is not None]
    return [AudioTrack(path, number, target) for number in numbers]


class AudioTrack:
    """One audio stream of a file, read along while the video is written.

    Args:
        path: of the file.
        number: of the stream.
        target: gets a stream for it; nothing has been written there yet.

    Attributes:
        fault: why it ends early; None where it does not.
    """

    def __init__(self, path: Path, number: int, target: OutputContainer) -> None:
        self.fault: str | None = None
        self._stack = ExitStack()
        self._container = self._stack.enter_context(_open(path))
        self._source: AudioStream = self._container.streams[number]  # pyright: ignore[reportAttributeAccessIssue]
        for other in self._container.streams:
            if other.index != number:
                other.discard = Discard.all
        if self._source.codec_context.codec.canonical_name in _HELD_BY_MP4:
            self._stream = target.add_stream_from_template(self._source)
            packets = self._copy()
        else:
            rate = self._source.codec_context.sample_rate
            self._stream = target.add_stream("aac", rate=rate if rate in _AAC_RATES else _USUAL_RATE)
            # files of PCM often say only how many channels there are
            self._stream.codec_context.layout = "mono" if self._source.codec_context.channels == 1 else "stereo"
            packets = self._encode()
        self._packets = self._until_fault(packets)
        self._next: Packet | None = None

    def take(self, until_s: Fraction | None) -> Iterator[Packet]:
        """Yield what begins before a time of the file and was not taken yet; None: all the rest."""
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = packet
            if until_s is not None and (packet.pts or 0) * (packet.time_base or 1) >= until_s:
                return
            self._next = None
            yield packet

    def close(self) -> None:
        """Close the file that is read."""
        self._stack.close()

    def _until_fault(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        try:
            yield from packets
        except READ_ERRORS as error:
            self.fault = f"its audio ends early: {describe_error(error)}"

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


def _open(path: Path) -> InputContainer:
    return av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
