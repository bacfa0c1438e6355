"""Which addresses may be contacted: http and https at public hosts, however the address is written."""

import ipaddress
import re
import socket
import unicodedata
from urllib.parse import urlsplit

_PRIVATE_NAMES = re.compile(r"(?:.*\.)?(?:localhost|local|localdomain|internal|intranet|lan|home\.arpa)")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def find_refusal(link: str, *, allow_private: bool = False) -> str | None:
    """Say why a link must not be followed; None where nothing speaks against it.

    Names are resolved, and refused where they lead to an address that is not public. One that cannot be resolved is
    no reason to refuse: nothing will be contacted then, or a proxy resolves it.

    Args:
        link: an absolute address.
        allow_private: take every host; the link must be http or https all the same.

    Examples:
        >>> find_refusal("http://0x7f.1/clip.mp4")
        '127.0.0.1 is not a public address'
        >>> find_refusal("https://1.1.1.1/clip.mp4")
    """
    try:
        parts = urlsplit(link)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "it is not a well-formed address"
    if parts.scheme.lower() not in ("http", "https"):
        return f"{parts.scheme or 'no scheme'} is not http or https"
    if "\\" in link or "\t" in link or "\n" in link or not host:
        return "it is not a well-formed address"
    if "@" in parts.netloc:
        return "it carries a user name or password"
    if "%" in host and not re.fullmatch(r"[0-9a-f:.]+%(?:25)?\w+", host):  # only an IPv6 address names an interface so
        return "its host is percent-encoded"  # what opens a link reads such a host otherwise than what checks it
    if allow_private:
        return None
    host = unicodedata.normalize("NFKC", host).rstrip(".").lower()
    if (literal := _read_literal(host)) is not None:
        return None if is_public(literal) else f"{literal} is not a public address"
    if _PRIVATE_NAMES.fullmatch(host):
        return f"{host} names a private host"
    for address in _resolve(host, port):
        if not is_public(address):
            return f"{host} leads to {address}, which is not a public address"
    return None


def is_public(address: Address) -> bool:
    """Whether an address is out in the internet; an IPv4 address inside an IPv6 one counts as itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and (address in _NAT64 or int(address) >> 32 == 0):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def _read_literal(host: str) -> Address | None:
    """An address written as numbers: also the old forms `2130706433`, `0x7f.1` and `0177.0.0.1`."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])  # without an interface's name
    except ValueError:
        pass
    if not re.fullmatch(r"[0-9a-fx.]+", host) or not host[0].isdecimal():
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _resolve(host: str, port: int | None) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
