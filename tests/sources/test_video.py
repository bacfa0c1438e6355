"""Frames of a video by number: exactly the requested ones, decoding no more than they need."""

import random
import shutil
import subprocess
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from clips import HEIGHT, WIDTH, draw_number, join_clips, read_corners, read_number, write_clip, write_sound
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_paths import SHARED_DATA

from curate.errors import DataError, UsageError
from curate.sources.video import FrameReader, index_video
from curate.sources.video.bitstreams import Role, read_av1, read_h264, read_hevc, read_vp9
from curate.sources.video.decoding import choose_decoding

VIDEOS = SHARED_DATA / "videos"
BROKEN = "corrupted.mp4"
UNEVEN_MS = [0, 10, 15, 40, 41, 90, 130, 131, 200, 205, 300, 333, 366, 400, 480, 500, 520, 560, 600, 700, 701, 702, 800]
FRONT_INDEX = {"movflags": "faststart"}


def read(path, wanted=None, **options):
    """Read frames, by default all, of a video without faults."""
    index = index_video(path)
    reader = FrameReader(index, **options)
    frames = list(reader.read(range(index.frames) if wanted is None else wanted))
    assert (index.fault, reader.fault) == (None, None)
    return frames


def numbers(frames):
    """(index, number drawn into the frame) of frames."""
    return [(frame.index, read_number(frame.pixels)) for frame in frames]


def same(wanted):
    return [(number, number) for number in wanted]


