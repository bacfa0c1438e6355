"""`watch` on files, folders and pipes: boxes, events, tables, clips, and its errors."""

import json
import os
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import clips
import colour_engine
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from full_disk import files_up_to
from repository_paths import SHARED_DATA
from watching import BLUE, HEIGHT, RED, WIDTH, one_red, one_red_standing, write_scene, write_triggers

from curate.commands.watch import watch
from curate.engines.trained_model import TrainedModel
from curate.errors import DataError, MissingError, UsageError
from curate.monitor import session
from curate.sources.feeds.feed import Picture
from curate.sources.feeds.queued import QueuedFeed
from curate.sources.feeds.raw_pipe import RawFeed, RawLayout
from curate.sources.video import FrameReader, index_video
from curate.sources.video.writing import VideoWriter
from curate.store import Store

VIDEOS = SHARED_DATA / "videos"


@pytest.fixture(autouse=True)
def _engine(monkeypatch, tmp_path):
    colour_engine.register(monkeypatch)
    monkeypatch.chdir(tmp_path)


def run_watch(folder, source, **options):
    return watch(colour_engine.MODEL, source, weights=colour_engine.write_weights(folder), device="cpu", **options)


def read_events(file="events.jsonl"):
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def left_threads():
    return [one.name for one in threading.enumerate() if one.name.startswith("curate-")]


def test_a_square_is_one_track_and_one_event(tmp_path):
    """Twenty frames of one object are twenty detections of one track, and one event in the first frame."""
    write_scene(tmp_path / "in.mp4", 20, one_red)
    result = run_watch(tmp_path, "in.mp4", events="events.jsonl", detections="d.parquet")
    assert (result.frames, result.detections, result.events, result.problems) == (20, 20, 1, ())
    table = pq.read_table("d.parquet")
    assert table.column_names == [
        "frame_index", "timestamp_s", "track_id", "class", "score", "x0", "y0", "x1", "y1",
    ]  # fmt: skip
    rows = table.to_pandas()
    assert rows["frame_index"].tolist() == list(range(20))
    np.testing.assert_allclose(rows["timestamp_s"], np.arange(20) / 10)
    assert set(rows["track_id"]) == {1}
    assert set(rows["class"]) == {"red"}
    assert rows["score"].between(0.9, 1).all()
    np.testing.assert_allclose(rows["x0"], 16 + 4 * np.arange(20), atol=2)
    np.testing.assert_allclose(rows[["y0", "y1"]], np.tile([32, 56], (20, 1)), atol=2)
    (event,) = read_events()
    assert list(event) == ["time", "timestamp_s", "trigger", "class", "track_id", "score", "box", "frames"]
    assert (event["timestamp_s"], event["trigger"], event["class"], event["track_id"], event["frames"]) == (
        0.0, "seen", "red", 1, [0],
    )  # fmt: skip
    np.testing.assert_allclose(event["box"], [16, 32, 40, 56], atol=2)
    assert left_threads() == []


def test_json_contract(tmp_path):
    """Keys and types of the document."""
    write_scene(tmp_path / "in.mp4", 5, one_red)
    document = run_watch(tmp_path, "in.mp4").to_json()
    assert list(document) == ["frames", "detections", "events", "frames_per_s", "latency_ms", "complete", "problems"]
    assert list(document["latency_ms"]) == ["p50", "p95", "p99"]
    assert 0 < document["latency_ms"]["p50"] <= document["latency_ms"]["p95"] <= document["latency_ms"]["p99"] < 60_000
    assert document["frames_per_s"] > 0
    json.dumps(document)


def test_boxes_are_drawn(tmp_path):
    """A box in the colour of its class is around the square; the rest of the picture is unchanged."""
    write_scene(tmp_path / "in.mp4", 3, lambda number: [(60, 40, 30, RED)])
    run_watch(tmp_path, "in.mp4", out="out.mp4")
    before, after = (
        next(FrameReader(index_video(name)).read([1])).pixels.astype(int) for name in ("in.mp4", "out.mp4")
    )
    changed = np.abs(before - after).max(axis=2) > 40
    assert changed[39:71, 59:61].any()
    assert not changed[:, 130:].any()
    np.testing.assert_allclose(after[55, 60:62].mean(axis=0), (230, 159, 0), atol=30)


