"""Choosing frames of a video: the last with a time stamp of at most t, in exact arithmetic."""

from fractions import Fraction

import pytest
from clips import write_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_datasets import write_text

from curate.errors import UsageError
from curate.sources.frame_export import find_blurred, find_duplicates
from curate.sources.frame_selection import At, Every, Keyframes, Scenes, choose_frames, format_times, read_times
from curate.sources.times import format_seconds, parse_seconds
from curate.sources.video import FrameReader, ReadOptions, index_video


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    """Two seconds at 30 frames per second, a keyframe every 12 frames."""
    return index_video(write_clip(tmp_path_factory.mktemp("even") / "v.mp4", 60))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Frames at 0, 40, 50, 1000, 1010 and 3000 ms, with time stamps that begin at 700 ms."""
    stamps = [0, 40, 50, 1000, 1010, 3000]
    return index_video(write_clip(tmp_path_factory.mktemp("uneven") / "v.mkv", pts=stamps, first_pts=700, bframes=0))


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", Fraction(2)),
        ("0.5", Fraction(1, 2)),
        (0.1, Fraction(1, 10)),
        ("1/3s", Fraction(1, 3)),
        ("500ms", Fraction(1, 2)),
        ("2min", Fraction(120)),
        ("0:10", Fraction(10)),
        ("90:00", Fraction(5400)),
        ("1:02:03.5", Fraction(7447, 2)),
        (Fraction(22, 10), Fraction(11, 5)),
    ],
)
def test_times_are_read_exactly(text, seconds):
    """Numbers with units, fractions and clock times are parsed exactly."""
    assert parse_seconds(text, place="--every") == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:75", "1/0", "soon", "1:60:00", "nan", "inf", "1e3", "2 hours"])
def test_what_is_no_time(text):
    """Other text is an error that names the option and the text."""
    with pytest.raises(UsageError, match=r"^--every: not a time \(got "):
        parse_seconds(text, place="--every")


@given(st.fractions(min_value=0, max_value=10**6))
def test_written_times_read_back(time_s):
    """A formatted time is parsed as the same fraction."""
    assert parse_seconds(format_seconds(time_s), place="") == time_s


# ── choices ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_half_second(even):
    """At 30 frames per second, half a second is 15 frames."""
    assert choose_frames(even, Every(Fraction(1, 2))) == [0, 15, 30, 45]


def test_times_between_frames_take_the_earlier_one(even):
    """At a time between two frames, the earlier is chosen: 0.22 s is frame 6 at 30 frames per second."""
    assert choose_frames(even, Every(Fraction("0.22"))) == [0, 6, 13, 19, 26, 33, 39, 46, 52, 59]


def test_multiples_fall_on_frames_exactly(even):
    """Three times 1/3 s is 1 s; rounded numbers would choose a frame too early."""
    assert choose_frames(even, Every(Fraction(1, 30))) == list(range(60))
    assert choose_frames(even, Every(Fraction(7, 30))) == list(range(0, 60, 7))


def test_a_step_below_a_frame_takes_each_once(even):
    """A period shorter than a frame gives every frame once."""
    assert choose_frames(even, Every(Fraction(1, 1000)), end_s=Fraction(1, 3)) == list(range(10))


def test_variable_rate(uneven):
    """Frames are chosen by time stamp, counted from the first frame, and not by number."""
    assert choose_frames(uneven, Every(Fraction(1))) == [0, 3, 4, 5]
    assert choose_frames(uneven, Every(Fraction(45, 1000))) == [0, 1, 2, 4, 5]


@settings(max_examples=60, deadline=None)
@given(period=st.fractions(min_value=Fraction(1, 100), max_value=4, max_denominator=997))
def test_definition(uneven, period):
    """For any period, the frames are those that a search through all frames finds."""
    times = [uneven.time(frame) for frame in range(uneven.frames)]
    expected, step = set(), 0
    while step * period < uneven.duration_s:
        expected.add(max(frame for frame, time_s in enumerate(times) if time_s <= step * period))
        step += 1
    assert choose_frames(uneven, Every(period)) == sorted(expected)


def test_start_and_end(even):
    """Periods count from the start time; the end time is exclusive."""
    choice = Every(Fraction(1, 2), Fraction("0.1"))
    assert choose_frames(even, choice, start_s=Fraction("0.1"), end_s=Fraction("1.6")) == [3, 18, 33]
    assert choose_frames(even, Keyframes(), start_s=Fraction("0.4"), end_s=Fraction("1.6")) == [12, 24, 36]
    assert choose_frames(even, Every(Fraction(1), Fraction(9)), start_s=Fraction(9)) == []


def test_a_tiny_step_costs_no_more_than_all_frames(even):
    """A period of a billionth of a second gives every frame without a long loop."""
    assert choose_frames(even, Every(Fraction(1, 10**9))) == list(range(60))


def test_keyframes(even):
    """The frames that the encoder stored whole."""
    assert choose_frames(even, Keyframes()) == [0, 12, 24, 36, 48]


def test_most_frames_are_spread_evenly(even):
    """With a limit, the remaining frames are evenly spread, including the first and the last."""
    assert choose_frames(even, Every(Fraction(1, 30)), max_frames=4) == [0, 20, 39, 59]
    assert choose_frames(even, Every(Fraction(1)), max_frames=4) == [0, 30]


def test_given_times(even, tmp_path):
    """A file of times, with and without video ids, and comments; times after the end give no frame."""
    file = write_text(tmp_path / "times.txt", "# times\n0.5 s\nv\t0:01.2  # here\nother 0.1\n\n1/3s\n99\n")
    assert choose_frames(even, read_times(file).of("v")) == [10, 15, 36]


def test_given_times_that_are_none(tmp_path):
    """A malformed line is an error that names it."""
    file = write_text(tmp_path / "times.txt", "0.5\nv soon\n")
    with pytest.raises(UsageError, match=r"times.txt, line 2: not a time \(got 'soon'"):
        read_times(file)
    with pytest.raises(UsageError, match=r"none.txt: the file cannot be read"):
        read_times(tmp_path / "none.txt")


def test_written_lists_of_times_read_back(tmp_path):
    """The written times of dropped frames can be read again."""
    times = [("a b", Fraction(1, 3)), ("v", Fraction("2.5"))]
    assert read_times(write_text(tmp_path / "times.txt", format_times(times))) == At(tuple(times))


def write_scenes(path, *scenes, size=(128, 96), first=0):
    """A video of scenes of one colour each; a scene is the milliseconds at which its frames begin."""
    import av
    import numpy as np

    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, stamps in enumerate(scenes, first):
            for stamp in stamps:
                picture = np.full((*size[::-1], 3), colours[number % 3], np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = stamp, Fraction(1, 1000)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return index_video(path)


@pytest.fixture
def _scenedetect():
    pytest.importorskip("scenedetect", reason="pip install 'curate-vision[scenes]'")


@pytest.mark.usefixtures("_scenedetect")
def test_scenes(tmp_path):
    """One frame from the middle of each scene."""
    index = write_scenes(tmp_path / "v.mp4", range(0, 2000, 100), range(2000, 5000, 100), range(5000, 7100, 100))
    assert choose_frames(index, Scenes()) == [10, 35, 60]
    assert choose_frames(index, Scenes(), end_s=Fraction(4)) == [10, 30]


@pytest.mark.usefixtures("_scenedetect")
@pytest.mark.parametrize("interval_ms", [40, 200, 1000, 2000])
def test_scenes_are_the_same_at_any_frame_rate(tmp_path, interval_ms):
    """Slides of ten seconds each are found with one frame in two seconds, and with 25 frames per second."""
    slides = [range(start, start + 10_000, interval_ms) for start in range(0, 40_000, 10_000)]
    index = write_scenes(tmp_path / "v.mp4", *slides)
    times = [float(index.time(frame)) for frame in choose_frames(index, Scenes())]
    assert times == pytest.approx([5, 15, 25, 35], abs=max(1, interval_ms / 1000))


@pytest.mark.usefixtures("_scenedetect")
def test_the_middle_of_a_scene_is_one_of_time(tmp_path):
    """At a variable rate most frames of a scene may be in its first second."""
    first = [*range(0, 1000, 20), *range(1000, 20_000, 500)]
    index = write_scenes(tmp_path / "v.mp4", first, range(20_000, 30_000, 500))
    times = [float(index.time(frame)) for frame in choose_frames(index, Scenes())]
    assert times == pytest.approx([10, 25], abs=0.6)


@pytest.mark.usefixtures("_scenedetect")
def test_scenes_of_different_picture_sizes(tmp_path):
    """A wide and an upright part are compared too; a new size alone is no new scene."""
    parts = []
    for width, height, colour in ((640, 384, 0), (384, 640, 1), (160, 96, 1)):
        write_scenes(tmp_path / "part.h264", range(0, 2000, 100), size=(width, height), first=colour)
        parts.append((tmp_path / "part.h264").read_bytes())
    (tmp_path / "v.h264").write_bytes(b"".join(parts))
    index = index_video(tmp_path / "v.h264", ReadOptions(rate=Fraction(10)))
    assert [frame.pixels.shape[0] for frame in FrameReader(index).read([0, 20, 40])] == [384, 640, 96]
    assert choose_frames(index, Scenes()) == [10, 40]


@pytest.mark.usefixtures("_scenedetect")
@pytest.mark.parametrize(("flash_ms", "scenes"), [(400, 2), (800, 3)])
def test_the_shortest_scene_is_in_seconds(tmp_path, flash_ms, scenes):
    """A flash of 0.4 s is no scene of its own, one of 0.8 s is, at 100 frames per second too."""
    stamps = [range(0, 3000, 10), range(3000, 3000 + flash_ms, 10), range(3000 + flash_ms, 6000, 10)]
    assert len(choose_frames(write_scenes(tmp_path / "v.mp4", *stamps), Scenes())) == scenes


# ── dropping ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_duplicates_are_compared_with_what_stays():
    """Frames are compared with kept frames only: a slow drift does not make all frames duplicates."""
    hashes = [0b0, 0b1, 0b11, 0b111, 0b1111, 0b0]
    assert find_duplicates(hashes, 2).tolist() == [False, True, True, False, True, True]
    assert find_duplicates(hashes, 0).tolist() == [False, False, False, False, False, True]
    assert find_duplicates([], 4).tolist() == []
    assert find_duplicates([0b1, 0b111], 1, known=[0b0]).tolist() == [True, False]


def test_all_64_bits_count():
    """The highest bit counts like any other."""
    assert find_duplicates([0, 2**63, 2**64 - 1], 1).tolist() == [False, True, False]


def test_blurred_are_the_least_sharp_share():
    """A percentage of the frames is marked, rounded down; ties are broken by order."""
    assert find_blurred([5.0, 1.0, 3.0, 2.0, 4.0], 40).tolist() == [False, True, False, True, False]
    assert find_blurred([5.0, 1.0, 3.0], 33).tolist() == [False, False, False]
    assert find_blurred([1.0, 1.0], 50).tolist() == [True, False]
