"""Image files: upright size, pixels, hash."""

import contextlib
import hashlib
import struct
import zlib

import numpy as np
import pytest
from builders import write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.errors import DataError
from curate.image_header import read_header
from curate.images import decode_rgb, encode_upright, read_image_facts

FORMATS = [".jpg", ".png", ".bmp", ".webp", ".tif", ".gif"]
SMOOTH = {".jpg": {"quality": 95}, ".avif": {"quality": 95}}
TURNED = {5, 6, 7, 8}


def size_of(path):
    facts = read_image_facts(path)
    return facts.width, facts.height


def png_claiming(width, height):
    """A PNG whose header claims a size that its data do not have."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", FORMATS)
def test_size(tmp_path, suffix):
    """Width and height come from the header of every format."""
    assert size_of(write_image(tmp_path / f"a{suffix}", 31, 17)) == (31, 17)


@pytest.mark.parametrize("options", [{"progressive": True}, {"quality": 95, "subsampling": 0}, {"mode": "L"}])
def test_size_of_jpeg_kinds(tmp_path, options):
    """The size of progressive, full-colour and grey JPEGs is read."""
    assert size_of(write_image(tmp_path / "a.jpg", 31, 17, **options)) == (31, 17)


def test_suffix_is_not_believed(tmp_path):
    """A PNG with the suffix .jpg is read as PNG."""
    path = write_image(tmp_path / "a.png", 31, 17).rename(tmp_path / "a.jpg")
    assert size_of(path) == (31, 17)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_upright(tmp_path, suffix, orientation):
    """EXIF orientations 5 to 8 swap width and height, 1 to 4 do not, in every format with EXIF."""
    path = write_image(tmp_path / f"a{suffix}", 31, 17, orientation=orientation)
    assert size_of(path) == ((17, 31) if orientation in TURNED else (31, 17))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_size(tmp_path, suffix, orientation):
    """The facts of an image have its orientation, and the size before it is applied."""
    facts = read_image_facts(write_image(tmp_path / f"a{suffix}", 31, 17, orientation=orientation))
    assert (facts.orientation, facts.stored_size) == (orientation, (31, 17))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_fit_size(tmp_path, suffix, orientation):
    """The decoded pixels have the size that the header gave."""
    path = write_image(tmp_path / f"a{suffix}", 31, 17, orientation=orientation)
    assert decode_rgb(path).shape[1::-1] == size_of(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_red_corner_is_upright(tmp_path, orientation):
    """The stored top-left pixel lands in the corner that EXIF's table says."""
    stored = np.zeros((17, 31, 3), dtype=np.uint8)
    stored[0, 0] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    pixels = decode_rgb(tmp_path / "a.png")
    last_row, last_column = pixels.shape[0] - 1, pixels.shape[1] - 1
    corner = {
        1: (0, 0),
        2: (0, last_column),
        3: (last_row, last_column),
        4: (last_row, 0),
        5: (0, 0),
        6: (0, last_column),
        7: (last_row, last_column),
        8: (last_row, 0),
    }[orientation]
    assert np.argwhere(pixels[..., 0] == 255).tolist() == [list(corner)]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16"])
def test_pixels_are_rgb_bytes(tmp_path, mode):
    """Grey, transparent, palette, black-and-white and 16-bit pictures all become H×W×3 bytes."""
    image = Image.new(mode, (31, 17))
    image.save(tmp_path / "a.png")
    pixels = decode_rgb(tmp_path / "a.png")
    assert (pixels.shape, pixels.dtype) == ((17, 31, 3), np.uint8)


@pytest.mark.parametrize(
    ("values", "kind", "bytes_"),
    [
        ([0, 20000, 60000, 65535], np.uint16, [0, 78, 233, 255]),  # 20000 / 257 = 77.8
        ([0, 20000, 60000, 65535], ">u2", [0, 78, 233, 255]),
        ([3, 7, 7, 200], np.uint16, [0, 0, 0, 1]),  # by one rule, however dark the image is
        ([0, 0.2, 0.9, 1], np.float32, [0, 51, 229, 255]),  # shares of white
        ([0, 1.4, 99.6, 255], np.float32, [0, 1, 100, 255]),  # as they are
        ([100, 200, 260, 500], np.float32, [0, 64, 102, 255]),  # its own darkest and brightest
        ([-1, 0, 0.5, 1], np.float32, [0, 128, 191, 255]),
        ([np.nan, np.inf, 300, 500], np.float32, [0, 0, 0, 255]),
        ([300, 300, 300, 300], np.float32, [0, 0, 0, 0]),
        ([0, 1, 99, 255], np.int32, [0, 1, 99, 255]),
        ([0, 1000, 50000, 100000], np.int32, [0, 3, 128, 255]),
    ],
)
@pytest.mark.parametrize("orientation", [1, 3])
def test_deep_grey(tmp_path, values, kind, bytes_, orientation):
    """Grey TIFFs of 16 and 32 bits and of fractions become bytes by the rules of `decode_rgb`, upright too."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.array([values], dtype=kind)).save(tmp_path / "a.tif", exif=exif)
    pixels = decode_rgb(tmp_path / "a.tif")
    assert pixels.tolist() == [[[value] * 3 for value in (bytes_ if orientation == 1 else bytes_[::-1])]]


@pytest.mark.parametrize("suffix", [".tif", ".bmp", ".gif"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_bytes_stay_as_they_are(tmp_path, suffix, mode):
    """The pixels of an 8-bit image are decoded exactly."""
    grey = np.random.default_rng(0).integers(0, 256, (17, 31), dtype=np.uint8)
    Image.fromarray(grey).convert(mode).save(tmp_path / f"a{suffix}")
    expected = np.asarray(Image.fromarray(grey).convert(mode).convert("RGB"))
    assert (decode_rgb(tmp_path / f"a{suffix}") == expected).all()


def test_colours_are_in_rgb_order(tmp_path):
    """The channels are in the order red, green, blue."""
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "a.png")
    assert decode_rgb(tmp_path / "a.png")[0, 0].tolist() == [255, 0, 0]


def test_hash_is_of_the_bytes(tmp_path):
    """The hash is the SHA-256 of the file's bytes."""
    path = write_image(tmp_path / "a.jpg")
    assert read_image_facts(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9])
