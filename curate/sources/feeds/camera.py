"""Cameras of this machine, through OpenCV: PyAV brings no driver for them."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol, cast

import cv2
import numpy as np
from cv2.utils import logging
from numpy.typing import NDArray

from curate.sources.feeds.feed import LiveTroubleError, Shot

_LONG_S = 5.0  # drivers give up by themselves, V4L2 after 10 s


class Capture(Protocol):
    """What is needed of a `cv2.VideoCapture`."""

    def isOpened(self) -> bool:  # noqa: N802
        """Whether there is a camera."""
        ...

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """The next frame, H×W×3 BGR; False where there is none."""
        ...

    def set(self, property_id: int, value: float, /) -> bool:
        """Set one of its properties."""
        ...

    def release(self) -> None:
        """Give the camera back."""
        ...


class CameraOpener:
    """Opens a camera by its number; see `Opener`.

    Args:
        number: from 0.
        open_capture: what gives the camera of a number.
    """

    def __init__(self, number: int, open_capture: Callable[[int], Capture] | None = None) -> None:
        self.name = f"camera {number}"
        self._number = number
        self._open_capture = open_capture or _open_capture

    def open(self) -> "CameraConnection":
        """Open it; see `Opener.open`."""
        with _silence():
            try:
                capture = self._open_capture(self._number)
            except cv2.error as error:
                raise LiveTroubleError("OpenCV cannot open it") from error
            if not capture.isOpened():
                capture.release()
                raise LiveTroubleError(
                    "there is no such camera, or it cannot be opened",
                    remedy="Close other programs that use it, and see whether this one is permitted to.",
                )
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # frames that wait in the driver are old ones
        return CameraConnection(capture)


class CameraConnection:
    """A camera that is open; see `Connection`."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture

    def read(self) -> list[Shot]:
        """Wait for the next frame; see `Connection.read`."""
        began_s = time.monotonic()
        with _silence():
            try:
                there, pixels = self._capture.read()
            except cv2.error:
                there, pixels = False, None
        if not there or pixels is None:
            waited_s = time.monotonic() - began_s
            if waited_s >= _LONG_S:
                raise LiveTroubleError(f"the camera gave no frame for {waited_s:.0f} s", kind="stalled")
            raise LiveTroubleError("the camera gives no frames any more")
        return [Shot(partial(_to_rgb, pixels))]

    def close(self) -> None:
        """Give the camera back."""
        self._capture.release()


def _open_capture(number: int) -> Capture:
    systems = {"linux": cv2.CAP_V4L2, "darwin": cv2.CAP_AVFOUNDATION}
    return cast(Capture, cv2.VideoCapture(number, systems.get(sys.platform, cv2.CAP_ANY)))


def _to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    kinds = {2: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB}
    return np.asarray(cv2.cvtColor(pixels, kinds[pixels.ndim]), dtype=np.uint8)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep OpenCV from telling on stderr what is told better here."""
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
