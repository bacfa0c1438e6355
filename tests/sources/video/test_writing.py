"""Writing videos: every frame at its time, upright, with the audio."""

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest

from curate.errors import DataError, UsageError
from curate.sources.video import FrameReader, index_video, writing
from curate.sources.video.writing import VideoWriter


def copy_video(source, target):
    """Write a video again, frame by frame, as a watch does."""
    index = index_video(source)
    rate = Fraction(index.fps or 25).limit_denominator(1001)
    writer = VideoWriter(
        target, time_base=index.time_base, rate=rate, rotation=index.rotation, mirrored=index.mirrored,
        audio_from=Path(source), pixel_aspect=index.pixel_aspect,
    )  # fmt: skip
    ends = [*index.pts[1:].tolist(), int(index.pts[-1]) + index.last_duration]
    for frame in FrameReader(index).read(range(index.frames)):
        pts = int(index.pts[frame.index])
        writer.write(frame.pixels, pts, ends[frame.index] - pts)
    writer.close()
    return index, index_video(target), writer


def times_s(index):
    return [int(stamp) * index.time_base for stamp in index.pts]


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_orientation_is_kept(tmp_path, rotation, mirrored):
    """All eight stored orientations are kept, and shown upright."""
    clips.write_clip(tmp_path / "in.mp4", 4, rotation=rotation, mirrored=mirrored)
    before, after, _ = copy_video(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert (after.rotation, after.mirrored) == (before.rotation, before.mirrored) == (rotation, mirrored)
    frames = list(FrameReader(after).read(range(4)))
    assert [clips.read_number(frame.pixels) for frame in frames] == [0, 1, 2, 3]
    assert clips.read_corners(frames[0].pixels) == (True, True)


@pytest.mark.parametrize(
    ("pts", "time_base"),
    [
        ([0, 1, 2, 3, 4, 5], Fraction(1001, 30000)),
        ([8333, 8366, 8400, 8900, 8933, 8966], Fraction(1, 1000)),
        ([0, 1, 40_000, 40_001, 999_999, 1_000_000], Fraction(1, 1_000_000)),
    ],
)
def test_time_stamps_are_exact(tmp_path, pts, time_base):
    """NTSC, a late start with uneven intervals, and ticks of a microsecond."""
    clips.write_clip(tmp_path / "in.mkv" if time_base == Fraction(1, 1000) else tmp_path / "in.mp4", 6, pts=pts,
                     time_base=time_base)  # fmt: skip
    source = next(tmp_path.glob("in.*"))
    before, after, _ = copy_video(source, tmp_path / "out.mp4")
    assert times_s(after) == times_s(before)
    assert after.frames == 6
    assert after.duration_s == before.duration_s


def test_odd_sizes(tmp_path):
    """H.264 needs even sides, so the last line and column are repeated."""
    writer = VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 30), rate=Fraction(30))
    picture = np.full((95, 161, 3), (200, 30, 30), dtype=np.uint8)
    writer.write(picture, 0, 1)
    writer.close()
    index = index_video(tmp_path / "out.mp4")
    assert (index.width, index.height) == (162, 96)
    assert np.abs(next(FrameReader(index).read([0])).pixels.astype(int) - (200, 30, 30)).max() < 12


def test_an_upright_frame_in_a_wide_video_has_black_bars(tmp_path):
    """A frame of another shape is not squeezed: a square stays a square, between bars."""
    writer = VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 30), rate=Fraction(30))
    writer.write(np.full((96, 160, 3), 128, dtype=np.uint8), 0, 1)
    upright = np.full((192, 96, 3), 128, dtype=np.uint8)
    upright[60:120, 20:80] = (235, 20, 20)
    writer.write(upright, 1, 1)
    writer.close()
    pixels = list(FrameReader(index_video(tmp_path / "out.mp4")).read([0, 1]))[1].pixels.astype(int)
    assert max(pixels[:, :54].max(), pixels[:, 106:].max()) < 30
    red = np.argwhere(pixels[..., 0] - pixels[..., 1] > 100)
    assert np.abs(red.min(axis=0) - (30, 66)).max() <= 2
    assert np.abs(red.max(axis=0) - (59, 95)).max() <= 2


def test_a_frame_of_another_size_is_scaled(tmp_path):
    """A camera that comes back with another resolution does not end the recording."""
    writer = VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 30), rate=Fraction(30))
    writer.write(clips.draw_number(5), 0, 1)
    writer.write(clips.draw_number(6, width=320, height=192), 1, 1)
    writer.close()
    frames = list(FrameReader(index_video(tmp_path / "out.mp4")).read([0, 1]))
    assert [clips.read_number(frame.pixels) for frame in frames] == [5, 6]
    assert frames[1].pixels.shape == (clips.HEIGHT, clips.WIDTH, 3)


def test_the_file_appears_when_it_is_complete(tmp_path):
    """Until then there is a partial file, which plays, as after a kill."""
    writer = VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 30), rate=Fraction(30))
    for number in range(700):
        writer.write(clips.draw_number(number), number, 1)
    assert not (tmp_path / "out.mp4").exists()
    shutil.copy(tmp_path / ".out.part.mp4", tmp_path / "killed.mp4")
    writer.close()
    assert index_video(tmp_path / "out.mp4").frames == 700
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    assert index_video(tmp_path / "killed.mp4").frames >= 300


def test_no_frame_is_no_file(tmp_path):
    """Without frames there is no file."""
    VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 30), rate=Fraction(30)).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "message"), [("out.avi", "ends in .mp4"), ("there/is/none/out.mp4", "folder does not exist")]
)
def test_invalid_paths(tmp_path, path, message):
    """They are refused before the first frame."""
    with pytest.raises(UsageError, match=message):
        VideoWriter(tmp_path / path, time_base=Fraction(1, 30), rate=Fraction(30))


