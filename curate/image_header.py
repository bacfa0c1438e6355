"""Headers of image files: format, size, orientation, and whether the file is whole.

JPEG and PNG are parsed here: this runs for every image of an import, and is several times faster than a library. Other
formats are read with Pillow, and of its formats only those listed here: its reader of PostScript runs a program.
"""

import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image

# Pillow's names of the formats that are read, and their files' suffixes; HEIF only where its plugin is installed
FORMATS = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "MPO": (),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
# TIFFs with a small preview, which is all that Pillow would read
_CAMERA_RAW = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw")
_NOT_READ = (".dds", ".dib", ".fits", ".jxl", ".pcx", ".psd", ".qoi", ".ras", ".sgi", ".tga", *_CAMERA_RAW)
_SUFFIXES = frozenset({*(suffix for own in FORMATS.values() for suffix in own), *_NOT_READ})
_REMEDY = "convert it to JPEG or PNG"
# first bytes of pictures that are not read, or not everywhere
_FOREIGN = (
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"8BPS", "Photoshop files"),
    (rb"DDS ", "DDS"),
    (rb"SIMPLE  =", "FITS"),
    (rb"\0\0[\x01\x02]\0", "icons"),
    (rb"icns", "icons"),
    (rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]", "PCX"),
    (rb"qoif", "QOI"),
    (rb"\x01\xda[\0\x01][\x01\x02]", "SGI"),
    (rb"\x59\xa6\x6a\x95", "Sun raster"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (rb".{4}ftyp(hei[cxm]|hev[csx]|mif1|msf1)", "HEIC"),
    (rb".{4}ftypavi[fs]", "AVIF"),
    (rb".{4}ftypcrx ", "a camera's raw format"),
)

_LARGEST_SIDE = 2**31 - 1
NO_END = "the end mark is missing"  # the oddity of a file whose pixels are all there
MOST_PIXELS = 2**29  # of any format, in every command; in memory 1.6 GB. OpenCV's own limit is twice as high
_LONGEST_SIDE = 2**20  # OpenCV's limit
TRANSPOSING = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange width and height
_HEAD_BYTES = 1 << 16  # a JPEG whose header is longer is read as a whole
_ORIENTATION_TAG = 0x0112
_NOTHING_BYTES = 16  # so many zeros or ones at the end are no picture
_RESTARTS = range(0xD0, 0xD8)
_END_OF_JPEG = b"\xff\xd9"
_END_OF_PNG = b"\0\0\0\0IEND\xaeB`\x82"
# Start-of-frame markers: C0-CF without DHT (C4), JPG (C8) and DAC (CC). ITU-T T.81, table B.1
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class ImageHeader(NamedTuple):
    """What an image file says about itself.

    Attributes:
        width: Upright width in pixels.
        height: Upright height in pixels.
        orientation: EXIF's, 1 to 8; from 5 on, the file stores the sides exchanged.
        oddity: What is odd about the file, though all its pixels are there; "" for most files.
    """

    width: int
    height: int
    orientation: int
    oddity: str = ""


def read_header(data: bytes) -> ImageHeader:
    """Read size and orientation of an encoded image; JPEG and PNG are not decoded.

    Raises:
        ValueError: Says why the image cannot be used: no image, no decoder, too large, damaged or cut off.
    """
    oddity = ""
    try:
        if is_jpeg(data):
            width, height, orientation, start = _scan_jpeg(data)
            oddity = _check_jpeg_end(data, start)
        elif is_png(data):
            width, height, orientation = _scan_png(data)
            oddity = _check_png_end(data)
        else:
            width, height, orientation = _scan_other(data)
    except (struct.error, IndexError) as error:
        raise ValueError("its header is cut off") from error
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise ValueError(f"it has no possible size ({width}×{height})")
    if width * height > MOST_PIXELS:
        raise ValueError(_too_large(width * height))
    if max(width, height) > _LONGEST_SIDE:
        raise ValueError(f"it is too large to decode: {width}×{height}, the limit of a side is {_LONGEST_SIDE:,}")
    if orientation in TRANSPOSING:
        width, height = height, width
    return ImageHeader(width, height, orientation, oddity)


