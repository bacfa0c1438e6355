"""What stands before every page that curate serves: who is let in.

An ASGI layer (asgi.readthedocs.io, HTTP). A request passes when

- its Host is one that the server is meant to have, so that no foreign name can be bound to this address,
- its Origin, where it has one, is the page itself, and a browser that tells where it comes from (`Sec-Fetch-Site`, W3C
  Fetch Metadata) does not name another page, not even one on another port,
- it has the cookie that the link with the token gives, or that token,
- `check` has nothing against what it asks for.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from curate.serving.address import TOKEN, Entrance

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Query = list[tuple[str, str]]
Header = tuple[bytes, bytes]

_OWN_PAGES = frozenset({"same-origin", "none"})  # of Sec-Fetch-Site; "none": a person opened a link
_HEADERS = [
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
    """An app behind these checks.

    Attributes:
        app: what is guarded. It may raise `RefusedError` too, before it has begun to answer.
        entrance: the names that the server is meant to have, beside the address that a connection came to; the token,
            which is also the cookie's value; the ticket, which is good for one request.
        check: raises `RefusedError` where the method, the path or the query is not for this app.
        policy: of every answer (Content-Security-Policy).
        command: that printed the link, for who comes without it.
    """

    app: App
    entrance: Entrance
    check: Callable[[Scope, Query], None]
    policy: str
    command: str
    _tickets: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self._tickets = {self.entrance.ticket}

    @property
    def cookie(self) -> str:
        """Cookies do not know ports, so that their name says it: several servers can run."""
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
            return  # the app has no other; closing without an answer refuses it
        try:
            headers = _Headers(scope)
            self._check_addresses(scope, headers)
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            if (redirect := self._check_token(scope, headers, query)) is not None:
                await self._answer(send, 303, b"", redirect)
                return
            if headers.one("sec-fetch-site") not in (None, *_OWN_PAGES):
                raise RefusedError(403, "Requests of other pages are refused.")
            self.check(scope, query)
            await self.app(scope, receive, self._with_headers(send))
        except RefusedError as refused:
            await self._answer(send, refused.status, f"{refused.why}\n".encode())

    def _check_addresses(self, scope: Scope, headers: "_Headers") -> None:
        here = (scope.get("server") or ("", 0))[0].removeprefix("::ffff:")  # an IPv4 address in the form of IPv6
        hosts = {_host(name, self.entrance.port) for name in (*self.entrance.names, here) if name}
        host = headers.one("host")
        if host is None or host.lower() not in hosts:
            raise RefusedError(403, "This is not served under that name.")
        origin = headers.one("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            raise RefusedError(403, "Requests of other pages are refused.")

    def _check_token(self, scope: Scope, headers: "_Headers", query: Query) -> list[Header] | None:
        """None where the cookie is there; headers of a redirect where the link brought the token."""
        if any(map(self._is_token, headers.cookies(self.cookie))):
            if not (scope["method"] == "GET" and any(name == TOKEN for name, _ in query)):
                return None
        elif not self._is_invited(scope, query):
            raise RefusedError(401, f"Open the link that `curate {self.command}` printed: it has the token.")
        rest = urlencode([(name, value) for name, value in query if name != TOKEN])
        place = "/" + scope["path"].lstrip("/")  # two slashes would lead to another host
        location = place + (f"?{rest}" if rest else "")
        cookie = f"{self.cookie}={self.entrance.token}; HttpOnly; SameSite=Strict; Path=/"
        return [(b"location", location.encode("latin-1", "replace")), (b"set-cookie", cookie.encode())]

    def _is_invited(self, scope: Scope, query: Query) -> bool:
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

    async def _answer(self, send: Send, status: int, body: bytes, more: list[Header] | None = None) -> None:
        own = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        headers = [*own, *self._headers, *(more or [])]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


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


def _host(name: str, port: int) -> str:
    plain = f"[{name}]" if ":" in name else name
    return f"{plain}:{port}".lower() if port != 80 else plain.lower()
