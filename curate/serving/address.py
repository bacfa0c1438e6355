"""Where a page of curate is reached, and the link that lets one in."""

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
    """Bind before the long work, so that a taken port is known at once; without a number `usual`, or else any.

    Raises:
        UsageError: it cannot be had.
    """
    if not address:
        raise UsageError("not an address", place="--address", got=repr(address), expected="such as 127.0.0.1")
    for wanted in (port,) if port is not None else (usual, 0):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        taken = socket.socket(family, socket.SOCK_STREAM)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((address, wanted))
            taken.listen()  # two may bind to one port as long as neither listens
        except (OSError, OverflowError) as error:
            taken.close()
            if port is None and wanted:
                continue
            raise UsageError(
                f"the address cannot be had: {error}", place="--port", got=f"{address}:{wanted}", expected="a free port"
            ) from error
        else:
            return taken
    raise AssertionError  # port 0 is always free, or has raised


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Entrance:
    """The host that links name, and the tokens that let one in; each is made anew for every server.

    Attributes:
        host: a name or an address.
        port: as it was bound.
        names: all that a request may call the server.
        token: good until the server ends.
        ticket: good for one time.
    """

    host: str
    port: int
    names: frozenset[str]
    token: str
    ticket: str

    @classmethod
    def at(cls, taken: socket.socket, address: str) -> "Entrance":
        """The entrance of a server that listens on what `take_port` took."""
        host = _host_name(address)
        others = _LOCAL_NAMES if address in (*_LOCAL_NAMES, *_ANY) else (address,)
        token, ticket = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        return cls(host, taken.getsockname()[1], frozenset({host, *others}), token, ticket)

    def link(self, path: str = "/", query: Mapping[str, str] | None = None, *, once: bool = False) -> str:
        """An address that opens; `once`: good for one time, where others may see it."""
        named = urlencode({**(query or {}), TOKEN: self.ticket if once else self.token})
        plain = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{plain}:{self.port}{quote(path)}?{named}"


def _host_name(address: str) -> str:
    """What links name. Browsers send cookies to all ports of a host, so that the loopback gets a name of its own.

    Browsers take every name below .localhost for this machine (RFC 6761, 6.3); only Safari does not.
    """
    if address in _ANY:
        return socket.gethostname()
    if is_loopback(address) and sys.platform != "darwin":
        return f"{secrets.token_hex(8)}.localhost"
    return address
