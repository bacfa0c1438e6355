"""What the page of `watch --serve` is made of, as an ASGI app: its files, the picture, and a stream of what happens.

The picture is no endless MJPEG but one JPEG an answer, given when there is a newer frame than the one that the page
has. So a slow page gets fewer frames, and none of them lies in a buffer and gets old; a page that is gone is noticed
within seconds, and comes back by asking again.
"""

import asyncio
import json
import math
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from curate.monitor.page.picture import LatestPicture
from curate.monitor.triggers.event import Event
from curate.serving.guard import Query, RefusedError, Scope

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


POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
PICTURE_NUMBER = "picture-number"  # a header of the answer
_HEADERS = {"cache-control": "no-store", "cross-origin-resource-policy": "same-origin"}
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_PATHS = frozenset({*_FILES, "/picture", "/events"})
_PATIENCE_S = 10.0  # until a page without news of the picture is told so, and knows that somebody is there
_LOOK_S = 0.2
_ALIVE_EVERY_S = 15.0  # what says nothing for long, somebody between page and server may cut


def check_path(scope: Scope, _: Query) -> None:
    """Refuse what is not one of the page's addresses.

    Raises:
        RefusedError: it is something else.
    """
    if scope["method"] != "GET" or scope["path"] not in _PATHS:
        raise RefusedError(403, "This is not served here.")


def make_app(picture: LatestPicture, news: PageNews, ending: Callable[[], bool]) -> Starlette:
    """The app, without any check of who asks.

    Args:
        picture: that is shown.
        news: events, and how the watch does.
        ending: whether answers that go on and on must end.
    """

    async def answer_picture(request: Request) -> Response:
        given = request.query_params.get("after", "")
        after = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else 0
        found = await picture.other_than(after, _PATIENCE_S, ending)
        if found is None:
            return Response(status_code=503 if ending() else 204, headers=_HEADERS)
        return Response(found.content, media_type="image/jpeg", headers={**_HEADERS, PICTURE_NUMBER: str(found.number)})

    async def answer_events(request: Request) -> Response:
        lines = _event_stream(news, request.headers.get("last-event-id"), ending)
        return StreamingResponse(lines, media_type="text/event-stream", headers=_HEADERS)

    pages = [Route(path, _file(*named)) for path, named in _FILES.items()]
    return Starlette(routes=[*pages, Route("/picture", answer_picture), Route("/events", answer_events)])


def _file(name: str, media_type: str) -> Callable[[Request], Any]:
    content = files("curate.monitor.page").joinpath("templates", name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return answer


async def _event_stream(news: PageNews, last_id: str | None, ending: Callable[[], bool]) -> AsyncIterator[str]:
    """Server-Sent Events (HTML, 9.2): what happened since `last_id`, then how the watch does, then as it comes.

    What a page does not take in time waits nowhere: it gets what is still known when it reads on.
    """
    loop = asyncio.get_running_loop()
    told, told_at_s = None, loop.time()
    yield "retry: 1000\n\n"
    while not ending():
        lines = []
        for known in news.since(last_id):
            lines.append(f"id: {known.id}\nevent: happened\ndata: {known.text}\n\n")
            last_id = known.id
        if (state := json.dumps(news.state())) != told:
            lines.append(f"event: state\ndata: {state}\n\n")
            told = state
        if not lines and loop.time() - told_at_s > _ALIVE_EVERY_S:
            lines.append(": still here\n\n")
        if lines:
            told_at_s = loop.time()
            yield "".join(lines)
        await asyncio.sleep(_LOOK_S)