def damage(path, part, seed=1):
    """Overwrite 80 bytes at a share of the file's length with random ones."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * part)
    data[start : start + 80] = random.Random(seed).randbytes(80)
    path.write_bytes(data)


def truncate(path, part):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


def test_drawn_numbers_are_read():
    """The numbers in the test clips can be read, which the tests below rely on."""
    assert [read_number(draw_number(number)) for number in (0, 1, 77, 4095)] == [0, 1, 77, 4095]


@pytest.mark.parametrize(
    ("name", "how"),
    {
        "B-frames": ("a.mp4", {"bframes": 3}),
        "a pyramid of B-frames": ("a.mkv", {"bframes": 7}),
        "no B-frames": ("a.mp4", {"bframes": 0}),
        "open GOP": ("a.mp4", {"open_gop": True, "gop": 8}),
        "open GOP in a transport stream": ("a.ts", {"open_gop": True, "gop": 8}),
        "fragments": ("a.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        "Flash": ("a.flv", {}),
        "interlaced": ("a.mp4", {"options": {"x264-params": "tff=1:keyint=12:scenecut=0"}}),
        "intra refresh": ("a.mp4", {"options": {"x264-params": "intra-refresh=1:keyint=12"}}),
        "AVI without time stamps": ("a.avi", {}),
        "a raw stream": ("a.h264", {}),
        "full colour": ("a.mp4", {"pixel_format": "yuv444p"}),
        "HEVC": ("a.mp4", {"codec": "libx265"}),
        "HEVC, open GOP": ("a.mkv", {"codec": "libx265", "open_gop": True, "gop": 8}),
        "HEVC, 10 bit": ("a.mp4", {"codec": "libx265", "pixel_format": "yuv420p10le"}),
        "a raw HEVC stream": ("a.hevc", {"codec": "libx265"}),
        "VP8 with hidden frames": (
            "a.webm",
            {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "8"}},
        ),
        "VP9 with hidden frames": ("a.webm", {"codec": "libvpx-vp9"}),
        "VP9 in MP4": ("a.mp4", {"codec": "libvpx-vp9"}),
        "AV1": ("a.mp4", {"codec": "libsvtav1"}),
        "AV1 in WebM": ("a.webm", {"codec": "libsvtav1"}),
        "MPEG-4": ("a.mp4", {"codec": "mpeg4"}),
        "MPEG-4 in AVI": ("a.avi", {"codec": "mpeg4"}),
        "MPEG-2": ("a.mpg", {"codec": "mpeg2video"}),
        "Motion JPEG": ("a.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
        "a codec whose packets are not read": ("a.mkv", {"codec": "ffv1"}),
    }.values(),
)
def test_sampled_frames_are_the_requested_ones(tmp_path, name, how):
    """Any frames can be read by number, in any codec and container."""
    clip = write_clip(tmp_path / name, 40, **{"gop": 12} | how)
    assert index_video(clip).frames == 40
    for wanted in (range(40), range(0, 40, 7), [9, 10, 23, 25, 39], [38]):
        assert numbers(read(clip, wanted)) == same(wanted)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("ts", "libx264"), ("mkv", "libvpx"), ("webm", "libvpx-vp9"), ("ts", "libx265"), ("avi", "mjpeg")],
)
def test_a_change_of_picture_size(tmp_path, suffix, codec):
    """Each frame has its own size and is not squeezed, wherever reading starts; one remark names the first change."""
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    parts = [
        write_clip(
            tmp_path / f"{width}.{suffix}", 12, codec=codec, width=width, height=height, pixel_format=pixel_format
        )
        for width, height in ((192, 128), (128, 192), (144, 108))
    ]
    index = index_video(join_clips(tmp_path / f"joined.{suffix}", *parts))
    assert (index.width, index.height) == (192, 128)
    for wanted in (range(index.frames), [3, 17, 30], [30]):
        reader = FrameReader(index)
        frames = list(reader.read(wanted))
        assert reader.fault is None
        for frame in frames:
            width, height = ((192, 128), (128, 192), (144, 108))[frame.index // 12]
            assert (frame.pixels.shape, read_number(frame.pixels)) == ((height, width, 3), frame.index % 12)
        assert [remark.kind for remark in reader.remarks] == ["size_changes"]
    assert read(parts[0])[0].pixels.shape == (128, 192, 3)


def test_a_change_of_pixel_format(tmp_path):
    """Frames before and after a change of chroma and depth have the same colours."""
    kinds = ("yuv420p", "yuv444p", "yuv420p10le")
    parts = [write_clip(tmp_path / f"{kind}.ts", 6, pixel_format=kind) for kind in kinds]
    frames = read(join_clips(tmp_path / "joined.ts", *parts))
    assert [read_number(frame.pixels) for frame in frames] == [*range(6)] * 3
    assert all(read_corners(frame.pixels) == (True, True) for frame in frames)


@pytest.mark.parametrize("gop", [50, 250])
def test_long_distances_between_keyframes(tmp_path, gop):
    """One frame in 66, as for one every 2.2 s, with keyframes close together and far apart."""
    clip = write_clip(tmp_path / "a.mp4", 300, gop=gop, bframes=3)
    assert numbers(read(clip, range(0, 300, 66))) == same(range(0, 300, 66))


def test_seeking_over_a_long_gap(tmp_path):
    """A gap of hundreds of packets is skipped with a seek, in MP4 and Matroska."""
    for name in ("a.mp4", "a.mkv"):
        clip = write_clip(tmp_path / name, 600, gop=20)
        wanted = [3, 250, 251, 599]
        assert numbers(read(clip, wanted)) == same(wanted)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9")])
def test_variable_rate_keeps_exact_times(tmp_path, name, codec):
    """Times follow the time stamps exactly at a variable rate."""
    frames = read(write_clip(tmp_path / name, codec=codec, pts=UNEVEN_MS))
    assert [frame.time_s for frame in frames] == [Fraction(stamp, 1000) for stamp in UNEVEN_MS]
    assert numbers(frames) == same(range(len(UNEVEN_MS)))


def test_frame_at_a_time(tmp_path):
    """The last frame at or before the time; −1 before the first."""
    index = index_video(write_clip(tmp_path / "a.mkv", pts=UNEVEN_MS))
    moment = Fraction(1, 10**9)
    for frame in range(index.frames):
        assert index.frame_at(index.time(frame)) == frame
        assert index.frame_at(index.time(frame) - moment) == frame - 1
    assert index.frame_at(Fraction(10**6)) == index.frames - 1


def test_exact_rates(tmp_path):
    """At 30000/1001 frames per second frame 30 is exactly at 1001/1000 s, and is found at that time."""
    index = index_video(write_clip(tmp_path / "a.mp4", 40, fps=Fraction(30000, 1001)))
    assert index.time(30) == Fraction(1001, 1000)
    assert index.frame_at(Fraction(1001, 1000)) == 30
    assert index.fps == pytest.approx(30000 / 1001)


def test_duration_ends_with_the_last_frame(tmp_path):
    """24 frames at 30 per second take 0.8 s, though the last starts at 0.767 s."""
    assert index_video(write_clip(tmp_path / "a.mp4")).duration_s == pytest.approx(0.8)


def test_the_first_frame_is_at_time_zero(tmp_path):
    """A first time stamp other than zero shifts nothing."""
    clip = write_clip(tmp_path / "a.mkv", first_pts=100)
    frames = read(clip, [0, 5])
    assert index_video(clip).pts[0] > 3000
    assert [frame.time_s for frame in frames] == [0, Fraction(167, 1000)]
    assert numbers(frames) == same([0, 5])


def test_frames_hidden_by_an_edit_list(tmp_path):
    """Frames before time zero of an MP4 are not in the index, since players do not show them."""
    frames = read(write_clip(tmp_path / "a.mp4", first_pts=-3))
    assert numbers(frames) == [(number, number + 3) for number in range(21)]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_pictures_are_upright(tmp_path, rotation, mirrored):
    """Rotation and mirroring in the container are applied to pixels and size."""
    clip = write_clip(tmp_path / "a.mp4", 3, rotation=rotation, mirrored=mirrored)
    index = index_video(clip)
    (frame,) = read(clip, [2])
    assert (index.width, index.height, index.rotation, index.mirrored) == (WIDTH, HEIGHT, rotation, mirrored)
    assert frame.pixels.shape == (HEIGHT, WIDTH, 3)
    assert (read_number(frame.pixels), read_corners(frame.pixels)) == (2, (True, True))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize(
    "how",
    {
        "nothing said": {},
        "BT.709": {"colours": (Colorspace.ITU709, ColorRange.MPEG)},
        "BT.709, full range": {"colours": (Colorspace.ITU709, ColorRange.JPEG)},
        "BT.601, full range": {"colours": (Colorspace.ITU601, ColorRange.JPEG)},
        "4:4:4": {"pixel_format": "yuv444p"},
        "10 bit": {"codec": "libx265", "pixel_format": "yuv420p10le"},
        "turned": {"rotation": 90},
    }.values(),
)
def test_colours_are_those_of_ffmpeg(tmp_path, how):
    """`ffmpeg -i FILE` gives the same pixels, within rounding."""
    clip = write_clip(tmp_path / "a.mp4", 2, **how)
    command = ["ffmpeg", "-v", "error", "-i", clip, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    expected = np.frombuffer(raw, np.uint8).reshape(HEIGHT, WIDTH, 3)
    (frame,) = read(clip, [0])
    assert np.abs(frame.pixels.astype(int) - expected).max() <= 1


def test_only_what_is_needed_is_decoded(tmp_path):
    """Decoding starts at the last keyframe, and skips B-frames that are not needed."""
    clip = write_clip(tmp_path / "a.mp4", 300, gop=50, bframes=3)
    reader = FrameReader(index_video(clip))
    assert len(list(reader.read(range(0, 300, 66)))) == 5
    assert reader.decoded < 90
    assert len(list(reader.read([0, 50, 100]))) == 3
    assert reader.decoded == 3


def test_indexing_reads_packets_only(tmp_path, monkeypatch):
    """H.264, VP9 and AV1 are indexed without decoding."""
    monkeypatch.setattr("curate.sources.video.index._index_by_decoding", None)
    for codec in ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4"):
        assert index_video(write_clip(tmp_path / f"{codec}.mp4", codec=codec)).frames == 24


def test_keyframes(tmp_path):
    """Every 12th frame is a keyframe."""
    assert np.flatnonzero(index_video(write_clip(tmp_path / "a.mp4", gop=12)).is_keyframe).tolist() == [0, 12]


def test_a_video_of_one_frame(tmp_path):
    """It has a duration, but no rate."""
    clip = write_clip(tmp_path / "a.mp4", 1)
    index = index_video(clip)
    assert (index.frames, index.fps, index.duration_s) == (1, None, pytest.approx(1 / 30))
    assert numbers(read(clip)) == [(0, 0)]


def test_audio_packets_are_ignored(tmp_path):
    """Packets of other streams are not frames."""
    assert numbers(read(write_clip(tmp_path / "a.mp4", audio=True))) == same(range(24))


def test_no_frames_requested(tmp_path):
    """An empty request is not a fault."""
    assert read(write_clip(tmp_path / "a.mp4"), []) == []


def test_duplicate_requests(tmp_path):
    """A frame that is requested twice comes once."""
    assert numbers(read(write_clip(tmp_path / "a.mp4"), [4, 4, 5])) == same([4, 5])


@pytest.mark.parametrize("wanted", [[5, 4], [-1], [24]])
def test_invalid_requests(tmp_path, wanted):
    """Indices must ascend and exist."""
    reader = FrameReader(index_video(write_clip(tmp_path / "a.mp4")))
    with pytest.raises(UsageError, match=r"ascending|0 to 23"):
        reader.read(wanted)


def remux(source, target, first=0):
    """Copy the packets of a video from one on into another container."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(old.streams.video[0]) if packet.size]
        for packet in packets[first:]:
            packet.stream = stream
            new.mux(packet)
    return target


