"""Serves an ASGI app in a thread, and ends in bounded time, whatever browsers do."""

import asyncio
import errno
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from curate.serving.connections import ConnectionLimit, RateLimitedLog, end_strangers_in_time, server_config
from curate.serving.guard import App

logger = logging.getLogger(__name__)

_GRACE_S = 0.5  # for responses in progress when the server ends
_MAX_END_S = 2.0


class BackgroundServer:
    """One app on one socket, in a thread of its own.

    Attributes:
        ending: Whether the server is about to end; endless responses must check it.
    """

    def __init__(self, app: App, taken: ConnectionLimit, name: str) -> None:
        """Create the server; `start` starts it.

        Args:
            app: The app; it must not use threads.
            taken: The socket, which is closed with the server.
            name: Name of the thread.
        """
        self._app = app
        self._listener = taken
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
        loop.set_exception_handler(exception_handler())
        with self._lock:
            if self.ending:
                return
            self._loop, self._stop = loop, stop
        config = server_config(self._listener, _GRACE_S)
        serving = asyncio.create_task(serve(self._app, config, shutdown_trigger=stop.wait))  # pyright: ignore
        cleaning = asyncio.create_task(end_strangers_in_time(self._listener))
        ending = asyncio.create_task(stop.wait())
        await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
        self.ending = True
        ending.cancel()
        cleaning.cancel()
        await asyncio.wait((serving,), timeout=_GRACE_S)
        self._listener.shut_connections()
        await serving


def exception_handler() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """A handler of a loop's errors that logs a line in a minute: strangers can cause any number of them.

    Connections that are cancelled at the end, which Python 3.11 reports as errors, are left out. If the process has no
    file descriptor left, asyncio waits a second and tries again.
    """
    log = RateLimitedLog(logger.warning)

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            log(f"no file descriptor is left for a connection ({error}); next attempt in a second")
        elif not isinstance(error, asyncio.CancelledError):
            logger.debug("%s", context.get("message"), exc_info=error)
            log(f"a connection of the page failed: {type(error).__name__ if error else context.get('message')}")

    return handle
