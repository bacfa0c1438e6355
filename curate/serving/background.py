"""Serves an ASGI app in a thread, beside other work, and ends when it is told to, whatever browsers do."""

import asyncio
import errno
import socket
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from curate.serving.guard import App

_PATIENCE_S = 0.5  # for answers that are under way when the server is to end
_LONGEST_S = 2.0
_MOST_OPEN = 64  # connections; a page takes two. What else the process does needs its files and sockets too


class BackgroundServer:
    """One app on one socket, in a thread of its own.

    Attributes:
        ending: whether the server is about to end; answers that go on and on have to look at it.
    """

    def __init__(self, app: App, taken: socket.socket, name: str) -> None:
        """Nothing is answered yet.

        Args:
            app: answers; without threads of its own.
            taken: what `take_port` gave; it is closed with the server.
            name: of the thread.
        """
        self._app = app
        self._listener = _Listener(taken)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.ending = False

    def start(self) -> None:
        """Begin to answer; connections that came before wait in the socket."""
        self._thread.start()

    def close(self) -> None:
        """End open connections and the thread, within two seconds. May be called again."""
        with self._lock:
            self.ending = True
            if self._loop is not None and self._stop is not None:
                with suppress(RuntimeError):  # the loop has ended by itself
                    self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.is_alive():
            self._thread.join(_LONGEST_S)
        self._listener.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        from hypercorn.asyncio import serve

        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(_tell)
        with self._lock:
            if self.ending:
                return
            self._loop, self._stop = loop, stop
        serving = asyncio.create_task(serve(self._app, _config(self._listener), shutdown_trigger=stop.wait))  # pyright: ignore
        ending = asyncio.create_task(stop.wait())
        await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
        self.ending = True
        ending.cancel()
        await asyncio.wait((serving,), timeout=_PATIENCE_S)
        self._listener.cut()
        await serving


def _tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Python 3.11 tells of every connection that is cancelled at the end; it is meant to be.

    Where the process has no descriptor left asyncio waits a second, tries again, and would tell so each time.
    """
    error = context.get("exception")
    is_full = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
    if not is_full and not isinstance(error, asyncio.CancelledError):
        loop.default_exception_handler(context)


class _Listener(socket.socket):
    """A listening socket that knows its connections: one whose browser reads nothing more would never end by itself."""

    def __init__(self, taken: socket.socket) -> None:
        super().__init__(taken.family, taken.type, taken.proto, taken.detach())
        self._open: WeakSet[socket.socket] = WeakSet()

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; what comes while too many are open is closed at once.

        Raises:
            ConnectionAbortedError: it was closed; a server goes on with the next one then.
        """
        connection, address = super().accept()
        if sum(one.fileno() >= 0 for one in self._open) >= _MOST_OPEN:
            connection.close()
            raise ConnectionAbortedError
        self._open.add(connection)
        return connection, address

    def cut(self) -> None:
        for connection in tuple(self._open):
            with suppress(OSError):  # it has ended meanwhile
                connection.shutdown(socket.SHUT_RDWR)


def _config(listener: socket.socket) -> Any:
    from hypercorn.config import Config, Sockets

    class Own(Config):
        def create_sockets(self) -> Sockets:
            listener.setblocking(False)
            return Sockets([], [listener], [])

    config = Own()
    config.loglevel = "ERROR"
    config.graceful_timeout = _PATIENCE_S
    config.include_server_header = False
    return config