@pytest.mark.skipif(not VIDEOS.is_dir(), reason="the videos of ../shared/data are not here")
@pytest.mark.parametrize("name", sorted(file.name for file in VIDEOS.glob("*")) if VIDEOS.is_dir() else [])
def test_real_videos_keep_frames_times_and_orientation(tmp_path, name):
    """Same number of frames, exact time stamps, same orientation; a damaged video as far as it goes."""
    if name.startswith("one-by-one"):
        pytest.skip("1,394 frames: with the long tests")
    before = index_video(VIDEOS / name)
    result = run_watch(tmp_path, VIDEOS / name, out="out.mp4")
    after = index_video("out.mp4")
    whole = 29 if name == "corrupted.mp4" else before.frames
    assert (result.frames, after.frames) == (whole, whole)
    times = [[int(stamp) * index.time_base for stamp in index.pts[:whole]] for index in (before, after)]
    assert times[0] == times[1]
    assert (after.rotation, after.mirrored) == (before.rotation, before.mirrored)
    assert (after.width, after.height) == (before.width, before.height)
    told = {
        "corrupted.mp4": "stops after 2.80 s: the data are damaged.",
        "nasa_13013.mp4": "the file has 2 video streams (1: 320×180, 2: 480×270); stream 2 is read, unless --stream "
        "names another.",
    }
    assert result.problems == ((f"{VIDEOS / name}: {told[name]}",) if name in told else ())


@pytest.mark.long
@pytest.mark.skipif(not VIDEOS.is_dir(), reason="the videos of ../shared/data are not here")
def test_a_long_real_video_keeps_its_frames_and_times(tmp_path):
    """1,394 frames of people."""
    source = VIDEOS / "one-by-one-person-detection.mp4"
    before = index_video(source)
    assert run_watch(tmp_path, source, out="out.mp4").frames == before.frames == 1394
    after = index_video("out.mp4")
    assert [int(stamp) * after.time_base for stamp in after.pts] == [int(pts) * before.time_base for pts in before.pts]


def test_a_video_that_is_turned_while_it_runs(tmp_path):
    """After the change detections are in pixels of their own frame, track and zone go on, and it is told once."""
    write_scene(tmp_path / "wide.mp4", 10, lambda number: [(32, 32, 24, RED)], sizes=(160, 96))
    write_scene(tmp_path / "upright.mp4", 10, lambda number: [(19, 53, 16, RED)], sizes=(96, 160))
    wide, upright = (clips.join_clips(f"{name}.ts", f"{name}.mp4") for name in ("wide", "upright"))
    clips.join_clips("in.ts", wide, upright, wide)
    zone = [[0, 0], [80, 0], [80, 96], [0, 96]]
    triggers = write_triggers(tmp_path, **{"class": "red", "zone": zone, "frames": "30 of 30"})
    result = run_watch(tmp_path, "in.ts", triggers=triggers, detections="d.parquet", out="out.mp4", events="e.jsonl")
    rows = pq.read_table("d.parquet").to_pandas()
    assert (result.frames, set(rows["track_id"])) == (30, {1})
    assert rows.loc[rows["frame_index"] == 15, ["x0", "y0", "x1", "y1"]].to_numpy() == pytest.approx(
        np.array([[19, 53, 35, 69]]), abs=2
    )
    assert [event["frames"][-1] for event in read_events("e.jsonl")] == [29]
    (problem,) = result.problems
    assert problem.startswith("in.ts: 2 changes of picture size: first at 1.00 s from 160×96 to 96×160")
    out = index_video("out.mp4")
    frames = list(FrameReader(out).read([0, 15]))
    assert (out.width, out.height, out.frames) == (160, 96, 30)
    assert frames[1].pixels[:, :40].max() < 30
    assert frames[0].pixels[:, :20].min() > 60