@pytest.mark.parametrize(
    ("first", "how"),
    [(10, {"codec": "libx265"}), (13, {"codec": "libx265"}), (10, {}), (13, {}), (13, {"codec": "libvpx-vp9"})],
)
def test_a_cut_within_a_scene(tmp_path, first, how):
    """A video cut without encoding may start with frames that cannot be decoded; the index skips them."""
    whole = write_clip(tmp_path / "whole.mkv", 60, gop=10, open_gop=True, **how)
    index = index_video(remux(whole, tmp_path / "a.mkv", first))
    stamps, _ = decode_in_order(index.path, 0, 1)
    assert index.pts.tolist() == stamps
    for wanted in (range(index.frames), range(0, index.frames, 7), [20]):
        shown = [(frame.index, read_number(frame.pixels)) for frame in FrameReader(index).read(wanted)]
        assert shown == [(frame, 60 - index.frames + frame) for frame in wanted]


def test_the_default_of_two_streams(tmp_path):
    """Of two video streams the container's best is read."""
    small, large = (write_clip(tmp_path / f"{side}.mp4", 5, width=side, height=96) for side in (160, 320))
    with av.open(str(small)) as one, av.open(str(large)) as two, av.open(str(tmp_path / "both.mkv"), "w") as both:
        streams = [both.add_stream_from_template(part.streams[0]) for part in (one, two)]
        streams[0].disposition, streams[1].disposition = 0, av.stream.Disposition.default
        for part, stream in zip((one, two), streams, strict=True):
            for packet in part.demux(part.streams[0]):
                if packet.size:
                    packet.stream = stream
                    both.mux(packet)
    index = index_video(tmp_path / "both.mkv")
    assert (index.stream, index.width) == (1, 320)
    assert numbers(read(tmp_path / "both.mkv")) == same(range(5))


