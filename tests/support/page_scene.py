"""The page of `watch --serve` with frames and events, and an HTTP client with its cookie."""

import http.client
import json
import threading
from contextlib import closing, contextmanager

import numpy as np

from curate.monitor.detections import FrameDetections
from curate.monitor.page.page import LivePage
from curate.monitor.triggers.event import Event
from curate.serving.address import LOOPBACK, take_port

RED, GREEN, BLUE = (200, 30, 20), (20, 160, 40), (10, 60, 220)


def plain(colour, width=160, height=120):
    """A frame of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def detections_of(count, frame_index=0):
    """Detections of a number of objects."""
    boxes = np.tile([10.0, 10.0, 50.0, 60.0], (count, 1))
    return FrameDetections(
        frame_index, frame_index / 25, boxes, np.full(count, 0.9), np.zeros(count, int), np.arange(1, count + 1)
    )


def event(trigger="bare face", second=0, **parts):
    """An event of a trigger; `parts` replace its fields."""
    known = {"class_name": "without_mask", "track_id": 7, "score": 0.875, "box": (1.0, 2.0, 30.0, 40.0)}
    time = f"2026-03-01T22:14:{second:02}.000+01:00"
    return Event(time, 12.5 + second, trigger, **{**known, "frames": (310, 312), **parts})


def trouble(trigger, detail=None):
    """An event about the source."""
    return event(trigger, class_name=None, track_id=None, score=None, box=None, detail=detail)


@contextmanager
def open_live_page(*, port=0, address=LOOPBACK, **options):
    """A page that is being served."""
    names = {"source": "door.mp4", "run": "masks/runs/first"}
    page = LivePage(take_port(address, port, usual=0), address, **names, **options)
    with closing(page):
        page.start()
        yield page


def page_threads():
    """Names of the page's running threads."""
    return [one.name for one in threading.enumerate() if one.name.startswith("curate-")]


def cookie_of(page):
    """The cookie that the link sets."""
    token = page.link().partition("token=")[2]
    return f"curate_{page.port}={token}"


def ask(page, path="/", *, method="GET", timeout_s=10, **headers):
    """Send a request with the cookie and return the response; `headers` replace the usual ones, None removes one."""
    connection = http.client.HTTPConnection(LOOPBACK, page.port, timeout=timeout_s)
    connection.putrequest(method, path, skip_host=True)
    known = {"Host": f"{LOOPBACK}:{page.port}", "Cookie": cookie_of(page)}
    for name, value in {**known, **{name.replace("_", "-"): value for name, value in headers.items()}}.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def read_stream(answer):
    """Yield the messages of an event stream as dicts of their fields; comments are {"comment": …}."""
    fields = {}
    for line in answer:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if line != b"\n":
            fields[name or "comment"] = json.loads(value) if name == "data" else value
        elif fields:
            yield fields
            fields = {}
