"""What stands before the FiftyOne app: its server checks neither who asks nor for what.

An ASGI layer (asgi.readthedocs.io, HTTP). A request passes when

- its Host is one that the app is meant to have, so that no foreign name can be bound to this address,
- its Origin, where it has one, is the app itself, and a browser that tells where it comes from (`Sec-Fetch-Site`, W3C
  Fetch Metadata) does not name another page, not even one on another port,
- it has the cookie that the link with the token gives, or that token,
- it is for a page of the app, or for one of the few services that looking and tagging take,
- the file it wants, under whatever path it asks, is one of the app's images,
- the operator it wants to run is one that only shows: those that list or fetch files of this machine, or that change
  or delete what the dataset holds, are refused, and so is every one that is not known here.

What a request may have built by name is limited in `fiftyone_limits`.
"""

import hmac
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN = "token"  # noqa: S105 the name of a parameter
_MOST_BYTES = 16 * 2**20  # of a request that is looked into
_OWN_PAGES = frozenset({"same-origin", "none"})  # of Sec-Fetch-Site; "none": a person opened a link
PAGES = frozenset({"", "datasets"})  # first parts of paths; the app's own files come to it
SERVICES = {
    "aggregate": "POST",
    "event": "POST",
    "events": "POST",
    "features": "GET",
    "fiftyone": "GET",
    "graphql": "POST",
    "media": "GET",
    "operators": "POST",
    "operators/execute": "POST",
    "operators/resolve-placements": "POST",
    "plugins": "GET",
    "sort": "POST",
    "tag": "POST",
    "tagging": "POST",
    "values": "POST",
}
_BUILTIN = "@voxel51/operators/"
OPERATORS = frozenset(
    _BUILTIN + name
    for name in (
        "edit_field_info",
        "get_field_schema",
        "get_label_schemas",
        "list_saved_views",
        "list_workspaces",
        "load_group_by",
        "load_saved_view",
        "load_workspace",
        "reload_saved_view",
        "save_view",
        "save_workspace",
    )
)
_POLICY = "; ".join(
    (
        "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",  # the app is one of scripts that make scripts
        "style-src-elem 'self' 'unsafe-inline'",  # no fonts from elsewhere
        "frame-ancestors 'none'",
        "form-action 'self'",
    )
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
]