def test_what_a_file_does_not_tell(tmp_path):
    """Stream and rate of a file can be given; what is unusual about its pictures is a problem, told once."""
    clips.write_two_streams(tmp_path / "two.mkv")
    result = run_watch(tmp_path, "two.mkv", out="both.mp4")
    (problem,) = result.problems
    assert "two.mkv: the file has 2 video streams" in problem
    for stream, width in ((1, 160), (2, 320)):
        result = run_watch(tmp_path, "two.mkv", stream=stream, out=f"{stream}.mp4")
        assert (result.problems, index_video(f"{stream}.mp4").width) == ((), width)
    clips.write_clip(tmp_path / "raw.mjpeg", 20, codec="mjpeg", pixel_format="yuvj420p")
    run_watch(tmp_path, "raw.mjpeg", rate=10, out="raw.mp4")
    assert index_video("raw.mp4").duration_s == pytest.approx(2.0)


def test_a_folder_tells_what_it_left_out(tmp_path):
    """Before the first frame, files that are not videos are named."""
    (tmp_path / "in").mkdir()
    write_scene(tmp_path / "in" / "a.mp4", 2, one_red)
    (tmp_path / "in" / "notes.txt").write_text("hello")
    ready = []
    result = run_watch(tmp_path, "in", on_ready=ready.append)
    assert result.frames == 2
    assert any("left out 1 file that cannot be read as a video: notes.txt" in note for note in ready[0].notes)


