"""`sample-frames`: frames with source and time, added once; broken videos; dropped frames."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import draw_number, join_clips, read_number, write_clip, write_two_streams
from PIL import Image
from sample_datasets import write_text

import curate
from curate.commands.sample_frames import DROPPED_LIST
from curate.curation.groups import group_keys
from curate.errors import DataError, MissingError, StoreError, UsageError
from curate.files import temporary_file
from curate.images import decode_rgb, difference_hash, read_image_facts, sharpness, shrink
from curate.store import Store

MANY = """
import sys
from curate.commands.sample_frames import sample_frames
sample_frames(sys.argv[1], [sys.argv[2]], every="1/30s", format="png", workers=2)
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds at 30 frames per second."""
    return write_clip(tmp_path_factory.mktemp("clips") / "walk.mp4", 60)


@pytest.fixture
def root(tmp_path):
    """A dataset folder that does not exist yet."""
    return tmp_path / "faces"


def frames_of(root):
    """(video, frame, seconds, number in the picture) of every image, in the table's order."""
    dataset = Store(root).load()
    return [
        (row.video_id, row.frame_index, row.timestamp_s, read_number(decode_rgb(dataset.image_file(row.path))))
        for row in dataset.images.itertuples()
    ]


# ── images and videos ────────────────────────────────────────────────────────────────────────────────────────────


def test_frames_with_source_and_time(root, clip):
    """Each image shows its frame, is unlabelled, and has video, index and exact time; the dataset is created."""
    result = curate.sample_frames(root, [str(clip)], every="0.5")
    assert frames_of(root) == [("walk", 0, 0.0, 0), ("walk", 15, 0.5, 15), ("walk", 30, 1.0, 30), ("walk", 45, 1.5, 45)]
    images = Store(root).load().images
    assert set(images["label_state"]) == {"unlabelled"}
    assert set(images["source"]) == {"walk"}
    assert result.to_json() == {
        "version": 1,
        "frames": 4,
        "videos": [{"video_id": "walk", "frames": 4, "first_s": 0.0, "last_s": 1.5}],
        "dropped_duplicates": 0,
        "dropped_blurred": 0,
        "problems": [],
    }


def test_two_seconds_are_the_default(root, tmp_path):
    """The default is one frame every two seconds."""
    write_clip(tmp_path / "v.mp4", 12, fps=2)
    curate.sample_frames(root, [str(tmp_path / "v.mp4")])
    assert [number for *_, number in frames_of(root)] == [0, 4, 8]


def test_video_table(root, clip):
    """A local file becomes a video of the dataset, linked and described."""
    curate.sample_frames(root, [str(clip)], every="1s")
    (row,) = Store(root).load().videos.itertuples()
    assert (row.video_id, row.path, row.codec, row.frames) == ("walk", "media/videos/walk.mp4", "h264", 60)
    assert (row.width, row.height, row.fps, row.duration_s) == (160, 96, pytest.approx(30), pytest.approx(2))
    assert os.path.samefile(root / row.path, clip)


def test_names_sort_by_video_and_time(root, tmp_path):
    """Sorted by name, images are sorted by video and time, also past ten seconds."""
    for name in ("b", "a"):
        write_clip(tmp_path / "in" / f"{name}.mp4", 24, fps=2)
    curate.sample_frames(root, [str(tmp_path / "in")], every="1s")
    images = Store(root).load().images.sort_values("path")
    expected = images.sort_values(["video_id", "timestamp_s"])
    assert images["path"].tolist() == expected["path"].tolist()
    assert images["path"].iloc[0] == "media/images/a/a_00000000ms.jpg"


def test_sizes_and_hashes_are_those_of_the_files(root, clip):
    """Size and hash of every image in the table are those of its file."""
    curate.sample_frames(root, [str(clip)], every="1s")
    dataset = Store(root).load()
    for row in dataset.images.itertuples():
        facts = read_image_facts(dataset.image_file(row.path))
        assert (facts.width, facts.height, facts.sha256) == (row.width, row.height, row.sha256)


def test_png_keeps_every_pixel(root, clip):
    """PNG frames are exactly the decoded ones; JPEG frames nearly."""
    curate.sample_frames(root, [str(clip)], every="1s", format="png")
    dataset = Store(root).load()
    picture = decode_rgb(dataset.image_file(dataset.images["path"].iloc[0]))
    assert dataset.images["path"].iloc[0].endswith(".png")
    assert np.abs(picture.astype(int) - draw_number(0)).mean() < 6


