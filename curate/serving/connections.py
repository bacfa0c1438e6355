"""Connections of a page: those of people who are in come first, and strangers can neither use them up nor flood a log.

A connection is a stranger's until a request on it has the cookie or the token. There are few places for strangers: a
new one takes the place of the oldest, and none stays long without an answer.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)

MOST_STRANGERS = 64
MOST_KNOWN = 64  # a page uses two; the rest of the process needs file descriptors too
STRANGER_S = 10  # for a request to arrive
_AT_ONCE = 1  # accepted before the requests of others are read: a new one must not become the oldest unread
_LOG_EVERY_S = 60


class RateLimitedLog:
    """Logs a line at most once in a while, with the number of those that were left out.

    Args:
        log: Where the lines go.
        every_s: Seconds between two lines.
        clock: Seconds; for tests.
    """

    def __init__(
        self, log: Callable[[str], object], every_s: float = _LOG_EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log, self._every_s, self._clock = log, every_s, clock
        self._next = -float("inf")
        self._left_out = 0

    def __call__(self, line: str) -> None:
        """Log a line, or count it."""
        now = self._clock()
        if now < self._next:
            self._left_out += 1
            return
        more = f" ({self._left_out:,} more since the last line)" if self._left_out else ""
        self._next, self._left_out = now + self._every_s, 0
        self._log(line + more)


class ConnectionLimit(socket.socket):
    """A listening socket that limits its connections and can end them.

    Args:
        taken: The listening socket, which this one replaces.
    """

    def __init__(self, taken: socket.socket) -> None:
        super().__init__(taken.family, taken.type, taken.proto, taken.detach())
        self._strangers: dict[Any, tuple[socket.socket, float]] = {}  # by address, oldest first
        self._known: dict[Any, socket.socket] = {}
        self._accepted = 0
        self._log = RateLimitedLog(logger.info)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept the next connection, as a stranger's.

        Raises:
            BlockingIOError: There is none, or enough were accepted before their requests were read.
        """
        if self._accepted >= _AT_ONCE:
            self._accepted = 0
            raise BlockingIOError
        try:
            connection, address = super().accept()
        except OSError:
            self._accepted = 0
            raise
        self._accepted += 1
        self.end_old_strangers()
        if len(self._strangers) >= MOST_STRANGERS:
            self._end(next(iter(self._strangers)), f"{MOST_STRANGERS} are open that have not shown the link's token")
        self._strangers[address[:2]] = connection, time.monotonic()
        return connection, address

    def admit(self, client: Any) -> None:
        """Take a connection out of the strangers': a request on it has the cookie or the token.

        Args:
            client: Address and port of the other side, as in an ASGI scope.
        """
        connection, _ = self._strangers.pop(tuple(client or ())[:2], (None, 0.0))
        if connection is None:
            return
        self._known = {address: one for address, one in self._known.items() if one.fileno() >= 0}
        while len(self._known) >= MOST_KNOWN:
            _shut(self._known.pop(next(iter(self._known))))
        self._known[tuple(client)[:2]] = connection

    def end_old_strangers(self) -> None:
        """End connections on which no request with the token came in time, and forget those that have ended."""
        now = time.monotonic()
        for address, (connection, since) in list(self._strangers.items()):
            if connection.fileno() < 0:
                del self._strangers[address]
            elif now - since > STRANGER_S:
                self._end(address, f"no request with the token came within {STRANGER_S} s")

    def shut_connections(self) -> None:
        """End all connections."""
        for connection in (*self._known.values(), *(one for one, _ in self._strangers.values())):
            _shut(connection)

    def _end(self, address: Any, reason: str) -> None:
        _shut(self._strangers.pop(address)[0])
        self._log(f"a connection from {address[0]} was ended: {reason}")


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended in between
        connection.shutdown(socket.SHUT_RDWR)


async def end_strangers_in_time(listener: ConnectionLimit) -> None:
    """End old connections of strangers every second, also while nobody else comes."""
    while True:
        await asyncio.sleep(1)
        listener.end_old_strangers()


def server_config(listener: ConnectionLimit, grace_s: float) -> Any:
    """hypercorn's configuration for one socket: no log of requests, and short times for what does not go on.

    Args:
        listener: The socket.
        grace_s: Seconds for responses in progress when the server ends.
    """
    from hypercorn.config import Config, Sockets

    class Own(Config):
        def create_sockets(self) -> Sockets:
            listener.setblocking(False)
            return Sockets([], [listener], [])

    config = Own()
    config.loglevel = "CRITICAL"  # the guard and the loop report errors, a line in a minute
    config.graceful_timeout = grace_s
    config.backlog = 1024  # connections that wait to be accepted; beyond it, a new one waits for a second
    config.include_server_header = False
    return config