def test_a_truncated_file(tmp_path):
    """Frames before the break are written, and the problem says where it is."""
    clips.write_clip("whole.mp4", 60, gop=10, fps=30, container_options={"movflags": "faststart"})
    data = Path("whole.mp4").read_bytes()
    Path("cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    result = run_watch(tmp_path, "cut.mp4", out="out.mp4")
    assert 20 < result.frames < 60
    assert index_video("out.mp4").frames == result.frames
    (problem,) = result.problems
    assert problem.startswith("cut.mp4: ")
    assert "breaks off" in problem or "stops after" in problem


def test_the_range_of_interest_is_that_of_evaluation(tmp_path):
    """A square below 24 px does not count, and keeps its track when it grows."""
    write_scene(tmp_path / "in.mp4", 12, lambda number: [(32, 32, 16 if number < 6 else 32, RED)])
    result = run_watch(tmp_path, "in.mp4", min_side=24, events="events.jsonl", detections="d.parquet", out="out.mp4")
    assert (result.detections, result.events) == (6, 1)
    assert pq.read_table("d.parquet")["frame_index"].to_pylist() == [6, 7, 8, 9, 10, 11]
    assert [(event["frames"], event["track_id"]) for event in read_events()] == [([6], 1)]


def test_a_distance_is_a_range(tmp_path):
    """Objects of 2 m at a focal length of 100 px have 20 px at 10 m, and 40 px at 5 m."""
    write_scene(tmp_path / "in.mp4", 2, lambda number: [(8, 8, 24, RED), (80, 8, 48, BLUE)])
    far = run_watch(tmp_path, "in.mp4", max_distance=10, object_height=2, focal_px=100)
    near = run_watch(tmp_path, "in.mp4", max_distance=5, object_height=2, focal_px=100)
    assert (far.detections, near.detections) == (4, 2)


def test_scores_below_the_trackers_lowest(tmp_path, monkeypatch):
    """With --score 0.05, scores of 0.08 count."""
    write_scene(tmp_path / "in.mp4", 4, lambda number: [(32, 32, 24, RED)])
    monkeypatch.setattr(colour_engine.ColourDetector, "share", 0.08)
    assert run_watch(tmp_path, "in.mp4", score=0.05).detections == 4
    assert run_watch(tmp_path, "in.mp4", score=0.1).detections == 0


class Breaking(QueuedFeed):
    """Three frames, then a read error."""

    def pictures(self):
        for number in range(3):
            yield Picture(number, number / 10, np.zeros((2, 2, 3), dtype=np.uint8), 0.0)
        raise OSError(5, "Input/output error")


def test_frames_before_a_failure_come_first():
    """However many frames are requested at once."""
    feed = Breaking("door.mp4", 10)
    taken = []
    while len(taken) < 3:
        taken += feed.take(8, 1.0)
    assert [one.index for one in taken] == [0, 1, 2]
    with pytest.raises(DataError, match=r"^door.mp4: reading failed: Input/output error"):
        feed.take(8, 1.0)
    assert feed.ended
    feed.close()


def test_an_empty_pipe_is_an_error():
    """A pipe that ends before the first frame is an error."""

    def read_all(pipe):
        feed = RawFeed(pipe, RawLayout.parse("8x8@10"))
        while not feed.ended:
            feed.take(1, 1.0)

    with open(os.devnull, "rb") as nothing, pytest.raises(DataError, match=r"^-: the pipe ends before the first frame"):
        read_all(nothing)


def test_triggers(tmp_path):
    """Only blue squares in the right half, in three of four frames."""
    Path("t.yaml").write_text(
        "triggers: [{name: blue on the right, class: blue, zone: [[0.5, 0], [1, 0], [1, 1], [0.5, 1]], frames: 3 of 4}]"
    )
    write_scene(tmp_path / "in.mp4", 20, lambda number: [(8 + 6 * number, 8, 24, BLUE), (100, 60, 24, RED)])
    result = run_watch(tmp_path, "in.mp4", triggers="t.yaml", events="events.jsonl")
    assert result.events == 1
    (event,) = read_events()
    # its middle is in the right half from frame 10 on: 8 + 60 + 12 = 80
    assert (event["trigger"], event["class"], event["frames"]) == ("blue on the right", "blue", [10, 11, 12])


def test_a_folder_is_watched_file_by_file(tmp_path):
    """Track IDs continue, tables and events name their files, and each file has its own video."""
    for name in ("b/x.mp4", "a.mp4"):
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        write_scene(Path("in", name), 4, one_red)
    result = run_watch(tmp_path, "in", out="out", events="events.jsonl", detections="d.parquet")
    assert (result.frames, result.events) == (8, 2)
    table = pq.read_table("d.parquet").to_pandas()
    assert table["source"].tolist() == ["in/a.mp4"] * 4 + ["in/b/x.mp4"] * 4
    assert table["track_id"].tolist() == [1] * 4 + [2] * 4
    assert [(event["source"], event["track_id"]) for event in read_events()] == [("in/a.mp4", 1), ("in/b/x.mp4", 2)]
    assert sorted(str(file) for file in Path("out").rglob("*.mp4")) == ["out/a.mp4", "out/b/x.mp4"]


def test_one_bad_file_of_a_folder_is_a_problem(tmp_path):
    """The other files are watched; a folder with only bad files is an error."""
    Path("in").mkdir()
    Path("in/bad.mp4").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"^in/bad.mp4: not a video"):
        run_watch(tmp_path, "in")
    write_scene(Path("in/good.mp4"), 4, one_red)
    result = run_watch(tmp_path, "in")
    assert result.frames == 4
    assert [problem.partition(":")[0] for problem in result.problems] == ["in/bad.mp4"]