def test_quality(root, clip, tmp_path):
    """A lower quality makes smaller files."""
    curate.sample_frames(root, [str(clip)], every="1s")
    curate.sample_frames(tmp_path / "low", [str(clip)], every="1s", quality=10)
    sizes = [sum(file.stat().st_size for file in folder.rglob("*.jpg")) for folder in (root, tmp_path / "low")]
    assert sizes[1] < sizes[0] / 2


def test_scaled_down(root, clip):
    """Larger frames are scaled down to the longer side, in proportion; the table has the new size."""
    curate.sample_frames(root, [str(clip)], every="1s", max_side=80)
    images = Store(root).load().images
    assert set(zip(images["width"], images["height"], strict=True)) == {(80, 48)}
    assert [number for *_, number in frames_of(root)] == [0, 30]


def test_each_way_to_choose(root, clip, tmp_path, run_main):
    """Rates, times, keyframes, start, end and a limit, from the command line."""
    curate.sample_frames(root, [str(clip)], max_frames=1)
    times = write_text(tmp_path / "times.txt", "walk 0.1\n")
    for options, expected in (
        (["--fps", "1"], [30]),
        (["--at", times], [3]),
        (["--keyframes", "--start", "1s", "--end", "1.5"], [36]),
        (["--every", "1/10s", "--start", "0.2", "--end", "0.5"], [6, 9, 12]),
        (["--every", "1/30s", "--end", "0.1", "--max-frames", "2"], [2]),
    ):
        before = {frame for _, frame, *_ in frames_of(root)}
        done = run_main("sample-frames", root, *options, "--json")
        assert done.returncode == 0, done.stderr
        assert sorted({frame for _, frame, *_ in frames_of(root)} - before) == expected
        assert json.loads(done.stdout)["frames"] == len(expected)


# ── a second call ────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_twice(root, clip):
    """A second call makes no version; a shorter period adds the frames between, also for the file's path."""
    first = curate.sample_frames(root, [str(clip)], every="1s")
    again = curate.sample_frames(root, every="1s")
    assert (again.version, again.frames) == (first.version, 0)
    assert again.to_json()["videos"] == [{"video_id": "walk", "frames": 0, "first_s": None, "last_s": None}]
    finer = curate.sample_frames(root, [str(clip)], every="0.5s")
    assert finer.frames == 2
    assert Counter(frame for _, frame, *_ in frames_of(root)) == {0: 1, 15: 1, 30: 1, 45: 1}
    assert len(Store(root).load().videos) == 1


def test_after_undo_it_comes_back(root, clip):
    """Undone frames are sampled again, to the same files."""
    curate.sample_frames(root, [str(clip)], every="1s")
    paths = Store(root).load().images["path"].tolist()
    curate.undo(root)
    curate.sample_frames(root, [str(clip)], every="1s")
    assert Store(root).load().images["path"].tolist() == paths


def test_older_versions_keep_their_images(root, clip):
    """Another quality after an undo writes other files and keeps those of the undone version."""
    curate.sample_frames(root, [str(clip)], every="1s")
    old = Store(root).load()
    curate.undo(root)
    curate.sample_frames(root, [str(clip)], every="1s", quality=20)
    for row in old.images.itertuples():
        assert read_image_facts(old.image_file(row.path)).sha256 == row.sha256
    assert set(Store(root).load().images["path"]).isdisjoint(old.images["path"])


def test_two_files_of_one_name(root, tmp_path):
    """Files with the same name and different content are two videos; the same content is one video."""
    write_clip(tmp_path / "a/v.mp4", 4, fps=2)
    write_clip(tmp_path / "b/v.mp4", 6, fps=2)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/copy.mp4").write_bytes((tmp_path / "a/v.mp4").read_bytes())
    curate.sample_frames(root, [str(tmp_path / name) for name in "abc"], every="1s")
    videos = Store(root).load().videos
    assert len(videos) == 2
    assert videos["video_id"].iloc[0] == "v"
    assert videos["video_id"].iloc[1].startswith("v-")
    assert len(Store(root).load().images) == 2 + 3


def test_still_pictures_are_frames_of_their_own(root, tmp_path):
    """Frames with the same content are different images, each with its time."""
    file = tmp_path / "still.mp4"
    write_still(file, 20)
    curate.sample_frames(root, [str(file)], every="0.5s")
    images = Store(root).load().images
    assert len(images) == 4
    assert images["path"].nunique() == 4


