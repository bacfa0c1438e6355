"""Headers of image files: which files are images, which are whole, and why others cannot be used."""

import struct
import sys
import types
import zlib
from contextlib import suppress
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from curate import image_header
from curate.errors import DataError
from curate.image_header import (
    FORMATS,
    NO_END,
    has_all_pixels,
    is_image_name,
    looks_like_image,
    opened,
    read_file_orientation,
    read_header,
    read_orientation,
    with_end,
)
from curate.images import decode_rgb, read_image_facts

END_OF_JPEG = b"\xff\xd9"
JPEG_KINDS = [
    {},
    {"progressive": True},
    {"optimize": True, "quality": 40},
    {"subsampling": 0},
    {"restart_marker_blocks": 3},
]


def picture(mode="RGB", width=203, height=117):
    """An image with smooth colours, whose last pixels are no plain area."""
    coarse = np.random.default_rng(5).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)).convert(mode)


def encoded(kind, image=None, **options):
    file = BytesIO()
    (image or picture()).save(file, kind, **options)
    return file.getvalue()


def thumbnail_exif():
    """EXIF with a thumbnail, which has an end mark of its own before the picture's header."""
    return b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + b"\0" * 6 + encoded("JPEG", picture(width=16, height=16))


# ── whole files ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", JPEG_KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_that_lacks_only_its_end(options, mode):
    """A JPEG of any kind that lacks its end mark is accepted with a note: all its pixels are there."""
    data = encoded("JPEG", picture(mode), **options)
    assert data.endswith(END_OF_JPEG)
    assert read_header(data[:-2]) == (203, 117, 1, NO_END)
    assert with_end(data[:-2]) == data


@pytest.mark.parametrize("colour", ["white", "black", (128, 128, 128), (255, 0, 0)])
def test_plain_jpeg_that_lacks_only_its_end(colour):
    """A picture of one colour, whose data end with zeros, is accepted without end mark, and not if more is missing."""
    data = encoded("JPEG", Image.new("RGB", (300, 200), colour))
    assert read_header(data[:-2]).oddity == NO_END
    with pytest.raises(ValueError, match="cut off"):
        read_header(data[:-40])


