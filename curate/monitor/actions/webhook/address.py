"""Addresses that webhooks go to: http or https, to a host that the trigger file names, and to no other."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from curate.errors import UsageError

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\]")


@dataclass(frozen=True)
class Address:
    """Where a webhook goes.

    Attributes:
        scheme: http or https.
        host: lower case, without the brackets of IPv6 and without a last full stop.
        port: also where the address leaves it out.
        path: with the query, from its `/` on.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_loopback(self) -> bool:
        """Whether it stays on this machine, by name or number."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def place(self) -> str:
        """Host and port, the usual port left out: for messages and for the header `Host`. A path may be a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def read_address(url: str) -> Address:
    """Take an address apart.

    Raises:
        UsageError: it is none, or holds a name and password; it is not repeated in the message.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise UsageError("an address has a character that none may have", expected="ASCII, the rest as %XX or xn--")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError("not an address", expected="https://HOST/PATH") from error
    if parts.scheme not in _PORTS:
        raise UsageError("not an address of the web", expected="https://HOST/PATH")
    if "@" in parts.netloc:
        raise UsageError("an address with a name and password", remedy="Use secret_env: what is sent is signed then.")
    written = f"[{parts.hostname}]" if parts.netloc.startswith("[") else parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme, _read_host(written), port if port is not None else _PORTS[parts.scheme], path)


def is_named(address: Address, hosts: Iterable[str]) -> bool:
    """Whether it goes to one of `hosts`, each `host:port`, or a host alone with all its ports."""
    return any(host == address.host and port in (None, address.port) for host, port in map(read_host, hosts))


def read_host(text: str) -> tuple[str, int | None]:
    """`example.org`, `example.org:8443` or `[::1]:8080` as host and port.

    Raises:
        UsageError: it is neither.
    """
    match = re.fullmatch(r"(.*?)(?::([0-9]{1,5}))?", text)
    if match is None or (match[2] is not None and int(match[2]) > 65535):
        raise UsageError("not a host", got=_shown(text), expected="HOST or HOST:PORT")
    return _read_host(match[1]), int(match[2]) if match[2] is not None else None


def _read_host(text: str) -> str:
    if not _HOST.fullmatch(text):
        rule = "a name such as example.org, or a number as [::1]"
        raise UsageError("not a host", got=_shown(text), expected=rule)
    if text.startswith("["):
        try:
            return ipaddress.IPv6Address(text[1:-1]).compressed
        except ValueError as error:
            raise UsageError("not a host", got=_shown(text), expected="an IPv6 address in its brackets") from error
    return text.lower().removesuffix(".")


def _shown(text: str) -> str | None:
    """What was written where a host should be, without what follows the host in an address; that may be a secret."""
    if "@" in text:
        return None
    head = re.match(r"(?:[a-z]+://)?[^/?#]*", text)
    return repr(head[0][:80] if head else "")