def write_still(file, frames, moving=()):
    """A video of one image at 10 frames per second, with other images in the frames of `moving`."""

    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(frames):
            picture = draw_number(number if number in moving else 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


# ── dropping ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_duplicates_can_be_dropped_and_come_back(root, tmp_path):
    """Duplicates are dropped, counted, and listed in a file for `--at`."""
    write_still(tmp_path / "v.mp4", 10, moving={5, 6})
    result = curate.sample_frames(root, [str(tmp_path / "v.mp4")], every="0.1s", drop_duplicates=4)
    assert [number for *_, number in frames_of(root)] == [0, 5, 6]
    assert (result.frames, result.dropped_duplicates, result.dropped_blurred) == (3, 7, 0)
    assert "--at" in result.notes[-1]
    again = curate.sample_frames(root, every="0.1s", drop_duplicates=4)
    assert (again.frames, again.version) == (0, result.version)
    assert curate.sample_frames(root, at=root / DROPPED_LIST).frames == 7
    assert len(frames_of(root)) == 10
    curate.undo(root)
    assert curate.sample_frames(root, at=root / DROPPED_LIST).frames == 7


def test_lists_of_what_was_dropped_add_up(root, tmp_path):
    """Frames dropped by another call, or from another video, are added to the list."""
    for name in "ab":
        write_still(tmp_path / f"{name}.mp4", 10, moving={ord(name) % 10})
    curate.sample_frames(root, [str(tmp_path / "a.mp4")], every="0.5s", drop_duplicates=4)
    curate.sample_frames(root, [str(tmp_path / "b.mp4")], every="0.5s", drop_duplicates=4)
    curate.sample_frames(root, ["a"], every="0.4s", drop_duplicates=4)
    listed = [line.split() for line in (root / DROPPED_LIST).read_text().splitlines()]
    assert listed == [["a", "0.4"], ["a", "0.5"], ["a", "0.8"], ["b", "0.5"]]


def test_blurred_can_be_dropped(root, tmp_path):
    """The least sharp frames of each video are dropped by rank, not by an absolute threshold."""
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(10):
            picture = draw_number(number)
            picture = cv2.GaussianBlur(picture, (0, 0), 4) if number in (3, 7) else picture
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    result = curate.sample_frames(root, [str(tmp_path / "v.mp4")], every="0.1s", drop_blurred=20)
    assert result.dropped_blurred == 2
    assert sorted(set(range(10)) - set(Store(root).load().images["frame_index"])) == [3, 7]


def test_blur_is_compared_within_a_picture_size(root, tmp_path):
    """Where the size changes, the blurred frame of each size is dropped, not all of the size with smoother pixels."""
    for number, (width, height) in enumerate(((160, 96), (640, 384), (96, 160))):
        with av.open(str(tmp_path / f"{number}.mjpeg"), "w") as container:
            stream = container.add_stream("mjpeg", rate=25, options={"qmin": "2", "qmax": "2"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
            for frame in range(10):
                picture = cv2.resize(draw_number(7), (width, height), interpolation=cv2.INTER_CUBIC)
                picture = cv2.GaussianBlur(picture, (9, 9), 0) if frame == 4 else picture
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    raw = b"".join((tmp_path / f"{number}.mjpeg").read_bytes() for number in range(3))
    (tmp_path / "v.mjpeg").write_bytes(raw)
    result = curate.sample_frames(root, [str(tmp_path / "v.mjpeg")], rate=10, every="0.1s", drop_blurred=10)
    left = set(Store(root).load().images["frame_index"])
    assert (result.dropped_blurred, set(range(30)) - left) == (3, {4, 14, 24})


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_video_that_breaks_off(root, tmp_path):
    """Frames before the damage are added; the problem is stored once."""
    whole = write_clip(tmp_path / "whole.mkv", 120, width=320, height=192)
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = curate.sample_frames(root, [str(broken)], every="0.1s")
    assert 5 < result.frames < 35
    assert all(frame == number for _, frame, _, number in frames_of(root))
    (problem,) = result.problems
    assert (problem["kind"], problem["action"]) == ("video_breaks_off", "noted")
    assert problem["file"].endswith("media/videos/broken.mkv")
    curate.sample_frames(root, every="0.1s")
    assert Store(root).load().problems["kind"].tolist() == ["video_breaks_off"]


def test_a_video_that_changes_its_size(root, tmp_path):
    """Each image has the size of its own frame, and it is told and stored once."""
    wide, upright = (write_clip(tmp_path / f"{w}.ts", 10, width=w, height=h, fps=10) for w, h in ((160, 96), (96, 160)))
    turned = join_clips(tmp_path / "turned.ts", wide, upright, wide)
    result = curate.sample_frames(root, [str(turned)], every="0.5s")
    images = Store(root).load().images
    assert (
        list(zip(images["width"], images["height"], strict=True)) == [(160, 96)] * 2 + [(96, 160)] * 2 + [(160, 96)] * 2
    )
    assert [Image.open(root / path).size for path in images["path"]] == [(160, 96)] * 2 + [(96, 160)] * 2 + [
        (160, 96)
    ] * 2
    assert [one["kind"] for one in result.problems] == ["size_changes"]
    assert any("from 160×96 to 96×160 pixels, by 1.00 s" in note for note in result.notes)
    curate.sample_frames(root, every="0.3s")
    assert Store(root).load().problems["kind"].tolist() == ["size_changes"]


def test_a_fact_of_many_videos_is_one_line(root, tmp_path):
    """Three videos with the same fact are one note, which names the first and their number."""
    wide, upright = (write_clip(tmp_path / f"{w}.ts", 10, width=w, height=h, fps=10) for w, h in ((160, 96), (96, 160)))
    (tmp_path / "in").mkdir()
    for number in range(3):
        join_clips(tmp_path / "in" / f"{number}.ts", wide, upright, *[wide] * number)
    result = curate.sample_frames(root, [str(tmp_path / "in")], every="0.5s")
    (note,) = result.notes
    assert note.startswith(f"{root}/media/videos/0.ts and 2 more: the picture size changes")
    assert len(result.problems) == 3


def test_both_video_streams_of_a_file(root, tmp_path):
    """Each stream is a video of its own with all its frames; both are on one side of a split."""
    clip = write_two_streams(tmp_path / "two.mkv")
    first = curate.sample_frames(root, [str(clip)], every="0.2s")
    assert [one["kind"] for one in first.problems] == ["several_streams"]
    other = curate.sample_frames(root, [str(clip)], every="0.2s", stream=2)
    same = curate.sample_frames(root, [str(clip)], every="0.2s", stream=1)
    again = curate.sample_frames(root, every="0.2s")
    counts = [result.frames for result in (first, other, same, again)]
    assert sorted(counts) == [0, 0, 5, 5]
    dataset = Store(root).load()
    assert set(zip(dataset.images["width"], dataset.images["height"], strict=True)) == {(160, 96), (320, 192)}
    assert sorted(dataset.videos["video_id"]) == ["two", f"two-stream{dataset.videos['stream'].max()}"]
    assert len(set(group_keys(dataset, "video"))) == 1


def test_a_stream_that_a_video_does_not_have(root, clip):
    """The only file has one stream: an error that says so."""
    with pytest.raises(DataError, match="no video stream 2"):
        curate.sample_frames(root, [str(clip)], stream=2)


def test_a_rate_for_raw_streams(root, tmp_path):
    """A stream without a rate is sampled at 25 per second, which is told, or at the given rate."""
    raw = write_clip(tmp_path / "raw.mjpeg", 50, codec="mjpeg", pixel_format="yuvj420p")
    assumed = curate.sample_frames(root, [str(raw)], every="1s")
    assert (assumed.frames, [one["kind"] for one in assumed.problems]) == (2, ["assumed_rate"])
    given = curate.sample_frames(root.with_name("other"), [str(raw)], every="1s", rate=10)
    assert (given.frames, given.problems) == (5, ())
    assert [number for *_, number in frames_of(root.with_name("other"))] == [0, 10, 20, 30, 40]


def test_what_a_folder_has_besides_videos_is_told(root, tmp_path, run_main):
    """Files that are not videos are named; videos with unusual names are sampled."""
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "a.mp4").rename(tmp_path / "in" / "a.divx")
    write_text(tmp_path / "in" / "notes.txt", "hello")
    done = run_main("sample-frames", root, tmp_path / "in", "--json")
    assert [video["video_id"] for video in json.loads(done.stdout)["videos"]] == ["a"]
    assert "left out 1 file that cannot be read as a video: notes.txt" in done.stderr


def test_a_dataset_within_the_folder_is_passed_over(tmp_path, clip):
    """Neither its videos nor its tables and pictures count as files of the folder; inside it, its files do."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(clip.read_bytes())
    root = tmp_path / "clips" / "faces"
    assert curate.sample_frames(root, [str(tmp_path / "clips")]).notes == ()
    (root / "media" / "videos" / "b.mp4").write_bytes((tmp_path / "clips" / "a.mp4").read_bytes() + b"\0")
    again = curate.sample_frames(root, [str(tmp_path / "clips")])
    assert ([one.video_id for one in again.videos], again.notes) == (["a"], ())
    inside = curate.sample_frames(root, [str(root / "media" / "videos")])
    assert [one.video_id for one in inside.videos] == ["a", "b"]


def test_one_bad_file_does_not_stop_the_others(root, tmp_path, clip, run_main):
    """Files that are not videos are listed; the others are sampled; the exit code is 0."""
    write_text(tmp_path / "bad.mp4", "no video")
    done = run_main("sample-frames", root, tmp_path / "bad.mp4", clip, "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["frames"] == 1
    assert [(one["kind"], one["action"]) for one in document["problems"]] == [("unreadable_video", "quarantined")]
    assert Store(root).load().videos["video_id"].tolist() == ["walk"]


def test_nothing_that_can_be_read(root, tmp_path):
    """If no video can be read, that is an error."""
    write_text(tmp_path / "bad.mp4", "no video")
    with pytest.raises(DataError, match=r"bad.mp4: "):
        curate.sample_frames(root, [str(tmp_path / "bad.mp4")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": "1s", "fps": "1"}, r"--every, --fps: these options are mutually exclusive"),
        ({"every": "0"}, r"--every: must be positive"),
        ({"fps": 0}, r"--fps: must be positive"),
        ({"every": "-1"}, r"--every: not a time"),
        ({"start": 3, "end": 2}, r"--start, --end: the end is not after the start"),
        ({"max_frames": 0}, r"--max-frames: the value is out of range \(got 0; expected 1 or more\)"),
        ({"drop_duplicates": 65}, r"--drop-duplicates: .* expected 0 to 64"),
        ({"drop_blurred": 101}, r"--drop-blurred: "),
        ({"quality": 0}, r"--quality: "),
        ({"workers": 0}, r"--workers: .* expected 1 or more"),
        ({"fps": "500ms"}, r"--fps: not a frame rate"),
        ({"format": "bmp"}, r"--format: unknown format \(got 'bmp'; expected jpg or png\)"),
    ],
)
def test_misuse(root, clip, arguments, message):
    """Invalid options are usage errors before anything is written."""
    with pytest.raises(UsageError, match=message):
        curate.sample_frames(root, [str(clip)], **arguments)
    assert not root.exists()


def test_unknown_videos(root, clip, tmp_path):
    """An unknown id, also in a file of times, is an error that lists the known ones."""
    curate.sample_frames(root, [str(clip)])
    with pytest.raises(UsageError, match=r"unknown video \(got 'wallk'; expected one of walk\). Did you mean 'walk'"):
        curate.sample_frames(root, ["wallk"])
    with pytest.raises(UsageError, match=r"no/such.mp4: there is no such file or folder"):
        curate.sample_frames(root, ["no/such.mp4"])
    with pytest.raises(UsageError, match=r"--at: unknown video"):
        curate.sample_frames(root, at=write_text(tmp_path / "times.txt", "talk 0.1\n"))
    with pytest.raises(UsageError, match=r"the dataset has no videos"):
        curate.sample_frames(tmp_path / "empty")


def test_a_file_name_that_is_nearly_right(root, clip, tmp_path, monkeypatch):
    """A file in the working folder or another one is proposed, with its path as it was typed."""
    write_clip(tmp_path / "clips" / "video.mp4", 3)
    monkeypatch.chdir(tmp_path / "clips")
    with pytest.raises(UsageError, match=r"^vidoe.mp4: there is no such file.*Did you mean 'video.mp4'"):
        curate.sample_frames(root, ["vidoe.mp4"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"clips/vidoe.mp4: there is no such file.*Did you mean 'clips/video.mp4'"):
        curate.sample_frames(root, ["clips/vidoe.mp4"])


def test_a_video_that_somebody_changed(root, tmp_path, clip):
    """A video file that was modified after it was added is an error."""
    file = tmp_path / "walk.mp4"
    file.write_bytes(clip.read_bytes())
    curate.sample_frames(root, [str(file)], every="1s")
    file.write_bytes(write_clip(tmp_path / "other.mp4", 30).read_bytes())
    with pytest.raises(DataError, match=r"media/videos/walk.mp4: the file was modified after it was added to"):
        curate.sample_frames(root, ["walk"], every="0.5s")
    assert len(frames_of(root)) == 2


@pytest.mark.parametrize("is_known", [False, True])
def test_a_pipe_in_place_of_a_video(root, clip, is_known):
    """A named pipe in the dataset is not waited for, where a new video would lie and where a known one lay."""
    video = root / "media" / "videos" / clip.name
    if is_known:
        curate.sample_frames(root, [str(clip)], every="1s")
        video.unlink()
    video.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(video)
    if is_known:
        with pytest.raises(DataError, match="not a regular file"):
            curate.sample_frames(root, every="0.5s")
    else:
        assert curate.sample_frames(root, [str(clip)], every="1s").frames


def test_a_deleted_video_comes_back(root, clip):
    """The same file, given again, restores a deleted video."""
    curate.sample_frames(root, [str(clip)], every="1s")
    (root / "media/videos/walk.mp4").unlink()
    assert curate.sample_frames(root, [str(clip)], every="0.5s").frames == 2


def test_a_second_look_at_a_broken_video(root, tmp_path):
    """A second call on a broken video, also with an earlier end, changes nothing in the dataset."""
    whole = write_clip(tmp_path / "whole.mkv", 120, width=320, height=192)
    (tmp_path / "broken.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    first = curate.sample_frames(root, [str(tmp_path / "broken.mkv")], every="0.1s")
    assert curate.sample_frames(root, every="0.1s").version == first.version
    assert curate.sample_frames(root, every="0.1s", end="0.5s").version == first.version
    assert len(Store(root).load().problems) == 1


def test_what_is_no_video_stays_outside(root, tmp_path, clip):
    """Files that are not videos are not linked; hidden companion files of macOS are skipped."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "walk.mp4").write_bytes(clip.read_bytes())
    write_text(folder / "._walk.mp4", "a fork")
    write_text(folder / "a.mp4", "no video")
    result = curate.sample_frames(root, [str(folder)], every="1s")
    assert sorted(file.name for file in (root / "media/videos").iterdir()) == ["walk.mp4"]
    assert [Path(one["file"]).name for one in result.problems] == ["a.mp4"]
    with pytest.raises(DataError):
        curate.sample_frames(tmp_path / "new", [str(folder / "a.mp4")])
    assert not (tmp_path / "new").exists()


def test_scenes_need_pyscenedetect(root, clip, monkeypatch):
    """Without PySceneDetect the command is an error with the install command."""
    monkeypatch.setattr("curate.sources.frame_selection.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"--scenes: PySceneDetect is not installed\. pip install"):
        curate.sample_frames(root, [str(clip)], scenes=True)
    assert not root.exists()


def test_duplicates_of_frames_that_are_images_already(root, tmp_path):
    """Frames that the dataset has already count as kept frames."""
    write_still(tmp_path / "v.mp4", 10, moving={5})
    curate.sample_frames(root, [str(tmp_path / "v.mp4")], every="1s")
    result = curate.sample_frames(root, every="0.1s", start="0.4s", drop_duplicates=4)
    assert (result.frames, result.dropped_duplicates) == (1, 5)


def test_long_and_foreign_names(root, tmp_path):
    """Long ids are shortened by bytes, so that file names of frames fit."""
    file = tmp_path / ("視" * 80 + ".mp4")
    write_clip(tmp_path / "v.mp4", 4, fps=2).rename(file)
    assert curate.sample_frames(root, [file], every="1s").frames == 2


def test_nothing_where_it_was_asked_for(root, clip):
    """If no time is within the videos, a note says so."""
    result = curate.sample_frames(root, str(clip), start="1:00:00")
    assert result.frames == 0
    assert "The videos have no frames at the requested times." in result.notes


def test_two_at_once_count_what_they_added(root, clip, monkeypatch):
    """Frames that another process has added meanwhile are not counted."""
    from curate.sources.frame_export import VideoSampler

    sample = VideoSampler.sample

    def overtaken(self, video, taken):
        monkeypatch.setattr(VideoSampler, "sample", sample)
        curate.sample_frames(root, [str(clip)], every="1s")
        return sample(self, video, taken)

    monkeypatch.setattr(VideoSampler, "sample", overtaken)
    result = curate.sample_frames(root, [str(clip)], every="0.5s")
    assert (result.frames, len(Store(root).load().images)) == (2, 4)


def test_a_kill_leaves_no_half_image(root, tmp_path):
    """After a kill or Ctrl-C at any time the dataset is intact, and the same command adds the rest."""
    counts = [90, 91, 92, 93]
    for number, frames in enumerate(counts):
        write_clip(tmp_path / "in" / f"v{number}.mp4", frames)
    for way in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(
            [sys.executable, "-c", MANY, str(root), str(tmp_path / "in")], stderr=subprocess.DEVNULL
        )
        before = len(list(root.rglob("*.png")))
        deadline = time.monotonic() + 60
        while len(list(root.rglob("*.png"))) < before + 40 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(way)
        process.wait(60)
        if Store(root).exists():
            assert_images_are_whole(root)
    curate.sample_frames(root, [str(tmp_path / "in")], every="1/30s", format="png")
    assert len(Store(root).load().images) == sum(counts)
    assert_images_are_whole(root)


def test_what_killed_processes_left_goes(root, clip):
    """Temporary files of killed processes are removed; those of others, and the user's own, stay."""
    folder = root / "media/images/walk"
    folder.mkdir(parents=True)
    write_text(folder / ".curate-1-0123456789abcdef.tmp", "half")
    write_text(folder / "mine.tmp", "whole")
    with temporary_file(folder) as held:
        curate.sample_frames(root, [str(clip)])
        found = sorted(file.name for file in folder.iterdir())
    assert found == sorted([Path(held.name).name, "mine.tmp", "walk_00000000ms.jpg"])


def assert_images_are_whole(root):
    dataset = Store(root).load()
    for row in dataset.images.itertuples():
        assert read_image_facts(dataset.image_file(row.path)).sha256 == row.sha256


def test_long_work_is_one_step_of_the_history(root, tmp_path, monkeypatch):
    """Videos are committed as they finish, and one undo removes all."""
    monkeypatch.setattr("curate.commands.sample_frames._COMMIT_EVERY_S", 0)
    for number in range(3):
        write_clip(tmp_path / "in" / f"v{number}.mp4", 6 + number, fps=2)
    result = curate.sample_frames(root, [str(tmp_path / "in")], every="1s", workers=1)
    assert len(list((root / "versions").iterdir())) >= 2
    assert [entry.version for entry in Store(root).history()] == [result.version]
    assert curate.undo(root).version == 0


# ── image measures ───────────────────────────────────────────────────────────────────────────────────────────────


def test_hashes_of_pictures_that_look_alike():
    """Noise, brightness and scale change few bits of the hash; another image changes many."""
    random = np.random.default_rng(0)
    picture = cv2.resize(random.integers(0, 255, (9, 12, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    other = cv2.resize(random.integers(0, 255, (9, 12, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(picture * 0.9 + random.normal(0, 5, picture.shape), 0, 255).astype(np.uint8)

    def distance(one, another):
        return (difference_hash(one) ^ difference_hash(another)).bit_count()

    assert distance(picture, picture) == 0
    assert distance(picture, noisy) <= 4
    assert distance(picture, shrink(picture, 200)) <= 4
    assert distance(picture, other) > 16
    assert 0 <= difference_hash(picture[:1, :1]) < 2**64


def test_sharpness_falls_with_blur():
    """A blurred image is less sharp than the original."""
    picture = draw_number(5)
    assert sharpness(cv2.GaussianBlur(picture, (0, 0), 2)) < sharpness(picture) / 4


def test_small_pictures_are_not_scaled_up():
    """Only larger images are scaled, and to at least one pixel."""
    assert shrink(draw_number(1), 500).shape == (96, 160, 3)
    assert shrink(np.zeros((1, 400, 3), np.uint8), 100).shape == (1, 100, 3)


def test_full_folder_of_temporary_files(root, clip, monkeypatch):
    """Frames that do not fit into the folder of temporary files are not the fault of their video."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("curate.sources.frame_export._push", full)
    with pytest.raises(StoreError, match=f"^{tempfile.gettempdir()}: the frames cannot be kept: No space"):
        curate.sample_frames(root, [str(clip)], every="0.5", drop_blurred=10)
    monkeypatch.undo()
    assert curate.sample_frames(root, [str(clip)], every="0.5", drop_blurred=10).frames == 4
