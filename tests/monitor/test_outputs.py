"""Parts of a watch: latencies, drawing, the detection table, clips, output files, sources."""

import errno
import fcntl
import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from full_disk import files_up_to
from watching import GREY, detection, detections_at, event_of, watched_frame

from curate.errors import DataError, UsageError
from curate.monitor.actions.clip import ClipRecorder
from curate.monitor.actions.config import Clip
from curate.monitor.outputs import detection_table
from curate.monitor.outputs.detection_table import DetectionTable
from curate.monitor.outputs.drawing import Drawer
from curate.monitor.outputs.event_log import EventLog, EventPublisher
from curate.monitor.outputs.files import WatchFiles
from curate.monitor.outputs.thread import Latencies, OutputThread
from curate.monitor.problems import Problems
from curate.sources.feeds.open import Source, choose_sources
from curate.sources.feeds.raw_pipe import RawLayout

NAMES = ("with_mask", "without_mask")


# ── latencies ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_percentiles_are_right_to_two_percent():
    """Percentiles of 20,000 times from 0.1 ms to 100 s, in constant memory."""
    latencies = Latencies()
    seconds = np.random.default_rng(0).lognormal(-3, 1.5, 20_000)
    for one in seconds.tolist():
        latencies.add(one)
    for percent in (50, 95, 99):
        assert latencies.percentile_ms(percent) == pytest.approx(np.percentile(seconds, percent) * 1000, rel=0.025)


def test_one_frame_is_all_percentiles():
    """With a single time, all percentiles are equal; without times they are None."""
    latencies = Latencies()
    assert latencies.percentile_ms(50) is None
    latencies.add(0.25)
    assert {latencies.percentile_ms(percent) for percent in (50, 95, 99)} == {latencies.percentile_ms(50)}
    assert latencies.percentile_ms(50) == pytest.approx(250, rel=0.02)


def test_extreme_times_are_counted():
    """0 s and a day fall into the first and the last bin."""
    latencies = Latencies()
    latencies.add(0.0)
    latencies.add(86_400.0)
    assert latencies.percentile_ms(50) < 0.2
    assert latencies.percentile_ms(99) >= 1e7


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_frame_itself_is_not_drawn_on():
    """Drawing makes a copy, since other outputs need the frame."""
    drawn = Drawer(NAMES).draw(GREY, detections_at(0, detection(box=(20, 40, 80, 90))))
    assert (GREY == 128).all()
    assert (drawn != 128).any()


@pytest.mark.parametrize("names", [NAMES, ("ohne Maske", "größer, 口罩, Маска")])
def test_classes_have_colours_of_their_own(names):
    """Each box has the colour of its class, also with class names outside ASCII."""
    seen = detections_at(
        0, detection(1, "with_mask", box=(10, 60, 50, 100)), detection(2, "without_mask", box=(90, 60, 130, 100))
    )
    drawn = Drawer(names).draw(GREY, seen)
    assert drawn[80, 10].tolist() == [0xE6, 0x9F, 0x00]
    assert drawn[80, 90].tolist() == [0x56, 0xB4, 0xE9]


def test_an_event_is_named_for_three_seconds():
    """The event's name is in the bottom left corner, in any script, for three seconds."""
    drawer = Drawer(NAMES)
    red = [
        bool(
            (
                drawer.draw(GREY, detections_at(number), [event_of("Tür")] if number == 0 else [])[90:] == (200, 30, 46)
            ).any()
        )
        for number in range(0, 40, 5)
    ]
    assert red == [True] * 7 + [False]


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (2160, 3840)])
def test_frames_of_any_size_are_drawn_on(size):
    """Boxes may lie outside the frame."""
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    seen = detections_at(0, detection(box=(-50.0, -50.0, 1e4, 1e4)), detection(box=(1e6, 1e6, 1e6 + 1, 1e6 + 1)))
    drawn = Drawer(NAMES).draw(pixels, seen, [event_of("a name that is longer than any frame is wide")])
    assert drawn.shape == pixels.shape


def test_lines_and_text_fit_each_size_of_frame():
    """After a change of size a frame looks as if the video had begun with it."""
    small, large = np.zeros((96, 160, 3), dtype=np.uint8), np.zeros((1080, 1920, 3), dtype=np.uint8)
    seen = detections_at(0, detection(box=(40.0, 40.0, 90.0, 90.0)))
    drawer = Drawer(NAMES)
    drawer.draw(small, seen)
    assert (drawer.draw(large, seen) == Drawer(NAMES).draw(large, seen)).all()