# ---- What is no video, or a broken one ----


def test_files_that_are_not_videos(tmp_path):
    """Each has its own reason, in one line that names the file."""
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "text.txt").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    write_sound(tmp_path / "sound.m4a")
    av.VideoFrame(64, 64, "rgb24").to_image().save(tmp_path / "picture.png")
    for name, reason in {
        "text.mp4": "not a video",
        "text.txt": "not a video|a text",
        "empty.mp4": "empty",
        "folder.mp4": "a folder",
        "sound.m4a": "no video stream",
        "picture.png": "picture",
        "missing.mp4": "cannot be read: No such file",
    }.items():
        with pytest.raises(DataError, match=reason) as caught:
            index_video(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


def test_a_cover_picture_is_not_a_video(tmp_path):
    """The picture attached to a piece of music is ignored."""
    sound = write_sound(tmp_path / "sound.m4a")
    picture = write_clip(tmp_path / "a.mov", 1, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(sound)) as music, av.open(str(picture)) as still, av.open(str(tmp_path / "b.mp4"), "w") as both:
        streams = [both.add_stream_from_template(one.streams[0]) for one in (music, still)]
        streams[1].disposition = av.stream.Disposition.attached_pic
        for source, stream in zip((music, still), streams, strict=True):
            for packet in source.demux(source.streams[0]):
                if packet.size:
                    packet.stream = stream
                    both.mux(packet)
    with pytest.raises(DataError, match="no video stream"):
        index_video(tmp_path / "b.mp4")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mp4", {"container_options": FRONT_INDEX}),
        ("a.mp4", {"container_options": FRONT_INDEX, "codec": "libx265"}),
        ("a.mkv", {}),
        ("a.webm", {"codec": "libvpx-vp9"}),
        ("a.mkv", {"codec": "libsvtav1"}),
    ],
)
def test_a_video_that_breaks_off(tmp_path, name, how):
    """The index ends with the last complete frame, with a fault; all frames up to there can be read."""
    clip = write_clip(tmp_path / name, 60, gop=20, **how)
    truncate(clip, 0.6)
    index = index_video(clip)
    reader = FrameReader(index)
    assert "breaks off" in str(index.fault)
    assert 20 < index.frames < 50
    frames = list(reader.read(range(index.frames)))
    assert [read_number(frame.pixels) for frame in frames] == [round(frame.time_s * 30) for frame in frames]
    assert (len(frames), reader.fault) == (index.frames, None)


