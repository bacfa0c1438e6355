"""A loopback relay through which ffmpeg reads: our own rules, cookies, retries and limits hold for what it asks for.

ffmpeg alone would follow redirects and playlists to any address, and would tell an HTTP error only in its log.
"""

import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

HEAD_SIZE = 4096  # bytes that tell what a file is
_BLOCK = 64 * 1024
_ATTEMPTS = 4
_PLAYLIST_TYPES = ("mpegurl",)
_LARGEST_PLAYLIST = 20_000_000


class Answer(Protocol):
    """What a request gave: the part of `yt_dlp.networking.Response` that the relay needs."""

    status: int
    headers: Any
    url: str

    def read(self, amount: int | None = None) -> bytes:
        """The next bytes; none at the end."""
        ...

    def close(self) -> None:
        """Let go of the connection."""


@dataclass(frozen=True)
class Source:
    """How the relay reaches the network.

    Attributes:
        ask: opens an address, from a byte to another inclusive (None: to the end; both None: without a range).
            Raises for HTTP errors and refused addresses.
        is_broken: whether an error means that the connection broke off and may be taken up again.
        chunk_size: ask for at most so many bytes at once; None for all. Some sites slow down longer requests.
        take: told of bytes that came; it may wait, to keep below a rate, and raises to stop.
        pause: waits before another attempt, given how many failed.
    """

    ask: Callable[[str, int | None, int | None], Answer]
    is_broken: Callable[[BaseException], bool]
    chunk_size: int | None
    take: Callable[[int], None]
    pause: Callable[[int], None]


