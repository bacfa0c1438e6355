"""A loopback HTTP relay through which ffmpeg reads, so that our checks, cookies, retries and limits apply.

On its own, ffmpeg would follow redirects and playlists to any address, and report HTTP errors only in its log. The
relay replaces each address in a playlist by one of its own. It is ffmpeg's proxy as well: what ffmpeg finds in a
playlist where the relay found no address comes here too, and is refused.
"""

import logging
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from curate.redaction import redact_text, redact_url
from curate.sources.containers import HEAD_BYTES, find_playlist
from curate.sources.youtube.failures import fail

logger = logging.getLogger(__name__)
_BLOCK = 64 * 1024
_ATTEMPTS = 4
_PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
_MAX_PLAYLIST_BYTES = 20_000_000
_LINE_END = re.compile(r"\r\n|[\r\n\0]")  # FFmpeg's
_URI = re.compile(r'(\bURI=)(?:"([^"]*)"|([^",\s]+))')  # FFmpeg reads it without quotation marks, too


class UpstreamResponse(Protocol):
    """The part of `yt_dlp.networking.Response` that the relay uses."""

    status: int
    headers: Any
    url: str

    def read(self, amount: int | None = None) -> bytes:
        """Read the next bytes; empty at the end."""
        ...

    def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True)
class Upstream:
    """How the relay reaches the network.

    Attributes:
        request: Opens a URL from a first to a last byte, inclusive (last None: to the end; both None: no range).
            Raises for HTTP errors and refused addresses.
        is_retryable: Whether a request that raised this error may be repeated.
        chunk_size: Most bytes per request; None for no limit. Some sites slow down longer requests.
        count_bytes: Called with the number of received bytes; may wait, to stay below a rate, and raises to stop.
        pause_after_failure: Waits before another attempt, given the number of failures.
    """

    request: Callable[[str, int | None, int | None], UpstreamResponse]
    is_retryable: Callable[[BaseException], bool]
    chunk_size: int | None
    count_bytes: Callable[[int], None]
    pause_after_failure: Callable[[int], None]


