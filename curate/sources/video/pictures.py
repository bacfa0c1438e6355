"""Converts decoded frames to upright RGB arrays, with the same colours as the `ffmpeg` program."""

from fractions import Fraction
from typing import Any

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

_ANY_TIME_BASE = Fraction(1, 1000)  # filters require one; nothing here depends on it


class RgbConverter:
    """Converts the decoded frames of one video, each at its own size.

    It runs FFmpeg's `scale` filter with the settings of the command line, since only the filter takes the position of
    chroma samples into account.

    Args:
        rotation: Degrees clockwise that turn a stored frame upright.
        mirrored: Whether stored frames are mirrored left to right before.
    """

    def __init__(self, rotation: int, mirrored: bool) -> None:
        self._rotation, self._mirrored = rotation, mirrored
        self._graph: Graph | None = None
        self._kind: tuple[object, ...] = ()

    def convert(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return H×W×3 uint8 RGB, upright.

        Raises:
            FFmpegError: the frame has a format that cannot be converted.
        """
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is None or kind != self._kind:
            self._graph, self._kind = self._build(frame), kind
        graph = self._graph
        graph.push(frame)
        pixels = graph.vpull().to_ndarray().astype(np.uint8, copy=False)
        if self._mirrored:
            pixels = pixels[:, ::-1]
        if self._rotation:
            pixels = np.rot90(pixels, -self._rotation // 90)
        return np.ascontiguousarray(pixels)

    def _build(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_ANY_TIME_BASE)
        graph.link_nodes(
            source, graph.add("scale", "flags=bicubic"), graph.add("format", "rgb24"), graph.add("buffersink")
        ).configure()
        return graph


def read_orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Return (degrees clockwise, mirrored before) from a frame's display matrix, rounded to quarter turns."""
    side_data: Any = frame.side_data  # the stub declares a mapping
    data = next((bytes(one) for one in side_data if one.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(data, dtype=np.int32)[:5].tolist()
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    if abs(a) >= abs(b):
        return (0 if a >= 0 else 180), mirrored
    return (90 if b > 0 else 270), mirrored
