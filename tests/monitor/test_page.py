"""The page of `watch --serve` over HTTP: access, pictures, events, and its end."""

import asyncio
import errno
import http.client
import io
import os
import re
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from itertools import islice
from unittest.mock import Mock
from urllib.parse import quote

import numpy as np
import pytest
from extras import needs_page
from page_scene import (
    BLUE,
    GREEN,
    RED,
    ask,
    cookie_of,
    detections_of,
    event,
    open_live_page,
    page_threads,
    plain,
    read_stream,
    trouble,
)
from PIL import Image

from curate.errors import MissingError
from curate.monitor.page import picture as picture_module
from curate.monitor.page.page import LivePage
from curate.monitor.page.picture import LatestPicture
from curate.serving.address import LOOPBACK, take_port

pytestmark = needs_page
PATHS = ["/", "/page.css", "/page.js", "/picture", "/events"]


@pytest.fixture
def page():
    """A page that has not shown a frame yet."""
    with open_live_page() as opened:
        yield opened


def picture_of(answer):
    """Decode the picture of a response."""
    return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"), dtype=int)


def events_of(page, count, **headers):
    """The first messages of the event stream, after its retry interval."""
    stream = read_stream(ask(page, "/events", **headers))
    assert next(stream) == {"retry": "1000"}
    return list(islice(stream, count))


@pytest.mark.parametrize("path", PATHS)
def test_access(page, path):
    """Requests without the token, under another host name, or from another page are refused."""
    page.show(plain(RED), None)
    port = page.port
    assert ask(page, path).status == 200
    assert ask(page, path, Cookie=None).status == 401
    assert ask(page, path, Cookie=f"curate_{port}=other").status == 401
    assert ask(page, path, Host=f"evil.example:{port}").status == 403
    assert ask(page, path, Origin="http://evil.example").status == 403
    assert ask(page, path, Sec_Fetch_Site="same-site").status == 403


def test_without_the_token(page):
    """The refusal says how to get the token."""
    assert ask(page, Cookie=None).read() == b"Open the link that `curate watch` printed: it has the token.\n"


def test_the_link(page):
    """The link's token becomes an HttpOnly cookie and disappears from the URL."""
    answer = ask(page, "/?" + page.link().partition("?")[2], Cookie=None)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert answer.headers["set-cookie"] == f"{cookie_of(page)}; HttpOnly; SameSite=Strict; Path=/"


def test_a_single_use_link(page):
    """A link that other users can see on a browser's command line works once."""
    query = "/?" + page.link(once=True).partition("?")[2]
    assert [ask(page, query, Cookie=None).status for _ in range(2)] == [303, 401]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("HEAD", "/events"),
        ("GET", "/templates/page.html"),
        ("GET", "/page.py"),
        ("GET", "/../page.py"),
        ("GET", "//picture"),
        ("GET", "/favicon.ico"),
    ],
)
def test_other_paths(page, method, path):
    """Only the page's five paths are served."""
    assert ask(page, path, method=method).status == 403


def test_security_headers(page):
    """The page runs only its own script, cannot be framed or cached, and shares nothing with other pages."""
    answer = ask(page)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    html = answer.read().decode()
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", html) == ["data:,", "page.css", "page.js"]
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|<style", html)


def test_a_picture(page):
    """The picture has the frame's colours and size."""
    page.show(plain(RED, width=64, height=48), None)
    answer = ask(page, "/picture")
    assert (answer.headers["content-type"], answer.headers["picture-number"]) == ("image/jpeg", "1")
    pixels = picture_of(answer)
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels - RED).max() <= 4


def test_the_latest_picture(page):
    """Only the latest frame is served, whatever frame the page had before."""
    for colour in (RED, GREEN):
        page.show(plain(colour), None)
    assert ask(page, "/picture").headers["picture-number"] == "2"
    for _ in range(100):
        page.show(plain(BLUE), None)
    answer = ask(page, "/picture?after=2")
    assert answer.headers["picture-number"] == "102"
    assert np.abs(picture_of(answer) - BLUE).max() <= 4


@pytest.mark.parametrize("after", ["", "x", "-1", "9" * 40, "٣", "1&after=2"])
def test_any_number(page, after):
    """An invalid frame number gets the latest picture."""
    page.show(plain(RED), None)
    assert ask(page, "/picture?after=" + quote(after, safe="&=")).status == 200


def test_waiting_for_a_picture(page):
    """A page that has the latest frame gets its response with the next one."""
    page.show(plain(RED), None)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(page, "/picture?after=1")))
    asking.start()
    asking.join(0.3)
    assert ask(page, "/picture").status == 200  # who waits holds up nobody else
    assert asking.is_alive()
    page.show(plain(GREEN), None)
    asking.join(5)
    assert answers[0].headers["picture-number"] == "2"


def test_the_picture_request_times_out(page, monkeypatch):
    """A page that waits in vain gets an empty response."""
    monkeypatch.setattr("curate.monitor.page.app._PICTURE_TIMEOUT_S", 0.1)
    answer = ask(page, "/picture")
    assert (answer.status, answer.read()) == (204, b"")


