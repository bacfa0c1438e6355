"""Which hosts may be contacted on behalf of a file or a site: public ones, by http and https."""

import ipaddress
import re
import socket
import unicodedata
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

_PRIVATE_NAMES = re.compile(r"(?:.*\.)?(?:localhost|local|localdomain|internal|intranet|lan|home\.arpa)")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # the third quarter of an address, before an IPv4 address
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")  # all of it that is given out
# what some releases of Python take for public
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA: frozenset[Address] = frozenset(
    map(
        ipaddress.ip_address,
        (
            *("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "fe80::a9fe:a9fe"),  # most clouds
            *("169.254.170.2", "169.254.170.23", "fd00:ec2::23"),  # containers of AWS
            *("168.63.129.16", "192.0.0.192", "100.100.100.200"),  # Azure, Oracle, Alibaba
            *("169.254.0.23", "169.254.42.42", "fd00:42::42"),  # Tencent, Scaleway
        ),
    )
)
"""Addresses at which a machine in a cloud gets its passwords; none is a place of videos."""


def find_refusal(link: str, *, allow_private: bool = False) -> str | None:
    """Return why a link must not be followed; None if it may.

    Host names are resolved, and refused if they lead to an address that is not public. A name that cannot be resolved
    is not refused: nothing will be contacted then, or a proxy resolves it.

    Args:
        link: An absolute URL.
        allow_private: Allow every host but the metadata addresses; the link must still be http or https.

    Examples:
        >>> find_refusal("http://0x7f.1/clip.mp4")
        '127.0.0.1 is not a public address'
        >>> find_refusal("http://169.254.169.254/", allow_private=True)
        '169.254.169.254 is the metadata address of a cloud'
        >>> find_refusal("https://1.1.1.1/clip.mp4")
    """
    try:
        parts = urlsplit(link)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "the URL is malformed"
    if parts.scheme.lower() not in ("http", "https"):
        return f"the scheme is {parts.scheme or 'missing'}, not http or https"
    if "\\" in link or "\t" in link or "\n" in link or not host:
        return "the URL is malformed"
    if "@" in parts.netloc:
        return "the URL contains a user name or password"
    if "%" in host and not re.fullmatch(r"[0-9a-f:.]+%(?:25)?\w+", host):  # not the interface of an IPv6 address
        return "the host is percent-encoded"  # the code that opens a link decodes it, the code that checks does not
    return find_host_refusal(host, port, allow_private=allow_private)


def find_host_refusal(host: str, port: int | None = None, *, allow_private: bool = False) -> str | None:
    """Return why a host must not be contacted; None if it may. See `find_refusal`.

    Args:
        host: A name, or an IP address in any spelling, without brackets.
        port: Of the service, for the look-up of the name.
        allow_private: Allow every host but the metadata addresses.
    """
    host = unicodedata.normalize("NFKC", host).rstrip(".").lower()
    if (literal := _read_literal(host)) is not None:
        return find_address_refusal(literal, allow_private=allow_private)
    if allow_private:
        return None  # the address of a name is checked when it is contacted
    if _PRIVATE_NAMES.fullmatch(host):
        return f"{host} is a private host"
    for address in _resolve(host, port):
        if reason := find_address_refusal(address):
            return f"{host} resolves to {reason.replace(' is ', ', which is ', 1)}"
    return None


def find_address_refusal(address: Address, *, allow_private: bool = False) -> str | None:
    """Return why an address must not be contacted; None if it may."""
    if METADATA & {address, _inner(address)}:
        return f"{address} is the metadata address of a cloud"
    return None if allow_private or is_public(address) else f"{address} is not a public address"


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet; an IPv4 address embedded in an IPv6 one is checked as itself."""
    inner = _inner(address)
    if inner is not None:
        return is_public(inner)
    if address.version == 6 and address not in _PUBLIC_IPV6:
        return False
    if address in METADATA or any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def connect(host: str, port: int, timeout_s: float, *, allow_private: bool = False) -> socket.socket:
    """Connect to a host by an address that was checked: its name is resolved once, so that no other one is reached.

    Raises:
        RefusedAddressError: An address of the host is not allowed.
        OSError: It cannot be reached.
    """
    found = look_up(host, port, allow_private=allow_private)
    error: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(timeout_s)
            connection.connect(address)
        except OSError as caught:
            connection.close()
            error = caught
        else:
            return connection
    raise error


def look_up(host: str, port: int, *, allow_private: bool = False) -> list[Any]:
    """Return what `getaddrinfo` answers for a host, to be connected to.

    Raises:
        RefusedAddressError: One of its addresses is not allowed.
        OSError: It has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for entry in found:
        if reason := find_address_refusal(_address_of(entry), allow_private=allow_private):
            raise RefusedAddressError(reason)
    return found


class RefusedAddressError(Exception):
    """A connection to an address that is not allowed."""


def _inner(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address within an IPv6 one, to which a router would pass packets on; None if there is none."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    number = int(address)
    if inner is None and (address in _NAT64 or number >> 32 == 0 or (number >> 32 & 0xFFFF_FFFF) in _ISATAP):
        inner = ipaddress.IPv4Address(number & 0xFFFF_FFFF)
    return inner


def _read_literal(host: str) -> Address | None:
    """Parse an IP address, also in the old forms `2130706433`, `0x7f.1` and `0177.0.0.1`."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])  # without the interface name
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
        entries = socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [_address_of(entry) for entry in entries]


def _address_of(entry: Sequence[Any]) -> Address:
    return ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