def test_cut_off_is_refused(tmp_path, suffix, kept):
    """A file that is cut off is an error in every format."""
    path = write_image(tmp_path / f"a{suffix}", 200, 150)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DataError, match="a\\."):
        read_image_facts(path)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"<html></html>", b"GIF89a", b"BM", b"\0" * 99]
)
def test_no_image_is_refused(tmp_path, data):
    """Bytes that are not an image are an error."""
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(DataError):
        read_image_facts(tmp_path / "a.jpg")


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (2**32 - 1, 5), (2**31, 2**31)])
def test_absurd_size_is_refused(width, height):
    """A header with a size of 0, or beyond 32 bits, is an error."""
    with pytest.raises(ValueError, match=r"possible size|too large"):
        read_header(png_claiming(width, height))


def test_absurd_size_is_not_decoded(tmp_path):
    """Decoding an image with a declared width of two million pixels is a DataError."""
    (tmp_path / "a.png").write_bytes(png_claiming(2**21, 4))
    with pytest.raises(DataError):
        decode_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".bmp", ".gif"])
def test_bomb_is_not_decoded(tmp_path, suffix):
    """Decoding a small file with a declared size of a billion pixels is a DataError."""
    path = write_image(tmp_path / f"a{suffix}", 8, 8)
    data = bytearray(path.read_bytes())
    if suffix == ".bmp":
        data[18:26] = struct.pack("<ii", 2**15, 2**15)
    else:
        data[6:10] = struct.pack("<HH", 2**15, 2**15)
    path.write_bytes(data)
    with pytest.raises(DataError):
        decode_rgb(path)


def test_missing_file_is_refused(tmp_path):
    """A missing file is a DataError that names it."""
    with pytest.raises(DataError, match=r"a\.jpg"):
        read_image_facts(tmp_path / "a.jpg")


def test_folder_is_refused(tmp_path):
    """A folder with an image's name is a DataError."""
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(DataError):
        read_image_facts(tmp_path / "a.jpg")


def test_thumbnail_does_not_count(tmp_path):
    """The end marker of an EXIF thumbnail does not count as the end of the image."""
    thumbnail = write_image(tmp_path / "t.jpg", 8, 8).read_bytes()
    whole = write_image(tmp_path / "a.jpg", 200, 150).read_bytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    cut = whole[:2] + segment + whole[2 : len(whole) // 2]
    with pytest.raises(ValueError, match="cut off"):
        read_header(cut)


def test_damaged_exif_is_passed_over(tmp_path):
    """A damaged EXIF block is ignored."""
    whole = write_image(tmp_path / "a.jpg", 31, 17).read_bytes()
    body = b"Exif\0\0II*\0\xff\xff\xff\xff"
    damaged = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + whole[2:]
    assert read_header(damaged) == (31, 17, 1, "")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """One small file of each format, as bytes."""
    folder = tmp_path_factory.mktemp("encoded")
    return {suffix: write_image(folder / f"a{suffix}", 12, 9, orientation=6).read_bytes() for suffix in FORMATS}


def damage(data, edits):
    damaged = bytearray(data)
    for place, value in edits:
        damaged[int(place * len(damaged)) % len(damaged)] = value
    return bytes(damaged)


EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from(FORMATS), edits=EDITS)
def test_damage_is_a_size_or_an_error(encoded, suffix, edits):
    """Damaged bytes give a size with an area or a DataError, nothing else."""
    check_size(damage(encoded[suffix], edits))


