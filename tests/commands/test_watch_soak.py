"""A watch of half an hour needs no more memory at its end than after its first minutes."""

import http.client
import os
import re
import threading
import time
from pathlib import Path

import colour_engine
import numpy as np
import pytest
import yaml
from stream_servers import RtspServer
from watching import Hook

from curate.commands.watch import watch
from curate.monitor.page.app import PICTURE_NUMBER

MINUTES = float(os.environ.get("CURATE_SOAK_MINUTES", "30"))
MOST_GROWTH_MB = 12  # of which some are the index of the video that is written
CUT_EVERY_S = 60.0


def memory_mb():
    """Resident memory of the process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Viewer(threading.Thread):
    """Requests picture after picture of the page, as a browser does."""

    def __init__(self, link):
        super().__init__(daemon=True)
        self._host, self._token = re.fullmatch(r"http://(\S+?)/\?token=(\S+)", link).groups()
        self.pictures = 0
        self.ended = threading.Event()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", int(self._host.rpartition(":")[2]), timeout=30)
        headers = {"Host": self._host}
        cookie = self._get(connection, f"/?token={self._token}", headers).getheader("set-cookie")
        headers["Cookie"] = cookie.partition(";")[0]
        after = "0"
        while not self.ended.wait(0.2):
            answer = self._get(connection, f"/picture?after={after}", headers)
            self.pictures += answer.status == 200
            after = answer.getheader(PICTURE_NUMBER) or after

    def _get(self, connection, path, headers):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_stays_flat_for_half_an_hour(monkeypatch, tmp_path):
    """With all outputs, a webhook, clips, a viewer, and a cut every minute; no thread is left."""
    colour_engine.register(monkeypatch)
    monkeypatch.chdir(tmp_path)
    hook = Hook(200)
    actions = [{"webhook": {"url": hook.url}}, {"write": "log.jsonl"}, {"command": ["true", "{trigger}"]}]
    rule = {"name": "seen", "repeat": "20s", "actions": [*actions, {"clip": "clips"}]}
    Path("t.yaml").write_text(yaml.safe_dump({"triggers": [rule], "hosts": ["127.0.0.1"]}))
    threads_before = threading.active_count()
    samples, viewers = [], []
    began_s = time.monotonic()
    with RtspServer() as server:

        def look(ready):
            viewers.append(Viewer(ready.link))
            viewers[0].start()

        def stop():
            now_s = time.monotonic() - began_s
            if now_s >= len(samples):
                samples.append(memory_mb())
                if len(samples) % CUT_EVERY_S == 0:
                    server.station.cut()
            return now_s >= MINUTES * 60

        result = watch(
            colour_engine.MODEL,
            server.url,
            weights=colour_engine.write_weights(tmp_path),
            triggers="t.yaml",
            allow_commands=True,
            out="out.mp4",
            events="events.jsonl",
            detections="d.parquet",
            serve=True,
            on_ready=look,
            stop=stop,
        )
        viewers[0].ended.set()
        viewers[0].join(10)
    hook.close()
    third = len(samples) // 3
    early, late = np.median(samples[third : 2 * third]), np.median(samples[-third:])
    print(  # noqa: T201 with `pytest -s`
        f"{result.frames} frames, {result.events} events, {viewers[0].pictures} pictures looked at;"
          f" memory {samples[0]:.0f}, {early:.0f}, {late:.0f} MB; {result.problems}")  # fmt: skip
    assert result.frames > 15 * MINUTES * 60
    assert viewers[0].pictures > MINUTES * 60
    assert late - early < MOST_GROWTH_MB, samples
    assert [one.name for one in threading.enumerate() if one.name.startswith("curate-")] == []
    assert threading.active_count() <= threads_before