def test_jpeg_that_stops_within_a_byte_pair():
    """A JPEG that stops behind the first of two bytes that stand for one is refused, wherever that is."""
    data = encoded("JPEG", quality=100)
    start = data.index(b"\xff\xda") + 20
    places = [place for place in range(start, len(data) - 1) if data[place : place + 2] == b"\xff\0"]
    assert places
    for place in places[:: max(1, len(places) // 10)]:
        with pytest.raises(ValueError, match="cut off"):
            read_header(data[: place + 1])


@pytest.mark.parametrize("options", JPEG_KINDS)
@pytest.mark.parametrize("lost", [3, 10, 100, 1000])
def test_jpeg_that_lacks_pixels(options, lost):
    """A JPEG of any kind that stops in mid-picture is refused, however late it stops."""
    data = encoded("JPEG", **options)
    with pytest.raises(ValueError, match=r"cut off|damaged"):
        read_header(data[:-lost])


@pytest.mark.parametrize("options", JPEG_KINDS)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("rest", [b"\0", b"\xff"])
def test_jpeg_that_goes_on_with_nothing(options, share, rest):
    """A JPEG of which only a part was saved, with zeros or ones for the rest, is refused: zeros can be decoded."""
    data = encoded("JPEG", **options)
    part = data[: int(len(data) * share)]
    with pytest.raises(ValueError, match=r"cut off|damaged"):
        read_header(part + rest * (len(data) - len(part) + 5000))


def test_progressive_jpeg_that_lacks_a_pass():
    """A progressive JPEG that stops between two passes is refused: the others were to sharpen it."""
    data = encoded("JPEG", progressive=True)
    last_pass = data.rfind(b"\xff\xda")
    tables = data.rfind(b"\xff\xc4", 0, last_pass)
    with pytest.raises(ValueError, match="cut off"):
        read_header(data[:tables])


def test_end_of_a_thumbnail_is_not_the_end():
    """A thumbnail's end mark does not count as the picture's."""
    data = encoded("JPEG", exif=thumbnail_exif())
    assert read_header(data[:-2]).oddity == NO_END
    with pytest.raises(ValueError, match="cut off"):
        read_header(data[:-500])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_bytes_after_the_end(kind):
    """Bytes after the end mark are counted."""
    assert read_header(encoded(kind) + bytes(700)).oddity == "700 bytes after the end mark"
    assert read_header(encoded(kind)).oddity == ""


@pytest.mark.parametrize("lost", [1, 4, 8, 11, 12])
def test_png_that_lacks_only_its_end(lost):
    """A PNG whose last chunk is missing or incomplete is accepted with a note."""
    data = encoded("PNG")
    assert read_header(data[:-lost]).oddity == NO_END
    assert with_end(data[:-lost]) == data


@pytest.mark.parametrize("lost", [13, 16, 17, 100, 1000])
def test_png_that_lacks_pixels(lost):
    """A PNG that stops in mid-picture is refused."""
    with pytest.raises(ValueError, match="cut off"):
        read_header(encoded("PNG")[:-lost])


def test_picture_data_that_end_early():
    """A JPEG whose picture data stop half-way is recognised in spite of its end mark."""
    data = encoded("JPEG")
    assert has_all_pixels(data)
    assert not has_all_pixels(data[: len(data) // 2] + END_OF_JPEG)


# ── reasons ──────────────────────────────────────────────────────────────────────────────────────────────────────


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"


def box(brand):
    return struct.pack(">I4s4s", 24, b"ftyp", brand) + bytes(300)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html></html>", "unknown format"),
        (box(b"heic"), "no decoder for HEIC"),
        (box(b"mif1"), "no decoder for HEIC"),
        (box(b"crx "), "no decoder for a camera's raw format"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "no decoder for JPEG XL"),
        (b"\xff\x0a" + bytes(99), "no decoder for JPEG XL"),
        (POSTSCRIPT, "no decoder for PostScript; convert it to JPEG or PNG"),
        (b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(POSTSCRIPT)) + bytes(20) + POSTSCRIPT, "PostScript"),
        (b"\n" + POSTSCRIPT, r"unknown format.*expected one of AVIF, .*; convert it"),
    ],
)
def test_reason(data, reason):
    """What cannot be decoded says why. PostScript is not run."""
    with pytest.raises(ValueError, match=reason):
        read_header(data)


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_damage_is_named(kind):
    """A file of a known format that is cut off says what the decoder found."""
    with pytest.raises(ValueError, match=r"it is damaged: .*truncated"):
        read_header(encoded(kind)[:2000])


def tiff_of(width, height):
    """A TIFF of one colour that is small as a file."""
    strip = zlib.compress(bytes(width * height // 8))
    tags = [(256, 4, width), (257, 4, height), (258, 3, 1), (259, 3, 8), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, len(strip))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_large_tiff(recwarn):
    """A TIFF of 121 megapixels is read without a warning of the library."""
    assert read_header(tiff_of(11_000, 11_000))[:2] == (11_000, 11_000)
    assert not recwarn.list


def test_too_large_tiff(recwarn):
    """A TIFF beyond the limit is refused with its pixels and the limit."""
    with pytest.raises(ValueError, match="it has 576,000,000 pixels, the limit is 536,870,912"):
        read_header(tiff_of(24_000, 24_000))
    assert not recwarn.list


def test_too_large_png():
    """A PNG beyond the decoder's limit is refused by its header."""
    data = bytearray(encoded("PNG"))
    data[16:24] = struct.pack(">II", 2**16, 2**15)
    with pytest.raises(ValueError, match="2,147,483,648 pixels, the limit is 536,870,912"):
        read_header(bytes(data))


def test_the_limit_is_the_same_when_a_picture_is_decoded(tmp_path):
    """A file that has become a bomb since its import is refused by its header, whatever the format."""
    png = bytearray(encoded("PNG"))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    for name, data in (("a.png", bytes(png)), ("a.tif", tiff_of(60_000, 60_000))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}: .*3,600,000,000 pixels, the limit is 536,870,912"):
            decode_rgb(tmp_path / name)


def test_too_long_png():
    """A PNG with a side beyond the decoder's limit is refused by its header."""
    data = bytearray(encoded("PNG"))
    data[16:24] = struct.pack(">II", 2**21, 2)
    with pytest.raises(ValueError, match="2097152×2, the limit of a side is 1,048,576"):
        read_header(bytes(data))


# ── formats ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [name for name in FORMATS if name != "HEIF"])
def test_formats_that_are_read(kind):
    """Every listed format is read."""
    assert read_header(encoded(kind))[:2] == (203, 117)


def others():
    """Pillow's other formats that it can write, each as a file."""
    Image.init()
    for kind in sorted(Image.SAVE.keys() - FORMATS.keys() - {"PDF", "IM"}):  # Pillow deprecates IM
        with suppress(OSError, KeyError, ValueError):  # it cannot write this picture
            yield kind, encoded(kind, picture(OTHER_MODES.get(kind, "RGB"), 128, 128))


OTHER_MODES = {"MSP": "1", "XBM": "1", "PALM": "P", "BLP": "P", "SPIDER": "F"}
OTHERS = dict(others())


@pytest.mark.parametrize("kind", OTHERS)
def test_other_formats_reach_no_reader(monkeypatch, kind):
    """A picture of another format that Pillow knows is refused with the remedy, and Pillow's reader does not see it."""

    def fails(*_):
        raise AssertionError(kind)

    monkeypatch.setitem(Image.OPEN, kind, (fails, fails))
    with pytest.raises(ValueError, match=r"(no decoder for|unknown format).*convert it to JPEG or PNG"):
        read_header(OTHERS[kind])
    assert read_orientation(OTHERS[kind]) == 1
    looks_like_image(OTHERS[kind])


def test_postscript_runs_no_program(tmp_path, monkeypatch):
    """A PostScript file, whatever it is called, does not start Ghostscript."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    assert {"EPS", "TGA", "PCX", "ICNS", "DDS"} <= OTHERS.keys()
    for name in ("a.eps", "a.jpg", "a.png", "a.tif"):
        (tmp_path / name).write_bytes(OTHERS["EPS"])
        with pytest.raises(DataError, match="no decoder for PostScript"):
            read_image_facts(tmp_path / name)
        with pytest.raises(DataError, match="no decoder for PostScript"):
            decode_rgb(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "a.JPEG", "a.jfif", "a.jpe", "a.ppm", "a.pgm", "a.jp2", "a.avif", "b/c.tga", "a.b.PNG", "a.HEIC"],
)
def test_names_of_images(name):
    """Suffixes of the formats that are read are those of images, and a few that are refused but people take them."""
    assert is_image_name(name)


@pytest.mark.parametrize("name", ["a.xml", "a.txt", "jpg", ".png", "a", "a.pdf", "a.eps", "a.mp4", "a.mpg", "a.jpg/b"])
def test_names_of_other_files(name):
    """Documents, videos and files without a suffix are no images."""
    assert not is_image_name(name)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PPM", "AVIF"])
def test_image_by_content(kind):
    """An image is known by its first bytes."""
    assert looks_like_image(encoded(kind)[:4096])


@pytest.mark.parametrize("data", [b"", b"0 0.5 0.5 0.1 0.1\n", b"<annotation/>", b"%PDF-1.4"])
def test_other_content(data):
    """Text is no image."""
    assert not looks_like_image(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("profile", [0, 200_000])
def test_orientation_of_a_file(tmp_path, kind, profile):
    """The orientation is read from files of all formats, also behind a long header."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").write_bytes(encoded(kind, exif=exif, icc_profile=bytes(profile)))
    assert read_file_orientation(tmp_path / "a") == 6
    (tmp_path / "a").write_bytes(b"no image")
    assert read_file_orientation(tmp_path / "a") == 1


def test_installed_plugin_is_used(monkeypatch):
    """Where the package pillow-heif is installed, its decoder is registered."""
    calls = []
    plugin = types.ModuleType("pillow_heif")
    plugin.register_heif_opener = lambda: calls.append(1)
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    image_header._formats.cache_clear()
    with opened(encoded("BMP")):
        assert calls == [1]
