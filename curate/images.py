"""Image files: size from the header, pixels, content hash.

Sizes and pixels are *upright*: EXIF orientation is applied to both, for all formats alike. A box that a person draws on
the displayed image then fits the pixels that a detector gets.
"""

import hashlib
import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})

_LARGEST_SIDE = 2**31 - 1
_TRANSPOSING = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange width and height
_ORIENTATION_TAG = 0x0112
_DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})  # Pillow's, of one channel over 8 bits
# Start-of-frame markers: C0-CF without DHT (C4), JPG (C8) and DAC (CC). ITU-T T.81, table B.1
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class ImageFacts(NamedTuple):
    """Size and hash of an image file.

    Attributes:
        width: Upright width in pixels.
        height: Upright height in pixels.
        sha256: Hash of the file's bytes, hexadecimal.
        orientation: EXIF's, 1 to 8; from 5 on, the file stores the sides exchanged.
    """

    width: int
    height: int
    sha256: str
    orientation: int = 1

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height before the orientation is applied."""
        return (self.height, self.width) if self.orientation in _TRANSPOSING else (self.width, self.height)


def read_image_facts(path: str | os.PathLike[str]) -> ImageFacts:
    """Read size and hash of an image file without decoding it.

    Raises:
        DataError: The file cannot be read, is not an image, or is cut off.
    """
    data = _read_image(path)
    width, height, orientation = _read_header(data, path)
    return ImageFacts(width, height, hashlib.sha256(data).hexdigest(), orientation)


def upright_size(data: bytes, *, place: object = "image") -> tuple[int, int]:
    """Return (width, height) of an encoded image with EXIF orientation applied.

    Raises:
        DataError: The data is not an image, has a damaged header, or is cut off.
    """
    width, height, _ = _read_header(data, place)
    return width, height


def _read_header(data: bytes, place: object) -> tuple[int, int, int]:
    """Read upright width and height, and the orientation.

    JPEG and PNG headers are parsed here: this runs for every image of an import, and is several times faster than a
    library. Other formats are read with Pillow.
    """
    try:
        if _is_jpeg(data):
            width, height, orientation = _scan_jpeg(data)
        elif _is_png(data):
            width, height, orientation = _scan_png(data)
        else:
            width, height, orientation = _scan_other(data)
    except (ValueError, struct.error, IndexError) as error:
        raise DataError(f"not a whole image: {error}", place=place) from error
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise DataError("the image has no possible size", place=place, got=f"{width}×{height}")
    return (height, width, orientation) if orientation in _TRANSPOSING else (width, height, orientation)


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
        if _is_jpeg(data) or _is_png(data):
            return _upright(_decode_with_opencv(data), _orientation(data))
        with _opened(data) as image:
            return _decode_with_pillow(image)
    except ValueError as error:
        raise DataError(f"the image cannot be decoded: {error}", place=path) from error


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


def shrink(pixels: NDArray[np.uint8], max_side_px: int) -> NDArray[np.uint8]:
    """Scale an image down to a longer side of at most `max_side_px`; smaller images are returned unchanged."""
    import cv2

    height, width = pixels.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


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


@contextmanager
def _opened(data: bytes) -> "Iterator[Image.Image]":
    """Open an image with Pillow; any error here or inside the block becomes a ValueError."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except Exception as error:  # Pillow raises anything on damaged headers
        raise ValueError("it has an unknown format, or is damaged" if data else "the file is empty") from error


def _is_jpeg(data: bytes) -> bool:
    return data[:2] == b"\xff\xd8"


def _is_png(data: bytes) -> bool:
    return data[:8] == b"\x89PNG\r\n\x1a\n"


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a small file with few system calls; imports do this for every image and annotation.

    Raises:
        OSError: The file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size + 1)
        while len(data) < size and (piece := os.read(descriptor, size - len(data))):
            data += piece
        return data
    finally:
        os.close(descriptor)


def _read_image(path: str | os.PathLike[str]) -> bytes:
    try:
        return read_bytes(path)
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


def _orientation(data: bytes) -> int:
    try:
        return (_scan_jpeg(data) if _is_jpeg(data) else _scan_png(data))[2]
    except (ValueError, struct.error, IndexError):
        return 1


def _scan_jpeg(data: bytes) -> tuple[int, int, int]:
    """Read stored width, height and orientation from the marker segments up to the frame header.

    An EXIF block comes before it (CIPA DC-008, 4.5.4: directly after the start of the image).
    """
    position, orientation = 2, 1
    while True:
        if data[position] != 0xFF:
            raise ValueError("its header is damaged")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        length = (data[position + 2] << 8) + data[position + 3]
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, position + 5)
            if data.rfind(b"\xff\xd9", position) < 0:
                raise ValueError("it is cut off")
            return width, height, orientation
        if length < 2 or marker in (0xD9, 0xDA):
            raise ValueError("its picture data come before its size")
        if marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[position + 10 : position + 2 + length])
        position += length + 2


def _scan_png(data: bytes) -> tuple[int, int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    if data.rfind(b"IEND") < 0:
        raise ValueError("it is cut off")
    position, orientation = 8, 1
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            orientation = _exif_orientation(data[position + 8 : position + 8 + length])
        if kind in (b"eXIf", b"IDAT", b"IEND"):
            break
        position += length + 12
    return width, height, orientation


def _scan_other(data: bytes) -> tuple[int, int, int]:
    with _opened(data) as image:
        orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))  # loading a TIFF removes it
        image.load()  # detects files that are cut off; these formats are rare
        width, height = image.size
        if image.format == "TIFF" and orientation in _TRANSPOSING:  # Pillow applies it to a TIFF's size only
            width, height = height, width
        return width, height, orientation if 1 <= orientation <= 8 else 1


def _exif_orientation(tiff: bytes) -> int:
    """Orientation from the first directory of a TIFF block; 1 (upright) if it has none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for index in range(entries):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * index)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass  # viewers ignore a damaged EXIF block
    return 1
