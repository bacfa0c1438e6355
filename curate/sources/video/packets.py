"""The packets of a video in decode order: which frame each shows, from where it can be decoded, who needs it."""

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

_UNKNOWN_RATE = Fraction(25)  # what FFmpeg takes for raw streams that tell nothing
_ENOUGH_GAPS = 20
_UNEVEN = 0.1  # of the usual gap
_MOSTLY = 0.9
_LONG_GAP, _LONG_GAP_S = 8, 0.3  # times the usual one, and seconds
_GRACE_S = 0.5  # by so much may a header exceed the last frame


@dataclass(frozen=True, eq=False)
class Packets:
    """The m packets of a stream in decode order, as far as planning needs them.

    Attributes:
        pts: (m,) int64, time stamps, unique.
        starts: (m,) int64, the packet at which decoding has to begin for this one to come out whole.
        heals: (m,) int64, the packet from which on damage matters to this one; `starts` or later.
        shown: (m,) bool, whether a frame with this time stamp comes out.
        torn: (k,) int64, packets before which some are missing, ascending: what depends on more than them is damaged.
        droppable: (m,) bool, whether no other packet needs it.
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
    """One packet as the container gives it."""

    pts: int | None
    duration: int
    is_keyframe: bool
    is_discard: bool
    role: Role


@dataclass
class Findings:
    """What reading all packets of a stream gave.

    Attributes:
        stream: its number.
        codec: FFmpeg's name of it.
        time_base: seconds a unit of time stamps.
        rate: frames a second, nominally.
        rows: the packets in decode order.
        fault: why they end before the file does; None where they do not.
        predictable: whether they tell which frames show.
        pixel_aspect: width of a pixel by its height.
        sample: a frame that decodes from one packet, for what only frames tell: size after cropping, which side is up.
    """

    stream: int
    codec: str
    time_base: Fraction
    rate: Fraction
    rows: list[Row]
    fault: str | None = None
    predictable: bool = False
    pixel_aspect: Fraction = Fraction(1)
    sample: VideoFrame | None = None


def read_packets(container: InputContainer, stream: VideoStream) -> Findings:
    """Read a stream from beginning to end; nothing is decoded but one frame, to know its shape."""
    context = stream.codec_context
    codec, extradata = context.codec.canonical_name, context.extradata
    context.thread_count = 1
    reader = role_reader(codec, extradata)
    rate = stream.average_rate or stream.base_rate or _UNKNOWN_RATE
    found = Findings(stream.index, codec, Fraction(stream.time_base or 1), Fraction(rate), [])
    found.pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)
    # an AVI has decode times only, which FFmpeg passes on for time stamps even where B-frames make them wrong
    found.predictable = reader is not None and (codec in INTRA_ONLY or container.format.name != "avi")
    seen, changes, cut_off = 0, False, False
    try:
        for packet in container.demux(stream):
            if not packet.size:
                seen += packet.dts is not None
                continue
            seen += 1
            role = _read_role(reader, packet)
            if not found.rows:
                found.predictable &= codec != "h264" or not is_field_coded(extradata, memoryview(packet))
            elif packet.has_sidedata("new_extradata"):
                changes = True
            if found.sample is None and found.predictable and role.starts and not packet.is_discard:
                found.sample = _decode_alone(stream, packet)
            found.rows.append(Row(packet.pts, packet.duration or 0, packet.is_keyframe, packet.is_discard, role))
            cut_off = packet.is_corrupt
    except READ_ERRORS as error:
        found.fault = f"the file cannot be read on: {describe_error(error)}"
    if cut_off:
        found.rows.pop()
        found.fault = "the file breaks off within a frame"
    if changes:  # the decoder has to see every change
        found.predictable, found.rows = False, [row._replace(role=UNKNOWN) for row in found.rows]
    found.fault = found.fault or _find_missing_end(container, stream, found.rows, seen)
    return found


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


def _find_missing_end(container: InputContainer, stream: VideoStream, rows: list[Row], seen: int) -> str | None:
    """What a header promises and the packets do not keep; only MP4 and Matroska promise anything."""
    if "mp4" in container.format.name and len(stream.index_entries) > seen:
        return f"the file breaks off after {seen} of {len(stream.index_entries)} frames"
    if "matroska" not in container.format.name:
        return None
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        promised_s = float(hours) * 3600 + float(minutes) * 60 + float(seconds)
    except ValueError:
        promised_s = (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0.0
    end = max(((row.pts or 0) + row.duration for row in rows), default=0)
    end_s = float(end * (stream.time_base or 1))
    return f"the file breaks off at {end_s:.2f} of {promised_s:.2f} s" if promised_s > end_s + _GRACE_S else None


def tabulate_packets(rows: list[Row], time_base: Fraction, shown_pts: set[int] | None = None) -> Packets | None:
    """Find for each packet where decoding starts; None where the packets do not tell which frames show.

    Args:
        rows: the packets in decode order.
        time_base: seconds a unit of their time stamps.
        shown_pts: time stamps of the frames that a full decode gave, where there was one.
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
        starts &= equipped  # parameter sets that come with pictures may change, so a start needs its own
    if shown_pts is not None:
        if not shown_pts <= set(stamps):
            return None
        shown = np.isin(pts, list(shown_pts))
    else:
        early = leads & (pts < pts[0])  # without what was before the file's beginning, some show and some do not
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


def find_holes(pts: NDArray[np.int64], time_base: Fraction) -> NDArray[np.int64]:
    """Frames before which others are missing: long gaps in a video whose frames else come at an even pace.

    Where the pace varies (screens, phones), a gap tells nothing.

    Args:
        pts: of all frames, ascending.
        time_base: seconds a unit.
    """
    gaps = np.diff(pts)
    if len(gaps) < _ENOUGH_GAPS:
        return np.empty(0, dtype=np.int64)
    usual = float(np.median(gaps))
    ticks_apart = max(1.0, _UNEVEN * usual)  # Matroska counts whole milliseconds
    is_even = (np.abs(gaps - usual) <= ticks_apart).mean() >= _MOSTLY
    holes = (gaps > _LONG_GAP * usual) & (gaps * float(time_base) > _LONG_GAP_S)
    return np.flatnonzero(holes) + 1 if is_even else np.empty(0, dtype=np.int64)


def _find_torn(
    pts: NDArray[np.int64], frames: NDArray[np.int64], heals: NDArray[np.int64], time_base: Fraction
) -> NDArray[np.int64]:
    """The first packet after each hole, unless damage ends there."""
    firsts = sorted({int(frames[hole:].min()) for hole in find_holes(pts[frames], time_base)})
    return np.array([place for place in firsts if heals[place] != place], dtype=np.int64)


def _find_last(marks: NDArray[np.bool_], leads: NDArray[np.bool_], pts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each packet, the last mark at or before it; one mark earlier for those that lead and show before that mark."""
    last = np.maximum.accumulate(np.where(marks, np.arange(len(marks)), 0))  # the first packet counts as a mark
    before = last[np.maximum(last - 1, 0)]
    return np.where(leads & (pts < pts[last]), before, last)