class Relay:
    """Serves addresses of the network under addresses of its own; use as `with open_relay(source) as relay`.

    Attributes:
        trouble: the first error that ffmpeg met on the way; what it made is not whole then.
        head: how the first file begins.
        lacks_ranges: whether a site sent a whole file where a part was asked for.
    """

    def __init__(self, source: Source, port: int) -> None:
        self.trouble: BaseException | None = None
        self.head = b""
        self.lacks_ranges = False
        self._source = source
        self._base = f"http://127.0.0.1:{port}"
        self._token = secrets.token_urlsafe(16)  # others on this machine cannot guess it
        self._addresses: list[str] = []
        self._lock = threading.Lock()

    def address(self, link: str) -> str:
        """The relay's own address for a link. ffmpeg tells a playlist's segments by their suffix, so it is kept."""
        suffix = re.search(r"\.\w{1,5}$", urlsplit(link).path)
        with self._lock:
            self._addresses.append(link)
            number = len(self._addresses) - 1
        return f"{self._base}/{self._token}/{number}{suffix[0] if suffix else ''}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request of ffmpeg."""
        match = re.fullmatch(rf"/{re.escape(self._token)}/(\d+)(?:\.\w+)?", handler.path)
        if not match or int(match[1]) >= len(self._addresses):
            handler.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else None
        last = int(wanted[2]) if wanted and wanted[2] else None
        try:
            self._pass_on(handler, self._addresses[int(match[1])], first, last)
        except (BrokenPipeError, ConnectionResetError):
            pass  # ffmpeg has enough of this request, as after each jump in the file
        except BaseException as error:  # whatever it is, a stop too: told to the one who waits for ffmpeg
            status = getattr(error, "status", 502)
            if status != 416:  # a jump beyond the end
                self.trouble = self.trouble or error
            if not getattr(handler, "has_answered", False):
                handler.send_error(int(status))
            handler.close_connection = True

    def _pass_on(self, handler: BaseHTTPRequestHandler, link: str, first: int | None, last: int | None) -> None:
        answer = self._ask(link, first, self._chunk_end(first or 0, last))
        start, total = _content_range(answer, first)
        kind = answer.headers.get("Content-Type") or "application/octet-stream"
        if any(word in kind.lower() for word in _PLAYLIST_TYPES) or urlsplit(link).path.endswith(".m3u8"):
            self._send(handler, 200, {"Content-Type": kind}, self._rewrite(answer))
            return
        self.lacks_ranges |= first is not None and answer.status == 200
        if first and answer.status == 200:
            answer.close()
            raise ConnectionError("the site sent the whole file where a part was asked for")
        headers = {"Content-Type": kind}
        if total is not None:
            end = min(total - 1, last) if last is not None and answer.status == 206 else total - 1
            headers["Content-Length"] = str(end - start + 1)
            if first is not None and answer.status == 206:
                headers |= {"Content-Range": f"bytes {start}-{end}/{total}", "Accept-Ranges": "bytes"}
        else:
            end = None
        self._send(handler, 206 if "Content-Range" in headers else 200, headers, b"")
        for block in self._read(link, answer, start, end):
            if not start and not self.head:
                self.head = block[:HEAD_SIZE]
            handler.wfile.write(block)

    def _read(self, link: str, answer: Answer, position: int, end: int | None) -> Iterator[bytes]:
        """The bytes up to `end`, asking again where a connection breaks off or a chunk is through."""
        failed = 0
        chunk_end = self._chunk_end(position, end)
        while True:
            error: Exception | None = None
            try:
                while block := answer.read(_BLOCK):
                    position += len(block)
                    self._source.take(len(block))
                    yield block
            except Exception as caught:
                if end is None or not self._source.is_broken(caught):
                    raise
                error = caught
            finally:
                answer.close()
            if end is None or position > end:
                return
            if chunk_end is not None and position <= chunk_end:  # no error tells of a connection that is just closed
                failed += 1
                if failed >= _ATTEMPTS:
                    raise error or ConnectionError("the connection broke off again and again")
                self._source.pause(failed)
            chunk_end = self._chunk_end(position, end)
            answer = self._ask(link, position, chunk_end)
            if answer.status != 206:
                answer.close()
                raise ConnectionError("the connection broke off, and the site does not go on in the middle")

    def _ask(self, link: str, first: int | None, last: int | None) -> Answer:
        for failed in range(1, _ATTEMPTS + 1):
            try:
                return self._source.ask(link, first, last)
            except Exception as error:
                if failed == _ATTEMPTS or not self._source.is_broken(error):
                    raise
                self._source.pause(failed)
        raise AssertionError("unreachable")

    def _chunk_end(self, first: int, last: int | None) -> int | None:
        if self._source.chunk_size is None:
            return last
        end = first + self._source.chunk_size - 1
        return end if last is None else min(end, last)

    def _rewrite(self, answer: Answer) -> bytes:
        """A playlist whose every address leads through the relay."""
        text = answer.read(_LARGEST_PLAYLIST).decode("utf-8", "replace")
        answer.close()
        lines = []
        for line in text.splitlines():
            if line.startswith("#"):
                lines.append(re.sub(r'URI="([^"]*)"', lambda found: f'URI="{self._own(answer.url, found[1])}"', line))
            else:
                lines.append(self._own(answer.url, line.strip()) if line.strip() else line)
        return "\n".join([*lines, ""]).encode()

    def _own(self, base: str, link: str) -> str:
        return link if link.startswith("data:") else self.address(urljoin(base, link))

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        handler.has_answered = True  # pyright: ignore[reportAttributeAccessIssue]
        handler.send_response(status)
        for name, value in (headers | ({"Content-Length": str(len(body))} if body else {})).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def open_relay(source: Source) -> Iterator[Relay]:
    """Start a relay on a free loopback port; it ends with the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            relay.answer(self)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    relay = Relay(source, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        server.shutdown()
        server.server_close()


def _content_range(answer: Answer, first: int | None) -> tuple[int, int | None]:
    """Where the answer starts, and how long the whole file is."""
    match = re.match(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range") or "")
    if answer.status == 206 and match and int(match[1]) == (first or 0):
        return int(match[1]), int(match[2])
    if answer.status == 206 and first:
        raise ConnectionError("the site answered with another part than was asked for")
    length = answer.headers.get("Content-Length")
    encoded = answer.headers.get("Content-Encoding")
    return 0, int(length) if length and not encoded else None
