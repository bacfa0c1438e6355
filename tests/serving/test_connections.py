"""Connections of a page: places for strangers, and the log that they cannot flood."""

import socket
from contextlib import suppress

import pytest

from curate.serving import connections
from curate.serving.address import LOOPBACK, take_port
from curate.serving.connections import MOST_KNOWN, MOST_STRANGERS, ConnectionLimit, RateLimitedLog


@pytest.fixture
def listener():
    """A socket that does not wait for connections."""
    with ConnectionLimit(take_port(LOOPBACK, 0, usual=0)) as limited:
        limited.setblocking(False)
        yield limited


def accept(listener):
    """Accept one connection, as the server does in several passes."""
    while True:
        try:
            return listener.accept()
        except BlockingIOError:
            continue


def connect(listener, count):
    """Open connections; each side of them."""
    pairs = []
    for _ in range(count):
        client = socket.create_connection(listener.getsockname(), timeout=5)
        pairs.append((client, *accept(listener)))
    return pairs


def is_open(client):
    client.settimeout(0.01)
    try:
        return client.recv(1) != b""
    except TimeoutError:
        return True


def close(pairs):
    for client, server, _ in pairs:
        client.close()
        server.close()


def test_the_oldest_stranger_goes_first(listener):
    """Where all places of strangers are taken, a new connection takes that of the oldest."""
    pairs = connect(listener, MOST_STRANGERS + 2)
    assert [is_open(client) for client, *_ in pairs[:4]] == [False, False, True, True]
    close(pairs)


def test_who_is_in_stays(listener):
    """A connection that was admitted is not ended for strangers, however many come."""
    pairs = connect(listener, 1)
    listener.admit((*pairs[0][2], "more"))
    others = connect(listener, 3 * MOST_STRANGERS)
    assert is_open(pairs[0][0])
    close([*pairs, *others])


def test_who_is_in_has_limits_too(listener):
    """The oldest connection of people who are in goes when there are too many."""
    pairs = connect(listener, MOST_KNOWN + 1)
    for *_, address in pairs:
        listener.admit(address)
    assert [is_open(client) for client, *_ in pairs[:3]] == [False, True, True]
    close(pairs)


def test_unknown_connections_are_not_admitted(listener):
    """An address that no connection has, or none, admits nobody: strangers stay strangers."""
    pairs = connect(listener, 1)
    listener.admit(None)
    listener.admit(("192.0.2.1", 7))
    others = connect(listener, MOST_STRANGERS)
    assert not is_open(pairs[0][0])
    close([*pairs, *others])


def test_strangers_have_little_time(listener, monkeypatch):
    """A connection on which no request with the token came in time is ended."""
    pairs = connect(listener, 2)
    listener.admit(pairs[0][2])
    monkeypatch.setattr(connections, "STRANGER_S", -1)
    listener.end_old_strangers()
    assert [is_open(client) for client, *_ in pairs] == [True, False]
    close(pairs)


def test_a_pass_accepts_a_few(listener):
    """A pass ends after a few connections, so that their requests are read before more come."""
    clients = [socket.create_connection(listener.getsockname(), timeout=5) for _ in range(20)]
    accepted = []
    with suppress(BlockingIOError):
        while True:
            accepted.append(listener.accept())
    assert 0 < len(accepted) < 20
    for one in (*clients, *(connection for connection, _ in accepted)):
        one.close()


def test_a_log_that_is_limited():
    """One line in a while, with the number of those that were left out."""
    lines, now = [], 0.0
    log = RateLimitedLog(lines.append, every_s=60, clock=lambda: now)
    for now in (0.0, 1.0, 59.0, 60.0, 61.0, 200.0):
        log(f"at {now:.0f}")
    assert lines == ["at 0", "at 60 (2 more since the last line)", "at 200 (1 more since the last line)"]
