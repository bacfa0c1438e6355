"""A loopback HTTP proxy for FFmpeg: reaches the host that the user named, and public ones.

A server can name any other host, in a redirect or a playlist. FFmpeg follows within this process and checks nothing;
with a proxy, each of its connections comes here first. FFmpeg itself speaks plain HTTP with the proxy alone, which does
the encryption: its `https` would need its protocol `httpproxy`, with which a playlist can go past the proxy.
"""

import logging
import os
import re
import socket
import ssl
import threading
import urllib.request
from base64 import b64encode
from contextlib import suppress
from http.client import HTTPException, HTTPResponse, parse_headers
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from curate.sources.containers import HEAD_BYTES, find_playlist
from curate.sources.hosts import RefusedAddressError, connect, find_host_refusal

logger = logging.getLogger(__name__)
_BLOCK = 256 * 1024
_MAX_HEAD = 64 * 1024
_MAX_PLAYLIST = 16 << 20  # bytes
_GRACE_S = 5.0  # FFmpeg notices first that nothing comes
_PLAYLIST = b"#EXTM3U"
_HIDDEN = "a playlist is hidden behind other content"
_PAST_THE_PROXY = re.compile(rb"(?<![\w.+-])(?:tcp|crypto)[:+]")  # what FFmpeg may open beside `http`
_MOST_ENCRYPTED = 10_000  # hosts
_PORTS = {"http": 80, "https": 443}
_OWN_REQUEST_HEADERS = ("proxy-authorization", "proxy-connection", "connection", "host", "accept-encoding")
_OWN_ANSWER_HEADERS = ("connection", "transfer-encoding", "location", "keep-alive")
_TARGET = re.compile(r"http://([^/?#]*)(.*)", re.IGNORECASE)
_ENCRYPTED = re.compile(rb"https://([^/?#\\\s\"'<>,]+)", re.IGNORECASE)
_SAME_SCHEME = re.compile(rb"""((?:^|[\n\r]|URI=)"?)(//([^/?#\\\s\"'<>,]+))""")


class _Place(NamedTuple):
    host: str
    port: int


