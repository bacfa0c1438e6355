"""`index_video`: all frames of a video with their times, from its packets, mostly without decoding them."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from curate.errors import DataError
from curate.sources.video.container import READ_ERRORS, list_streams, open_video, prepare_decoder
from curate.sources.video.options import ReadOptions
from curate.sources.video.packets import Findings, Packets, find_gaps, read_packets, tabulate_packets
from curate.sources.video.pictures import read_orientation
from curate.sources.video.remarks import Remark, assumed_rate, not_square, rate_not_used, several_streams


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The frames that a full decode of a video shows.

    Attributes:
        path: The file.
        stream: Number of the stream in its container.
        codec: FFmpeg's name: `h264`, `av1`.
        width: Upright width of the first frame in stored pixels, which need not be square.
        height: Upright height of the first frame in stored pixels.
        rotation: 0, 90, 180 or 270: degrees clockwise that turn a stored frame upright.
        mirrored: Whether a stored frame has to be mirrored left to right before it is turned.
        pixel_aspect: Width of a stored pixel divided by its height.
        time_base: Seconds per unit of `pts`.
        pts: (n,) int64, presentation time stamps, ascending.
        is_keyframe: (n,) bool.
        last_duration: Duration of the last frame, in units of `pts`.
        fault: Why the index ends before the file does; None where it does not.
        packets: How to reach each frame; None where frames can only be counted by decoding from the first one on.
        remarks: What is unusual about the video, as far as it is known without decoding.
        depth: Bits that samples of 16 bits really use; None: all of them.
    """

    path: Path
    stream: int
    codec: str
    width: int
    height: int
    rotation: int
    mirrored: bool
    pixel_aspect: Fraction
    time_base: Fraction
    pts: NDArray[np.int64]
    is_keyframe: NDArray[np.bool_]
    last_duration: int
    fault: str | None
    packets: Packets | None
    remarks: tuple[Remark, ...] = ()
    depth: int | None = None

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.pts)

    @cached_property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return float(self.time(self.frames))

    @cached_property
    def fps(self) -> float | None:
        """Average frames per second; None for a single frame."""
        span_s = self.time(self.frames - 1)
        return float((self.frames - 1) / span_s) if span_s else None

    def time(self, frame: int) -> Fraction:
        """Return the exact seconds from the first frame to this one; `time(frames)` is the end of the last."""
        stamp = self.pts[frame] if frame < self.frames else self.pts[-1] + self.last_duration
        return int(stamp - self.pts[0]) * self.time_base

    def frame_at(self, time_s: Fraction) -> int:
        """Return the last frame at or before a time; -1 for negative times."""
        stamp = int(self.pts[0]) + time_s / self.time_base // 1
        return int(np.searchsorted(self.pts, stamp, side="right")) - 1


def index_video(path: str | os.PathLike[str], options: ReadOptions | None = None) -> VideoIndex:
    """Find the frames of a video by reading it once, without decoding.

    Of several video streams the container's best is taken, never a cover picture. Where packets alone do not determine
    the frames (missing time stamps, separately coded fields, a start within a scene, a codec that is not parsed here),
    the whole video is decoded instead.

    Args:
        path: Of the file.
        options: Which stream to read, and what the file does not tell; None: the defaults.

    Raises:
        DataError: The file cannot be read, is not a video, or has no such stream or no frames.
    """
    path, options = Path(path), options or ReadOptions()
    with open_video(path, ordinal=options.stream) as (container, stream):
        streams = list_streams(container)
        contexts = [one.codec_context for one in streams]  # None where FFmpeg has no decoder
        sizes = [(one.width, one.height) if one else (0, 0) for one in contexts]
        taken = 1 + streams.index(stream)
        findings = read_packets(container, stream, options.rate)
    if not findings.rows:
        raise DataError(_add_reason("the video has no frames", findings.fault), place=path)
    table = tabulate_packets(findings.rows, findings.time_base) if findings.predictable else None
    if table is None or findings.sample is None or not len(table.frames):
        index = _index_by_decoding(path, findings)
    else:
        index = _index_by_packets(path, findings, findings.sample, table)
    remarks = [
        several_streams(sizes, taken) if len(sizes) > 1 and options.stream is None else None,
        not_square(index.pixel_aspect, index.width, index.height),
        None if findings.is_rate_known else assumed_rate(findings.rate),
        rate_not_used() if options.rate is not None and findings.has_times else None,
    ]
    return replace(index, remarks=tuple(one for one in remarks if one), depth=options.depth)


def _add_reason(fact: str, reason: str | None) -> str:
    return f"{fact}: {reason}" if reason else fact