# ── detections ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_detection_without_a_track_is_null(tmp_path):
    """The column `track_id` is null, not −1."""
    table = DetectionTable(tmp_path / "d.parquet", NAMES, Problems())
    table.take(watched_frame(3, detection(None), detection(9)))
    table.close()
    assert pq.read_table(tmp_path / "d.parquet")["track_id"].to_pylist() == [None, 9]


def test_a_table_without_rows_has_its_columns(tmp_path):
    """A watch without detections writes a valid table."""
    table = DetectionTable(tmp_path / "d.parquet", NAMES, Problems(), with_source=True)
    table.take(watched_frame(0))
    table.close()
    table.close()
    found = pq.read_table(tmp_path / "d.parquet")
    assert (found.num_rows, found.column_names[0], found.column_names[-1]) == (0, "frame_index", "source")
    assert [file.name for file in tmp_path.iterdir()] == ["d.parquet"]


def test_rows_are_written_in_parts(tmp_path):
    """Memory does not grow with the length of the video."""
    table = DetectionTable(tmp_path / "d.parquet", NAMES, Problems())
    for number in range(25_000):
        table.take(watched_frame(number, detection()))
    assert len(table._rows) < 20_000
    table.close()
    assert pq.read_table(tmp_path / "d.parquet")["frame_index"].to_pylist() == list(range(25_000))


def killed_table(folder, monkeypatch, numbers):
    """Write rows to a table as a process that is killed: nothing is closed."""
    monkeypatch.setattr(detection_table, "_BUFFERED_S", 0.0)
    table = DetectionTable(folder / "d.parquet", NAMES, Problems())
    for number in numbers:
        table.take(watched_frame(number, detection()))
    table._part.close()  # as the system does


def test_rows_of_a_killed_watch_become_a_table(tmp_path, monkeypatch):
    """The next watch writes a table of them under another name, and its own."""
    killed_table(tmp_path, monkeypatch, range(3))
    part = tmp_path / ".d.part.arrows"
    part.write_bytes(part.read_bytes()[:-20])  # cut off within the last rows
    problems = Problems()
    table = DetectionTable(tmp_path / "d.parquet", NAMES, problems)
    table.take(watched_frame(9, detection()))
    table.close()
    kept = tmp_path / "d-interrupted.parquet"
    assert problems.lines() == (f"{kept} is what an earlier watch wrote before it was interrupted.",)
    assert pq.read_table(kept)["frame_index"].to_pylist() == [0, 1]
    assert pq.read_table(tmp_path / "d.parquet")["frame_index"].to_pylist() == [9]
    assert len(list(tmp_path.iterdir())) == 2


def live_table(folder, problems):
    table = DetectionTable(folder / "d.parquet", NAMES, problems)
    table.must_be_whole = False
    return table


def test_a_full_disk_costs_a_live_source_only_rows_beyond_memory(tmp_path, monkeypatch):
    """Rows wait in memory while the disk is full, and are written when there is space again."""
    monkeypatch.setattr(detection_table, "_BUFFERED_S", 0.0)
    problems = Problems()
    table = live_table(tmp_path, problems)
    with files_up_to(1000):
        for number in range(10):
            table.take(watched_frame(number, detection()))
    table.take(watched_frame(10, detection()))
    table.close()
    assert problems.lines() == (f"{tmp_path / 'd.parquet'}: detections wait in memory: File too large.",)
    assert pq.read_table(tmp_path / "d.parquet")["frame_index"].to_pylist() == list(range(11))


def test_rows_that_are_lost_are_counted(tmp_path, monkeypatch):
    """Where memory ends, and at the end of the watch; a recording ends with an error instead."""
    monkeypatch.setattr(detection_table, "_BUFFERED_S", 0.0)
    monkeypatch.setattr(detection_table, "_MOST_ROWS", 4)
    problems = Problems()
    table = live_table(tmp_path, problems)
    with files_up_to(0):
        for number in range(6):
            table.take(watched_frame(number, detection()))
        table.close()
        with pytest.raises(DataError, match=r"e.parquet: cannot write the table: File too large"):
            DetectionTable(tmp_path / "e.parquet", NAMES, Problems()).take(watched_frame(0, detection()))
    assert problems.lines()[1:] == (f"{tmp_path / 'd.parquet'}: 6 detections lost: File too large",)


