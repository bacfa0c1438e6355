"""The latest events and the status of a watch, as its page shows them."""

import json
import math
import secrets
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from curate.monitor.page.picture import LatestPicture
from curate.monitor.triggers.event import Event

_MAX_EVENTS = 200
_TROUBLE = frozenset({"stream_stalled", "stream_broken"})


@dataclass(frozen=True)
class NumberedEvent:
    """An event as it is sent.

    Attributes:
        number: From 1.
        id: Unique over all servers, the same for every page.
        text: JSON in one line.
    """

    number: int
    id: str
    text: str


class PageState:
    """The latest events and the status of the watch; written by the watch's thread, read by the server's."""

    def __init__(self, picture: LatestPicture, *, source: str, run: str) -> None:
        self._picture = picture
        self._names = {"source": source, "run": run}
        self._server_id = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._events: deque[NumberedEvent] = deque(maxlen=_MAX_EVENTS)
        self._number = 0
        self._trouble: tuple[str, int] | None = None  # the trigger, and the number of the latest picture then
        self._status: dict[str, Any] = {"text": "starting", "frames_per_s": None, "latency_ms": None}

    def add_event(self, event: Event) -> None:
        """Add an event; beyond 200 the oldest is dropped."""
        text = json.dumps({**event.as_json(), "is_trouble": event.trigger in _TROUBLE})
        if event.trigger in _TROUBLE:
            self._trouble = event.trigger, self._picture.number
        with self._lock:
            self._number += 1
            self._events.append(NumberedEvent(self._number, f"{self._server_id}-{self._number}", text))

    def set_status(self, text: str, frames_per_s: float, latency_ms: float | None) -> None:
        self._status = {"text": text, "frames_per_s": _round(frames_per_s), "latency_ms": _round(latency_ms)}

    def events_since(self, last_id: str | None) -> tuple[NumberedEvent, ...]:
        """Events after the one with this ID, oldest first; all of them where the ID is not from this server."""
        with self._lock:
            events = tuple(self._events)
        server_id, _, number = (last_id or "").partition("-")
        after = int(number) if server_id == self._server_id and number.isdecimal() and len(number) < 19 else 0
        return tuple(event for event in events if event.number > after)

    def status(self) -> dict[str, Any]:
        """What the page shows about the watch. `trouble` lasts from a source's event until its next frame."""
        detections, trouble = self._picture.detections, self._trouble
        return {
            **self._names,
            **self._status,
            "trouble": trouble[0] if trouble is not None and trouble[1] == self._picture.number else None,
            "objects": len(detections.scores) if detections is not None else None,
        }


def _round(number: float | None) -> float | None:
    return round(float(number), 1) if number is not None and math.isfinite(number) else None
