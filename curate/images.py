"""Image files: size from the header, pixels, content hash.

Sizes and pixels are *upright*: EXIF orientation is applied to both, for all formats alike. A box that a person draws on
the displayed image then fits the pixels that a detector gets.
"""

import hashlib
import io
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError
from curate.files import read_regular
from curate.image_header import (
    TRANSPOSING,
    ImageHeader,
    check_pixels,
    has_all_pixels,
    is_camera_raw,
    is_jpeg,
    is_png,
    opened,
    read_header,
    read_orientation,
    with_end,
)

if TYPE_CHECKING:
    from PIL import Image

_log = logging.getLogger(__name__)
_MOST_UNREADABLE = 0.1  # share of a dataset's pictures that may be left out
_MOST_NAMED = 5  # of them, without --verbose
_FILL = 128  # the grey that libjpeg puts where picture data end early
_ENCODING: Mapping[str, Mapping[str, Any]] = {
    "AVIF": {"quality": 95},
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "TIFF": {"compression": "tiff_deflate"},
    "WEBP": {"lossless": True},
}
_DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})  # Pillow's, of one channel over 8 bits


class ImageFacts(NamedTuple):
    """Size and hash of an image file.

    Attributes:
        width: Upright width in pixels.
        height: Upright height in pixels.
        sha256: Hash of the file's bytes, hexadecimal.
        orientation: EXIF's, 1 to 8; from 5 on, the file stores the sides exchanged.
        oddity: What is odd about the file, though all its pixels are there; "" for most files.
    """

    width: int
    height: int
    sha256: str
    orientation: int = 1
    oddity: str = ""

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height before the orientation is applied."""
        return (self.height, self.width) if self.orientation in TRANSPOSING else (self.width, self.height)


def read_image_facts(path: str | os.PathLike[str]) -> ImageFacts:
    """Read size and hash of an image file; JPEG and PNG are not decoded.

    Raises:
        DataError: The file cannot be read, is not an image, is too large, damaged or cut off, or nothing decodes it.
    """
    data = _read_image(path)
    header = _read_header(data, path)
    digest = hashlib.sha256(data).hexdigest()
    return ImageFacts(header.width, header.height, digest, header.orientation, header.oddity)


def _read_header(data: bytes, place: object) -> ImageHeader:
    try:
        if is_camera_raw(str(place)):
            raise ValueError("there is no decoder for a camera's raw format; convert it to JPEG")
        return read_header(data)
    except ValueError as error:
        raise DataError(f"the image cannot be used: {error}", place=place) from error


def decode_rgb(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Decode an image file upright.

    Values of more than 8 bits are converted to 0..255: 16 bits are divided by 257; floats that are all in 0..1 are
    multiplied by 255; other grey values of TIFFs stay as they are if all are in 0..255, else the image's minimum and
    maximum become 0 and 255. NaN and infinity become 0.

    Returns:
        H×W×3 uint8 RGB.

    Raises:
        DataError: The file cannot be read or decoded.
    """
    data = _read_image(path)
    try:
        if is_jpeg(data) or is_png(data):
            check_pixels(data)
            stored = _decode_with_opencv(with_end(data))
            if is_jpeg(data) and (stored[-1, -1] == _FILL).all():
                _warn_of_missing_pixels(os.fspath(path), data)
            return _upright(stored, read_orientation(data))
        with opened(data) as image:
            return _decode_with_pillow(image)
    except ValueError as error:
        raise DataError(f"the image cannot be decoded: {error}", place=path) from error


