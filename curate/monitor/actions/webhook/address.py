"""URLs of webhooks: http or https, to hosts that the trigger file lists."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from curate.errors import UsageError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\]")


@dataclass(frozen=True)
class Address:
    """A parsed URL.

    Attributes:
        scheme: `http` or `https`.
        host: Lower case, without the brackets of IPv6 and without a trailing dot.
        port: The scheme's default where the URL has none.
        path: Path and query, from the `/` on.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine, by name or number."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def authority(self) -> str:
        """Host and port, without the default port: for the header `Host`, messages and logs. A path may be secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(url: str) -> Address:
    """Parse the URL of a webhook.

    Raises:
        UsageError: It is invalid, or contains a user name or password; the message does not repeat it.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise UsageError("invalid character in URL", expected="ASCII, other characters as %XX or xn--")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError("invalid URL", expected="https://HOST/PATH") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise UsageError("unsupported URL scheme", expected="https://HOST/PATH")
    if "@" in parts.netloc:
        raise UsageError("URL contains a user name or password", remedy="Use secret_env to sign deliveries instead.")
    written = f"[{parts.hostname}]" if parts.netloc.startswith("[") else parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(
        parts.scheme, _normalise_host(written), port if port is not None else _DEFAULT_PORTS[parts.scheme], path
    )


def matches_host(address: Address, hosts: Iterable[str]) -> bool:
    """Whether one of `hosts` names the address: `host:port`, or a host alone for all its ports."""
    return any(host == address.host and port in (None, address.port) for host, port in map(parse_host, hosts))


def parse_host(text: str) -> tuple[str, int | None]:
    """Parse `example.org`, `example.org:8443` or `[::1]:8080` as host and port.

    Raises:
        UsageError: It is neither.
    """
    match = re.fullmatch(r"(.*?)(?::([0-9]{1,5}))?", text)
    if match is None or (match[2] is not None and int(match[2]) > 65535):
        raise UsageError("invalid host", got=_printable(text), expected="HOST or HOST:PORT")
    return _normalise_host(match[1]), int(match[2]) if match[2] is not None else None


def _normalise_host(text: str) -> str:
    if not _HOST.fullmatch(text):
        rule = "a name such as example.org, or an IP address such as [::1]"
        raise UsageError("invalid host", got=_printable(text), expected=rule)
    if text.startswith("["):
        try:
            return ipaddress.IPv6Address(text[1:-1]).compressed
        except ValueError as error:
            raise UsageError("invalid host", got=_printable(text), expected="an IPv6 address in brackets") from error
    return text.lower().removesuffix(".")


def _printable(text: str) -> str | None:
    """Text written in place of a host, without what follows the host in a URL, which may be secret."""
    if "@" in text:
        return None
    head = re.match(r"(?:[a-z]+://)?[^/?#]*", text)
    return repr(head[0][:80] if head else "")
