"""Strangers flood a page while its owner is served: nobody is locked out, and the log stays short."""

import contextlib
import logging
import random
import socket
import threading
import time

import pytest
from extras import needs_page
from page_scene import GREEN, ask, open_live_page, plain
from tally import tally

from curate.serving.address import LOOPBACK

pytestmark = needs_page
FLOODERS = 4
MOST_LINES = 10  # in a minute
MOST_WAIT_S = 10


def nothing(connection, chance):
    """Says nothing, and keeps the connection open."""


def slowly(connection, chance):
    """Begins a request that never ends."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")


def garbage(connection, chance):
    """Sends bytes that are no request."""
    connection.sendall(chance.randbytes(chance.randint(1, 2000)))


def without_token(connection, chance):
    """Asks for a page, without the token, with a wrong one, or for another host."""
    token = chance.choice(["", "?token=x", "?token=%ff%0d%0a", "?" + "a" * 3000])
    connection.sendall(f"GET /{token} HTTP/1.1\r\nHost: {chance.choice([LOOPBACK, 'evil'])}\r\n\r\n".encode())


def upgrade(connection, chance):
    """Asks for a web socket, or begins with HTTP/2."""
    if chance.random() < 0.5:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + chance.randbytes(30))
        return
    connection.sendall(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )


def flood(port, seed, stop, counts):
    """Open connections of all kinds as fast as they are taken, and keep the last hundred."""
    chance, kept = random.Random(seed), []
    while not stop.is_set():
        with contextlib.suppress(OSError):
            connection = socket.create_connection((LOOPBACK, port), timeout=1)
            kept.append(connection)
            chance.choice([nothing, slowly, garbage, without_token, upgrade])(connection, chance)
            counts[seed] += 1
        if len(kept) > 100:
            kept.pop(0).close()
    for one in kept:
        one.close()


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.long)])
def test_page_under_flood(seconds, caplog):
    """Each request of the owner is answered, and strangers leave a few lines in the log."""
    caplog.set_level(logging.INFO)
    counts, stop = [0] * FLOODERS, threading.Event()
    with tally("connections of strangers to a page", f"{seconds}") as counted, open_live_page() as page:
        page.show(plain(GREEN), None)
        threads = [threading.Thread(target=flood, args=(page.port, seed, stop, counts)) for seed in range(FLOODERS)]
        for thread in threads:
            thread.start()
        until, served = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            try:
                assert ask(page, "/picture", timeout_s=MOST_WAIT_S).read(2) == b"\xff\xd8"
                served += 1
            except (OSError, AssertionError) as error:
                counted.fault("hangs", f"the owner was locked out: {error!r}")
        stop.set()
        for thread in threads:
            thread.join()
        lines = [record.getMessage() for record in caplog.records]
        if len(lines) > MOST_LINES * (1 + seconds // 60):
            counted.fault("let in", f"{len(lines)} lines in the log, such as {lines[-1]}")
        counted.tried = sum(counts)
        for record in caplog.records:
            if record.exc_info:
                counted.fault("tracebacks", record.getMessage())
    assert served > 1
    assert counted.tried > 10 * seconds
