"""`watch` on live streams: cut, stalled, slow; with webhooks and the page."""

import http.client
import json
import re
import socket
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import clips
import colour_engine
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from full_disk import files_up_to
from stream_servers import FPS, HttpServer, RtspServer
from watching import CLASSES, Hook, detection, detections_at, eventually

from curate.commands.watch import watch
from curate.errors import DataError
from curate.monitor.actions.dispatcher import Actions
from curate.monitor.page.app import PICTURE_NUMBER
from curate.monitor.session import WatchClock
from curate.monitor.triggers.engine import Triggers
from curate.monitor.triggers.rule import Rule
from curate.sources.video import index_video

PATIENCE_S = 20


@pytest.fixture(autouse=True)
def _engine(monkeypatch, tmp_path):
    colour_engine.register(monkeypatch)
    monkeypatch.chdir(tmp_path)
    yield
    assert [one.name for one in threading.enumerate() if one.name.startswith("curate-")] == []


@pytest.fixture
def camera():
    """(station, URL) of an RTSP camera, whose picture has a red and a blue corner."""
    with RtspServer() as server:
        yield server.station, server.url


class Watcher:
    """A watch in a thread."""

    def __init__(self, folder, address, **options):
        self.events, self.result, self.error, self.ready = [], None, None, threading.Event()
        self._stopped = threading.Event()
        self._options = {"weights": colour_engine.write_weights(folder), "device": "cpu", "stop": self._stopped.is_set,
                         "on_event": self.events.append, "on_ready": self._note} | options  # fmt: skip
        self._address = address
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def _note(self, ready):
        self.link = ready.link
        self.ready.set()

    def _run(self):
        try:
            self.result = watch(colour_engine.MODEL, self._address, **self._options)
        except BaseException as error:
            self.error = error

    def wait_for(self, trigger, count=1):
        """Wait for a number of events with this name."""
        until = time.monotonic() + PATIENCE_S
        while sum(event.trigger == trigger for event in self.events) < count:
            assert time.monotonic() < until, self.names
            assert self._thread.is_alive(), self.error
            time.sleep(0.01)

    @property
    def names(self):
        return [event.trigger for event in self.events]

    def stop(self):
        self._stopped.set()
        self._thread.join(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return self.result


def test_a_reconnection_keeps_tracks(camera, tmp_path):
    """Two objects are two events; the cut and the reconnection are one each, and the tracks stay the same."""
    station, address = camera
    with Watcher(tmp_path, address, events="events.jsonl", detections="d.parquet", out="out.mp4") as watcher:
        watcher.wait_for("seen", 2)
        station.cut()
        watcher.wait_for("stream_back")
        seen_then = station.sent
        until = time.monotonic() + PATIENCE_S
        while station.sent < seen_then + FPS and time.monotonic() < until:
            time.sleep(0.01)
        result = watcher.stop()
    assert watcher.names == ["seen", "seen", "stream_broken", "stream_back"]
    assert [json.loads(line)["trigger"] for line in Path("events.jsonl").read_text().splitlines()] == watcher.names
    rows = pq.read_table("d.parquet").to_pandas()
    assert set(rows["track_id"]) == {1, 2}
    back_s = watcher.events[-1].timestamp_s
    assert (rows["timestamp_s"] > back_s).sum() >= 10
    index = index_video("out.mp4")
    assert index.frames == result.frames
    written_s = np.array([float(int(stamp) * index.time_base) for stamp in index.pts])
    np.testing.assert_allclose(written_s, rows["timestamp_s"].drop_duplicates(), atol=1e-4)


def test_a_slow_detector_gets_the_latest_frame(camera, tmp_path, monkeypatch):
    """At three frames per second the detector gets the latest frames, not queued ones."""
    _, address = camera
    monkeypatch.setattr(colour_engine.ColourDetector, "before", staticmethod(lambda images: time.sleep(0.3)))
    result = watch(
        colour_engine.MODEL,
        address,
        weights=colour_engine.write_weights(tmp_path),
        stop_after=2,
        detections="d.parquet",
    )
    frames = pq.read_table("d.parquet")["frame_index"].to_numpy()
    assert frames.max() > 3 * result.frames  # those that were left out count
    assert 300 <= result.latency_ms.p50 <= result.latency_ms.p99


def test_a_stalled_stream_is_an_event(camera, tmp_path):
    """A stream that is silent for longer than `stall` is an event, and so is its return."""
    station, address = camera
    with Watcher(tmp_path, address, stall=1.0) as watcher:
        watcher.wait_for("seen", 2)
        station.silent.set()
        watcher.wait_for("stream_stalled")
        station.silent.clear()
        watcher.wait_for("stream_back")
    assert watcher.names == ["seen", "seen", "stream_stalled", "stream_back"]


def test_a_receiver_that_fails_at_first_gets_each_event_once(camera, tmp_path):
    """The video continues meanwhile, and in the end every event was accepted once, in order."""
    station, address = camera
    hook = Hook(500, 503, 200)
    action = {"webhook": {"url": hook.url}}
    document = {
        "triggers": [{"name": "seen", "actions": [action]}],
        "stream": {"actions": [action]},
        "hosts": ["127.0.0.1"],
    }
    Path("t.yaml").write_text(yaml.safe_dump(document))
    try:
        with Watcher(tmp_path, address, triggers="t.yaml", allow_commands=True) as watcher:
            watcher.wait_for("seen", 2)
            station.cut()
            watcher.wait_for("stream_back")
            hook.wait_for(6)
            result = watcher.stop()
    finally:
        hook.close()
    taken = hook.bodies[2:]  # the first one is sent three times
    assert [body["trigger"] for body in taken] == ["seen", "seen", "stream_broken", "stream_back"]
    assert len({body["id"] for body in hook.bodies}) == 4
    assert result.events == 4


def test_problems_are_reported_while_the_watch_runs(camera, tmp_path, monkeypatch):
    """`on_problem` is called once, soon after a webhook fails."""
    _, address = camera
    close = Actions.close
    monkeypatch.setattr(Actions, "close", lambda self, on_pending=None: close(self, timeout_s=0.2))
    hook = Hook(200)
    hook.close()
    action = {"webhook": {"url": hook.url}}
    document = {"triggers": [{"name": "seen", "actions": [action]}], "hosts": ["127.0.0.1"]}
    Path("t.yaml").write_text(yaml.safe_dump(document))
    told = []
    with Watcher(tmp_path, address, triggers="t.yaml", allow_commands=True, on_problem=told.append) as watcher:
        eventually(lambda: told)
        assert watcher.result is None
        assert "127.0.0.1" in told[0]
    assert len(told) == 1
    assert watcher.result.events == 2
    assert [file.name for file in Path().glob("*.sqlite")] == ["t.outbox.sqlite"]


def test_a_watch_can_be_stopped_while_it_connects(tmp_path):
    """`stop` is respected although the connection attempt cannot be interrupted."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = []
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/live.ts"
        result = watch(
            colour_engine.MODEL, url, weights=colour_engine.write_weights(tmp_path), device="cpu",
            stop=lambda: asked.append(1) or len(asked) > 3,
        )  # fmt: skip
        assert (result.frames, result.complete) == (0, True)
    eventually(lambda: not any(one.name.startswith("curate-") for one in threading.enumerate()))


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_source_that_is_not_there_yet_is_waited_for(tmp_path, caplog):
    """No file appears before the first frame; attempts are logged with cause and wait, and counted."""
    caplog.set_level("INFO", "curate.monitor.session")
    port = unused_port()
    files = {"events": "e.jsonl", "detections": "d.parquet", "out": "o.mp4"}
    address = f"rtsp://127.0.0.1:{port}/camera"
    with Watcher(tmp_path, address, **files) as watcher:
        eventually(lambda: "attempt 2 failed" in caplog.text)
        assert [name for name in files.values() if Path(name).exists()] == []
        with RtspServer(port=port):
            watcher.wait_for("seen", 2)
            result = watcher.stop()
    assert re.search(rf"{address}: attempt 1 failed: connection refused.*; next in 0\.\d s", caplog.text)
    assert result.problems[0].startswith(f"{address}: 2 attempts to open it failed: connection refused")
    assert all(Path(name).exists() for name in files.values())


def test_an_absent_source_can_be_an_error(tmp_path):
    """`wait` limits the wait; then the cause is the error, and no file is there."""
    address = f"http://127.0.0.1:{unused_port()}/camera"
    weights = colour_engine.write_weights(tmp_path)
    for wait in (0, "0.1s"):
        with pytest.raises(DataError, match="connection refused"):
            watch(colour_engine.MODEL, address, weights=weights, device="cpu", wait=wait, events="e.jsonl")
    assert not Path("e.jsonl").exists()


def test_a_wait_for_a_source_ends_with_stop(tmp_path):
    """That is a normal end: nothing was recorded that could be incomplete."""
    address = f"rtsp://127.0.0.1:{unused_port()}/camera"
    told = []
    with Watcher(tmp_path, address, on_problem=told.append) as watcher:
        eventually(lambda: told)
        result = watcher.stop()
    assert (result.frames, result.complete) == (0, True)
    assert told[0].startswith(f"{address}: 1 attempt to open it failed: connection refused")


def test_a_second_watch_continues_the_events_and_keeps_the_recordings(camera, tmp_path):
    """The same command again: whole lines of both, and a video and a table of each."""
    _, address = camera
    for _ in range(2):
        with Watcher(tmp_path, address, events="e.jsonl", detections="d.parquet", out="o.mp4") as watcher:
            watcher.wait_for("seen", 2)
    assert [json.loads(line)["trigger"] for line in Path("e.jsonl").read_text().splitlines()] == ["seen"] * 4
    for name in ("o.mp4", "o-2.mp4"):
        assert index_video(name).frames > 0
    for name in ("d.parquet", "d-2.parquet"):
        assert pq.read_table(name).num_rows > 0


def test_the_page_shows_a_watched_stream(camera, tmp_path):
    """The page needs the token; it shows changing pictures and the events."""
    _, address = camera
    with Watcher(tmp_path, address, serve=True, port=0) as watcher:
        watcher.wait_for("seen", 2)
        host, token = re.fullmatch(r"http://(\S+?)/\?token=(\S+)", watcher.link).groups()
        port = int(host.rpartition(":")[2])

        def get(path, cookie=None):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            connection.request("GET", path, headers={"Host": host, **({"Cookie": cookie} if cookie else {})})
            return connection.getresponse()

        assert get("/picture").status == 401
        cookie = get(f"/?token={token}").getheader("set-cookie").partition(";")[0]
        answer = get("/picture", cookie)
        first = answer.read()
        second = get(f"/picture?after={answer.getheader(PICTURE_NUMBER)}", cookie).read()
        assert first[:2] == second[:2] == b"\xff\xd8"
        assert first != second
        stream = get("/events", cookie)
        lines = [stream.readline().decode() for _ in range(12)]
        assert sum('"trigger": "seen"' in line or '"trigger":"seen"' in line for line in lines) == 2
    assert watcher.result.frames > 0


def test_a_stream_that_changes_its_picture_size(tmp_path):
    """Detection goes on at the new size, the annotated video keeps the first, and the change is told once."""
    parts = [clips.write_clip(tmp_path / f"{w}.ts", 10, width=w, height=h) for w, h in ((160, 96), (96, 160))]
    joined = clips.join_clips(tmp_path / "turned.ts", *parts, *parts)
    with HttpServer({"/turned.ts": joined.read_bytes()}) as server:
        address = f"{server.url}/turned.ts"
        weights = colour_engine.write_weights(tmp_path)
        result = watch(colour_engine.MODEL, address, weights=weights, device="cpu", out=tmp_path / "out.mp4")
    (problem,) = result.problems
    assert problem.startswith(f"{address}: 3 changes of picture size: first at 0.33 s from 160×96 to 96×160")
    index = index_video(tmp_path / "out.mp4")
    assert (index.width, index.height, index.frames) == (160, 96, 40)


def test_a_file_of_a_web_server_is_watched_to_its_end(tmp_path):
    """Every frame of a file on a web server is watched."""
    clips.write_clip("clip.mp4", 20, fps=10)
    with HttpServer({"/clip.mp4": Path("clip.mp4").read_bytes()}) as server:
        result = watch(
            colour_engine.MODEL, f"{server.url}/clip.mp4", weights=colour_engine.write_weights(tmp_path), out="out.mp4"
        )
    assert (result.frames, result.problems) == (20, ())
    assert index_video("out.mp4").frames == 20


def test_a_full_disk_ends_the_watch_of_a_file_of_a_web_server(tmp_path):
    """It is a recording, which is known once it is open: lost events are an error."""
    clips.write_clip("clip.mp4", 20, fps=10)
    Path("t.yaml").write_text("triggers: [{name: always, repeat: 0.01s}]")
    with (
        HttpServer({"/clip.mp4": Path("clip.mp4").read_bytes()}) as server,
        files_up_to(500),
        pytest.raises(DataError, match=r"^e.jsonl: cannot write the event: File too large"),
    ):
        watch(
            colour_engine.MODEL, f"{server.url}/clip.mp4", weights=colour_engine.write_weights(tmp_path),
            triggers="t.yaml", events="e.jsonl",
        )  # fmt: skip


def test_the_clock_of_a_recording_goes_with_its_frames():
    """With a known start, the time of a frame follows from its time stamp; otherwise it is the current time."""
    clock = WatchClock("2026-05-01T18:00:00+02:00", is_recorded=True)
    expected = datetime(2026, 5, 1, 18, 1, 2, 500_000, tzinfo=timezone(timedelta(hours=2)))
    assert clock(62.5) == expected
    assert abs(WatchClock(None, is_recorded=True)(62.5) - datetime.now().astimezone()) < timedelta(seconds=5)


BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"


@pytest.fixture
def in_zone(monkeypatch):
    """Sets this machine's time zone."""

    def set_zone(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("machine", ["UTC0", BERLIN, "EST5EDT,M3.2.0,M11.1.0"])
@pytest.mark.parametrize("offset", ["+05:30", "-03:00"])
def test_a_recording_from_elsewhere_keeps_its_offset(in_zone, machine, offset):
    """The start's UTC offset is that of all times, wherever the recording is watched."""
    in_zone(machine)
    clock = WatchClock(f"2026-05-01T18:00:00{offset}", is_recorded=True)
    assert clock(61.5).isoformat() == f"2026-05-01T18:01:01.500000{offset}"


@pytest.mark.parametrize(
    ("began", "hours", "local"),
    [
        ("2026-03-28T23:00:00", 4, "2026-03-29T04:00:00+02:00"),
        ("2026-03-28T23:00:00+01:00", 4, "2026-03-29T04:00:00+02:00"),
        ("2026-10-24T23:00:00", 4, "2026-10-25T02:00:00+01:00"),
        ("2026-10-24T23:00:00+02:00", 4, "2026-10-25T02:00:00+01:00"),
        ("2026-10-24T21:00:00Z", 4, "2026-10-25T01:00:00+00:00"),
    ],
)
def test_a_recording_over_a_change_of_summer_time(in_zone, began, hours, local):
    """Local times follow the change; a start in UTC stays in UTC."""
    in_zone(BERLIN)
    assert WatchClock(began, is_recorded=True)(hours * 3600).isoformat() == local


@pytest.mark.parametrize(
    ("began", "hours_until_quiet_ends"),
    [("2026-03-28T23:00:00", 6), ("2026-10-24T23:00:00", 8), ("2026-05-01T23:00:00", 7)],
)
def test_quiet_hours_over_a_change_of_summer_time(in_zone, began, hours_until_quiet_ends):
    """Quiet until six on the clock: an hour less of night in spring, an hour more in autumn."""
    in_zone(BERLIN)
    clock = WatchClock(began, is_recorded=True)
    triggers = Triggers([Rule.model_validate({"name": "bare", "quiet_hours": "22:00-06:00"})], CLASSES, None)
    for minutes in (0, 60 * hours_until_quiet_ends - 1, 60 * hours_until_quiet_ends):
        seen = detections_at(minutes, detection(minutes), timestamp_s=60.0 * minutes)
        fired = triggers.evaluate(seen, 640, 480, clock(60.0 * minutes))
        assert bool(fired) is (minutes == 60 * hours_until_quiet_ends)
