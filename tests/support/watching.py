"""Builders of detections, events, videos and trigger files, and a webhook receiver on loopback."""

import json
import threading
import time
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import yaml

from curate.monitor.detections import NO_TRACK, FrameDetections
from curate.monitor.outputs.thread import WatchedFrame
from curate.monitor.trigger_file import read_triggers
from curate.monitor.triggers.event import Event
from curate.sources.feeds.feed import Picture
from curate.sources.video.writing import VideoWriter

CLASSES = ("with_mask", "without_mask")
NOON = datetime(2026, 5, 4, 12, 0, 0, tzinfo=timezone(timedelta(hours=2)))
BOX = (100.0, 100.0, 200.0, 220.0)
GREY = np.full((120, 160, 3), 128, dtype=np.uint8)
WIDTH, HEIGHT = 160, 96
RED, BLUE = (235, 20, 20), (20, 20, 235)


def detection(track_id=1, class_name="without_mask", score=0.9, box=BOX):
    """One detection, for `detections_at`."""
    return track_id, class_name, score, box


def detections_at(frame_index, *detections, fps=10, timestamp_s=None):
    """The detections of a frame, in a source with `fps` frames per second."""
    rows = list(detections)
    return FrameDetections(
        frame_index=frame_index,
        timestamp_s=frame_index / fps if timestamp_s is None else timestamp_s,
        boxes_xyxy=np.array([row[3] for row in rows], dtype=np.float64).reshape(-1, 4),
        scores=np.array([row[2] for row in rows], dtype=np.float64),
        class_indices=np.array([CLASSES.index(row[1]) for row in rows], dtype=np.int64),
        track_ids=np.array([NO_TRACK if row[0] is None else row[0] for row in rows], dtype=np.int64),
    )


def watched_frame(number, *detections, events=(), pixels=GREY):
    """A frame as the outputs get it."""
    seen = detections_at(number, *detections)
    return WatchedFrame(Picture(number, seen.timestamp_s, pixels, 0.0), seen, tuple(events), pixels)


def event_of(trigger="bare", **parts):
    """An event of a trigger."""
    values = {
        "time": "2026-05-04T12:00:00.000+02:00",
        "timestamp_s": 1.5,
        "trigger": trigger,
        "class_name": "without_mask",
        "track_id": 7,
        "score": 0.875,
        "box": BOX,
        "frames": (14, 15),
    }
    return Event(**(values | parts))


def write_triggers(folder, *actions, hosts=("127.0.0.1",), stream=(), **rule):
    """Write a trigger file with one trigger `bare`."""
    document = {
        "triggers": [{"name": "bare", **rule, "actions": list(actions)}],
        "stream": {"actions": list(stream)},
        "hosts": list(hosts),
    }
    file = folder / "door.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


def triggers_of(folder, *actions, **parts):
    """The same, read."""
    return read_triggers(write_triggers(folder, *actions, **parts), CLASSES)


def write_scene(path, frames, squares, *, fps=10, sizes=(WIDTH, HEIGHT)):
    """Write a grey video with squares: `squares(number)` returns (x, y, side, colour) of each."""
    writer = VideoWriter(path, time_base=Fraction(1, fps), rate=Fraction(fps))
    for number in range(frames):
        picture = np.full((sizes[1], sizes[0], 3), 128, dtype=np.uint8)
        for x, y, side, colour in squares(number):
            picture[y : y + side, x : x + side] = colour
        writer.write(picture, number, 1)
    writer.close()
    return path


def one_red(number):
    """A red square that moves right by four pixels per frame."""
    return [(16 + 4 * number, 32, 24, RED)]


def one_red_standing(number):
    """A red square that does not move."""
    return [(32, 32, 24, RED)]


class Hook:
    """A webhook receiver; `answers` are used in turn, the last one repeatedly.

    An answer is a status, a status with headers, or a function that writes to the handler.
    """

    def __init__(self, *answers, port=0):
        self.answers = list(answers) or [200]
        self.got = []
        self._changed = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = hook.note(self.path, dict(self.headers), body)
                if callable(answer):
                    self.close_connection = True
                    answer(self)
                    return
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a sender that went away
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def note(self, path, headers, body):
        """Record a request, and return the answer to it."""
        with self._changed:
            self.got.append((path, headers, body))
            self._changed.notify_all()
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def wait_for(self, count, timeout_s=10):
        """Wait for a number of requests."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.got) >= count, timeout_s), f"{len(self.got)} of {count}"

    @property
    def bodies(self):
        """The JSON of each request."""
        return [json.loads(body) for _, _, body in self.got]

    def close(self):
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def eventually(condition, timeout_s=10):
    """Wait until a condition holds."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.005)


def own_threads():
    """Names of curate's running threads."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("curate-"))