@pytest.fixture
def full_disk(monkeypatch):
    """The part of a video is on a full disk."""

    class FullPart:
        path, kept, close = Path("/dev/full"), None, staticmethod(lambda: None)

        def __init__(self, place, **_):
            self.place = place

    monkeypatch.setattr(writing, "PartFile", FullPart)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_one_line(tmp_path):
    """The error names the file, and where the frames so far are."""
    writer = VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 30), rate=Fraction(30))

    def write_much():
        for number in range(2000):
            writer.write(clips.draw_number(number), number, 1)

    with pytest.raises(DataError, match=r"out.mp4: cannot write the video: No space left on device\. .* /dev/full"):
        write_much()
    writer.close()  # nothing more goes into a file that has failed


@pytest.mark.usefixtures("full_disk")
def test_a_disk_that_is_full_from_the_start(tmp_path):
    """The header cannot be written."""
    writer = VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 1), rate=Fraction(1))

    def write_one():
        writer.write(clips.draw_number(0), 0, 1)
        writer.close()

    with pytest.raises(DataError, match=r"No space left on device"):
        write_one()
    writer.close()


def test_slow_videos_survive_a_kill_too(tmp_path):
    """Fragments end by time, not by frames: of 40 s at one frame per second, at least 30 s survive."""
    writer = VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 90_000), rate=Fraction(30))
    for number in range(40):
        writer.write(clips.draw_number(number), number * 90_000, 90_000)
    shutil.copy(tmp_path / ".out.part.mp4", tmp_path / "killed.mp4")
    writer.close()
    index = index_video(tmp_path / "killed.mp4")
    assert index.frames >= 28
    assert [clips.read_number(frame.pixels) for frame in FrameReader(index).read(range(28))] == list(range(28))


@pytest.mark.parametrize("rotation", [0, 90])
def test_pixel_aspect_is_kept(tmp_path, rotation):
    """As in videos of PAL and HDV cameras."""
    writer = VideoWriter(tmp_path / "in.mp4", time_base=Fraction(1, 30), rate=Fraction(30), rotation=rotation,
                         pixel_aspect=Fraction(64, 45))  # fmt: skip
    writer.write(clips.draw_number(5), 0, 1)
    writer.close()
    before, after, _ = copy_video(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert before.pixel_aspect == after.pixel_aspect == Fraction(64, 45)


def test_audio_ends_with_a_video_that_is_cut_short(tmp_path):
    """Of two seconds, the first is written, with as much audio."""
    with_audio(tmp_path / "in.mp4", "aac")
    writer = VideoWriter(tmp_path / "out.mp4", time_base=Fraction(1, 30), rate=Fraction(30),
                         audio_from=tmp_path / "in.mp4")  # fmt: skip
    for number in range(30):
        writer.write(clips.draw_number(number), number, 1)
    writer.close(whole=False)
    with av.open(str(tmp_path / "out.mp4")) as container:
        ends = [float((one.pts + one.duration) * one.time_base) for one in container.demux(audio=0) if one.size]
    assert max(ends) == pytest.approx(1.0, abs=0.05)


def with_audio(path, codec, **options):
    """Two seconds of frames, with a tone that starts with them."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = clips.WIDTH, clips.HEIGHT, "yuv420p"
        sound = container.add_stream(codec, rate=48000, **options)
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(clips.draw_number(number), format="rgb24")
            container.mux(video.encode(frame))
        wave = (np.sin(np.arange(96000) / 48000 * 2 * np.pi * 440) * 20000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]).reshape(1, -1, order="F"), "s16", "stereo")
        frame.sample_rate = 48000
        resampler = av.AudioResampler(
            sound.codec_context.format, "stereo", 48000, frame_size=sound.codec_context.frame_size or 1024
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(video.encode())
        container.mux(sound.encode())


@pytest.mark.parametrize(
    ("name", "codec", "kept"), [("in.mp4", "aac", "aac"), ("in.mkv", "libopus", "opus"), ("in.mkv", "pcm_s16le", "aac")]
)
def test_audio_is_kept(tmp_path, name, codec, kept):
    """It is copied where MP4 supports the codec, otherwise encoded as AAC; same length and tone."""
    with_audio(tmp_path / name, codec)
    _, after, writer = copy_video(tmp_path / name, tmp_path / "out.mp4")
    assert writer.fault is None
    assert after.frames == 60
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = container.streams.audio[0]
        assert sound.codec_context.codec.canonical_name == kept
        frames = list(container.decode(sound))
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    assert abs(len(samples) / 48000 - 2) < 0.06
    middle = samples[24000:72000].astype(float)
    assert abs(np.argmax(np.abs(np.fft.rfft(middle))) - 440) <= 1


def test_all_audio_packets_are_copied(tmp_path):
    """Byte for byte, at their times."""
    with_audio(tmp_path / "in.mp4", "aac")
    copy_video(tmp_path / "in.mp4", tmp_path / "out.mp4")

    def packets(path):
        with av.open(str(path)) as container:
            return [(bytes(one), one.pts * one.time_base) for one in container.demux(audio=0) if one.size]

    assert packets(tmp_path / "out.mp4") == packets(tmp_path / "in.mp4")


def test_ffmpeg_reads_it_without_warnings(tmp_path):
    """The file is valid for other programs."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    with_audio(tmp_path / "in.mp4", "aac")
    copy_video(tmp_path / "in.mp4", tmp_path / "out.mp4")
    command = ["ffmpeg", "-v", "warning", "-i", tmp_path / "out.mp4", "-f", "null", "-"]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""