@pytest.mark.long
@settings(deadline=None, max_examples=20_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from(FORMATS), edits=EDITS, kept=st.floats(0, 1))
def test_much_damage_is_a_size_or_an_error(encoded, suffix, edits, kept):
    """The same for many more files, some cut off."""
    damaged = damage(encoded[suffix], edits)
    check_size(damaged[: int(len(damaged) * kept)])


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from(FORMATS), edits=EDITS)
def test_damage_decodes_or_is_an_error(encoded, tmp_path, suffix, edits):
    """Decoding damaged bytes gives pixels or a DataError, nothing else."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(damage(encoded[suffix], edits))
    with contextlib.suppress(DataError):
        assert decode_rgb(path).ndim == 3


def check_size(data):
    try:
        header = read_header(data)
    except ValueError:
        return
    assert header.width > 0
    assert header.height > 0


def test_damaged_tiff_header(tmp_path):
    """A TIFF with invalid tags is a ValueError, whatever Pillow raises."""
    file = tmp_path / "a.tif"
    write_image(file, 12, 9)
    data = bytearray(file.read_bytes())
    for place in range(8, len(data)):
        hurt = bytes([*data[:place], 2, *data[place + 1 :]])
        with contextlib.suppress(ValueError):
            assert min(read_header(hurt)[:2]) > 0


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_missing_end_changes_no_pixel(tmp_path, capfd, suffix):
    """An image that lacks only its end mark decodes to the same pixels, and nothing is printed."""
    path = write_image(tmp_path / f"a{suffix}", 100, 60)
    whole = decode_rgb(path)
    path.write_bytes(path.read_bytes()[: -2 if suffix == ".jpg" else -12])
    assert (decode_rgb(path) == whole).all()
    assert read_image_facts(path).oddity == "the end mark is missing"
    assert capfd.readouterr().err == ""


def test_picture_data_that_end_early_are_logged(tmp_path, caplog):
    """A JPEG whose picture data stop half-way decodes, with one warning that names the file."""
    path = write_image(tmp_path / "half.jpg", 200, 150)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    for _ in range(2):
        assert decode_rgb(path).shape == (150, 200, 3)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: the picture data end early; the rest of the picture is grey"
    ]


def test_camera_raw_is_refused(tmp_path):
    """A camera's raw file is refused, though it begins like a TIFF and holds a small preview."""
    (tmp_path / "a.NEF").write_bytes(write_image(tmp_path / "preview.tif").read_bytes())
    with pytest.raises(DataError, match="no decoder for a camera's raw format; convert it to JPEG"):
        read_image_facts(tmp_path / "a.NEF")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_upright_file(tmp_path, suffix, orientation):
    """A turned image is encoded upright: without orientation, with the pixels that a detector sees."""
    path = write_image(tmp_path / f"a{suffix}", 80, 48, orientation=orientation, **SMOOTH.get(suffix, {}))
    pixels = decode_rgb(path)
    (tmp_path / f"b{suffix}").write_bytes(encode_upright(path.read_bytes()))
    assert read_image_facts(tmp_path / f"b{suffix}").orientation == 1
    difference = decode_rgb(tmp_path / f"b{suffix}").astype(int) - pixels
    assert np.abs(difference).mean() < (8 if suffix in (".jpg", ".avif") else 0.01)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "P", "1"])
def test_upright_file_keeps_its_colours(tmp_path, mode):
    """A lossless image keeps its mode, transparency and depth."""
    path = write_image(tmp_path / "a.png", 30, 20, orientation=6, mode=mode)
    (tmp_path / "b.png").write_bytes(encode_upright(path.read_bytes()))
    with Image.open(path) as before, Image.open(tmp_path / "b.png") as after:
        assert after.mode == before.mode
        assert (np.asarray(after) == np.rot90(np.asarray(before), -1)).all()


@pytest.mark.parametrize(("suffix", "end"), [(".jpg", 2), (".png", 12)])
def test_upright_file_without_end_mark(tmp_path, suffix, end):
    """A turned image that lacks its end mark, which an import accepts, is written upright, too."""
    path = write_image(tmp_path / f"a{suffix}", 30, 20, orientation=6)
    path.write_bytes(path.read_bytes()[:-end])
    assert read_image_facts(path).oddity
    (tmp_path / f"b{suffix}").write_bytes(encode_upright(path.read_bytes()))
    assert size_of(tmp_path / f"b{suffix}") == (20, 30)
    assert not read_image_facts(tmp_path / f"b{suffix}").oddity


def profile_of(space):
    return bytes(16) + space + bytes(100)


@pytest.mark.parametrize(
    ("mode", "space", "kept"), [("RGB", b"RGB ", True), ("L", b"GRAY", True), ("CMYK", b"CMYK", False)]
)
def test_upright_file_keeps_its_metadata(tmp_path, mode, space, kept):
    """The other EXIF entries stay, and the colour profile if it is one of the new pixels' colours."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    path = write_image(tmp_path / "a.jpg", 30, 20, mode=mode, exif=exif, icc_profile=profile_of(space))
    (tmp_path / "b.jpg").write_bytes(encode_upright(path.read_bytes()))
    with Image.open(tmp_path / "b.jpg") as image:
        assert dict(image.getexif()) == {0x010F: "camera"}
        assert image.info.get("icc_profile") == (profile_of(space) if kept else None)


def test_upright_file_that_nothing_encodes(tmp_path, monkeypatch):
    """None is returned for a format that can be read but not written."""
    path = write_image(tmp_path / "a.webp", 30, 20, orientation=6)
    monkeypatch.delitem(Image.SAVE, "WEBP")
    assert encode_upright(path.read_bytes()) is None
