"""Serves an ASGI app in a thread, and ends in bounded time, whatever browsers do."""

import asyncio
import errno
import logging
import socket
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from curate.serving.guard import App

logger = logging.getLogger(__name__)

_GRACE_S = 0.5  # for responses in progress when the server ends
_MAX_END_S = 2.0
_MAX_CONNECTIONS = 64  # a page uses two; the rest of the process needs file descriptors too


class BackgroundServer:
    """One app on one socket, in a thread of its own.

    Attributes:
        ending: Whether the server is about to end; endless responses must check it.
    """

    def __init__(self, app: App, taken: socket.socket, name: str) -> None:
        """Create the server; `start` starts it.

        Args:
            app: The app; it must not use threads.
            taken: Socket from `take_port`, which is closed with the server.
            name: Name of the thread.
        """
        self._app = app
        self._listener = _Listener(taken)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.ending = False

    def start(self) -> None:
        """Start to answer; earlier connections wait in the socket."""
        logger.info("%s: serving on port %d", self._thread.name, self._listener.getsockname()[1])
        self._thread.start()

    def close(self) -> None:
        """End open connections and the thread, within two seconds. Can be called again."""
        with self._lock:
            self.ending = True
            if self._loop is not None and self._stop is not None:
                with suppress(RuntimeError):  # the loop has ended by itself
                    self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.is_alive():
            self._thread.join(_MAX_END_S)
            if self._thread.is_alive():
                logger.warning("%s: the server has not ended after %.0f s", self._thread.name, _MAX_END_S)
            else:
                logger.info("%s: the server has ended", self._thread.name)
        self._listener.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        from hypercorn.asyncio import serve

        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(_handle_exception)
        with self._lock:
            if self.ending:
                return
            self._loop, self._stop = loop, stop
        serving = asyncio.create_task(serve(self._app, _config(self._listener), shutdown_trigger=stop.wait))  # pyright: ignore
        ending = asyncio.create_task(stop.wait())
        await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
        self.ending = True
        ending.cancel()
        await asyncio.wait((serving,), timeout=_GRACE_S)
        self._listener.shut_connections()
        await serving


def _handle_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Ignore connections that are cancelled at the end, which Python 3.11 reports as errors.

    If the process has no file descriptor left, asyncio waits a second and tries again; this is only logged.
    """
    error = context.get("exception")
    is_full = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
    if is_full:
        logger.warning("no file descriptor is left for a connection (%s); next attempt in a second", error)
    elif not isinstance(error, asyncio.CancelledError):
        loop.default_exception_handler(context)


class _Listener(socket.socket):
    """A listening socket that tracks its connections, since one whose browser stops reading would never end."""

    def __init__(self, taken: socket.socket) -> None:
        super().__init__(taken.family, taken.type, taken.proto, taken.detach())
        self._open: WeakSet[socket.socket] = WeakSet()

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept the next connection; one beyond the limit is closed at once.

        Raises:
            ConnectionAbortedError: It was closed; the server continues with the next one.
        """
        connection, address = super().accept()
        if sum(one.fileno() >= 0 for one in self._open) >= _MAX_CONNECTIONS:
            connection.close()
            logger.info("a connection was closed: %d are open already", _MAX_CONNECTIONS)
            raise ConnectionAbortedError
        self._open.add(connection)
        return connection, address

    def shut_connections(self) -> None:
        for connection in tuple(self._open):
            with suppress(OSError):  # it has ended in between
                connection.shutdown(socket.SHUT_RDWR)


def _config(listener: socket.socket) -> Any:
    from hypercorn.config import Config, Sockets

    class Own(Config):
        def create_sockets(self) -> Sockets:
            listener.setblocking(False)
            return Sockets([], [listener], [])

    config = Own()
    config.loglevel = "ERROR"
    config.graceful_timeout = _GRACE_S
    config.include_server_header = False
    return config