class Relay:
    """Serves URLs of the network under URLs of its own; use as `with open_relay(upstream) as relay`.

    Attributes:
        base: Its own URL.
        error: The first error; what ffmpeg has made is incomplete then.
        head: First bytes of the first file.
        lacks_ranges: Whether the site sent a whole file when a part was requested.
    """

    def __init__(self, upstream: Upstream, port: int) -> None:
        self.error: BaseException | None = None
        self.head = b""
        self.lacks_ranges = False
        self._upstream = upstream
        self.base = f"http://127.0.0.1:{port}"
        self._token = secrets.token_urlsafe(16)  # other programs on this machine cannot guess it
        self._links: list[str] = []
        self._lock = threading.Lock()

    def url_for(self, link: str) -> str:
        """Return the relay's own URL for a link, with the same suffix, by which ffmpeg recognises segments."""
        suffix = re.search(r"\.\w{1,5}$", urlsplit(link).path)
        with self._lock:
            self._links.append(link)
            number = len(self._links) - 1
        return f"{self.base}/{self._token}/{number}{suffix[0] if suffix else ''}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request of ffmpeg."""
        own = rf"(?:{re.escape(self.base)})?/{re.escape(self._token)}/(\d+)(?:\.\w+)?"
        match = re.fullmatch(own, handler.path)
        if not match or int(match[1]) >= len(self._links):
            detail = f"a playlist leads to {redact_url(handler.path)} in a way that cannot be checked"
            self._keep_error(fail("refused_address", detail))
            handler.send_error(403)
            return
        byte_range = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        first = int(byte_range[1]) if byte_range else None
        last = int(byte_range[2]) if byte_range and byte_range[2] else None
        try:
            self._pass_on(handler, self._links[int(match[1])], first, last)
        except (BrokenPipeError, ConnectionResetError):
            pass  # ffmpeg has closed the request, as it does after each seek
        except BaseException as error:  # StoppedError too; raised where ffmpeg is waited for
            status = getattr(error, "status", 502)
            if status != 416:  # a seek beyond the end
                self._keep_error(error)
            if not getattr(handler, "has_answered", False):
                handler.send_error(int(status))
            handler.close_connection = True

    def _keep_error(self, error: BaseException) -> None:
        logger.info("relay: %s: %s", type(error).__name__, redact_text(str(error)))
        self.error = self.error or error

    def _pass_on(self, handler: BaseHTTPRequestHandler, link: str, first: int | None, last: int | None) -> None:
        response = self._request(link, first, self._chunk_end(first or 0, last))
        start, total = _content_range(response, first)
        kind = response.headers.get("Content-Type") or "application/octet-stream"
        self.lacks_ranges |= first is not None and response.status == 200
        if first and response.status == 200:
            response.close()
            raise ConnectionError("the site sent the whole file when a part was requested")
        headers = {"Content-Type": kind}
        if total is not None:
            end = min(total - 1, last) if last is not None and response.status == 206 else total - 1
            headers["Content-Length"] = str(end - start + 1)
            if first is not None and response.status == 206:
                headers |= {"Content-Range": f"bytes {start}-{end}/{total}", "Accept-Ranges": "bytes"}
        else:
            end = None
        base = response.url
        blocks = self._read(link, response, start, end)
        head = next(blocks, b"")
        if not start and not self.head:
            self.head = head[:HEAD_BYTES]
        if find_playlist(head) == "HLS":  # whatever its name and its type are
            headers = {"Content-Type": _PLAYLIST_TYPE}  # without it, newer releases of ffmpeg want the suffix too
            self._send(handler, 200, headers, self._rewrite_playlist(base, head, blocks))
            return
        self._send(handler, 206 if "Content-Range" in headers else 200, headers, head)
        for block in blocks:
            handler.wfile.write(block)

    def _read(self, link: str, response: UpstreamResponse, position: int, end: int | None) -> Iterator[bytes]:
        """Yield the bytes up to `end`, with a new request after each chunk and each broken connection."""
        failures = 0
        chunk_end = self._chunk_end(position, end)
        while True:
            error: Exception | None = None
            try:
                while block := response.read(_BLOCK):
                    position += len(block)
                    self._upstream.count_bytes(len(block))
                    yield block
            except Exception as caught:
                if end is None or not self._upstream.is_retryable(caught):
                    raise
                error = caught
            finally:
                response.close()
            if end is None or position > end:
                return
            if chunk_end is not None and position <= chunk_end:  # a connection that is closed early raises no error
                failures += 1
                if failures >= _ATTEMPTS:
                    raise error or ConnectionError("the connection broke repeatedly")
                logger.info("relay: connection broke at byte %d, attempt %d to resume", position, failures)
                self._upstream.pause_after_failure(failures)
            chunk_end = self._chunk_end(position, end)
            response = self._request(link, position, chunk_end)
            if response.status != 206:
                response.close()
                raise ConnectionError("the connection broke, and the site cannot resume within a file")

    def _request(self, link: str, first: int | None, last: int | None) -> UpstreamResponse:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._upstream.request(link, first, last)
            except Exception as error:
                if attempt == _ATTEMPTS or not self._upstream.is_retryable(error):
                    raise
                logger.info("relay: attempt %d failed: %s; retrying", attempt, redact_text(str(error)))
                self._upstream.pause_after_failure(attempt)
        raise AssertionError("unreachable")

    def _chunk_end(self, first: int, last: int | None) -> int | None:
        if self._upstream.chunk_size is None:
            return last
        end = first + self._upstream.chunk_size - 1
        return end if last is None else min(end, last)

    def _rewrite_playlist(self, base: str, head: bytes, blocks: Iterator[bytes]) -> bytes:
        """Replace every URL of a playlist by one of the relay."""
        content = bytearray(head)
        for block in blocks:
            content += block
            if len(content) > _MAX_PLAYLIST_BYTES:
                raise fail("unsupported", f"a playlist has more than {_MAX_PLAYLIST_BYTES // 10**6} MB")
        text = content.decode("utf-8", "replace")
        text = text[max(0, text.find("#EXTM3U")) :]  # after byte order marks and white space, where ffmpeg looks for it
        lines = [
            _URI.sub(lambda match: f'{match[1]}"{self._own_url(base, match[2] or match[3] or "")}"', line)
            if line.startswith("#")
            else self._own_url(base, line)
            for line in map(str.strip, _LINE_END.split(text))
            if line
        ]
        return "\n".join([*lines, ""]).encode()

    def _own_url(self, base: str, link: str) -> str:
        return link if link.startswith("data:") else self.url_for(urljoin(base, link))

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        handler.has_answered = True  # pyright: ignore[reportAttributeAccessIssue]
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def open_relay(upstream: Upstream) -> Iterator[Relay]:
    """Start a relay on a free loopback port; it stops at the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            relay.answer(self)

        do_CONNECT = do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    relay = Relay(upstream, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        server.shutdown()
        server.server_close()


def _content_range(response: UpstreamResponse, first: int | None) -> tuple[int, int | None]:
    """Return the first byte of the response, and the size of the whole file."""
    match = re.match(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range") or "")
    if response.status == 206 and match and int(match[1]) == (first or 0):
        return int(match[1]), int(match[2])
    if response.status == 206 and first:
        raise ConnectionError("the site sent another part than was requested")
    length = response.headers.get("Content-Length")
    encoded = response.headers.get("Content-Encoding")
    return 0, int(length) if length and not encoded else None