class Unreadable:
    """Pictures of a dataset that cannot be decoded: each is logged and left out, as long as they are few.

    An import looks at the headers of JPEG and PNG files alone, and a file may change or vanish later.

    Args:
        total: Number of pictures of the dataset.
        use: What they are left out of, such as "the training".

    Attributes:
        paths: Path → what is wrong.
    """

    def __init__(self, total: int, use: str) -> None:
        self.paths: dict[str, str] = {}
        self._total, self._use = total, use

    def decode(self, path: str, file: str | os.PathLike[str]) -> NDArray[np.uint8] | None:
        """The picture as `decode_rgb`; None if it cannot be decoded.

        Args:
            path: In the dataset, for messages.
            file: The file.

        Raises:
            DataError: See `add`.
        """
        try:
            return decode_rgb(file)
        except DataError as error:
            self.add(path, error.fact)
            return None

    def add(self, path: str, fact: str) -> None:
        """Count a picture, once.

        Raises:
            DataError: There are too many.
        """
        if path in self.paths:
            return
        self.paths[path] = fact
        count = len(self.paths)
        if count > max(1, self._total * _MOST_UNREADABLE) or count == self._total:
            raise DataError(
                f"{count} of {self._total} pictures cannot be decoded",
                place=next(iter(self.paths)),
                got=next(iter(self.paths.values())),
                expected=f"at most {_MOST_UNREADABLE:.0%}",
                remedy="Check the disk; then remove these files, and import their sources again.",
            )
        if count <= _MOST_NAMED:
            _log.warning(
                "%s: left out of %s: %s. Remove the file, then import its source again, or restore it.",
                path,
                self._use,
                fact,
            )
        elif count == _MOST_NAMED + 1:
            _log.warning("more than %d pictures are left out of %s; --verbose names them", _MOST_NAMED, self._use)
        else:
            _log.info("%s: left out of %s: %s", path, self._use, fact)


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG made by `encode_rgb`. Returns H×W×3 uint8 RGB."""
    return _decode_with_opencv(data)


def encode_rgb(pixels: NDArray[np.uint8], suffix: str, *, quality: int = 90) -> bytes:
    """Encode an image.

    Args:
        pixels: H×W×3 uint8 RGB.
        suffix: ".jpg" or ".png".
        quality: JPEG quality, 1 to 100.

    Returns:
        The bytes of the image file.
    """
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    return cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def encode_upright(data: bytes) -> bytes | None:
    """Encode a turned image (EXIF orientation) in its own format, upright; lossless but for JPEG and AVIF.

    The orientation is removed; colour profile and other metadata stay where the format and the colours allow it.

    Args:
        data: The file.

    Returns:
        The new file; None if nothing here encodes the format.

    Raises:
        ValueError: The image cannot be decoded.
    """
    from PIL import Image, ImageOps

    data = with_end(data) if is_jpeg(data) or is_png(data) else data
    with opened(data) as image:
        upright = ImageOps.exif_transpose(image)
        name = "JPEG" if image.format == "MPO" else str(image.format)
        options = {key: upright.info[key] for key in ("exif", "icc_profile", "dpi", "xmp") if upright.info.get(key)}
        if name == "JPEG":
            pixels = _upright(_decode_with_opencv(data), read_orientation(data))  # as a detector sees them
            upright = Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels)
        is_grey = upright.mode in ("1", "L", "LA", *_DEEP_MODES)
        space = b"GRAY" if is_grey else b"CMYK" if upright.mode == "CMYK" else b"RGB "
        if options.get("icc_profile", b"")[16:20] != space:
            options.pop("icc_profile", None)
        file = io.BytesIO()
        try:
            upright.save(file, name, **options, **_ENCODING.get(name, {}))
        except (KeyError, OSError):
            return None
        return file.getvalue()


def shrink(pixels: NDArray[np.uint8], max_side_px: int) -> NDArray[np.uint8]:
    """Scale an image down to a longer side of at most `max_side_px`; smaller images are returned unchanged."""
    height, width = pixels.shape[:2]
    scale = max_side_px / max(height, width)
    return pixels if scale >= 1 else resize(pixels, max(1, round(width * scale)), max(1, round(height * scale)))


def resize(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale an image to a size, whatever its aspect ratio; pixels are means over their area."""
    import cv2

    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def difference_hash(pixels: NDArray[np.uint8]) -> int:
    """A 64-bit perceptual hash: the fewer bits differ, the more alike two images look.

    Each bit says whether a cell of an 8×8 grid is brighter than its left neighbour (N. Krawetz, "Kind of Like That",
    2013). Cells are means over their area; scaling in two steps is faster.
    """
    import cv2

    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(cv2.resize(grey, (72, 64), interpolation=cv2.INTER_AREA), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def sharpness(pixels: NDArray[np.uint8]) -> float:
    """Variance of the image's Laplacian; larger is sharper. Comparable only between frames of one video."""
    import cv2

    return float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def _decode_with_opencv(data: bytes) -> NDArray[np.uint8]:
    import cv2

    try:
        stored = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(str(error).strip()) from error
    if stored is None:
        raise ValueError("it is damaged")
    return np.asarray(stored, dtype=np.uint8)


_checked: set[str] = set()  # files whose last pixel is grey


def _warn_of_missing_pixels(path: str, data: bytes) -> None:
    """Log once if the end of a JPEG's picture is grey because its data end early."""
    if path in _checked:
        return
    _checked.add(path)
    if not has_all_pixels(data):
        _log.warning("%s: the picture data end early; the rest of the picture is grey", path)


def _decode_with_pillow(image: "Image.Image") -> NDArray[np.uint8]:
    """For formats other than JPEG and PNG: OpenCV applies their orientation inconsistently."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode not in _DEEP_MODES:
        return np.asarray(upright.convert("RGB"), dtype=np.uint8)
    # `convert` would clip values over 255
    return np.repeat(_as_bytes(np.asarray(upright))[:, :, None], 3, axis=2)


def _as_bytes(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert grey values of any depth as `decode_rgb` describes. (H, W) → (H, W)."""
    if grey.dtype.kind == "u":
        return np.rint(grey / 257).astype(np.uint8)
    known = np.isfinite(grey)
    values = np.where(known, grey, 0).astype(np.float64)
    low, high = values.min(where=known, initial=np.inf), values.max(where=known, initial=-np.inf)
    if grey.dtype.kind == "f" and low >= 0 and high <= 1:
        values = values * 255
    elif low < 0 or high > 255:
        values = (values - low) * (255 / ((high - low) or 1.0))
    return np.where(known, np.rint(values), 0).astype(np.uint8)


def _read_image(path: str | os.PathLike[str]) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise DataError(f"the image cannot be read: {error.strerror}", place=path) from error


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (CIPA DC-008, tag 0x0112)."""
    if orientation in (2, 7):
        pixels = pixels[:, ::-1]
    if orientation in (4, 5):
        pixels = pixels[::-1]
    quarter_turns = {3: 2, 5: -1, 6: -1, 7: -1, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))
