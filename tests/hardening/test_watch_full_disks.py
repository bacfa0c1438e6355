"""Watches whose disk is full at every point: whole lines, one error or counted losses, and the next start goes on."""

import json
import threading
from pathlib import Path

import colour_engine
import pyarrow.parquet as pq
import pytest
import yaml
from full_disk import files_up_to
from stream_servers import RtspServer
from tally import tally
from watching import Hook, one_red, write_scene

from curate.commands.watch import watch
from curate.errors import CurateError
from curate.sources.video import index_video

MOST_BYTES = 60_000  # more than the largest file of a watch here
FILES = {"events": "e.jsonl", "detections": "d.parquet", "out": "o.mp4", "collect": "dataset"}


@pytest.fixture(autouse=True)
def _folder(monkeypatch, tmp_path):
    colour_engine.register(monkeypatch)
    monkeypatch.chdir(tmp_path)
    colour_engine.write_weights(tmp_path)


@pytest.fixture
def hook():
    """A receiver of webhooks, named by the trigger file."""
    one = Hook()
    actions = [
        {"webhook": one.url},
        {"write": "lines.jsonl"},
        {"clip": {"folder": "clips", "before": "0.2s", "after": "0.2s"}},
    ]
    rule = {"name": "seen", "repeat": "0.1s", "actions": actions}
    Path("t.yaml").write_text(yaml.safe_dump({"triggers": [rule], "hosts": ["127.0.0.1"]}))
    yield one
    one.close()


def run(source, **options):
    return watch(
        colour_engine.MODEL, source, weights="weights.json", device="cpu", triggers="t.yaml", allow_commands=True,
        **FILES, **options,
    )  # fmt: skip


def sizes(count):
    """Sizes at which the disk is full, closer together where files begin."""
    return [round(MOST_BYTES * (place / count) ** 2) for place in range(count)]


def check_lines(counted, size):
    for name in ("e.jsonl", "lines.jsonl"):
        for line in Path(name).read_text().splitlines() if Path(name).exists() else ():
            try:
                json.loads(line)
            except ValueError:
                counted.fault("lost", f"{name} at {size} bytes has half a line: {line[:60]}")


@pytest.mark.parametrize("count", [3, pytest.param(60, marks=pytest.mark.long)])
def test_recordings(hook, count):
    """The watch ends with an error of its own, or has lost nothing; the same command with --overwrite is whole."""
    write_scene(Path("in.mp4"), 30, one_red)
    with tally("full disks under a watch", f"recordings {count}") as counted:
        for size in sizes(count):
            counted.tried += 1
            try:
                with files_up_to(size):
                    result = run("in.mp4", overwrite=True)
                if not result.complete or len(Path("e.jsonl").read_text().splitlines()) != result.events:
                    counted.fault("lost", f"at {size} bytes, {result}")
            except CurateError:
                pass
            except Exception as error:
                counted.fault("tracebacks", f"at {size} bytes: {error!r}")
            check_lines(counted, size)
        result = run("in.mp4", overwrite=True)
        if len(Path("e.jsonl").read_text().splitlines()) != result.events or index_video("o.mp4").frames != 30:
            counted.fault("lost", "by a watch with space after full disks")
    assert [one.name for one in threading.enumerate() if one.name.startswith("curate-")] == []


@pytest.mark.parametrize("count", [2, pytest.param(30, marks=pytest.mark.long)])
def test_live_sources(hook, count, monkeypatch):
    """The watch goes on and tells what it loses; with space again, the next one writes everything beside it."""
    monkeypatch.setattr("curate.monitor.outputs.detection_table._BUFFERED_S", 0.1)
    monkeypatch.setattr("curate.monitor.outputs.thread._RETRY_S", 0.2)
    with RtspServer() as camera, tally("full disks under a watch", f"live sources {count}") as counted:
        for size in sizes(count):
            counted.tried += 1
            before = Path("e.jsonl").read_bytes() if Path("e.jsonl").exists() else b""
            try:
                with files_up_to(size):
                    result = run(camera.url, stop_after=0.5)
                lines = Path("e.jsonl").read_bytes()[len(before) :].count(b"\n") if Path("e.jsonl").exists() else 0
                lost = sum(
                    int(one.split()[1]) for one in result.problems if "lost: " in one and one.startswith("e.jsonl")
                )
                if lines + lost != result.events:
                    counted.fault("lost", f"at {size} bytes: {result.events} events, {lines} lines, {lost} told")
            except Exception as error:
                counted.fault("tracebacks", f"at {size} bytes: {error!r}")
            if before and not Path("e.jsonl").read_bytes().startswith(before):
                counted.fault("lost", f"events of before, at {size} bytes")
            check_lines(counted, size)
        result = run(camera.url, stop_after=0.5)
        videos, tables = max(Path().glob("o*.mp4"), key=_age), max(Path().glob("d*.parquet"), key=_age)
        if index_video(videos).frames != result.frames or pq.read_table(tables).num_rows != result.detections:
            counted.fault("lost", "by a watch with space after full disks")


def _age(file):
    return file.stat().st_mtime_ns
