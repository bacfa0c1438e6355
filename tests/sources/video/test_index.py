"""Times, streams and remarks of an index, for files that tell little or much."""

import re
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import draw_number, read_number, write_clip, write_two_streams

from curate.errors import DataError
from curate.sources.video import FrameReader, ReadOptions, index_video

UNTIMED_HEVC = {"codec": "libx265", "options": {"x265-params": "vui-timing-info=0:log-level=none:pools=1"}}


def kinds(index):
    return [remark.kind for remark in index.remarks]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.h264", {}),
        ("a.hevc", {"codec": "libx265"}),
        ("a.m1v", {"codec": "mpeg1video"}),
        ("a.m2v", {"codec": "mpeg2video"}),
        ("a.m4v", {"codec": "mpeg4"}),
    ],
)
@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001), 50])
def test_a_raw_stream_that_tells_its_rate(tmp_path, name, how, fps):
    """Frames of a raw stream follow one another at the rate in its headers, not at FFmpeg's default of 25."""
    index = index_video(write_clip(tmp_path / name, 20, fps=fps, **how))
    times = [index.time(number) for number in (0, 1, 2, 19, 20)]
    assert times == [number / Fraction(fps) for number in (0, 1, 2, 19, 20)]
    assert [read_number(frame.pixels) for frame in FrameReader(index).read([1, 7, 19])] == [1, 7, 19]
    assert kinds(index) == []


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.hevc", UNTIMED_HEVC),
        ("a.mjpeg", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
        ("a.obu", {"codec": "libsvtav1"}),
    ],
)
def test_a_raw_stream_that_does_not_tell_its_rate(tmp_path, name, how):
    """25 frames per second are assumed, and it is remarked; the user can say the rate."""
    clip = write_clip(tmp_path / name, 12, fps=10, **how)
    index = index_video(clip)
    assert (index.frames, index.duration_s, kinds(index)) == (12, pytest.approx(12 / 25), ["assumed_rate"])
    told = index_video(clip, ReadOptions(rate=Fraction(10)))
    assert (told.time(7), told.duration_s, kinds(told)) == (Fraction(7, 10), pytest.approx(1.2), [])
    assert [read_number(frame.pixels) for frame in FrameReader(told).read([3, 11])] == [3, 11]


def test_raw_motion_jpeg_with_file_headers(tmp_path):
    """FFmpeg takes a stream for a single picture where each begins like a JPEG file; a picture stays one."""
    clip = write_clip(tmp_path / "bare.mjpeg", 12, codec="mjpeg", pixel_format="yuvj420p", width=640, height=384)
    with av.open(str(clip)) as container:
        jpegs = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    jfif = bytes.fromhex("ffd8 ffe0 0010 4a46494600 0102 00 0001 0001 0000")
    (tmp_path / "a.MJPG").write_bytes(b"".join(jfif + jpeg[2:] for jpeg in jpegs))
    (tmp_path / "still.jpg").write_bytes(jfif + jpegs[0][2:])
    index = index_video(tmp_path / "a.MJPG", ReadOptions(rate=Fraction(10)))
    assert (index.frames, index.time(11)) == (12, Fraction(11, 10))
    assert [read_number(frame.pixels) for frame in FrameReader(index).read([0, 7, 11])] == [0, 7, 11]
    with pytest.raises(DataError, match="a picture or a text"):
        index_video(tmp_path / "still.jpg")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_rate_does_not_change_files_with_time_stamps(tmp_path, name):
    """The user's rate is for files without times, which is remarked."""
    clip = write_clip(tmp_path / name, 12, fps=30, bframes=0)
    index = index_video(clip, ReadOptions(rate=Fraction(10)))
    assert (index.duration_s, kinds(index)) == (pytest.approx(0.4, abs=0.002), ["rate_not_used"])
    assert kinds(index_video(clip)) == []


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_each_of_two_video_streams_can_be_read(tmp_path, name):
    """By default the container's best, with a remark that lists both; each by its number without a remark."""
    clip = write_two_streams(tmp_path / name)
    index = index_video(clip)
    assert kinds(index) == ["several_streams"]
    taken = {160: 1, 320: 2}[index.width]
    assert f"2 video streams (1: 160×96, 2: 320×192); stream {taken} is read" in index.remarks[0].detail
    for ordinal, first in ((1, 0), (2, 100)):
        chosen = index_video(clip, ReadOptions(stream=ordinal))
        assert kinds(chosen) == []
        assert [read_number(frame.pixels) for frame in FrameReader(chosen).read([0, 7])] == [first, first + 7]