def test_a_pipe_gives_raw_frames(tmp_path):
    """Frames are timed by number, and an incomplete one is a problem."""
    script = (
        "import sys, colour_engine, json\n"
        "from curate.engines import base\n"
        "base.ENGINES = {'colour': base.EngineEntry('colour_engine', 'ColourEngine', ())}\n"
        "from curate.commands.watch import watch\n"
        "r = watch('colour:squares', '-', weights='weights.json', device='cpu', raw='160x96@10@bgr24',\n"
        "          detections='d.parquet', out='o.mp4')\n"
        "print(json.dumps([r.frames, r.problems]))\n"
    )
    colour_engine.write_weights(tmp_path)
    picture = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
    picture[32:56, 16:40] = BLUE[::-1]
    data = picture.tobytes() * 5 + b"rest"
    run = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True,
                         env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert json.loads(run.stdout) == [5, ["-: the pipe ends within frame 5: 4 of 46080 bytes."]]
    rows = pd.read_parquet("d.parquet")
    assert set(rows["class"]) == {"blue"}
    assert rows["timestamp_s"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    index = index_video("o.mp4")
    assert [int(stamp) * index.time_base for stamp in index.pts] == [Fraction(number, 10) for number in range(5)]


def test_clips_show_before_and_after(tmp_path):
    """The clip of a square in seconds 3 to 6 starts one second before it and ends two after its appearance."""
    Path("t.yaml").write_text(
        "triggers: [{name: red!, class: red, actions: [{clip: {folder: shots, before: 1s, after: 2s}}]}]"
    )
    write_scene(tmp_path / "in.mp4", 100, lambda number: [(60, 32, 24, RED)] if 30 <= number < 60 else [])
    run_watch(tmp_path, "in.mp4", triggers="t.yaml", events="events.jsonl")
    (event,) = read_events()
    assert event["frames"] == [30]
    assert [str(file) for file in Path("shots").iterdir()] == [event["clip"]]
    index = index_video(event["clip"])
    times_s = [float(int(stamp) * index.time_base) for stamp in index.pts]
    np.testing.assert_allclose(times_s, np.arange(31) / 10, atol=1e-4)
    frames = [frame.pixels.astype(int) for frame in FrameReader(index).read(range(31))]
    reds = [bool((frame[36:52, 66:80, 0] - frame[36:52, 66:80, 2] > 150).all()) for frame in frames]
    assert reds == [False] * 10 + [True] * 21


def test_events_close_together_share_a_clip(tmp_path):
    """Three objects within a second are one clip, which ends after the last."""
    Path("t.yaml").write_text("triggers: [{name: red, actions: [{clip: {folder: shots, before: 1s, after: 1s}}]}]")

    def squares(number):
        return [(8 + 40 * place, 32, 24, RED) for place in range(3) if number >= 20 + 5 * place]

    write_scene(tmp_path / "in.mp4", 60, squares)
    run_watch(tmp_path, "in.mp4", triggers="t.yaml", events="events.jsonl")
    assert len({event["clip"] for event in read_events()}) == 1
    assert [event["frames"] for event in read_events()] == [[20], [25], [30]]
    (clip,) = Path("shots").iterdir()
    assert index_video(clip).duration_s == pytest.approx(3.0, abs=0.11)  # from 1.0 to 4.0 s


def test_triggered_frames_go_back_into_a_dataset(tmp_path):
    """The frame of each event becomes an image of its video, with the detections as proposals, once."""
    blue = (90, 60, 24, BLUE)
    write_scene(tmp_path / "door.mp4", 20, lambda number: [*one_red(number), *([blue] if number >= 7 else [])])
    for _ in range(2):
        result = run_watch(tmp_path, "door.mp4", collect="masks")
    assert result.events == 2
    dataset = Store("masks").load()
    images = dataset.images
    assert images["frame_index"].tolist() == [0, 7]
    assert images["timestamp_s"].tolist() == [0.0, 0.7]
    assert images["video_id"].tolist() == ["door", "door"]
    assert images["label_state"].tolist() == ["proposed", "proposed"]
    assert dataset.videos["video_id"].tolist() == ["door"]
    names = {entry.id: entry.name for entry in dataset.classes}
    pairs = zip(dataset.boxes["image_id"], dataset.boxes["class_id"], strict=True)
    assert sorted((image, names[class_id]) for image, class_id in pairs) == [(1, "red"), (2, "blue"), (2, "red")]
    assert [version.operation for version in Store("masks").history()] == ["watch"]


def test_triggered_frames_without_boxes(tmp_path):
    """With --collect-as unlabelled there are no boxes."""
    write_scene(tmp_path / "door.mp4", 3, one_red)
    run_watch(tmp_path, "door.mp4", collect="masks", collect_as="unlabelled")
    dataset = Store("masks").load()
    assert dataset.images["label_state"].tolist() == ["unlabelled"]
    assert len(dataset.boxes) == 0


def test_stop(tmp_path):
    """`stop` ends the watch; video, table and events are complete up to there."""
    write_scene(tmp_path / "in.mp4", 200, one_red_standing)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 20

    result = run_watch(tmp_path, "in.mp4", out="out.mp4", detections="d.parquet", stop=stop)
    assert 0 < result.frames < 200
    assert not result.complete
    assert index_video("out.mp4").frames == result.frames == pq.read_table("d.parquet").num_rows
    assert left_threads() == []


def test_stop_after(tmp_path, monkeypatch):
    """Seconds count from the first frame; here each frame takes ten."""
    write_scene(tmp_path / "in.mp4", 100, one_red_standing)
    looked = []
    monkeypatch.setattr(colour_engine.ColourDetector, "before", staticmethod(looked.extend))
    monkeypatch.setattr(session, "time", Mock(monotonic=lambda: time.monotonic() + 10 * len(looked)))
    assert run_watch(tmp_path, "in.mp4", stop_after="25s").frames == 3


def test_a_failing_output_ends_the_watch(tmp_path, monkeypatch):
    """The other files are finished, and no thread is left."""
    write_scene(tmp_path / "in.mp4", 50, one_red_standing)
    monkeypatch.setattr(VideoWriter, "write", fail_to_write)
    with pytest.raises(DataError, match=r"^out.mp4: the disk is full\."):
        run_watch(tmp_path, "in.mp4", out="out.mp4", detections="d.parquet")
    assert pq.read_table("d.parquet").num_rows >= 1
    assert left_threads() == []


def test_a_lost_event_ends_the_watch_of_a_recording(tmp_path):
    """The full disk is the error, and the file has whole lines."""
    write_scene(tmp_path / "in.mp4", 20, one_red)
    Path("t.yaml").write_text("triggers: [{name: always, repeat: 0.01s}]")
    with files_up_to(1500), pytest.raises(DataError, match=r"^events.jsonl: cannot write the event: File too large"):
        run_watch(tmp_path, "in.mp4", triggers="t.yaml", events="events.jsonl")
    assert len(read_events()) >= 3
    assert left_threads() == []


def test_a_watch_that_fails_at_its_start_can_be_started_again(tmp_path):
    """No file is left that would be refused."""
    files = {"out": "o.mp4", "events": "e.jsonl", "detections": "d.parquet"}
    (tmp_path / "in.mp4").write_bytes(b"not yet a video")
    with pytest.raises(DataError):
        run_watch(tmp_path, "in.mp4", **files)
    write_scene(tmp_path / "in.mp4", 3, lambda number: [])
    assert run_watch(tmp_path, "in.mp4", **files).events == 0
    assert [os.path.getsize(file) > 0 for file in files.values()] == [True, False, True]


def fail_to_write(self, *_):
    raise DataError("the disk is full", place=self.path)


@pytest.mark.parametrize("name", ["out.mp4", "events.jsonl", "d.parquet"])
def test_existing_files_are_not_replaced(tmp_path, name):
    """They are refused without --overwrite, before the model is loaded."""
    write_scene(tmp_path / "in.mp4", 3, one_red)
    Path(name).write_text("mine")
    files = {"out": "out.mp4", "events": "events.jsonl", "detections": "d.parquet"}
    with pytest.raises(UsageError, match=f"^{name}: the file already exists"):
        run_watch(tmp_path, "in.mp4", **files)
    assert Path(name).read_text() == "mine"
    run_watch(tmp_path, "in.mp4", **files, overwrite=True)
    assert Path(name).read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "none.mp4"}, "none.mp4: no such file or folder"),
        ({"source": "im.mp4"}, "im.mp4: no such file or folder. Did you mean 'in.mp4'?"),
        ({"rate": "fast"}, "--rate: not a frame rate"),
        ({"stream": 0}, "--stream: the value is out of range"),
        ({"depth": 40}, "--depth: the value is out of range"),
        (
            {"source": "rtsp://u:p@host/a", "stream": 2},
            "--stream: applies to files on this machine only (got rtsp://***@",
        ),
        ({"source": "0", "depth": 12}, "--depth: applies to files on this machine only (got "),
        ({"source": "-", "raw": "8x8@5", "rate": 5}, "--rate: applies to files on this machine only (got -)"),
        ({"source": "-"}, "-: raw frames need a layout"),
        ({"raw": "160x96"}, "--raw: applies to the source - only"),
        (
            {"source": "-", "raw": "big"},
            "--raw: invalid frame layout (got 'big'; expected WIDTHxHEIGHT@FPS such",
        ),
        ({"source": "ftp://host/a"}, "ftp://host/a: unknown URL scheme"),
        ({"weights": None}, "colour:squares: ENGINE:NAME needs --weights FILE"),
        ({"weights": "none.pt"}, "--weights: there is no such file (got none.pt)"),
        ({"run": "none"}, "none: there is no run here"),
        ({"run": "none", "weights": None}, "none: there is no run here"),
        ({"score": 2}, "--score: not a score (got 2; expected 0 to 1)"),
        ({"min_side": 2, "max_distance": 3}, "--max-distance: the options are mutually exclusive"),
        ({"batch": 0}, "--batch: invalid value"),
        ({"out": "in.mp4"}, "--out: output file is also the input"),
        ({"out": "out.avi"}, "out.avi: unsupported video format"),
        ({"events": "no/e.jsonl"}, "no: folder does not exist"),
        ({"events": "x", "detections": "x"}, "--detections: two output files have the same path"),
        ({"source": ".", "began": "2026-01-01T00:00:00"}, "--began: needs a single file"),
        ({"stall": float("nan")}, "--stall: invalid duration"),
        ({"stall": float("inf")}, "--stall: invalid duration"),
        ({"began": "yesterday"}, "--began: invalid time"),
        ({"source": "0", "began": "2026-01-01T00:00:00"}, "--began: applies to recorded files only"),
        ({"port": 80}, "--port: applies only with --serve"),
        ({"collect": "in.mp4"}, "--collect: the dataset folder is a file"),
        ({"stop_after": "soon"}, "--stop-after: not a time"),
    ],
)
def test_usage_errors(tmp_path, options, message):
    """Each is one line, before a frame is read, and nothing is left behind."""
    write_scene(tmp_path / "in.mp4", 2, one_red)
    (tmp_path / "more.mp4").write_bytes(b"")
    given = {"run": colour_engine.MODEL, "source": "in.mp4", "weights": colour_engine.write_weights(tmp_path)} | options
    with pytest.raises((UsageError, DataError)) as raised:
        watch(given.pop("run"), given.pop("source"), **given)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(message)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.mp4", "more.mp4", "weights.json"]
    assert left_threads() == []