def check_pixels(data: bytes) -> None:
    """Raise ValueError for a JPEG or PNG with more than `MOST_PIXELS`, or without a whole header."""
    try:
        width, height = (_scan_jpeg(data) if is_jpeg(data) else _scan_png(data))[:2]
    except (struct.error, IndexError) as error:
        raise ValueError("its header is cut off") from error
    if width * height > MOST_PIXELS:
        raise ValueError(_too_large(width * height))


def read_file_orientation(path: str | os.PathLike[str]) -> int:
    """The EXIF orientation of an image file, 1 to 8; 1 if its header is damaged.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        data = file.read(_HEAD_BYTES)
        if is_jpeg(data):
            with suppress(ValueError, struct.error, IndexError):
                return _scan_jpeg(data)[2]
        return read_orientation(data + file.readall())


def read_orientation(data: bytes) -> int:
    """The EXIF orientation of an encoded image, 1 to 8; 1 if its header is damaged."""
    try:
        if is_jpeg(data):
            return _scan_jpeg(data)[2]
        if is_png(data):
            return _scan_png(data)[2]
        with opened(data) as image:
            return _pillow_orientation(image)
    except (ValueError, struct.error, IndexError):
        return 1


def with_end(data: bytes) -> bytes:
    """A JPEG or PNG with the end mark that it may lack; OpenCV decodes none without.

    Raises:
        ValueError: The image cannot be used, as `read_header` says.
    """
    if data.endswith((_END_OF_JPEG, _END_OF_PNG)) or read_header(data).oddity != NO_END:
        return data
    return data + _END_OF_JPEG if is_jpeg(data) else data[: _read_chunks(data)[1]] + _END_OF_PNG


def has_all_pixels(jpeg: bytes) -> bool:
    """Whether the picture data of a JPEG do not stop early. Decodes it: if all is there, more bytes change nothing."""
    end = jpeg.rfind(_END_OF_JPEG, _scan_jpeg(jpeg)[3])
    data, seen = jpeg[: end if end > 0 else len(jpeg)], set()
    begin = data.rstrip(b"\0\xff")  # what disks and cards put where a download or a recording never ended
    if len(data) - len(begin) < _NOTHING_BYTES:  # zeros of the picture
        begin = data.rstrip(b"\xff")
    elif data[len(begin) :].startswith(b"\xff\0"):  # a byte of the picture (ITU-T T.81, B.1.1.5)
        begin += b"\xff\0"
    for pattern in (b"", b"\x5a\xa5" * 512, b"\xfe\x01" * 512):
        restarts = (b"\xff%c" % marker + pattern for marker in _RESTARTS if pattern)
        with opened(begin + pattern + b"".join(restarts) + _END_OF_JPEG) as image:
            seen.add(image.tobytes())
    return len(seen) == 1


@contextmanager
def opened(data: bytes) -> "Iterator[Image.Image]":
    """Open an image with Pillow.

    Raises:
        ValueError: Pillow raised any error here or inside the block; says what is wrong with the image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # half of the limit is reached, or odd metadata
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                yield image
    except Image.DecompressionBombError as error:
        pixels = next(int(word.strip("(")) for word in str(error).split() if word.strip("(").isdecimal())
        raise ValueError(_too_large(pixels)) from error
    except UnidentifiedImageError as error:
        raise ValueError(_why_unknown(data)) from error
    except Exception as error:  # Pillow raises anything on damaged files
        raise ValueError(f"it is damaged: {error}") from error


def is_image_name(name: str) -> bool:
    """Whether a file name has a suffix of images: of the formats that are read, and a few that are refused."""
    return _suffix(name) in _SUFFIXES


def is_camera_raw(name: str) -> bool:
    """Whether a file name has the suffix of a camera's raw format, which cannot be decoded."""
    return name.lower().endswith(_CAMERA_RAW)


def looks_like_image(data: bytes) -> bool:
    """Whether a file begins like an image, whatever it is called.

    Args:
        data: At least the first 4096 bytes.
    """
    if is_jpeg(data) or is_png(data) or _foreign_format(data):
        return True
    try:
        with opened(data):
            return True
    except ValueError:
        return False


def _suffix(name: str) -> str:
    """`a/b.JPG` → `.jpg`; "" without one."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if stem and dot and "/" not in suffix else ""


@cache
def _formats() -> tuple[str, ...]:
    """The formats that this installation reads. Also sets Pillow's own limit, so that one limit is in force."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow refuses twice as many
    with suppress(ImportError):  # a plugin that some have installed
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]

        register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _too_large(pixels: int) -> str:
    return f"it is too large to decode: it has {pixels:,} pixels, the limit is {MOST_PIXELS:,}"


