"""Decoded frames as RGB: deep samples, interlaced frames, and what is remarked about them."""

from fractions import Fraction

import av
import numpy as np
import pytest
from clips import read_number, write_clip

from curate.sources.video import FrameReader, ReadOptions, index_video


def write_deep(path, levels, pixel_format="gray16le"):
    """A video of 16-bit samples, one frame for each level; the left half is black."""
    channels = {"gray": (), "rgba": (4,)}.get(pixel_format[:4], (3,))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if path.suffix == ".mkv" else "png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        for number, level in enumerate(levels):
            samples = np.zeros((48, 64, *channels), dtype=np.uint16)
            samples[:, 32:] = level
            if channels == (4,):
                samples[..., 3] = 65535
            frame = av.VideoFrame.from_ndarray(samples, format=pixel_format)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path, options=None):
    """(level of the bright half of each frame, kinds and texts of the remarks)."""
    index = index_video(path, options)
    reader = FrameReader(index)
    frames = [frame.pixels for frame in reader.read(range(index.frames))]
    assert all((pixels[:, :32] == 0).all() for pixels in frames)
    return [pixels[20, 50].tolist() for pixels in frames], reader.remarks


@pytest.mark.parametrize(
    ("name", "pixel_format"), [("a.mkv", "gray16le"), ("a.mov", "rgb48be"), ("a.mkv", "rgb48le"), ("a.mov", "rgba64be")]
)
@pytest.mark.parametrize("depth", [10, 12, 14])
def test_samples_that_use_a_part_of_their_bits(tmp_path, name, pixel_format, depth):
    """They are dark, and it is remarked with the depth; with that depth white is white."""
    white = (1 << depth) - 1
    clip = write_deep(tmp_path / name, [white // 2, white], pixel_format)
    dark, (remark,) = read(clip)
    assert max(dark[1]) <= 256 >> 16 - depth
    assert (remark.kind, f"use only {depth}" in remark.detail) == ("dark_samples", True)
    bright, remarks = read(clip, ReadOptions(depth=depth))
    assert bright == [pytest.approx([127] * 3, abs=1), [255] * 3]
    assert remarks == []


def test_samples_that_use_all_their_bits(tmp_path):
    """One bright frame shows that the others are only dark."""
    assert read(write_deep(tmp_path / "a.mkv", [4095, 65535])) == ([[16] * 3, [255] * 3], [])


def test_samples_that_exceed_the_depth_are_white(tmp_path):
    """A depth that is too low is remarked."""
    levels, (remark,) = read(write_deep(tmp_path / "a.mkv", [4095, 65535]), ReadOptions(depth=12))
    assert (levels, remark.kind) == ([[255] * 3] * 2, "clipped_samples")


@pytest.mark.parametrize("pixel_format", ["gray10le", "gray12le"])
def test_formats_that_tell_their_depth(tmp_path, pixel_format):
    """Their white is white, and a depth of the user does not apply."""
    white = (1 << int(pixel_format[4:6])) - 1
    clip = write_deep(tmp_path / "a.mkv", [white], pixel_format)
    assert read(clip, ReadOptions(depth=8)) == read(clip) == ([[255] * 3], [])


def test_interlaced_video(tmp_path):
    """It is remarked once; a progressive one is not."""
    clip = write_clip(tmp_path / "a.mp4", options={"x264-params": "tff=1:keyint=12"})
    reader = FrameReader(index_video(clip))
    assert len(list(reader.read(range(5)))) == 5
    assert [remark.kind for remark in reader.remarks] == ["interlaced"]
    reader = FrameReader(index_video(write_clip(tmp_path / "b.mp4")))
    list(reader.read(range(5)))
    assert reader.remarks == []


def test_frames_with_data_that_the_library_does_not_know(tmp_path):
    """Such as EXIF in every frame of a video of photographs."""
    clip = write_clip(tmp_path / "a.mov", 5, codec="tiff", pixel_format="rgb24")
    with av.open(str(clip)) as container, pytest.raises(ValueError, match="not a valid Type"):
        _ = next(container.decode(video=0)).side_data
    frames = FrameReader(index_video(clip)).read(range(5))
    assert [read_number(frame.pixels) for frame in frames] == [0, 1, 2, 3, 4]


def test_an_orientation_that_changes(tmp_path):
    """All frames are turned like the first, and it is remarked."""
    from av.bitstream import BitStreamFilterContext

    clip = write_clip(tmp_path / "a.h264", 12, bframes=0)
    data = clip.read_bytes()
    with av.open(str(clip)) as container:
        turn = BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=90", container.streams.video[0])
        turned = [bytes(out) for packet in container.demux(video=0) if packet.size for out in turn.filter(packet)]
    (tmp_path / "b.h264").write_bytes(data + b"".join(turned))
    reader = FrameReader(index_video(tmp_path / "b.h264"))
    assert {frame.pixels.shape for frame in reader.read(range(24))} == {(96, 160, 3)}
    assert [remark.kind for remark in reader.remarks] == ["orientation_changes"]