class RefusedError(Exception):
    """A request that does not pass: the status, and a line for whoever sent it."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


@dataclass(eq=False)
class Guard:
    """The app behind these checks.

    Attributes:
        app: what is guarded.
        token: that links carry; also the cookie's value.
        port: of the app.
        names: host names and addresses that it is meant to have, beside the address that a connection came to.
        is_media: whether a file is one of the app's images.
        files: the app's own files and folders, as first parts of paths.
        tickets: tokens that are good for one request: others may see the command line of a browser.
    """

    app: App
    token: str
    port: int
    names: Collection[str]
    is_media: Callable[[str], bool]
    files: Collection[str] = ()
    tickets: set[str] = field(default_factory=set)

    @property
    def cookie(self) -> str:
        """Cookies do not know ports, so that their name says it: several apps can be open."""
        return f"curate_{self.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the app has no other; closing without an answer refuses it
        try:
            headers = _Headers(scope)
            self._check_addresses(scope, headers)
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            if (redirect := self._check_token(scope, headers, query)) is not None:
                await _answer(send, 303, b"", redirect)
                return
            if headers.one("sec-fetch-site") not in (None, *_OWN_PAGES):
                raise RefusedError(403, "Requests of other pages are refused.")
            self._check_service(scope)
            self._check_files(scope, query)
            if scope["path"].startswith("/operators/execute"):
                receive = await _check_operator(receive)
        except RefusedError as refused:
            await _answer(send, refused.status, f"{refused.why}\n".encode())
            return
        await self.app(scope, receive, _with_headers(send))

    def _check_addresses(self, scope: Scope, headers: "_Headers") -> None:
        here = (scope.get("server") or ("", 0))[0].removeprefix("::ffff:")  # an IPv4 address in the form of IPv6
        hosts = {_host(name, self.port) for name in (*self.names, here) if name}
        host = headers.one("host")
        if host is None or host.lower() not in hosts:
            raise RefusedError(403, "This is not served under that name.")
        origin = headers.one("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            raise RefusedError(403, "Requests of other pages are refused.")

    def _check_token(
        self, scope: Scope, headers: "_Headers", query: list[tuple[str, str]]
    ) -> list[tuple[bytes, bytes]] | None:
        """None where the cookie is there; headers of a redirect where the link brought the token."""
        if any(hmac.compare_digest(value.encode(), self.token.encode()) for value in headers.cookies(self.cookie)):
            if not (scope["method"] == "GET" and any(name == TOKEN for name, _ in query)):
                return None
        elif not self._is_invited(scope, query):
            raise RefusedError(401, "Open the link that `curate view` printed: it has the token.")
        rest = urlencode([(name, value) for name, value in query if name != TOKEN])
        place = "/" + scope["path"].lstrip("/")  # two slashes would lead to another host
        location = place + (f"?{rest}" if rest else "")
        cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        return [(b"location", location.encode("latin-1", "replace")), (b"set-cookie", cookie.encode())]

    def _is_invited(self, scope: Scope, query: list[tuple[str, str]]) -> bool:
        given = [value for name, value in query if name == TOKEN]
        if scope["method"] != "GET" or len(given) != 1:
            return False
        if given[0] in self.tickets:
            self.tickets.discard(given[0])
            return True
        return hmac.compare_digest(given[0].encode(), self.token.encode())

    def _check_service(self, scope: Scope) -> None:
        path, method = scope["path"].removeprefix("/"), "GET" if scope["method"] == "HEAD" else scope["method"]
        is_page = method == "GET" and path.split("/")[0] in {*PAGES, *self.files}
        if not is_page and SERVICES.get(path) != method:
            raise RefusedError(403, "This is not served here.")

    def _check_files(self, scope: Scope, query: list[tuple[str, str]]) -> None:
        files = [value for name, value in query if name == "filepath"]
        wants_media = scope["path"] == "/media"
        if (wants_media and len(files) != 1) or not all(map(self.is_media, files)):
            raise RefusedError(403, "Only images of this dataset are served.")


class _Headers:
    """A request's headers; one that is there twice where one is allowed is refused."""

    def __init__(self, scope: Scope) -> None:
        self._all = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def one(self, name: str) -> str | None:
        values = [value for own, value in self._all if own == name.encode()]
        if len(values) > 1:
            raise RefusedError(400, f"The header {name} is there twice.")
        return values[0] if values else None

    def cookies(self, wanted: str) -> list[str]:
        pairs = [pair.partition("=") for own, value in self._all if own == b"cookie" for pair in value.split(";")]
        return [value.strip() for name, _, value in pairs if name.strip() == wanted]


async def _check_operator(receive: Receive) -> Receive:
    """Look into the request which operator it is to run; what was read is given again."""
    body, messages = b"", []
    while True:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if len(body) > _MOST_BYTES:
            raise RefusedError(413, "The request is too long.")
        if not message.get("more_body"):
            break
    try:
        wanted = json.loads(body)["operator_uri"]
    except (ValueError, KeyError, TypeError):
        wanted = None
    if not isinstance(wanted, str) or wanted not in OPERATORS:
        raise RefusedError(403, f"The operator {wanted} is off.")

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return again


def _host(name: str, port: int) -> str:
    plain = f"[{name}]" if ":" in name else name
    return f"{plain}:{port}".lower() if port != 80 else plain.lower()


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return wrapped


async def _answer(send: Send, status: int, body: bytes, more: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_HEADERS, *(more or [])]})
    await send({"type": "http.response.body", "body": body})