def _why_unknown(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if name := _foreign_format(data):
        return f"there is no decoder for {name}; {_REMEDY}"
    known = ", ".join(name for name in _formats() if name != "MPO")
    return f"it has an unknown format, or its header is damaged (expected one of {known}); {_REMEDY}"


def _foreign_format(data: bytes) -> str | None:
    """The format of an image that is not read, or not by every installation."""
    head = data[:32]
    return next((name for begin, name in _FOREIGN if re.match(begin, head, re.DOTALL)), None)


def is_jpeg(data: bytes) -> bool:
    return data[:2] == b"\xff\xd8"


def is_png(data: bytes) -> bool:
    return data[:8] == b"\x89PNG\r\n\x1a\n"


def _scan_jpeg(data: bytes) -> tuple[int, int, int, int]:
    """Read stored width, height and orientation from the marker segments up to the frame header; and its position.

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
            return width, height, orientation, position
        if length < 2 or marker in (0xD9, 0xDA):
            raise ValueError("its picture data come before its size")
        if marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[position + 10 : position + 2 + length])
        position += length + 2


def _scan_png(data: bytes) -> tuple[int, int, int]:
    width, height = struct.unpack_from(">II", data, 16)
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
    with opened(data) as image:
        orientation = _pillow_orientation(image)  # loading a TIFF removes it
        image.load()  # detects files that are cut off; these formats are rare
        width, height = image.size
        if image.format == "TIFF" and orientation in TRANSPOSING:  # Pillow applies it to a TIFF's size only
            width, height = height, width
        return width, height, orientation


def _pillow_orientation(image: "Image.Image") -> int:
    orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))
    return orientation if 1 <= orientation <= 8 else 1


def _check_jpeg_end(data: bytes, start: int) -> str:
    """Check that a JPEG is whole, from its frame header on. Returns what is odd about its end."""
    end = data.rfind(_END_OF_JPEG, start) + len(_END_OF_JPEG)
    if end > len(_END_OF_JPEG):
        return f"{len(data) - end} bytes after the end mark" if end < len(data) else ""
    if not has_all_pixels(data) or not _has_all_scans(data):
        raise ValueError("it is cut off")
    return NO_END


def _has_all_scans(jpeg: bytes) -> bool:
    """Whether a progressive JPEG has sent every bit of its coefficients (ITU-T T.81, B.2.3); others have one pass."""
    is_progressive, position, missing_bits = False, 2, {}
    while (position := jpeg.find(b"\xff", position)) >= 0 and position + 4 < len(jpeg):
        marker = jpeg[position + 1]
        if marker in (0x00, 0xFF) or marker in _RESTARTS:  # inside picture data
            position += 1 if marker == 0xFF else 2
            continue
        body = jpeg[position + 4 : position + 2 + (jpeg[position + 2] << 8) + jpeg[position + 3]]
        if marker in (0xC2, 0xCA):
            is_progressive = True
            missing_bits = {(body[6 + 3 * part], at): 1 for part in range(body[5]) for at in range(64)}
        elif marker == 0xDA:
            parts = [body[1 + 2 * part] for part in range(body[0])]
            first, last, bits = body[-3:]
            missing_bits |= {(part, at): bits & 15 for part in parts for at in range(first, last + 1)}
        position += 4 + len(body)
    return not is_progressive or not any(missing_bits.values())


def _check_png_end(data: bytes) -> str:
    """Check that a PNG is whole. Returns what is odd about its end."""
    end = data.rfind(_END_OF_PNG[4:]) + len(_END_OF_PNG[4:])
    if end > len(_END_OF_PNG):
        return f"{len(data) - end} bytes after the end mark" if end < len(data) else ""
    if not _read_chunks(data)[0]:
        raise ValueError("it is cut off")
    return NO_END


def _read_chunks(png: bytes) -> tuple[bool, int]:
    """Whether the chunks of a PNG have all its pixels, and where the last whole chunk ends."""
    stream, position = zlib.decompressobj(), 8
    while position + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        if position + length + 12 > len(png):
            break
        if kind == b"IDAT" and not stream.eof:
            with suppress(zlib.error):  # a damaged stream has no end
                stream.decompress(png[position + 8 : position + 8 + length])
        position += length + 12
    return stream.eof, position


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
