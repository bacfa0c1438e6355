"""Converts decoded frames to upright RGB arrays, with the same colours as the `ffmpeg` program."""

from fractions import Fraction
from typing import Any

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from curate.sources.video.hdr import PIXEL_FORMAT, find_colours, map_to_srgb
from curate.sources.video.remarks import (
    Remark,
    clipped_samples,
    colours_mapped,
    dark_samples,
    interlaced,
    orientation_changes,
)

_UNSPECIFIED = 2  # matrix, ISO/IEC 23091-2, table 4
_ANY_TIME_BASE = Fraction(1, 1000)  # filters require one; nothing here depends on it
_PACKED_DEEP = frozenset({"gray16le", "gray16be", "rgb48le", "rgb48be"})  # may hold samples of fewer bits
_OTHER_DEEP = frozenset(
    {f"{name}16{order}" for name in ("gbrp", "gbrap", "ya") for order in ("le", "be")} | {"rgba64le", "rgba64be"}
)
_DARK_BITS = 14  # of 16: pictures that use no more are at most a quarter as bright as white


class RgbConverter:
    """Converts the decoded frames of one video, each at its own size.

    It runs FFmpeg's `scale` filter with the settings of the command line, since only the filter takes the position of
    chroma samples into account. High dynamic range and wide gamut are mapped to sRGB, by what the frame tells.

    Args:
        rotation: Degrees clockwise that turn a stored frame upright.
        mirrored: Whether stored frames are mirrored left to right before.
        depth: Bits that grey or RGB samples of 16 bits really use; None: all of them.
    """

    def __init__(self, rotation: int, mirrored: bool, depth: int | None = None) -> None:
        self._rotation, self._mirrored, self._depth = rotation, mirrored, depth
        self._graph: Graph | None = None
        self._kind: tuple[object, ...] = ()
        self._remarks: dict[str, Remark] = {}
        self._highest_level: int | None = None  # of samples of 16 bits

    @property
    def remarks(self) -> list[Remark]:
        """What was unusual about the frames so far, once for each kind."""
        found = [*self._remarks.values()]
        if self._highest_level is not None:
            bits = max(self._highest_level - 1, 0).bit_length()  # FFmpeg may round up by 1
            if self._depth is None and 0 < bits <= _DARK_BITS:
                found.append(dark_samples(bits))
            elif self._depth is not None and bits > self._depth:
                found.append(clipped_samples(self._depth))
        return found

    def convert(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return H×W×3 uint8 RGB, upright.

        Raises:
            FFmpegError: the frame has a format that cannot be converted.
        """
        self._remark_on(frame)
        pixels = self._as_rgb(frame)
        if self._mirrored:
            pixels = pixels[:, ::-1]
        if self._rotation:
            pixels = np.rot90(pixels, -self._rotation // 90)
        return np.ascontiguousarray(pixels)

    def _as_rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        is_packed = frame.format.name in _PACKED_DEEP
        if is_packed or frame.format.name in _OTHER_DEEP:
            samples = (frame.to_ndarray() if is_packed else self._scale(frame, "rgb48le")).astype(np.uint16, copy=False)
            self._highest_level = max(self._highest_level or 0, int(samples.max()))
            if self._depth is not None:
                return _scale_levels(samples, self._depth)
        colours = find_colours(frame)
        if colours is None:
            return self._scale(frame, "rgb24").astype(np.uint8, copy=False)
        self._remarks.setdefault("colours", colours_mapped(colours))
        if colours.is_hdr and frame.colorspace == _UNSPECIFIED:
            frame.colorspace = Colorspace.BT2020  # ITU-R BT.2100 has no other matrix for Y′CbCr
        return map_to_srgb(self._scale(frame, PIXEL_FORMAT).astype(np.uint16, copy=False), colours)

    def _scale(self, frame: VideoFrame, pixel_format: str) -> NDArray[Any]:
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, pixel_format)
        if self._graph is None or kind != self._kind:
            self._graph, self._kind = self._build(frame, pixel_format), kind
        self._graph.push(frame)
        return self._graph.vpull().to_ndarray()

    def _remark_on(self, frame: VideoFrame) -> None:
        if frame.interlaced_frame:
            self._remarks.setdefault("interlaced", interlaced())
        is_plain = not self._rotation and not frame.rotation  # the cheap question first: this runs for every frame
        if not is_plain and find_orientation(frame) not in (None, (self._rotation, self._mirrored)):
            self._remarks.setdefault("orientation", orientation_changes())

    def _build(self, frame: VideoFrame, pixel_format: str) -> Graph:
        graph = Graph()
        graph.threads = 1
        source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_ANY_TIME_BASE)
        graph.link_nodes(
            source, graph.add("scale", "flags=bicubic"), graph.add("format", pixel_format), graph.add("buffersink")
        ).configure()
        return graph


def _scale_levels(samples: NDArray[np.uint16], depth: int) -> NDArray[np.uint8]:
    """Scale grey H×W or RGB H×W×3 with levels of `depth` bits to H×W×3, 8 bits; higher levels are white."""
    most = (1 << depth) - 1
    levels = (np.minimum(samples, most) * (255 / most) + 0.5).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2) if levels.ndim == 2 else levels


def read_orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Return (degrees clockwise, mirrored before); a frame that tells nothing is upright."""
    return find_orientation(frame) or (0, False)


def find_orientation(frame: VideoFrame) -> tuple[int, bool] | None:
    """Return (degrees clockwise, mirrored before) from a frame's display matrix, rounded to quarter turns."""
    try:
        side_data: Any = frame.side_data  # the stub declares a mapping
    except ValueError:  # PyAV does not know all kinds of it, such as EXIF within a JPEG
        degrees = -frame.rotation % 360
        return (round(degrees / 90) * 90 % 360, False) if degrees else None
    data = next((bytes(one) for one in side_data if one.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return None
    a, b, _, c, d = np.frombuffer(data, dtype=np.int32)[:5].tolist()
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    if abs(a) >= abs(b):
        return (0 if a >= 0 else 180), mirrored
    return (90 if b > 0 else 270), mirrored