def _index_by_packets(path: Path, findings: Findings, sample: VideoFrame, table: Packets) -> VideoIndex:
    pts = table.pts[table.frames]
    is_keyframe = np.array([row.is_keyframe for row in findings.rows])[table.frames]
    if not findings.has_times and len({row.duration for row in findings.rows}) == 1:
        # the time stamps are FFmpeg's, which counts the first frame of MPEG-1 twice
        even = np.arange(len(pts), dtype=np.int64)
        return _describe(path, findings, sample, 1 / findings.rate, even, is_keyframe, 1, table)
    last_duration = findings.rows[int(table.frames[-1])].duration or _typical_gap(
        pts, findings.rate, findings.time_base
    )
    return _describe(path, findings, sample, findings.time_base, pts, is_keyframe, last_duration, table)


def _index_by_decoding(path: Path, findings: Findings) -> VideoIndex:
    """Decode everything; packets are still used where each frame has the time stamp of exactly one of them."""
    shown: list[_Shown] = []
    sample = None
    with open_video(path, findings.stream) as (container, stream):
        prepare_decoder(stream.codec_context, threads=0)
        for frame in _decode_all(container, stream, len(findings.rows)):
            sample = sample or frame
            shown.append(_Shown(frame.pts, frame.dts, frame.key_frame))
    if sample is None:
        raise DataError(_add_reason("no frame of the video can be decoded", findings.fault), place=path)
    stamps = [frame.pts for frame in shown]
    if _ascend(stamps):
        table = tabulate_packets(findings.rows, findings.time_base, {stamp for stamp in stamps if stamp is not None})
        if table is not None:
            return _index_by_packets(path, findings, sample, table)
    time_base, pts = _number(shown, findings)
    is_keyframe = np.array([frame.is_keyframe for frame in shown])
    gap = _typical_gap(pts, findings.rate, time_base)
    return _describe(path, findings, sample, time_base, pts, is_keyframe, gap, None)


class _Shown(NamedTuple):
    pts: int | None
    dts: int | None
    is_keyframe: bool


def _decode_all(container: InputContainer, stream: VideoStream, packets: int) -> Iterator[VideoFrame]:
    """Yield every frame of the first `packets` packets; damaged packets give none."""
    count = 0
    with suppress(*READ_ERRORS):
        for packet in container.demux(stream):
            if packet.size:
                count += 1
                with suppress(FFmpegError):
                    yield from stream.codec_context.decode(packet)
            if count == packets:
                break
    with suppress(FFmpegError):
        yield from stream.codec_context.decode(None)


def _number(shown: list[_Shown], findings: Findings) -> tuple[Fraction, NDArray[np.int64]]:
    """Return time base and time stamps: the frames' own if they ascend, else decode times, else by the nominal rate."""
    for stamps in ([frame.pts for frame in shown], [frame.dts for frame in shown]):
        if _ascend(stamps):
            return findings.time_base, np.array(stamps, dtype=np.int64)
    return 1 / findings.rate, np.arange(len(shown), dtype=np.int64)


def _ascend(stamps: list[int | None]) -> bool:
    return None not in stamps and all(a is not None and b is not None and a < b for a, b in pairwise(stamps))


def _typical_gap(pts: NDArray[np.int64], rate: Fraction, time_base: Fraction) -> int:
    return int(np.median(np.diff(pts))) if len(pts) > 1 else round(1 / rate / time_base)


def _describe(
    path: Path,
    findings: Findings,
    sample: VideoFrame,
    time_base: Fraction,
    pts: NDArray[np.int64],
    is_keyframe: NDArray[np.bool_],
    last_duration: int,
    packets: Packets | None,
) -> VideoIndex:
    rotation, mirrored = read_orientation(sample)
    sideways = rotation in (90, 270)
    return VideoIndex(
        path=path,
        stream=findings.stream,
        codec=findings.codec,
        width=sample.height if sideways else sample.width,
        height=sample.width if sideways else sample.height,
        rotation=rotation,
        mirrored=mirrored,
        pixel_aspect=findings.pixel_aspect,
        time_base=time_base,
        pts=pts,
        is_keyframe=is_keyframe,
        last_duration=last_duration,
        fault=_join(_describe_gaps(pts, time_base), findings.fault),
        packets=packets,
    )


def _describe_gaps(pts: NDArray[np.int64], time_base: Fraction) -> str | None:
    gaps = find_gaps(pts, time_base)
    if not len(gaps):
        return None
    missing_s = float(int((pts[gaps] - pts[gaps - 1]).sum()) * time_base)
    at_s = float(int(pts[gaps[0] - 1] - pts[0]) * time_base)
    return f"{missing_s:.2f} s are missing, the first after {at_s:.2f} s"


def _join(*faults: str | None) -> str | None:
    return "; ".join(fault for fault in faults if fault) or None
