"""High dynamic range and wide gamut come out as ordinary pictures."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from curate.sources.video import FrameReader, index_video
from curate.sources.video.hdr import Colours, map_to_srgb

PQ, HLG = ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67
BT2020 = ColorPrimaries.BT2020


def mapped(signal, transfer, primaries=BT2020):
    """The sRGB colour of an RGB signal from 0 to 1."""
    pixel = np.round(np.broadcast_to(np.asarray(signal, dtype=float), (1, 1, 3)) * 65535).astype(np.uint16)
    return map_to_srgb(pixel, Colours(transfer, primaries))[0, 0].tolist()


@pytest.mark.parametrize(("transfer", "grey", "white"), [(PQ, 0.38, 0.58), (HLG, 0.38, 0.75)])
def test_greys_have_the_levels_of_photographs(transfer, grey, white):
    """ITU-R BT.2408, table 1: a grey card (26 cd/m²) is at 38 % of the signal, a white sheet (203) at 58 % or 75 %."""
    assert mapped(0.0, transfer) == [0, 0, 0]
    assert mapped(grey, transfer) == pytest.approx([101, 101, 101], abs=3)  # 26 / 203 in sRGB
    assert mapped(white, transfer) == pytest.approx([240, 240, 240], abs=3)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_highlights_keep_their_texture(transfer):
    """Brighter light is brighter up to a display's peak, 75 % of a PQ signal, all of an HLG signal, which are white."""
    peak = 0.7518 if transfer == PQ else 1.0
    levels = [mapped(signal, transfer)[0] for signal in np.linspace(0, peak, 60)]
    assert levels == sorted(levels)
    assert len(set(levels[-10:])) > 4
    assert levels[-1] == 255
    assert mapped(1.0, transfer) == [255, 255, 255]


def test_a_colour_of_rec_709_is_itself():
    """(200, 40, 40) in sRGB, moved to BT.2020 by the matrix of ITU-R BT.2087, table 4, and to PQ, comes back."""
    signal = np.array([200, 40, 40]) / 255
    light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    power = (to_bt2020 @ light * 203 / 10_000) ** 0.1593017578125
    pq = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    assert mapped(pq, PQ) == pytest.approx([200, 40, 40], abs=2)


def test_colours_outside_of_rec_709_are_the_nearest():
    """A pure green of BT.2020 has no red and blue that a display could show."""
    assert mapped((0.0, 0.5, 0.0), PQ)[::2] == [0, 0]


def test_wide_gamut_without_high_range():
    """Greys stay the same; colours of Display P3 become more saturated levels of sRGB."""
    assert mapped(0.5, None, ColorPrimaries.SMPTE432) == [128, 128, 128]
    red, green, blue = mapped((0.8, 0.3, 0.3), None, ColorPrimaries.SMPTE432)
    assert red > 204
    assert max(green, blue) < 77


def write_grey(
    path, level, *, transfer, primaries, pixel_format="yuv420p10le", space=Colorspace.BT2020, chroma=(512, 512)
):
    """A video of one colour: `level` is luma in limited range, 10 bits, as a share of the range."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        context = stream.codec_context
        context.color_primaries, context.color_trc = int(primaries), int(transfer)
        context.colorspace, context.color_range = int(space), int(ColorRange.MPEG)
        planes = np.full((72, 64), 512, dtype=np.uint16)
        planes[48:60], planes[60:] = chroma
        planes[:48] = 64 + round(level * 876)
        frame = av.VideoFrame.from_ndarray(planes, format=pixel_format)
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("transfer", "level"), [(PQ, 0.58), (HLG, 0.75)])
def test_a_video_tells_that_it_is_hdr(tmp_path, transfer, level):
    """Transfer and primaries are read from the file; white is bright, and it is told."""
    reader = FrameReader(index_video(write_grey(tmp_path / "a.mkv", level, transfer=transfer, primaries=BT2020)))
    (frame,) = reader.read([0])
    assert frame.pixels.mean() == pytest.approx(240, abs=4)
    (remark,) = reader.remarks
    assert remark.kind == "colours_mapped"
    assert ("PQ" if transfer == PQ else "HLG") in remark.detail


def test_hdr_without_a_matrix(tmp_path):
    """BT.2100 has one matrix; FFmpeg would take that of ITU-R BT.601."""
    colours = []
    for name, space in (("told.mkv", Colorspace.BT2020), ("untold.mkv", 2)):
        colour = {"transfer": HLG, "primaries": BT2020, "space": space, "chroma": (400, 640)}
        (frame,) = FrameReader(index_video(write_grey(tmp_path / name, 0.5, **colour))).read([0])
        colours.append(frame.pixels[20, 20].tolist())
    assert colours[0] == colours[1]
    assert max(colours[0]) - min(colours[0]) > 50


@pytest.mark.parametrize(
    ("primaries", "gamut"),
    [(ColorPrimaries.BT709, "BT.709"), (BT2020, "BT.2020"), (ColorPrimaries.SMPTE432, "Display P3")],
)
def test_the_gamut_is_named(primaries, gamut):
    """As the file tells it."""
    assert str(Colours(HLG, primaries)) == f"HDR (HLG, {gamut})"


def test_an_ordinary_video_of_ten_bits_is_not_mapped(tmp_path):
    """Rec. 709 at 10 bits keeps its levels."""
    clip = write_grey(
        tmp_path / "a.mkv", 0.58, transfer=ColorTrc.BT709, primaries=ColorPrimaries.BT709, space=Colorspace.ITU709
    )
    reader = FrameReader(index_video(clip))
    (frame,) = reader.read([0])
    assert frame.pixels.mean() == pytest.approx(0.58 * 255, abs=3)
    assert reader.remarks == []