def test_frames_without_viewers():
    """Frames that nobody requests are neither drawn nor encoded."""
    drawn = []
    with open_live_page(draw=lambda pixels, seen: drawn.append(seen) or pixels) as page:
        for number in range(500):
            page.show(plain(RED), detections_of(1, number))
        assert drawn == []
        assert ask(page, "/picture").status == 200
        assert [one.frame_index for one in drawn] == [499]


def test_drawing():
    """The picture is what `draw` makes of the frame and its detections."""
    with open_live_page(draw=lambda pixels, seen: pixels + np.uint8(40 * len(seen.scores))) as page:
        page.show(plain((10, 20, 30)), detections_of(2))
        assert np.abs(picture_of(ask(page, "/picture")) - (90, 100, 110)).max() <= 4


class InstantLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next time that somebody waits for."""

    now_s = 0.0

    def time(self):
        return self.now_s

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now_s = max(self.now_s, self._scheduled[0].when())
        super()._run_once()


def test_many_viewers(monkeypatch):
    """With 20 viewers of 60 frames a second, each frame is encoded once, and 15 of them per second."""
    drawn = []
    picture = LatestPicture(lambda pixels, seen: drawn.append(seen.frame_index) or pixels)
    got = [[] for _ in range(20)]

    async def film():
        for number in range(120):
            picture.show(plain(RED), detections_of(1, number))
            await asyncio.sleep(1 / 60)

    async def look(numbers):
        while (found := await picture.newer_than(numbers[-1] if numbers else 0, 1, lambda: False)) is not None:
            numbers.append(found.number)

    async def all_together():
        await asyncio.gather(film(), *(look(numbers) for numbers in got))

    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        monkeypatch.setattr(picture_module, "time", Mock(monotonic=runner.get_loop().time))
        runner.run(all_together())
    assert len(drawn) == len(set(drawn))
    assert 28 <= len(drawn) <= 32
    assert all(len(numbers) >= 20 and numbers == sorted(set(numbers)) for numbers in got)


def test_large_frames(page):
    """Frames larger than a screen are scaled down."""
    page.show(plain(GREEN, width=4000, height=1000), None)
    assert picture_of(ask(page, "/picture")).shape == (480, 1920, 3)


def test_the_video_does_not_wait():
    """While a picture is drawn, frames and events are accepted at once."""
    begun, go_on = threading.Event(), threading.Event()

    def draw(pixels, _):
        begun.set()
        go_on.wait()
        return pixels

    with open_live_page(draw=draw) as page:
        page.show(plain(RED), detections_of(1))
        asking = threading.Thread(target=ask, args=(page, "/picture"))
        asking.start()
        assert begun.wait(5)
        page.show(plain(GREEN), detections_of(1))
        page.add_event(event())
        page.set_status("watching", frames_per_s=1.0, latency_ms=None)
        assert asking.is_alive()
        go_on.set()
        asking.join(5)


def test_events(page):
    """A new page gets earlier events, oldest first, then the status, then new events."""
    page.add_event(event("first"))
    page.add_event(event("second", second=1, track_id=8))
    stream = read_stream(ask(page, "/events"))
    told = list(islice(stream, 4))
    assert [one.get("event") for one in told] == [None, "happened", "happened", "state"]
    assert told[1]["data"] == {**event("first").as_json(), "is_trouble": False}
    assert (told[2]["data"]["trigger"], told[2]["data"]["track_id"]) == ("second", 8)
    page.add_event(event("third"))
    assert next(stream)["data"]["trigger"] == "third"


def test_the_last_events(page):
    """The last 200 events are kept."""
    for number in range(250):
        page.add_event(event(str(number)))
    told = events_of(page, 201)
    assert [one["data"]["trigger"] for one in told[:-1]] == [str(number) for number in range(50, 250)]
    assert told[-1]["event"] == "state"


def test_reconnecting(page):
    """A reconnecting page gets only events that it lacks; an ID of another server is ignored."""
    for name in "abc":
        page.add_event(event(name))
    told = events_of(page, 3)
    again = events_of(page, 2, Last_Event_ID=told[1]["id"])
    assert [one["event"] for one in again] == ["happened", "state"]
    assert again[0] == told[2]
    for other in ("", "x-1", told[0]["id"] + "9" * 30, "-"):
        assert events_of(page, 3, Last_Event_ID=other) == told


def test_text_cannot_break_the_stream(page):
    """Line breaks in an event's text cannot start another message."""
    page.add_event(event("a\n\nevent: state\ndata: {}\r\n", class_name="\u2028<b>\udcff"))
    told = events_of(page, 2)
    assert [one["event"] for one in told] == ["happened", "state"]
    assert told[0]["data"]["trigger"] == "a\n\nevent: state\ndata: {}\r\n"
    assert told[0]["data"]["class"] == "\u2028<b>\udcff"


