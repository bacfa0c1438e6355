"""Access control for every page that curate serves.

An ASGI layer (asgi.readthedocs.io, HTTP). A request passes if

- its Host is a name of the server, which prevents DNS rebinding,
- its Origin, if any, is the page itself, and its `Sec-Fetch-Site` (W3C Fetch Metadata), if any, is not that of another
  page, not even one on another port,
- it has the token, or the cookie that the link with the token sets,
- `check` accepts its method, path and query.
"""

import hmac
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from curate.serving.address import TOKEN, Entrance

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Query = list[tuple[str, str]]
Header = tuple[bytes, bytes]

logger = logging.getLogger(__name__)

_OWN_SITES = frozenset({"same-origin", "none"})  # values of Sec-Fetch-Site; "none": a person opened a link
_HEADERS = [
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
]


def _nobody(_: Any) -> None:
    pass


class RefusedError(Exception):
    """A refused request: the status, and a line for its sender."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(eq=False)
class Guard:
    """An app behind these checks.

    Attributes:
        app: The guarded app. It can raise `RefusedError` too, before it starts to respond.
        entrance: Names of the server, to which the address of each connection is added; token and ticket.
        check: Raises `RefusedError` if method, path or query are not for this app.
        policy: Content-Security-Policy of every response.
        command: The command that printed the link, for people who come without it.
        admit: Called with the address of each connection on which a request has the cookie or the token.
    """

    app: App
    entrance: Entrance
    check: Callable[[Scope, Query], None]
    policy: str
    command: str
    admit: Callable[[Any], object] = _nobody
    _tickets: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self._tickets = {self.entrance.ticket}

    @property
    def cookie(self) -> str:
        """Name of the cookie. It contains the port, since browsers send the cookies of a host to all its ports."""
        return f"curate_{self.entrance.port}"

    @property
    def _headers(self) -> list[Header]:
        return [(b"content-security-policy", self.policy.encode()), *_HEADERS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no app here uses another type; closing without a response refuses it
        try:
            headers = _Headers(scope)
            self._check_addresses(scope, headers)
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            redirect = self._check_token(scope, headers, query)
            self.admit(scope.get("client"))
            if redirect is not None:
                await self._answer(scope, send, 303, b"", redirect)
                return
            if headers.one("sec-fetch-site") not in (None, *_OWN_SITES):
                raise RefusedError(403, "Requests from other pages are refused.")
            self.check(scope, query)
            await self._call(scope, receive, send)
        except RefusedError as refused:
            await self._answer(scope, send, refused.status, f"{refused.reason}\n".encode())

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app; an error of it is a line in our log, and says nothing to the sender."""
        is_started = False

        async def noted(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self.app(scope, receive, self._with_headers(noted))
        except RefusedError:
            raise
        except Exception as error:
            logger.warning("the page failed to answer %s: %s", type(error).__name__, ascii(scope["path"])[:200])
            logger.debug("the error of the page", exc_info=True)
            if is_started:
                raise
            raise RefusedError(500, "The server failed to answer.") from error

    def _check_addresses(self, scope: Scope, headers: "_Headers") -> None:
        here = (scope.get("server") or ("", 0))[0].removeprefix("::ffff:")  # IPv4 addresses in IPv6 notation
        hosts = {_host(name, self.entrance.port) for name in (*self.entrance.names, here) if name}
        host = headers.one("host")
        if host is None or host.lower() not in hosts:
            raise RefusedError(403, "The server has no such name.")
        origin = headers.one("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            raise RefusedError(403, "Requests from other pages are refused.")

    def _check_token(self, scope: Scope, headers: "_Headers", query: Query) -> list[Header] | None:
        """None if the request has the cookie; headers of a redirect if it has the token.

        Raises:
            RefusedError: It has neither.
        """
        if any(map(self._is_token, headers.cookies(self.cookie))):
            if not (scope["method"] == "GET" and any(name == TOKEN for name, _ in query)):
                return None
        elif not self._has_token(scope, query):
            raise RefusedError(401, f"Open the link that `curate {self.command}` printed: it has the token.")
        left = [(name, value) for name, value in query if name != TOKEN]
        self.check(scope, left)  # only to what this app answers
        # browsers take two slashes, and a backslash for one, as the begin of another host
        path = quote("/" + scope["path"].lstrip("/\\"), safe="/-._~!$&'()*+,;=:@", errors="replace")
        location = path + (f"?{urlencode(left, errors='replace')}" if left else "")
        cookie = f"{self.cookie}={self.entrance.token}; HttpOnly; SameSite=Strict; Path=/"
        return [(b"location", location.encode("ascii")), (b"set-cookie", cookie.encode())]

    def _has_token(self, scope: Scope, query: Query) -> bool:
        given = [value for name, value in query if name == TOKEN]
        if scope["method"] != "GET" or len(given) != 1:
            return False
        if given[0] in self._tickets:
            self._tickets.discard(given[0])
            return True
        return self._is_token(given[0])

    def _is_token(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(), self.entrance.token.encode())

    def _with_headers(self, send: Send) -> Send:
        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._headers]}
            await send(message)

        return wrapped

    async def _answer(
        self, scope: Scope, send: Send, status: int, body: bytes, more: list[Header] | None = None
    ) -> None:
        own = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        if status >= 400 and str(scope.get("http_version", "")).startswith("1"):  # HTTP/2 has no such header
            own.append((b"connection", b"close"))
        headers = [*own, *self._headers, *(more or [])]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Headers:
    """Headers of a request."""

    def __init__(self, scope: Scope) -> None:
        self._all = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def one(self, name: str) -> str | None:
        """A header that must not occur twice."""
        values = [value for own, value in self._all if own == name.encode()]
        if len(values) > 1:
            raise RefusedError(400, f"The header {name} occurs twice.")
        return values[0] if values else None

    def cookies(self, name: str) -> list[str]:
        pairs = [pair.partition("=") for own, value in self._all if own == b"cookie" for pair in value.split(";")]
        return [value.strip() for own, _, value in pairs if own.strip() == name]


def _host(name: str, port: int) -> str:
    """The Host header of a name; browsers leave out port 80."""
    plain = f"[{name}]" if ":" in name else name
    return f"{plain}:{port}".lower() if port != 80 else plain.lower()