def test_an_mp4_without_its_header(tmp_path):
    """An MP4 with its header at the end cannot be read without it."""
    clip = write_clip(tmp_path / "a.mp4")
    truncate(clip, 0.5)
    with pytest.raises(DataError, match="damaged or missing"):
        index_video(clip)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mp4", "mpeg4"), ("a.mp4", "libsvtav1"), ("a.mov", "mjpeg")]
)
def test_damage_costs_the_frames_that_depend_on_it(tmp_path, name, codec):
    """Frames that depend on damage are missing, with a fault; all others are exact, from the next keyframe on."""
    how = {"pixel_format": "yuvj420p"} if codec == "mjpeg" else {}
    clip = write_clip(tmp_path / name, 60, codec=codec, gop=20, **how)
    good = [frame.pixels for frame in read(clip)]
    damage(clip, 0.45)
    reader = FrameReader(index_video(clip))
    frames = list(reader.read(range(60)))
    assert 38 <= len(frames) < 60
    assert {0, 59} <= {frame.index for frame in frames}
    assert all(np.array_equal(frame.pixels, good[frame.index]) for frame in frames)
    assert "missing, the first at" in str(reader.fault)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.ts", "libx264"), ("a.mkv", "libx265"), ("a.avi", "mpeg4")]
)
def test_random_damage(tmp_path, name, codec):
    """After any damage: frames in order, a reason for missing ones, or a DataError."""
    clip = write_clip(tmp_path / name, codec=codec)
    whole = clip.read_bytes()
    for seed in range(25):
        chance = random.Random(seed)
        data = bytearray(whole)
        for _ in range(chance.randint(1, 9)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        clip.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        with suppress(DataError):
            index = index_video(clip)
            reader = FrameReader(index)
            came = [frame.index for frame in reader.read(range(index.frames))]
            assert came == sorted(came)
            assert (reader.fault is None) == (len(came) == index.frames)


def test_a_file_that_is_gone(tmp_path):
    """An indexed file may be deleted before it is read."""
    clip = write_clip(tmp_path / "a.mp4")
    reader = FrameReader(index_video(clip))
    clip.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        list(reader.read([0]))


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_any_choice_of_frames(tmp_path_factory, data):
    """Planning is right for any subset of frames, with open and closed GOPs."""
    folder = tmp_path_factory.getbasetemp()
    open_gop = data.draw(st.booleans())
    codec = data.draw(st.sampled_from(["libx264", "libx265"]))
    clip = folder / f"any-{codec}-{open_gop}.mp4"
    if not clip.exists():
        write_clip(clip, 50, codec=codec, gop=11, bframes=3, open_gop=open_gop)
    wanted = sorted(data.draw(st.sets(st.integers(0, 49), max_size=20)))
    assert numbers(read(clip, wanted)) == same(wanted)


# ---- Public files ----


def decode_in_order(path, number, step):
    """Time stamps of all frames of a plain decode, and the stored planes of every nth."""
    stamps, planes = [], []
    with av.open(str(path)) as container:
        stream = container.streams[number]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            with suppress(av.FFmpegError):  # before the first keyframe
                for frame in packet.decode():
                    if len(stamps) % step == 0:
                        planes.append(frame.to_ndarray())
                    stamps.append(frame.pts)
    return stamps, planes


@pytest.mark.skipif(not VIDEOS.is_dir(), reason=f"the videos are not in {VIDEOS}")
@pytest.mark.parametrize("path", sorted(set(VIDEOS.glob("*.*")) - {VIDEOS / BROKEN}), ids=lambda path: path.name)
def test_public_videos(path):
    """Time stamps and pixels equal those of a plain decode."""
    index = index_video(path)
    step = max(3, index.frames // 20)
    wanted = range(0, index.frames, step)
    stamps, planes = decode_in_order(path, index.stream, step)
    assert index.pts.tolist() == stamps
    planned = list(choose_decoding(index, 1).decode(wanted))
    assert [number for number, _ in planned] == list(wanted)
    assert all(np.array_equal(frame.to_ndarray(), one) for (_, frame), one in zip(planned, planes, strict=True))
    assert [frame.index for frame in read(path, wanted)] == list(wanted)


@pytest.mark.skipif(not VIDEOS.is_dir(), reason=f"the videos are not in {VIDEOS}")
def test_a_public_video_that_is_damaged():
    """It breaks at 2.9 s; no frame from there on is returned."""
    index = index_video(VIDEOS / BROKEN)
    reader = FrameReader(index)
    frames = list(reader.read(range(index.frames)))
    assert [frame.index for frame in frames] == list(range(29))
    assert reader.fault == "stops after 2.80 s: the data are damaged"


# ---- Packets ----


@pytest.mark.parametrize(
    ("reader", "data", "role"),
    [
        (lambda data: read_h264(data, 4), "00000002 65b8", Role(starts=True, intra=True)),
        (lambda data: read_h264(data, 4), "00000002 019a", Role(starts=False, droppable=True)),
        (lambda data: read_h264(data, 0), "00000001 419a", Role(starts=False)),
        (lambda data: read_hevc(data, 4), "00000003 2a01af", Role(starts=True)),
        (lambda data: read_hevc(data, 4), "00000003 1201af", Role(starts=False, leads=True)),
        (read_vp9, "8249834200", Role(starts=True)),
        (read_vp9, "8400", Role(starts=False, shown=0)),
        (read_vp9, "88", Role(starts=False)),
        (read_av1, "1200 0a0100 320110", Role(starts=True)),
        (read_av1, "1200 320110", Role(starts=False)),
        (read_av1, "1200 0a0100 320130", Role(starts=False)),
    ],
)
def test_roles_of_packets(reader, data, role):
    """Packets written by hand from the specifications.

    H.264: IDR, B and P; HEVC: CRA and RASL; VP9: key, hidden, and shown again; AV1: key with and without its sequence
    header, and an inter frame.
    """
    assert reader(bytes.fromhex(data)) == role


# ---- Holes ----


def leave_out(source, target, first, last):
    """Copy a video without a range of its packets, as when a part of a Matroska file is overwritten."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(old.streams.video[0])):
            if packet.size and not first <= number <= last:
                packet.stream = stream
                new.mux(packet)
    return target


def test_a_gap_in_an_even_video(tmp_path):
    """Frames that may depend on missing packets are skipped, and the others are right."""
    whole = write_clip(tmp_path / "whole.mkv", 120, gop=40, bframes=0)
    index = index_video(leave_out(whole, tmp_path / "hole.mkv", 50, 69))
    assert index.fault == "0.70 s are missing, the first after 1.63 s"
    reader = FrameReader(index)
    numbers = [read_number(frame.pixels) for frame in reader.read(range(index.frames))]
    assert numbers == [*range(50), *range(80, 120)]
    assert reader.fault == "10 frames are missing, the first at 2.33 s: packets are missing on which frames may depend"


def test_a_gap_that_ends_at_a_keyframe(tmp_path):
    """Frames that depend on no missing packet are intact."""
    whole = write_clip(tmp_path / "whole.mkv", 120, gop=40, bframes=0)
    index = index_video(leave_out(whole, tmp_path / "hole.mkv", 60, 79))
    reader = FrameReader(index)
    assert [read_number(frame.pixels) for frame in reader.read(range(index.frames))] == [*range(60), *range(80, 120)]
    assert (index.fault is None, reader.fault) == (False, None)


def test_a_variable_rate_has_no_gaps(tmp_path):
    """In a screen recording, a long time without a frame means that nothing moved."""
    stamps = np.cumsum(np.random.default_rng(0).choice([20, 40, 90, 1500], 60)).tolist()
    index = index_video(write_clip(tmp_path / "screen.mkv", pts=stamps, bframes=0))
    assert (index.frames, index.fault) == (60, None)


@pytest.mark.parametrize("slow_frames", [2, 10])
def test_a_rate_that_drops_has_no_gaps(tmp_path, slow_frames):
    """Two seconds of motion, then a frame every five seconds: most intervals are even, and every frame is right."""
    stamps = [*range(0, 4000, 20), *range(4000, 4000 + 5000 * (slow_frames + 1), 5000)]
    index = index_video(write_clip(tmp_path / "screen.mkv", pts=stamps, gop=400, bframes=0))
    reader = FrameReader(index)
    assert [read_number(frame.pixels) for frame in reader.read(range(index.frames))] == list(range(len(stamps)))
    assert (index.fault, reader.fault) == (None, None)