# ── events of live sources and recordings ────────────────────────────────────────────────────────────────────────


def test_events_of_a_live_source_continue(tmp_path):
    """Whole lines in spite of a full disk and of a line that a killed writer left; what is lost is counted."""
    file, problems = tmp_path / "events.jsonl", Problems()
    file.write_text('{"old": 1}\n{"half')
    log = EventLog(file, problems, continues=True, replace=True)
    log.must_be_whole = False
    log.write(event_of())
    with files_up_to(file.stat().st_size + 20):
        for _ in range(3):
            log.write(event_of())
    log.write(event_of("last"))
    lines = file.read_text().splitlines()
    assert lines[:2] == ['{"old": 1}', '{"half']
    assert [json.loads(line)["trigger"] for line in lines[2:]] == ["bare", "last"]
    assert problems.lines() == (
        f"{file}: the last line of an earlier watch is cut off; events go on below it.",
        f"{file}: 3 events lost: File too large",
    )


def test_the_end_of_a_live_source_needs_no_space(tmp_path):
    """The file cannot be made, and the summary comes all the same; that of a recording is an error."""
    problems = Problems()
    file = tmp_path / "gone" / "events.jsonl"
    log = EventLog(file, problems, continues=True, replace=False)
    with pytest.raises(DataError, match="cannot write the file"):
        log.finish()
    log.must_be_whole = False
    log.finish()
    assert problems.lines() == (
        f"{tmp_path / 'gone' / 'events.jsonl'}: cannot write the file: No such file or directory.",
    )


def test_an_event_of_a_recording_that_is_lost_is_an_error(tmp_path):
    """The file has whole lines only."""
    file = tmp_path / "events.jsonl"
    log = EventLog(file, Problems(), continues=False, replace=False)
    log.write(event_of())
    size = file.stat().st_size
    with files_up_to(size + 20), pytest.raises(DataError, match="cannot write the event"):
        log.write(event_of())
    assert file.stat().st_size == size


def test_the_file_of_a_recording_appears_with_its_first_event(tmp_path):
    """Until then one from before is untouched; a file that has appeared meanwhile is not replaced."""
    file = tmp_path / "events.jsonl"
    log = EventLog(file, Problems(), continues=False, replace=False)
    assert not file.exists()
    file.write_text("theirs")
    with pytest.raises(DataError, match="File exists"):
        log.write(event_of())
    EventLog(file, Problems(), continues=False, replace=True).write(event_of())
    assert json.loads(file.read_text())["trigger"] == "bare"


# ── clips ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_clips_never_share_a_name(tmp_path):
    """Two events in one millisecond, trigger names with special characters, and an existing file."""
    rules = {
        name: Clip.model_validate({"folder": tmp_path / "clips", "before": 1, "after": 1}) for name in ("a/b", "../c")
    }
    recorder = ClipRecorder(rules, Problems())
    first = recorder.name_clip(event_of("a/b", timestamp_s=0.0))
    Path(first.clip).write_text("there")
    second = recorder.name_clip(event_of("a/b", timestamp_s=50.0))
    third = recorder.name_clip(event_of("../c", timestamp_s=99.0))
    recorder.close()
    assert len({first.clip, second.clip, third.clip}) == 3
    assert {Path(one.clip).parent for one in (first, second, third)} == {tmp_path / "clips"}


def test_a_clip_ends_with_its_source(tmp_path):
    """At the end of the source a clip is saved as far as it goes; a clip is a minute at most."""
    problems = Problems()
    recorder = ClipRecorder({"bare": Clip.model_validate({"folder": tmp_path, "before": 1, "after": 30})}, problems)
    event = recorder.name_clip(event_of("bare", timestamp_s=0.5))
    for number in range(10):
        recorder.take(watched_frame(number, events=[event] if number == 5 else []))
    recorder.close()
    assert problems.lines() == ()
    assert [str(file) for file in tmp_path.iterdir()] == [event.clip]
    plans = ClipRecorder({"bare": Clip.model_validate({"folder": tmp_path, "before": 1, "after": 30})}, problems)
    clips = {plans.name_clip(event_of("bare", timestamp_s=float(second))).clip for second in range(0, 180, 10)}
    plans.close()
    assert len(clips) == 5  # of the events of thirty seconds each, so that thirty follow


