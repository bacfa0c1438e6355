"""The packets of a video in decode order: which frame each shows, where its decoding starts, what depends on it."""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from curate.sources.video.bitstreams import INTRA_ONLY, UNKNOWN, Role, RoleReader, is_field_coded, role_reader
from curate.sources.video.container import READ_ERRORS, describe_error

_UNKNOWN_RATE = Fraction(25)  # FFmpeg's default for raw streams without a rate
_NO_TIMESTAMPS = 0x80  # FFmpeg's AVFMT_NOTIMESTAMPS, of formats such as raw H.264
_MIN_INTERVALS = 20  # between frames, to judge whether they are even
_INTERVAL_TOLERANCE = 0.1  # as a share of the usual interval
_EVEN_SHARE = 0.9
_GAP_INTERVALS, _MIN_GAP_S = 8, 0.3  # a gap exceeds both: usual intervals, and seconds
_HEADER_TOLERANCE_S = 0.5  # by which a header may exceed the last frame


@dataclass(frozen=True, eq=False)
class Packets:
    """The m packets of a stream in decode order, with what is needed to plan decoding.

    Attributes:
        pts: (m,) int64, unique time stamps.
        starts: (m,) int64, the packet where decoding must start for this one to come out intact.
        heals: (m,) int64, the first packet whose damage affects this one; `starts` or later.
        shown: (m,) bool, whether a frame with this time stamp is shown.
        torn: (k,) int64, packets right after missing ones, ascending; frames that need earlier packets are damaged.
        droppable: (m,) bool, whether no other packet depends on it.
        frames: (n,) int64, the packet of each frame, in order of time.
    """

    pts: NDArray[np.int64]
    starts: NDArray[np.int64]
    heals: NDArray[np.int64]
    shown: NDArray[np.bool_]
    droppable: NDArray[np.bool_]
    frames: NDArray[np.int64]
    torn: NDArray[np.int64]


class Row(NamedTuple):
    """One packet as stored in the container."""

    pts: int | None
    duration: int
    is_keyframe: bool
    is_discard: bool
    role: Role


@dataclass
class Findings:
    """The result of reading all packets of a stream.

    Attributes:
        stream: Number of the stream.
        codec: FFmpeg's name of the codec.
        time_base: Seconds per unit of time stamps.
        rate: Nominal frames per second; for files without time stamps what the user says, else what the stream tells.
        is_rate_known: Whether it is more than FFmpeg's default.
        has_times: Whether the file tells the times of its frames; then a rate of the user is not used.
        rows: The packets in decode order.
        fault: Why they end before the file does; None where they do not.
        predictable: Whether the packets determine which frames are shown.
        pixel_aspect: Width of a pixel divided by its height.
        sample: A frame decoded from a single packet, for its size after cropping and its orientation.
    """

    stream: int
    codec: str
    time_base: Fraction
    rate: Fraction
    is_rate_known: bool
    has_times: bool
    rows: list[Row]
    fault: str | None = None
    predictable: bool = False
    pixel_aspect: Fraction = Fraction(1)
    sample: VideoFrame | None = None


def read_packets(container: InputContainer, stream: VideoStream, rate: Fraction | None = None) -> Findings:
    """Read a stream from start to end; only one frame is decoded, to know its size and orientation.

    Args:
        container: Of the stream.
        stream: From `open_video`.
        rate: Frames per second for a file without time stamps, as the user says; None: as the stream tells.
    """
    context = stream.codec_context
    codec, extradata = context.codec.canonical_name, context.extradata
    context.thread_count = 1
    reader = role_reader(codec, extradata)
    told_rate = context.framerate  # FFmpeg opens the decoder with the rate in the stream's own headers
    nominal_rate = Fraction(stream.average_rate or stream.base_rate or _UNKNOWN_RATE)
    has_times = not container.format.flags & _NO_TIMESTAMPS
    findings = Findings(stream.index, codec, Fraction(stream.time_base or 1), nominal_rate, True, has_times, [])
    findings.pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)
    # AVI stores decode times only; FFmpeg returns them as time stamps, which is wrong with B-frames
    findings.predictable = reader is not None and (codec in INTRA_ONLY or container.format.name != "avi")
    count, has_new_parameters, is_truncated = 0, False, False
    try:
        for packet in container.demux(stream):
            if not packet.size:
                count += packet.dts is not None
                continue
            count += 1
            role = _read_role(reader, packet)
            if not findings.rows:
                findings.predictable &= codec != "h264" or not is_field_coded(extradata, memoryview(packet))
            elif packet.has_sidedata("new_extradata"):
                has_new_parameters = True
            if findings.sample is None and findings.predictable and role.starts and not packet.is_discard:
                findings.sample = _decode_alone(stream, packet)
            findings.rows.append(Row(packet.pts, packet.duration or 0, packet.is_keyframe, packet.is_discard, role))
            is_truncated = packet.is_corrupt
    except READ_ERRORS as error:
        findings.fault = f"reading failed: {describe_error(error)}"
    if is_truncated:
        findings.rows.pop()
        findings.fault = "the file breaks off within a frame"
    if not has_times:
        _set_rate(findings, rate, is_told=bool(told_rate))
    if has_new_parameters:  # the decoder has to see every change
        findings.predictable, findings.rows = False, [row._replace(role=UNKNOWN) for row in findings.rows]
    findings.fault = findings.fault or _find_missing_end(container, stream, findings.rows, count)
    return findings