class CheckingProxy:
    """Runs until it is closed; further connections are then refused, open ones are ended.

    Args:
        link: URL of the user, whose host and port are allowed wherever they are.
        timeout_s: Longest time to connect to a host.
        stall_s: Seconds without data after which FFmpeg gives a connection up.

    Attributes:
        url: Of the proxy.
        link: What FFmpeg opens in place of the user's URL.
        refusal: Which host was refused, and why; None while none was.
        error: Why the latest host could not be reached; None if it was.
    """

    def __init__(self, link: str, timeout_s: float, stall_s: float) -> None:
        parts = urlsplit(link)
        self._named = _Place(parts.hostname or "", parts.port or _PORTS[parts.scheme])
        self._timeout_s, self._stall_s = timeout_s, stall_s
        self._encrypted: set[_Place] = set()
        self._upstream: set[socket.socket] = set()
        self.link = self._in_plain(link.encode()).decode()
        self.refusal: str | None = None
        self.error: OSError | None = None
        proxy = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                with suppress(OSError, HTTPException):
                    proxy._serve(self)

        class Server(ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: Any, client_address: Any) -> None:
                logger.debug("a request to the proxy failed", exc_info=True)

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        # FFmpeg would go past the proxy to hosts that this variable lists. Python has it in `os.environ` still.
        os.unsetenv("no_proxy")

    def close(self) -> None:
        """Stop listening, and end all connections to hosts."""
        self._server.shutdown()
        self._server.server_close()
        for upstream in self._upstream.copy():
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)

    def _serve(self, handler: StreamRequestHandler) -> None:
        line = handler.rfile.readline(_MAX_HEAD).decode("latin-1")
        headers = parse_headers(handler.rfile)
        method, _, rest = line.strip().partition(" ")
        target = _TARGET.fullmatch(rest.rpartition(" ")[0])
        try:
            if target is None:
                raise RefusedAddressError("the URL is malformed")
            place = _read_place(target[1])
            upstream, own_headers = self._open(place)
        except OSError as error:
            self.error = error
            handler.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        except RefusedAddressError as error:
            self._refuse(error)
            handler.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        self.error = None
        kept = [f"{name}: {value}" for name, value in headers.items() if name.lower() not in _OWN_REQUEST_HEADERS]
        path = target[2] if target[2].startswith("/") else f"/{target[2]}"
        asked = path if own_headers is None else f"http://{target[1]}{path}"
        # without `close`, the next request on this connection might name another host
        head = [f"{method} {asked} HTTP/1.1", f"Host: {self._host_header(place)}", "Connection: close"]
        self._upstream.add(upstream)
        try:
            with upstream:
                upstream.settimeout(self._stall_s + _GRACE_S)
                upstream.sendall("\r\n".join((*head, *kept, *(own_headers or ()), "", "")).encode("latin-1"))
                with HTTPResponse(upstream, method=method) as answer:
                    answer.begin()
                    self._pass_on(answer, handler, is_encrypted=place in self._encrypted)
        except RefusedAddressError as error:
            self._refuse(error)
        finally:
            self._upstream.discard(upstream)

    def _refuse(self, error: RefusedAddressError) -> None:
        self.refusal = self.refusal or str(error)
        logger.info("refused: %s", error)

    def _open(self, place: _Place) -> tuple[socket.socket, list[str] | None]:
        """Connect to a host; if through the user's proxy, unencrypted, also returns the headers for that, else None."""
        is_encrypted = place in self._encrypted
        if place != self._named and (reason := find_host_refusal(place.host, place.port)):
            raise RefusedAddressError(reason)
        scheme = "https" if is_encrypted else "http"
        beyond = None if urllib.request.proxy_bypass(place.host) else urllib.request.getproxies().get(scheme)
        login: list[str] = []
        if beyond:
            parts = urlsplit(beyond if "://" in beyond else f"http://{beyond}")
            if parts.username:
                text = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
                login = [f"Proxy-Authorization: Basic {b64encode(text.encode()).decode()}"]
            upstream = socket.create_connection((parts.hostname or "", parts.port or 80), self._timeout_s)
        else:
            upstream = connect(place.host, place.port, self._timeout_s, allow_private=place == self._named)
        if not is_encrypted:
            return upstream, login if beyond else None
        try:
            if beyond:
                _ask_for_tunnel(upstream, place, login)
            # cameras have certificates of their own; FFmpeg does not check them either, unless told to
            return ssl._create_unverified_context().wrap_socket(upstream, server_hostname=place.host), None  # noqa: S323
        except BaseException:
            upstream.close()
            raise

    def _pass_on(self, answer: HTTPResponse, handler: StreamRequestHandler, *, is_encrypted: bool) -> None:
        """Pass an answer on; in redirects and playlists, links are those that come back to this proxy.

        Raises:
            RefusedAddressError: It is a playlist that leads past the proxy.
        """
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OWN_ANSWER_HEADERS]
        if location := answer.getheader("Location"):
            kept.append(("Location", self._in_plain(location.encode("latin-1"), is_encrypted).decode("latin-1")))
        if answer.getheader("Content-Encoding", "identity").lower() != "identity":
            raise RefusedAddressError("compressed content was not asked for")  # a playlist in it would not be seen
        data, end = answer.read(HEAD_BYTES), b""
        if find_playlist(data):
            data = self._in_plain(data + _read_playlist(answer), is_encrypted)
            if _PAST_THE_PROXY.search(data):
                raise RefusedAddressError("a playlist names a protocol that is not http or https")
            kept = [(name, value) for name, value in kept if name.lower() not in ("content-length", "content-range")]
            kept.append(("Content-Length", str(len(data))))
        elif _PLAYLIST in data:
            raise RefusedAddressError(_HIDDEN)
        lines = [f"{name}: {value}" for name, value in kept]
        first = f"HTTP/1.1 {answer.status} {answer.reason}"
        handler.wfile.write("\r\n".join((first, *lines, "Connection: close", "", "")).encode("latin-1"))
        while data:
            handler.wfile.write(data)
            end, data = data[1 - len(_PLAYLIST) :], answer.read1(_BLOCK)
            if _PLAYLIST in end + data:
                raise RefusedAddressError(_HIDDEN)

    def _in_plain(self, text: bytes, is_encrypted: bool = False) -> bytes:
        """Make links with `https` those that FFmpeg asks this proxy for, which then encrypts the connection."""

        def replaced(link: bytes, netloc: bytes) -> bytes:
            try:
                place = _read_place(netloc.decode("latin-1"), "https")
            except RefusedAddressError:
                return link
            if len(self._encrypted) >= _MOST_ENCRYPTED and place not in self._encrypted:
                return link  # which FFmpeg does not open
            self._encrypted.add(place)
            login, at, _ = netloc.rpartition(b"@")
            return b"http://" + login + at + f"{_bracketed(place)}:{place.port}".encode("latin-1")

        text = _ENCRYPTED.sub(lambda match: replaced(match[0], match[1]), text)
        if is_encrypted:
            text = _SAME_SCHEME.sub(lambda match: match[1] + replaced(match[2], match[3]), text)
        return text

    def _host_header(self, place: _Place) -> str:
        usual = _PORTS["https" if place in self._encrypted else "http"]
        return _bracketed(place) if place.port == usual else f"{_bracketed(place)}:{place.port}"


def _read_playlist(answer: HTTPResponse) -> bytes:
    """The rest of a playlist."""
    found = b""
    while more := answer.read1(_BLOCK):
        found += more
        if len(found) > _MAX_PLAYLIST:
            raise RefusedAddressError(f"a playlist has more than {_MAX_PLAYLIST:,} bytes")
    return found


def _bracketed(place: _Place) -> str:
    return f"[{place.host}]" if ":" in place.host else place.host


def _read_place(netloc: str, scheme: str = "http") -> _Place:
    try:
        parts = urlsplit(f"{scheme}://{netloc}")
        place = _Place(parts.hostname or "", parts.port or _PORTS[scheme])
    except ValueError:
        place = _Place("", 0)
    if not place.host:
        raise RefusedAddressError("the URL is malformed")
    return place


def _ask_for_tunnel(proxy: socket.socket, place: _Place, login: list[str]) -> None:
    """Have the user's proxy connect to a host."""
    host = f"{_bracketed(place)}:{place.port}"
    proxy.sendall("\r\n".join((f"CONNECT {host} HTTP/1.1", f"Host: {host}", *login, "", "")).encode("latin-1"))
    with HTTPResponse(proxy, method="CONNECT") as answer:
        answer.begin()
        if answer.status != 200:
            raise ConnectionError(f"the proxy answers {answer.status}")
