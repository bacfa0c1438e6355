"""What the page tells beside its picture: the last events, and how the watch does."""

import json
import math
import secrets
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from curate.monitor.page.picture import LatestPicture
from curate.monitor.triggers.event import Event

_KEPT = 200  # events
_TROUBLE = frozenset({"stream_stalled", "stream_broken"})


@dataclass(frozen=True)
class Told:
    """An event as it is sent.

    Attributes:
        number: from 1.
        id: the same for every page, and of no other server's event.
        text: JSON in one line.
    """

    number: int
    id: str
    text: str


class PageNews:
    """The last events and the newest state. The video's thread tells, the server's thread reads."""

    def __init__(self, picture: LatestPicture, *, source: str, run: str) -> None:
        self._picture = picture
        self._names = {"source": source, "run": run}
        self._server = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._events: deque[Told] = deque(maxlen=_KEPT)
        self._number = 0
        self._trouble: tuple[str, int] | None = None  # the trigger, and the newest frame then
        self._state: dict[str, Any] = {"text": "starting", "frames_per_s": None, "latency_ms": None}

    def tell(self, event: Event) -> None:
        """Keep an event; the oldest goes when there are too many."""
        text = json.dumps({**event.as_json(), "is_trouble": event.trigger in _TROUBLE})
        if event.trigger in _TROUBLE:
            self._trouble = event.trigger, self._picture.number
        with self._lock:
            self._number += 1
            self._events.append(Told(self._number, f"{self._server}-{self._number}", text))

    def set_state(self, text: str, frames_per_s: float, latency_ms: float | None) -> None:
        """Keep how the watch does now."""
        self._state = {"text": text, "frames_per_s": _known(frames_per_s), "latency_ms": _known(latency_ms)}

    def since(self, last_id: str | None) -> tuple[Told, ...]:
        """Events after the one with this id, oldest first; all that are kept where it is none of this server's."""
        with self._lock:
            kept = tuple(self._events)
        server, _, number = (last_id or "").partition("-")
        after = int(number) if server == self._server and number.isdecimal() and len(number) < 19 else 0
        return tuple(one for one in kept if one.number > after)

    def state(self) -> dict[str, Any]:
        """What the page shows of the watch.

        The source is in trouble from an event that says so until the next frame comes.
        """
        seen, trouble = self._picture.seen, self._trouble
        return {
            **self._names,
            **self._state,
            "trouble": trouble[0] if trouble is not None and trouble[1] == self._picture.number else None,
            "objects": len(seen.scores) if seen is not None else None,
        }


def _known(number: float | None) -> float | None:
    return round(float(number), 1) if number is not None and math.isfinite(number) else None