def _set_rate(findings: Findings, rate: Fraction | None, *, is_told: bool) -> None:
    """Set the rate of a file without time stamps, and the time base where FFmpeg has made up time stamps.

    Packets have durations by the rate that the stream tells, or by FFmpeg's default.
    """
    durations = [row.duration for row in findings.rows if row.duration]
    used = 1 / (int(np.median(durations)) * findings.time_base) if durations else findings.rate
    findings.rate, findings.is_rate_known = rate or used, is_told or rate is not None
    findings.time_base *= used / findings.rate


def _read_role(reader: RoleReader | None, packet: Packet) -> Role:
    try:
        return reader(memoryview(packet)) if reader is not None else UNKNOWN
    except (ValueError, IndexError):
        return UNKNOWN._replace(intra=False)


def _decode_alone(stream: VideoStream, packet: Packet) -> VideoFrame | None:
    context = stream.codec_context
    try:
        frames = [*context.decode(packet), *context.decode(None)]
    except (FFmpegError, ValueError):
        return None
    finally:
        context.flush_buffers()
    return frames[0] if len(frames) == 1 and frames[0].pts == packet.pts else None


def _find_missing_end(container: InputContainer, stream: VideoStream, rows: list[Row], count: int) -> str | None:
    """Compare the packets with the length in the header, which only MP4 and Matroska have."""
    if "mp4" in container.format.name and len(stream.index_entries) > count:
        return f"the file breaks off after {count} of {len(stream.index_entries)} frames"
    if "matroska" not in container.format.name:
        return None
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        expected_s = float(hours) * 3600 + float(minutes) * 60 + float(seconds)
    except ValueError:
        expected_s = (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0.0
    end = max(((row.pts or 0) + row.duration for row in rows), default=0)
    end_s = float(end * (stream.time_base or 1))
    return (
        f"the file breaks off at {end_s:.2f} of {expected_s:.2f} s"
        if expected_s > end_s + _HEADER_TOLERANCE_S
        else None
    )


def tabulate_packets(rows: list[Row], time_base: Fraction, shown_pts: set[int] | None = None) -> Packets | None:
    """Find for each packet where its decoding starts; None where the packets do not determine the frames.

    Args:
        rows: The packets in decode order.
        time_base: Seconds per unit of time stamps.
        shown_pts: Time stamps of the frames of a full decode, if there was one.
    """
    stamps = [row.pts for row in rows]
    if None in stamps or len(set(stamps)) < len(stamps):
        return None
    roles = [row.role for row in rows]
    pts = np.array(stamps, dtype=np.int64)
    starts = np.array([role.starts for role in roles])
    leads = np.array([role.leads for role in roles])
    equipped = np.array([role.equipped for role in roles])
    if equipped.any():
        starts &= equipped  # parameter sets within the stream may change, so a start needs its own
    if shown_pts is not None:
        if not shown_pts <= set(stamps):
            return None
        shown = np.isin(pts, list(shown_pts))
    else:
        early = leads & (pts < pts[0])  # they depend on packets from before the file: some are shown, some are not
        if not starts[0] or early.any() or any(role.shown > 1 for role in roles):
            return None
        shown = np.array([role.shown == 1 and not row.is_discard for row, role in zip(rows, roles, strict=True)])
    intra = np.array([role.intra and row.is_keyframe for row, role in zip(rows, roles, strict=True)])
    places = np.flatnonzero(shown)
    frames = places[np.argsort(pts[places])]
    heals = _find_last(starts | intra, leads | (intra & ~starts).any(), pts)
    return Packets(
        pts,
        _find_last(starts, leads, pts),
        heals,
        shown,
        np.array([role.droppable for role in roles]),
        frames,
        _find_torn(pts, frames, heals, time_base),
    )


def find_gaps(pts: NDArray[np.int64], time_base: Fraction) -> NDArray[np.int64]:
    """Find the frames after a gap: a long interval in a video whose frames otherwise come at even intervals.

    In videos with a variable rate (screen recordings, phones), long intervals mean nothing. Two of them in a row show
    such a rate, however many frames are even: after missing frames the video goes on as before.

    Args:
        pts: Time stamps of all frames, ascending.
        time_base: Seconds per unit.
    """
    intervals = np.diff(pts)
    if len(intervals) < _MIN_INTERVALS:
        return np.empty(0, dtype=np.int64)
    usual = float(np.median(intervals))
    tolerance = max(1.0, _INTERVAL_TOLERANCE * usual)  # Matroska stores whole milliseconds
    is_even = (np.abs(intervals - usual) <= tolerance).mean() >= _EVEN_SHARE
    gaps = (intervals > _GAP_INTERVALS * usual) & (intervals * float(time_base) > _MIN_GAP_S)
    is_slow = (gaps[1:] & gaps[:-1]).any()
    return np.flatnonzero(gaps) + 1 if is_even and not is_slow else np.empty(0, dtype=np.int64)


def _find_torn(
    pts: NDArray[np.int64], frames: NDArray[np.int64], heals: NDArray[np.int64], time_base: Fraction
) -> NDArray[np.int64]:
    """The first packet after each gap, unless it needs no earlier packet."""
    firsts = sorted({int(frames[gap:].min()) for gap in find_gaps(pts[frames], time_base)})
    return np.array([place for place in firsts if heals[place] != place], dtype=np.int64)


def _find_last(marks: NDArray[np.bool_], leads: NDArray[np.bool_], pts: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each packet the last mark at or before it; one mark earlier for leading packets shown before that mark."""
    last = np.maximum.accumulate(np.where(marks, np.arange(len(marks)), 0))  # the first packet counts as a mark
    before = last[np.maximum(last - 1, 0)]
    return np.where(leads & (pts < pts[last]), before, last)
