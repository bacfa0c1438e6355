"""Addresses of curate's pages, and links with an access token."""

import ipaddress
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from curate.errors import UsageError

LOOPBACK = "127.0.0.1"
TOKEN = "token"  # noqa: S105 the name of a parameter
_LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
_ANY = ("0.0.0.0", "::")  # noqa: S104


def take_port(address: str, port: int | None, *, usual: int) -> socket.socket:
    """Bind a port before long work, so that a port in use fails at once.

    Args:
        address: Address to bind.
        port: Port to bind. Default: `usual` if it is free, else any free port.

    Raises:
        UsageError: The address or the port cannot be bound.
    """
    if not address:
        raise UsageError("not an address", place="--address", got=repr(address), expected="such as 127.0.0.1")
    for candidate in (port,) if port is not None else (usual, 0):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        taken = socket.socket(family, socket.SOCK_STREAM)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((address, candidate))
            taken.listen()  # a second bind to the port fails only once it listens
        except (OSError, OverflowError) as error:
            taken.close()
            if port is None and candidate:
                continue
            raise UsageError(
                f"the address cannot be bound: {error}",
                place="--port",
                got=f"{address}:{candidate}",
                expected="a free port",
            ) from error
        else:
            return taken
    raise AssertionError  # port 0 is always free, or has raised


def is_loopback(address: str) -> bool:
    """Whether the address is reachable from this machine only."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Entrance:
    """Host and access tokens of one server; the tokens are new for every server.

    Attributes:
        host: Name or address in links.
        port: The bound port.
        names: Names of the server that a request may use.
        token: Valid until the server ends.
        ticket: Valid for one request.
    """

    host: str
    port: int
    names: frozenset[str]
    token: str
    ticket: str

    @classmethod
    def at(cls, taken: socket.socket, address: str) -> "Entrance":
        """Entrance of a server on a socket from `take_port`."""
        host = _host_name(address)
        others = _LOCAL_NAMES if address in (*_LOCAL_NAMES, *_ANY) else (address,)
        token, ticket = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        return cls(host, taken.getsockname()[1], frozenset({host, *others}), token, ticket)

    def link(self, path: str = "/", query: Mapping[str, str] | None = None, *, once: bool = False) -> str:
        """A link with a token; with `once` it is valid for one request, for use where others can see it."""
        named = urlencode({**(query or {}), TOKEN: self.ticket if once else self.token})
        plain = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{plain}:{self.port}{quote(path)}?{named}"


def _host_name(address: str) -> str:
    """Host in links. Browsers send cookies to all ports of a host, so each server on the loopback has its own name.

    Browsers resolve every name below .localhost to this machine (RFC 6761, 6.3), except Safari.
    """
    if address in _ANY:
        return socket.gethostname()
    if is_loopback(address) and sys.platform != "darwin":
        return f"{secrets.token_hex(8)}.localhost"
    return address
