"""The service of `docs/watching.md`, killed and started again: no event, recording or webhook is lost."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from forked_curate import ForkedCurate
from repository_paths import REPOSITORY
from stream_servers import RtspServer
from tally import tally
from watching import Hook

from curate.sources.video import index_video

CLAIM = "from curate.monitor.actions.webhook import queue; queue._CLAIM_MARGIN_S = 0.2"
QUICK = "from curate.monitor.outputs import detection_table; detection_table._BUFFERED_S = 0.2"
OUTPUTS = ("*.mp4", "*.parquet", ".*.part.*")
LONGEST_S = 30
END_S = 1.5  # for deliveries that the last kill has left claimed


def unit():
    """The unit of the documentation, as (key, value) pairs, without sections."""
    text = (REPOSITORY / "docs" / "watching.md").read_text(encoding="utf-8")
    return re.search(r"```ini\n(.*?)```", text, re.DOTALL)[1].replace("\\\n", "")


def command_line(url):
    """The arguments of the unit's command, with the model and camera of this test."""
    words = shlex.split(re.search(r"^ExecStart=(.*)$", unit(), re.MULTILINE)[1])
    assert Path(words[0]).name == "curate"
    return ["watch", "colour:squares", url, *words[4:], "--weights", "weights.json", "--device", "cpu"]


class Receiver:
    """Takes webhooks, and answers some with an error."""

    def __init__(self):
        self.ids = defaultdict(set)  # of what was accepted, by the event
        self._requests = 0
        self._lock = threading.Lock()
        self.hook = Hook(self._answer)
        self.hook.note = self._note

    def _note(self, path, headers, body):
        with self._lock:
            self._requests += 1
            status = "503 Busy" if self._requests % 29 == 0 else "200 OK"
            if status == "200 OK":
                document = json.loads(body)
                self.ids[json.dumps(document, sort_keys=True).replace(document["id"], "")].add(headers["webhook-id"])
        return lambda handler: self._answer(handler, status)

    @staticmethod
    def _answer(handler, status="200 OK"):
        handler.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


def key_of(line):
    """The same key as that of the webhook of an event."""
    return json.dumps(json.loads(line) | {"id": ""}, sort_keys=True)


def recordings(folder):
    """Size of every output by the number of its file, whatever its name."""
    found = {}
    for pattern in OUTPUTS:
        for file in folder.glob(pattern):
            found[file.stat().st_ino] = (file.stat().st_size, file.name)
    return found


@pytest.mark.parametrize("count", [2, pytest.param(100, marks=pytest.mark.long)])
def test_kills_of_a_service(tmp_path, count):
    """What was on disk at a kill is there at the end, lines are whole, and each event reaches the receiver."""
    chance, receiver, events = random.Random(count), Receiver(), tmp_path / "events.jsonl"
    (tmp_path / "door.yaml").write_text(
        yaml.safe_dump(
            {
                "triggers": [
                    {"name": "seen", "repeat": "0.1s",
                     "actions": [{"webhook": {"url": receiver.hook.url, "timeout": "0.5s"}}, {"write": "lines.jsonl"}]}
                ],
                "hosts": ["127.0.0.1"],
            }
        )
    )  # fmt: skip
    with (
        tally("kills of a watch with events, recordings and webhooks", f"{count}") as counted,
        RtspServer() as camera,
        ForkedCurate(tmp_path, f"{CLAIM}\n{QUICK}") as curate,
    ):
        arguments = command_line(camera.url)
        before = b""
        for number in range(count):
            pid = curate.start(*arguments)
            is_long = number % 4 == 1  # so that some frames of the video are on disk
            wait_for_growth(events, 8000 if is_long else chance.choice([0, 1, 400, 2000]), chance)
            kind = signal.SIGKILL if is_long or chance.random() < 0.7 else signal.SIGTERM
            parts = recordings(tmp_path)
            os.kill(pid, kind)
            code = curate.wait(pid, LONGEST_S)
            counted.tried += 1
            if code is None:
                counted.fault("hangs", f"start {number}")
            elif kind is signal.SIGTERM and code not in (0, -signal.SIGTERM):  # the latter during the imports
                counted.fault("lost", f"start {number} ended with {code}")
            now = events.read_bytes() if events.exists() else b""
            if not now.startswith(before) or now[-1:] not in (b"", b"\n"):
                counted.fault("lost", f"events of before start {number}, or half a line")
            before = now
            check_recordings(tmp_path, parts, counted, number)
        pid = curate.start(*arguments)
        wait_for_growth(events, 1, chance)
        time.sleep(END_S)
        os.kill(pid, signal.SIGTERM)
        assert curate.wait(pid, LONGEST_S) == 0, (tmp_path / "stderr.txt").read_text()[-2000:]
        receiver.hook.close()
        check_events(events, receiver, counted)
        check_end(tmp_path, counted)
        assert list(tmp_path.glob("*interrupted*.mp4"))  # otherwise no part was tried
        if "Traceback" in (said := (tmp_path / "stderr.txt").read_text()):
            counted.fault("tracebacks", said[said.index("Traceback") :][:2000])


def wait_for_growth(file, size, chance):
    """Wait until a file has grown by a number of bytes, and a moment more."""
    begin, until = file.stat().st_size if file.exists() else 0, time.monotonic() + LONGEST_S
    while size and time.monotonic() < until and (file.stat().st_size if file.exists() else 0) < begin + size:
        time.sleep(0.01)
    time.sleep(chance.random() * 0.3)


def check_recordings(folder, parts, counted, number):
    """What was there just before the kill is there, under whatever name, and not shorter; tables are made of rows."""
    now = recordings(folder)
    for inode, (size, name) in parts.items():
        if name.endswith(".arrows") or "-interrupted" in name or size < 1024:
            continue
        if inode not in now or now[inode][0] < size:
            counted.fault("lost", f"{name} at start {number}")


def check_events(events, receiver, counted):
    """Every line is a whole event, and was accepted at least once, under one id."""
    for number, line in enumerate(events.read_text().splitlines()):
        try:
            ids = receiver.ids[key_of(line)]
        except ValueError:
            counted.fault("lost", f"line {number} is no JSON: {line[:80]}")
            continue
        if len(ids) != 1:
            counted.fault("lost", f"event {number} reached the receiver under {len(ids)} ids")


def check_end(folder, counted):
    """Every recording plays, every table can be read, nothing waits."""
    for video in folder.glob("*.mp4"):
        if index_video(video).frames == 0:
            counted.fault("lost", f"{video.name} has no frame")
    for table in folder.glob("*.parquet"):
        if pq.read_table(table).num_rows == 0:
            counted.fault("lost", f"{table.name} has no row")
    for left in (*folder.glob(".*.part.*"), *folder.glob("*.arrows")):
        counted.fault("lost", f"{left.name} was left")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_accepts_the_unit(tmp_path):
    """With programs and folders that exist here."""
    file = tmp_path / "door.service"
    file.write_text(re.sub(r"/srv/door/venv/bin/curate", sys.executable, unit()).replace("/srv/door", str(tmp_path)))
    ran = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    assert (ran.returncode, [line for line in ran.stderr.splitlines() if "door.service" in line]) == (0, [])
