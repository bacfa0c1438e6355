"""Connections to cameras of this machine through OpenCV, since PyAV includes no camera drivers."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, cast

import cv2
import numpy as np
from cv2.utils import logging as cv2_logging
from numpy.typing import NDArray

from curate.sources.feeds.feed import LiveFrame, LiveSourceError
from curate.sources.video.remarks import Remark

logger = logging.getLogger(__name__)
_STALLED_AFTER_S = 5.0  # a failed read that took this long is the driver's timeout; V4L2's is 10 s


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used."""

    def isOpened(self) -> bool:  # noqa: N802
        ...

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """Return (True, H×W×3 BGR), or (False, None) if there is no frame."""
        ...

    def set(self, property_id: int, value: float, /) -> bool: ...

    def release(self) -> None: ...


class CameraOpener:
    """Opens a camera by its number; see `Opener`.

    Args:
        number: From 0.
        open_capture: Opens the camera of a number; None uses OpenCV.
    """

    def __init__(self, number: int, open_capture: Callable[[int], Capture] | None = None) -> None:
        self.name = f"camera {number}"
        self._number = number
        self._open_capture = open_capture or _open_capture

    def open(self) -> "CameraConnection":
        """See `Opener.open`."""
        with _silence_opencv():
            try:
                capture = self._open_capture(self._number)
            except cv2.error as error:
                raise LiveSourceError("OpenCV cannot open it") from error
            if not capture.isOpened():
                capture.release()
                remedy = "Close other programs that use it, and check the permission to use cameras."
                raise LiveSourceError("no such camera, or it cannot be opened", remedy=remedy)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # buffered frames are old
        logger.info("%s: opened", self.name)
        return CameraConnection(capture)


class CameraConnection:
    """An open camera; see `Connection`."""

    remarks: Sequence[Remark] = ()

    def __init__(self, capture: Capture) -> None:
        self._capture = capture

    def read(self) -> list[LiveFrame]:
        """Wait for the next frame; see `Connection.read`."""
        started_s = time.monotonic()
        with _silence_opencv():
            try:
                success, pixels = self._capture.read()
            except cv2.error:
                success, pixels = False, None
        if not success or pixels is None:
            elapsed_s = time.monotonic() - started_s
            if elapsed_s >= _STALLED_AFTER_S:
                raise LiveSourceError(f"no frame from the camera for {elapsed_s:.0f} s", kind="stalled")
            raise LiveSourceError("the camera stopped sending frames")
        return [LiveFrame(partial(_to_rgb, pixels))]

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


def _open_capture(number: int) -> Capture:
    backends = {"linux": cv2.CAP_V4L2, "darwin": cv2.CAP_AVFOUNDATION}
    return cast(Capture, cv2.VideoCapture(number, backends.get(sys.platform, cv2.CAP_ANY)))


def _to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    conversions = {2: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB}
    return np.asarray(cv2.cvtColor(pixels, conversions[pixels.ndim]), dtype=np.uint8)


@contextmanager
def _silence_opencv() -> Iterator[None]:
    """Keep OpenCV from writing to stderr; its errors are reported here."""
    level = cv2_logging.setLogLevel(cv2_logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2_logging.setLogLevel(level)