def test_status(page):
    """Source, model, speed, latency and number of objects are sent, and again when they change."""
    stream = read_stream(ask(page, "/events"))
    assert [one.get("data") for one in islice(stream, 2)][1] == {
        "source": "door.mp4", "run": "masks/runs/first", "text": "starting",
        "frames_per_s": None, "latency_ms": None, "trouble": None, "objects": None,
    }  # fmt: skip
    page.show(plain(RED), detections_of(3))
    page.set_status("watching", frames_per_s=24.949, latency_ms=float("nan"))
    states = [one["data"] for one in islice(stream, 1)]
    while states[-1]["text"] == "starting":  # it may have been read between the two
        states.append(next(stream)["data"])
    assert states[-1] == {
        "source": "door.mp4", "run": "masks/runs/first", "text": "watching",
        "frames_per_s": 24.9, "latency_ms": None, "trouble": None, "objects": 3,
    }  # fmt: skip


@pytest.mark.parametrize("trigger", ["stream_stalled", "stream_broken"])
def test_trouble(page, trigger):
    """The source is in trouble from its event until the next frame."""
    page.show(plain(RED), None)
    page.add_event(trouble(trigger, "no frame for 10 s"))
    happened, state = events_of(page, 2)
    assert (happened["data"]["is_trouble"], happened["data"]["detail"]) == (True, "no frame for 10 s")
    assert state["data"]["trouble"] == trigger
    page.add_event(trouble("stream_back"))
    assert events_of(page, 3)[-1]["data"]["trouble"] == trigger
    page.show(plain(GREEN), None)
    back, state = events_of(page, 3)[1:]
    assert (back["data"]["is_trouble"], state["data"]["trouble"]) == (False, None)


def test_keepalive(page, monkeypatch):
    """A silent stream sends comments."""
    monkeypatch.setattr("curate.monitor.page.app._KEEPALIVE_S", 0.1)
    assert events_of(page, 2)[1] == {"comment": "still here"}


def test_closing_with_open_responses(page, caplog):
    """Streams, waiting pages and a page that stops reading do not delay the end; no thread is left."""
    page.show(np.random.default_rng(1).integers(0, 256, (1080, 1920, 3), dtype=np.uint8), None)
    stream = read_stream(ask(page, "/events"))
    assert next(stream) == {"retry": "1000"}
    waiting = threading.Thread(target=_wait_for_picture, args=(page,))
    waiting.start()
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect((LOOPBACK, page.port))
        request = f"GET /picture HTTP/1.1\r\nHost: {LOOPBACK}:{page.port}\r\nCookie: {cookie_of(page)}\r\n\r\n"
        stuck.sendall(request.encode() * 20)  # some 30 MB of answers, more than the kernel takes
        stuck.settimeout(5)
        assert stuck.recv(1, socket.MSG_PEEK)
        page.close()
    waiting.join(5)
    assert (waiting.is_alive(), page_threads(), caplog.records) == (False, [], [])
    take_port(LOOPBACK, page.port, usual=0).close()


def _wait_for_picture(page):
    with suppress(http.client.HTTPException, OSError):  # the end may come before the answer
        ask(page, "/picture?after=1")


def _is_closed(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_too_many_connections(page):
    """Connections without the token are limited: the oldest are closed for new ones, and that of the owner stays."""
    assert ask(page).status == 200
    stream = read_stream(ask(page, "/events"))
    assert next(stream) == {"retry": "1000"}
    before = len(os.listdir("/proc/self/fd"))
    with ExitStack() as stack:
        others = [stack.enter_context(socket.create_connection((LOOPBACK, page.port))) for _ in range(150)]
        for one in others:
            one.settimeout(5)
        assert all(map(_is_closed, others[:80]))
        until = time.monotonic() + 5
        while len(os.listdir("/proc/self/fd")) - before > len(others) + 64 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) - before <= len(others) + 64
        page.add_event(event())
        assert "happened" in [told.get("event") for told in islice(stream, 2)]


def test_out_of_file_descriptors(page, monkeypatch, caplog):
    """Without free file descriptors the page logs cause and wait once, and recovers."""
    accept, failed = socket.socket.accept, threading.Event()

    def refuse(self):
        if not failed.is_set():
            failed.set()
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", refuse)
    assert ask(page).status == 200
    (record,) = caplog.records
    assert (failed.is_set(), record.name) == (True, "curate.serving.background")
    assert record.getMessage().endswith("Too many open files); next attempt in a second")


def test_closing_without_starting():
    """A page that was never started releases its port; it may be closed twice."""
    taken = take_port(LOOPBACK, 0, usual=0)
    page = LivePage(taken, LOOPBACK, source="a", run="b")
    page.close()
    page.close()
    take_port(LOOPBACK, page.port, usual=0).close()
    assert page_threads() == []


def test_use_after_closing(page):
    """Frames, events and status after the end are ignored."""
    page.close()
    page.show(plain(RED), None)
    page.add_event(event())
    page.set_status("ended", frames_per_s=0.0, latency_ms=None)
    assert page_threads() == []


def test_without_its_packages(monkeypatch):
    """A missing package is one line that says how to install it."""
    monkeypatch.setitem(sys.modules, "hypercorn.asyncio", None)
    with take_port(LOOPBACK, 0, usual=0) as taken, pytest.raises(MissingError, match=r"curate-vision\[watch\]"):
        LivePage(taken, LOOPBACK, source="a", run="b")
