"""The ASGI app of `watch --serve`: the page's files, the picture, and a stream of events and status.

The picture is not an endless MJPEG but one JPEG per request, answered when there is a newer frame than the page has. So
a slow page gets fewer frames, no frame grows old in a buffer, and a page that is gone is noticed within seconds.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from curate.monitor.page.picture import LatestPicture
from curate.monitor.page.state import PageState
from curate.serving.guard import Query, RefusedError, Scope

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
PICTURE_NUMBER = "picture-number"  # response header
_HEADERS = {"cache-control": "no-store", "cross-origin-resource-policy": "same-origin"}
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_PATHS = frozenset({*_FILES, "/picture", "/events"})
_PICTURE_TIMEOUT_S = 10.0  # then an empty response shows the page that the server is alive
_POLL_S = 0.2
_KEEPALIVE_S = 15.0  # proxies may close a connection that is silent for longer


def check_path(scope: Scope, _: Query) -> None:
    """Refuse every request that is not for one of the page's paths.

    Raises:
        RefusedError: Another path or method.
    """
    if scope["method"] != "GET" or scope["path"] not in _PATHS:
        raise RefusedError(403, "Not found.")


def make_app(picture: LatestPicture, state: PageState, ending: Callable[[], bool]) -> Starlette:
    """Make the app, without access control.

    Args:
        picture: Shown on the page.
        state: Events and status.
        ending: Whether streamed responses must end.
    """

    async def answer_picture(request: Request) -> Response:
        given = request.query_params.get("after", "")
        after = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else 0
        jpeg = await picture.newer_than(after, _PICTURE_TIMEOUT_S, ending)
        if jpeg is None:
            return Response(status_code=503 if ending() else 204, headers=_HEADERS)
        return Response(jpeg.content, media_type="image/jpeg", headers={**_HEADERS, PICTURE_NUMBER: str(jpeg.number)})

    async def answer_events(request: Request) -> Response:
        lines = _stream_events(state, request.headers.get("last-event-id"), ending)
        return StreamingResponse(lines, media_type="text/event-stream", headers=_HEADERS)

    pages = [Route(path, _serve_file(*file)) for path, file in _FILES.items()]
    return Starlette(routes=[*pages, Route("/picture", answer_picture), Route("/events", answer_events)])


def _serve_file(name: str, media_type: str) -> Callable[[Request], Any]:
    content = files("curate.monitor.page").joinpath("templates", name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return answer


async def _stream_events(state: PageState, last_id: str | None, ending: Callable[[], bool]) -> AsyncIterator[str]:
    """Server-Sent Events (HTML standard, 9.2): events since `last_id`, then the status, then both as they change.

    Nothing is buffered for a slow page: it gets the events that are still kept when it reads on.
    """
    loop = asyncio.get_running_loop()
    sent_status, sent_s = None, loop.time()
    yield "retry: 1000\n\n"
    while not ending():
        lines = []
        for event in state.events_since(last_id):
            lines.append(f"id: {event.id}\nevent: happened\ndata: {event.text}\n\n")
            last_id = event.id
        if (status := json.dumps(state.status())) != sent_status:
            lines.append(f"event: state\ndata: {status}\n\n")
            sent_status = status
        if not lines and loop.time() - sent_s > _KEEPALIVE_S:
            lines.append(": still here\n\n")
        if lines:
            sent_s = loop.time()
            yield "".join(lines)
        await asyncio.sleep(_POLL_S)