@pytest.mark.parametrize("unknown", [0, 1])
def test_a_second_stream_of_an_unknown_codec(tmp_path, unknown):
    """The stream that can be decoded is read, and the other one cannot be chosen."""
    content = write_two_streams(tmp_path / "a.mkv").read_bytes()
    at = [match.start() for match in re.finditer(b"V_MPEG4/ISO/AVC", content)][unknown]
    (tmp_path / "a.mkv").write_bytes(content[:at] + b"V_XXXXX/XXX/XXX" + content[at + 15 :])
    index = index_video(tmp_path / "a.mkv")
    assert index.width == (320, 160)[unknown]
    with pytest.raises(DataError, match="does not know its codec"):
        index_video(tmp_path / "a.mkv", ReadOptions(stream=unknown + 1))


def test_a_stream_that_is_not_there(tmp_path):
    """The message says how many there are."""
    with pytest.raises(DataError, match=r"no video stream 3 \(expected 1 to 2\)"):
        index_video(write_two_streams(tmp_path / "a.mp4"), ReadOptions(stream=3))
    with pytest.raises(DataError, match=r"no video stream 2 \(expected 1\)"):
        index_video(write_clip(tmp_path / "b.mp4"), ReadOptions(stream=2))


@pytest.mark.parametrize(("aspect", "shown"), [(Fraction(64, 45), "228×96"), (Fraction(8, 9), "142×96"), (1, None)])
def test_pixels_that_are_not_square(tmp_path, aspect, shown):
    """Pictures stay as coded; a remark tells the size that players show."""
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.sample_aspect_ratio = aspect
        container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_number(0), format="rgb24")))
        container.mux(stream.encode(None))
    index = index_video(tmp_path / "a.mp4")
    assert (index.width, index.height) == (160, 96)
    assert kinds(index) == ([] if shown is None else ["pixels_not_square"])
    if shown:
        assert index.remarks[0].detail.endswith(f"stored as coded, 160×96, and shown by players as {shown}")


def test_an_animated_gif_is_a_video(tmp_path):
    """Frames and times of an animation are read; a single picture is refused."""
    from PIL import Image

    pictures = [Image.fromarray(np.full((48, 64, 3), 20 * number, dtype=np.uint8)) for number in range(10)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    pictures[0].save(tmp_path / "still.gif")
    index = index_video(tmp_path / "a.gif")
    assert (index.frames, index.time(4), index.duration_s) == (10, Fraction(2, 5), pytest.approx(1))
    assert [int(frame.pixels[20, 20, 0]) for frame in FrameReader(index).read([1, 7])] == pytest.approx(
        [20, 140], abs=4
    )
    with pytest.raises(DataError, match="a picture or a text"):
        index_video(tmp_path / "still.gif")


def test_an_animated_webp_comes_with_a_way_out(tmp_path):
    """The message names the kind, and a command that converts it; what that command writes is read."""
    from PIL import Image

    pictures = [Image.fromarray(np.full((48, 64, 3), 20 * number, dtype=np.uint8)) for number in range(10)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=100)
    with pytest.raises(DataError, match=r"animated WebP.*animated PNG"):
        index_video(tmp_path / "a.webp")
    Image.open(tmp_path / "a.webp").save(tmp_path / "a.png", save_all=True)
    assert index_video(tmp_path / "a.png").frames == 10
    pictures[0].save(tmp_path / "still.webp")
    with pytest.raises(DataError, match="a picture or a text"):
        index_video(tmp_path / "still.webp")
