"""The role of one coded packet in decoding, read from its first bits: can decoding start there, can it be skipped.

Only guarantees of the specifications are used: a frame is the same whether decoding starts at the file's first packet
or at the last *start* before it, and with or without the *droppable* packets in between.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

Bytes = bytes | memoryview


class Role(NamedTuple):
    """The role of a packet.

    Attributes:
        starts: Decoding may start here: later packets, except leading ones, depend on nothing before.
        leads: Follows a start but is shown before it, so it may depend on packets before the start.
        intra: Depends on no other packet; where the container marks it as keyframe, damage ends here.
        droppable: No other packet depends on it.
        shown: Number of frames that it shows.
        equipped: Contains its own parameter sets.
    """

    starts: bool
    leads: bool = False
    intra: bool = False
    droppable: bool = False
    shown: int = 1
    equipped: bool = False


RoleReader = Callable[[Bytes], Role]

UNKNOWN = Role(starts=False, intra=True)
INTRA_ONLY = frozenset({"mjpeg", "prores", "dnxhd", "rawvideo"})


def role_reader(codec: str, extradata: bytes | None) -> RoleReader | None:
    """Return the function that reads the role of a codec's packets; None where starts cannot be recognised.

    Args:
        codec: FFmpeg's name of the codec: `h264`, `vp9`.
        extradata: The codec's configuration from the container.
    """
    if codec in INTRA_ONLY:
        return lambda data: Role(starts=True)
    if codec in ("h264", "hevc"):
        reader = read_h264 if codec == "h264" else read_hevc
        return partial(reader, length_size=nal_length_size(codec, extradata or b""))
    return {"vp8": read_vp8, "vp9": read_vp9, "av1": read_av1, "mpeg4": read_mpeg4}.get(codec)


# ---- H.264 and HEVC ----


def nal_length_size(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each NAL unit; 0 with start codes instead (ISO/IEC 14496-15, 5.3.3 and 8.3.3)."""
    place = 4 if codec == "h264" else 21
    return (extradata[place] & 3) + 1 if len(extradata) > place and extradata[0] == 1 else 0


def iterate_nals(data: Bytes, length_size: int) -> Iterator[Bytes]:
    """Yield the NAL units of a packet, each from its header on."""
    if length_size:
        position, end = 0, len(data)
        while position + length_size < end:
            size = int.from_bytes(data[position : position + length_size], "big")
            position += length_size
            yield data[position : position + size]
            position += size
        return
    whole = bytes(data)
    position = whole.find(b"\0\0\1")
    while position >= 0:
        following = whole.find(b"\0\0\1", position + 3)
        yield whole[position + 3 : following if following >= 0 else None]
        position = following


def read_h264(data: Bytes, length_size: int) -> Role:
    """Role of an access unit (ITU-T H.264, 7.4.1): an IDR picture starts, `nal_ref_idc` 0 is droppable."""
    kinds, parameters = set(), set()
    needed, intra = False, True
    for nal in iterate_nals(data, length_size):
        if not len(nal):
            continue
        kind = nal[0] & 31
        if kind in (1, 2, 5):
            kinds.add(kind)
            needed |= nal[0] & 0x60 != 0
            intra &= kind == 5 or (needed and _is_intra_slice(bytes(nal[:12])))
        elif kind in (7, 8):
            parameters.add(kind)
    if not kinds:
        return UNKNOWN
    return Role(starts=5 in kinds, intra=intra, droppable=not needed and not parameters, equipped=parameters >= {7, 8})


def _is_intra_slice(nal: bytes) -> bool:
    """`slice_type` is I or SI (ITU-T H.264, 7.3.3 and table 7-6)."""
    bits = _Bits(nal)
    bits.take(8)
    bits.take_unsigned()
    return bits.take_unsigned() % 5 in (2, 4)


def read_hevc(data: Bytes, length_size: int) -> Role:
    """Role of an access unit (ITU-T H.265, 7.4.2.2): types 16 to 21 start, RASL pictures (8, 9) lead."""
    kind, parameters = -1, set()
    for nal in iterate_nals(data, length_size):
        if len(nal) < 2:
            continue
        nal_type = nal[0] >> 1 & 63
        if nal_type < 32 and kind < 0:
            kind = nal_type
        elif nal_type in (33, 34):
            parameters.add(nal_type)
    return Role(starts=16 <= kind <= 21, leads=kind in (8, 9), equipped=parameters >= {33, 34})


def is_field_coded(extradata: bytes | None, first: Bytes) -> bool:
    """Whether an H.264 stream may have two packets per frame, one per field: `frame_mbs_only_flag` is 0 or unknown."""
    size = nal_length_size("h264", extradata or b"")
    if size and extradata:
        length = int.from_bytes(extradata[6:8], "big")
        sets = [extradata[8 : 8 + length]]
    else:
        sets = [*iterate_nals(extradata or b"", 0), *iterate_nals(first, 0)]
    parameter_sets = [nal for nal in sets if len(nal) > 4 and nal[0] & 31 == 7]
    try:
        return not parameter_sets or not _frames_only(bytes(parameter_sets[0]))
    except ValueError:
        return True


