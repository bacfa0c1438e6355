"""A loopback HTTP proxy for FFmpeg: reaches the host that the user named, and public ones.

A server can name any other host, in a redirect or a playlist. FFmpeg follows within this process and checks nothing;
with a proxy, each of its connections comes here first. Content is passed on as it is, encrypted content unread.
"""

import logging
import os
import select
import socket
import threading
import urllib.request
from base64 import b64encode
from contextlib import suppress
from http.client import parse_headers
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from curate.sources.hosts import RefusedAddressError, connect, find_host_refusal

logger = logging.getLogger(__name__)
_BLOCK = 256 * 1024
_MAX_HEAD = 64 * 1024
_PORTS = {"http": 80, "https": 443}
_NOT_PASSED_ON = ("proxy-authorization", "proxy-connection", "connection")


class CheckingProxy:
    """Runs until it is closed; further connections are then refused, open ones end with either side.

    Args:
        link: URL of the user, whose host and port are allowed wherever they are.
        timeout_s: Longest time to connect to a host.

    Attributes:
        url: Of the proxy.
        refusal: Which host was refused, and why; None while none was.
        error: Why the latest host could not be reached; None if it was.
    """

    def __init__(self, link: str, timeout_s: float) -> None:
        parts = urlsplit(link)
        self._named = (parts.hostname or "", parts.port or _PORTS[parts.scheme])
        self._timeout_s = timeout_s
        self.refusal: str | None = None
        self.error: OSError | None = None
        proxy = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
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
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, handler: StreamRequestHandler) -> None:
        line = handler.rfile.readline(_MAX_HEAD).decode("latin-1")
        headers = parse_headers(handler.rfile)
        method, _, rest = line.strip().partition(" ")
        target = rest.rpartition(" ")[0]
        is_tunnel = method == "CONNECT"
        parts = urlsplit(f"https://{target}" if is_tunnel else target)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
        try:
            upstream, through = self._open(parts.scheme, host, port)
        except OSError as error:
            self.error = error
            handler.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        except RefusedAddressError as error:
            self.refusal = self.refusal or str(error)
            logger.info("refused: %s", error)
            handler.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        self.error = None
        with upstream:
            if is_tunnel and through is None:
                handler.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                if through is None:
                    target = parts._replace(scheme="", netloc="", path=parts.path or "/").geturl()
                kept = [f"{name}: {value}" for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON]
                own = [] if is_tunnel else ["Connection: close"]  # the next request may name another host
                own += [f"Proxy-Authorization: {through}"] if through else []
                upstream.sendall("\r\n".join((f"{method} {target} HTTP/1.1", *kept, *own, "", "")).encode("latin-1"))
            _pass_on(handler.connection, upstream)

    def _open(self, scheme: str, host: str, port: int) -> tuple[socket.socket, str | None]:
        """Connect to a host, or to the user's proxy for it; returns its credentials then, "" without any."""
        is_named = (host, port) == self._named
        if scheme not in _PORTS or not host:
            raise RefusedAddressError("the URL is malformed")
        if not is_named and (reason := find_host_refusal(host, port)):
            raise RefusedAddressError(reason)
        beyond = None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(scheme)
        if beyond:
            parts = urlsplit(beyond if "://" in beyond else f"http://{beyond}")
            login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else ""
            upstream = socket.create_connection((parts.hostname or "", parts.port or 80), self._timeout_s)
            return upstream, f"Basic {b64encode(login.encode()).decode()}" if login else ""
        return connect(host, port, self._timeout_s, allow_private=is_named), None


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Pass data on in both directions until one side ends."""
    for end in (one, other):
        end.settimeout(None)
    while True:
        for source in select.select((one, other), (), ())[0]:
            data = source.recv(_BLOCK)
            if not data:
                return
            (other if source is one else one).sendall(data)