def test_a_clip_of_a_killed_watch_is_kept(tmp_path):
    """The next watch gives it a name, and says so; parts of a watch that runs are left alone."""
    for name in ("killed", "running"):
        (tmp_path / f".{name}.part.mp4").write_bytes(b"x" * 2000)
    with (tmp_path / ".running.part.mp4").open() as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        problems = Problems()
        ClipRecorder(rules_of(tmp_path, bare=(1, 1)), problems).close()
    assert sorted(file.name for file in tmp_path.iterdir()) == [".running.part.mp4", "killed-interrupted.mp4"]
    assert problems.lines()[0].startswith(f"{tmp_path / 'killed-interrupted.mp4'} is what an earlier watch wrote")


def test_clips_whose_folder_cannot_be_made_yet(tmp_path, monkeypatch):
    """On a full disk the watch begins; the folder is made with the clip, also where somebody has deleted it."""
    folder, problems, make = tmp_path / "clips", Problems(), Path.mkdir

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", fail)
    recorder = ClipRecorder(rules_of(folder, bare=(1, 1)), problems)
    assert problems.lines() == (f"clips {folder}: the folder cannot be created: No space left on device.",)
    monkeypatch.setattr(Path, "mkdir", make)
    event = recorder.name_clip(event_of(timestamp_s=1.0))
    recorder.take(watched_frame(10, events=(event,)))
    recorder.close()
    assert Path(event.clip).is_file()


def rules_of(folder, **seconds):
    return {
        name: Clip.model_validate({"folder": folder, "before": before, "after": after})
        for name, (before, after) in seconds.items()
    }


def test_a_clip_never_ends_before_its_events_do(tmp_path):
    """With events every two seconds, a new clip starts before the full one would cut an event off."""
    recorder = ClipRecorder(rules_of(tmp_path, bare=(5, 5)), Problems())
    events = [recorder.name_clip(event_of("bare", timestamp_s=float(second))) for second in range(0, 140, 2)]
    last = {event.clip: event.timestamp_s for event in events}
    first = {event.clip: event.timestamp_s for event in reversed(events)}
    recorder.close()
    assert len(last) == 3
    assert all(last[clip] + 5 <= first[clip] + 60 for clip in last)


def test_a_clip_is_shared_only_where_it_begins_early_enough(tmp_path):
    """One trigger needs a second before its event, the other ten."""
    recorder = ClipRecorder(rules_of(tmp_path, short=(1, 5), long=(10, 5)), Problems())
    one = recorder.name_clip(event_of("short", timestamp_s=20.0))
    other = recorder.name_clip(event_of("long", timestamp_s=22.0))
    third = recorder.name_clip(event_of("short", timestamp_s=23.0))
    recorder.close()
    assert one.clip != other.clip
    assert third.clip == other.clip


# ── events and outputs ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_failing_listener_does_not_affect_the_others():
    """A full disk under the log is reported once; the other listeners get every event."""
    heard = []

    def fail(event):
        raise DataError("the disk is full", place="events.jsonl")

    problems = Problems()
    publisher = EventPublisher(fail, heard.append, problems=problems)
    for _ in range(3):
        publisher.publish(event_of())
    assert len(heard) == publisher.count == 3
    assert problems.lines() == ("events.jsonl: the disk is full.",)


class Full:
    """An output whose disk is full after some frames."""

    wants_boxes = False

    def __init__(self, room=1):
        self.taken, self._room = 0, room

    def take(self, one):
        self.taken += 1
        if self.taken > self._room:
            raise DataError("the disk is full", place="out.mp4")


@pytest.mark.parametrize("leave_out", [True, False])
def test_a_failing_output_is_dropped_or_ends_the_watch(leave_out):
    """For a live source the other outputs continue, and each lost frame counts; for a recording it is raised."""
    full, table, failures = Full(), Full(room=100), []
    on_loss = (lambda error: failures.append(str(error))) if leave_out else None
    thread = OutputThread([full, table], Drawer(NAMES), Latencies(), 100, on_loss=on_loss)
    for number in range(5):
        one = watched_frame(number)
        thread.put(one.picture, one.detections, ())
    if leave_out:
        thread.close()
        assert (full.taken, table.taken, failures) == (2, 5, ["out.mp4: the disk is full."] * 4)
    else:
        with pytest.raises(DataError, match="the disk is full"):
            thread.close()


