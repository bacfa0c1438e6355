"""Files that name other files and hosts, by every way to a video: nothing but an error comes of them."""

# ruff: noqa: F401, F811 - fixtures are imported, and named again as arguments

import itertools
import logging
import random
import socket
import sys
import threading
import time

import pytest
from clips import write_clip
from fetching import YOUTUBE, needs_ffmpeg, only_loopback, site, tube, waits
from playlists import forbidden_host, hostile_playlists, segment
from tally import tally

from curate.commands.fetch_youtube import fetch_youtube
from curate.errors import CurateError
from curate.sources import hosts
from curate.sources.feeds.address import parse_live
from curate.sources.feeds.feed import LiveSourceError
from curate.sources.feeds.stream import StreamOpener
from curate.sources.video import index_video
from curate.sources.youtube import ffmpeg
from curate.sources.youtube.links import parse_clip

MOST_S = 30  # a hang, for a playlist on this machine
pytestmark = [
    needs_ffmpeg,
    pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is this machine on Linux only"),
]


@pytest.fixture
def is_public(monkeypatch):
    """127.0.0.1 stands for the public internet; no name is looked up."""
    monkeypatch.setattr(hosts, "is_public", lambda address: str(address) == "127.0.0.1")
    monkeypatch.setattr(hosts, "_resolve", lambda *_: [])


class Ways:
    """Ways to open a file of a site, or of this machine; each returns what came of it that should not."""

    def __init__(self, folder, site, tube):
        self._folder, self._site, self._tube = folder, site, tube
        self._numbers = itertools.count()
        self.all = {
            "fetched": lambda path: self._fetch(path, "http"),
            "fetched as HLS": lambda path: self._fetch(path, "m3u8_native"),
            "cut": lambda path: self._fetch(path, "http", clip=["0-0.2"]),
            "cut as HLS": lambda path: self._fetch(path, "m3u8_native", clip=["0-0.2"]),
            "watched": lambda path: self._watch(self._site.url(path)),
            "watched without HTTP": self._watch_raw,
            "opened": self._open,
            "copied by ffmpeg": self._copy,
        }

    def _fetch(self, path, protocol, **options):
        one = {"format_id": "v", "url": self._site.url(path), "ext": path[1:].rpartition(".")[2], "vcodec": "avc1"}
        self._tube["abc"] = {"formats": [one | {"acodec": "none", "protocol": protocol, "height": 96, "width": 160}]}
        dataset = self._folder / f"dataset{next(self._numbers)}"
        return fetch_youtube(dataset, [YOUTUBE + "abc"], **options).fetched

    def _watch_raw(self, path):
        def send():
            with server.accept()[0] as connection:
                connection.sendall(self._site.files[path])

        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=send, daemon=True).start()
            return self._watch(f"tcp://127.0.0.1:{server.getsockname()[1]}")

    def _watch(self, address):
        connection = StreamOpener(parse_live(address), open_timeout_s=5, stall_s=5).open()
        frames = []
        try:
            while not frames:
                frames = connection.read_frames()
        finally:
            connection.close()
        return frames

    def _file(self, path):
        folder = self._folder / f"files{next(self._numbers)}"
        folder.mkdir()
        (folder / "good.ts").write_bytes(self._site.files["/good.ts"])
        (folder / path[1:]).write_bytes(self._site.files[path])
        return folder / path[1:]

    def _open(self, path):
        return index_video(self._file(path)).frames

    def _copy(self, path):
        file, stop = self._file(path), threading.Event()
        found = ffmpeg.cut(file, parse_clip("0-0.2", place=""), file.with_name("cut"), stop=stop, report=lambda _: None)
        ffmpeg.remux(file, file.with_name("copied"), stop=stop)
        return found or file.with_name("copied").stat().st_size


@pytest.fixture
def ways(tmp_path, site, tube, waits, is_public):
    site.files["/good.ts"] = write_clip(tmp_path / "good.ts", 12, fps=10).read_bytes()
    return Ways(tmp_path, site, tube)


@pytest.mark.parametrize("count", [30, pytest.param(2000, marks=pytest.mark.long)])
def test_hostile_playlists(tmp_path, site, ways, caplog, count):
    """No host and no file that a playlist names is reached, and each playlist is one error."""
    caplog.set_level(logging.INFO, "curate")
    secret = write_clip(tmp_path / "secret" / "secret.ts", 12, fps=10)
    with forbidden_host() as forbidden, tally("hostile playlists, opened in eight ways", f"{count}") as counted:
        link = f"http://127.0.0.2:{forbidden.port}/x.ts"
        site.always["/moved"] = (302, {"Location": link})
        site.files["/nested.m3u8"] = site.files["/hidden.ts"] = segment(link).encode()
        site.files["/concat.ts"] = f"ffconcat version 1.0\nfile {link}\n".encode()
        playlists = hostile_playlists(forbidden.port, secret, site.url(""))
        tries = list(itertools.product(playlists, ways.all))
        for (what, name, content), way in random.Random(17).sample(tries, count):
            site.files[f"/{name}"] = content
            caplog.clear()
            before, began_s = forbidden.hits, time.monotonic()
            try:
                if came := ways.all[way](f"/{name}"):
                    counted.fault("let in", f"{what}, {way}: {came}")
            except (CurateError, LiveSourceError, ffmpeg.CutError):
                pass
            except Exception as error:
                counted.fault("tracebacks", f"{what}, {way}: {error!r}")
            if "unexpected error" in caplog.text:
                counted.fault("tracebacks", f"{what}, {way}: {caplog.text[:2000]}")
            if time.monotonic() - began_s > MOST_S:
                counted.fault("hangs", f"{what}, {way}")
            if forbidden.hits > before:
                counted.fault("let in", f"{what}, {way}: {forbidden.hits - before} hits")
            counted.tried += 1


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *itertools.product(("list.m3u8", "LIST.M3U8", "list", "a.ts"), ("fetched as HLS", "cut as HLS")),
        *itertools.product(("list.m3u8", "LIST.M3U8"), ("watched",)),
    ],
)
def test_a_harmless_playlist(site, ways, way, name):
    """One that names a video of its own server gives that video, in each way that reads playlists."""
    site.files[f"/{name}"] = segment("good.ts").encode()
    assert ways.all[way](f"/{name}")