def test_weights_of_another_model_are_refused(tmp_path):
    """The model's name in messages and histories is that of the checkpoint."""
    pytest.importorskip("torch", reason="torch is not installed")
    from curate.engines.training.checkpoint import Checkpoint, write_checkpoint

    write_checkpoint(tmp_path / "best.pt", Checkpoint("torchvision:one", (), None, 1, {}))
    with pytest.raises(UsageError, match=r"the weights belong to the model torchvision:one \("):
        TrainedModel("colour:squares with best.pt", "colour:squares", tmp_path / "best.pt", None).load("cpu")


@pytest.mark.skipif(sys.platform == "darwin", reason="there is always a screen")
def test_without_a_display_there_is_no_window(tmp_path, monkeypatch):
    """The message names --serve as the alternative."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    write_scene(tmp_path / "in.mp4", 2, one_red)
    with pytest.raises((UsageError, MissingError), match=r"^--show: .*Use --serve"):
        run_watch(tmp_path, "in.mp4", show=True)


def test_times_of_a_recording(tmp_path):
    """With --began, events have the time of the recording."""
    write_scene(tmp_path / "in.mp4", 20, lambda number: one_red(number) if number >= 15 else [])
    run_watch(tmp_path, "in.mp4", events="events.jsonl", began="2026-05-01T18:00:00+02:00")
    (event,) = read_events()
    assert event["time"] == "2026-05-01T18:00:01.500+02:00"