def test_file_names_need_not_be_utf8(tmp_path):
    """They are printable in messages, and opened unchanged."""
    (tmp_path / "in").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/x\xff.mp4")).write_bytes(b"")
    (source,) = choose_sources(str(tmp_path / "in"))
    assert source.name.endswith("in/x\\udcff.mp4")
    assert source.file.exists()


# ── files, sources, times ────────────────────────────────────────────────────────────────────────────────────────


def sources_of(*names):
    return [Source(name, Path(name), lambda: None) for name in names]


def videos_of(tmp_path, names, text, out):
    return WatchFiles.checked(sources_of(*names), text, tmp_path / out, None, None, overwrite=False).videos


def test_videos_of_a_folder_keep_their_places(tmp_path):
    """Two videos that differ only in their suffix do not become one."""
    videos = videos_of(tmp_path, ("in/a.mov", "in/a.mkv", "in/x/b.mp4"), "in", "out")
    assert [str(file.relative_to(tmp_path)) for file in videos] == ["out/a.mov.mp4", "out/a.mkv.mp4", "out/x/b.mp4"]


def test_a_folder_of_one_video_gives_a_folder(tmp_path):
    """A folder with a single video is treated like one with several."""
    assert videos_of(tmp_path, ("in/a.mov",), "in", "out") == (tmp_path / "out" / "a.mp4",)


def test_outputs_of_a_live_source_get_names_beside_earlier_ones(tmp_path):
    """Events continue; video and table of an earlier watch are neither refused nor replaced, and that is told."""
    files = {name: tmp_path / name for name in ("o.mp4", "e.jsonl", "d.parquet")}
    for file in files.values():
        file.write_text("earlier")
    camera = [Source("camera 0", None, lambda: None)]
    chosen = WatchFiles.checked(camera, "0", *files.values(), overwrite=False)
    assert [file.name for file in (*chosen.videos, chosen.events, chosen.detections)] == [
        "o-2.mp4", "e.jsonl", "d-2.parquet",
    ]  # fmt: skip
    assert [note.partition(" exists")[0] for note in chosen.notes] == [str(files["o.mp4"]), str(files["d.parquet"])]
    again = WatchFiles.checked(camera, "0", *files.values(), overwrite=True)
    assert (again.videos, again.detections, again.notes) == ((files["o.mp4"],), files["d.parquet"], ())


def test_several_videos_are_not_one_file(tmp_path):
    """A file name is refused as output for several videos."""
    with pytest.raises(UsageError, match="one output file for several videos"):
        videos_of(tmp_path, ("in/a.mov", "in/b.mov"), "in", "out.mp4")


def test_a_digit_is_a_camera_and_a_path_a_file(tmp_path, monkeypatch):
    """`0` is a camera, `./0` the file of that name."""
    monkeypatch.chdir(tmp_path)
    Path("0").write_bytes(b"")
    assert (choose_sources("0")[0].file, choose_sources("./0")[0].file) == (None, Path("./0"))


def test_layouts_of_raw_frames():
    """Width, height, rate and pixel format; rate and format have defaults."""
    assert RawLayout.parse("640x480") == RawLayout(640, 480, Fraction(30), "rgb24")
    assert RawLayout.parse("8X4@30000/1001@gray") == RawLayout(8, 4, Fraction(30000, 1001), "gray")
    assert RawLayout.parse("2x1@5@gray").as_rgb(b"\x01\x02").tolist() == [[[1, 1, 1], [2, 2, 2]]]
    assert RawLayout.parse("1x1@5@bgr24").as_rgb(b"\x01\x02\x03").tolist() == [[[3, 2, 1]]]


@pytest.mark.parametrize("text", ["", "640", "0x480", "640x480@0", "640x480@30@yuv", "axb", "640x480@x", "640x480@1/0"])
def test_invalid_layouts(text):
    """Each is refused, with the option in the message."""
    with pytest.raises(UsageError, match=r"^--raw: "):
        RawLayout.parse(text)