class _Bits:
    """Reads a NAL unit bit by bit (ITU-T H.264, 7.3.1 and 9.1)."""

    def __init__(self, nal: bytes) -> None:
        payload = nal.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(payload, "big"), len(payload) * 8

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("truncated parameter set")
        return self._value >> self._left & ((1 << count) - 1)

    def take_unsigned(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def take_signed(self) -> int:
        code = self.take_unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)


_WITH_CHROMA_FORMAT = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})


def _frames_only(nal: bytes) -> bool:
    """`frame_mbs_only_flag` of a sequence parameter set (ITU-T H.264, 7.3.2.1.1)."""
    bits = _Bits(nal)
    bits.take(8)
    profile = bits.take(8)
    bits.take(16)
    bits.take_unsigned()  # seq_parameter_set_id
    if profile in _WITH_CHROMA_FORMAT:
        chroma_format = bits.take_unsigned()
        if chroma_format == 3:
            bits.take(1)  # separate_colour_plane_flag
        bits.take_unsigned()  # bit_depth_luma_minus8
        bits.take_unsigned()  # bit_depth_chroma_minus8
        bits.take(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.take(1):  # seq_scaling_matrix_present_flag
            for number in range(12 if chroma_format == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    bits.take_unsigned()  # log2_max_frame_num_minus4
    order_type = bits.take_unsigned()
    if order_type == 0:
        bits.take_unsigned()  # log2_max_pic_order_cnt_lsb_minus4
    elif order_type == 1:
        bits.take(1)  # delta_pic_order_always_zero_flag
        bits.take_signed()  # offset_for_non_ref_pic
        bits.take_signed()  # offset_for_top_to_bottom_field
        for _ in range(bits.take_unsigned()):
            bits.take_signed()
    bits.take_unsigned()  # max_num_ref_frames
    bits.take(1)  # gaps_in_frame_num_value_allowed_flag
    bits.take_unsigned()  # pic_width_in_mbs_minus1
    bits.take_unsigned()  # pic_height_in_map_units_minus1
    return bits.take(1) == 1


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.take_signed()) % 256
        last = following or last


# ---- VP8, VP9, AV1, MPEG-4 ----


def read_vp8(data: Bytes) -> Role:
    """Role of a VP8 frame (RFC 6386, 9.1)."""
    return Role(starts=not data[0] & 1, shown=data[0] >> 4 & 1)


def read_vp9(data: Bytes) -> Role:
    """Role of a VP9 frame or superframe (VP9 bitstream specification, 6.2 and annex B)."""
    frames = [_read_vp9_header(frame) for frame in _split_superframe(data) if len(frame)]
    return Role(starts=frames[0][0], shown=sum(shown for _, shown in frames)) if frames else UNKNOWN


def _split_superframe(data: Bytes) -> list[Bytes]:
    last = data[-1]
    count, width = (last & 7) + 1, (last >> 3 & 3) + 1
    index_size = 2 + count * width
    if last & 0xE0 != 0xC0 or len(data) < index_size or data[-index_size] != last:
        return [data]
    frames, position = [], 0
    for number in range(count):
        at = len(data) - index_size + 1 + number * width
        size = int.from_bytes(data[at : at + width], "little")
        frames.append(data[position : position + size])
        position += size
    return frames


def _read_vp9_header(data: Bytes) -> tuple[bool, bool]:
    """(is a keyframe, is shown)."""
    first = data[0]
    profile = (first >> 5 & 1) | (first >> 4 & 1) << 1
    rest = first & 15 if profile < 3 else (first & 7) << 1 | data[1] >> 7
    if rest & 8:  # show_existing_frame
        return False, True
    return not rest & 4, bool(rest & 2)


def read_av1(data: Bytes) -> Role:
    """Role of a temporal unit (AV1 specification, 5.3 and 5.9): a shown keyframe with its sequence header starts."""
    position, equipped = 0, False
    while position < len(data):
        header = data[position]
        kind = header >> 3 & 15
        position += 2 if header & 4 else 1
        size = len(data) - position
        if header & 2:
            size, position = _leb128(data, position)
        if kind == 1:
            equipped = True
        elif kind in (3, 6):  # frame header, frame
            return Role(starts=equipped and data[position] >> 4 == 0b0001)
        position += size
    return UNKNOWN


def _leb128(data: Bytes, position: int) -> tuple[int, int]:
    value = 0
    for number in range(8):
        byte = data[position + number]
        value |= (byte & 127) << 7 * number
        if byte < 128:
            return value, position + number + 1
    raise ValueError("invalid OBU size")


def read_mpeg4(data: Bytes) -> Role:
    """Role of a packet with one video object plane (ISO/IEC 14496-2, 6.2.5); 2 frames if several, or a tiny one."""
    whole = bytes(data)
    position = whole.find(b"\0\0\1\xb6")
    if position < 0 or position + 4 >= len(whole):
        return Role(starts=False, shown=2)
    several = whole.find(b"\0\0\1\xb6", position + 4) >= 0
    kind = whole[position + 4] >> 6
    return Role(starts=kind == 0, leads=kind == 2, shown=2 if several or len(whole) - position < 9 else 1)
