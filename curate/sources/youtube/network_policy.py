"""Which hosts may be contacted: public ones, by http and https; and a yt-dlp that checks every request against this."""

import ipaddress
import re
import socket
import unicodedata
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from yt_dlp import YoutubeDL
from yt_dlp.networking._urllib import HTTPHandler, UrllibRH
from yt_dlp.networking.exceptions import RequestError

_PRIVATE_NAMES = re.compile(r"(?:.*\.)?(?:localhost|local|localdomain|internal|intranet|lan|home\.arpa)")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def find_refusal(link: str, *, allow_private: bool = False) -> str | None:
    """Return why a link must not be followed; None if it may.

    Host names are resolved, and refused if they lead to an address that is not public. A name that cannot be resolved
    is not refused: nothing will be contacted then, or a proxy resolves it.

    Args:
        link: An absolute URL.
        allow_private: Allow every host; the link must still be http or https.

    Examples:
        >>> find_refusal("http://0x7f.1/clip.mp4")
        '127.0.0.1 is not a public address'
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
    if allow_private:
        return None
    host = unicodedata.normalize("NFKC", host).rstrip(".").lower()
    if (literal := _read_literal(host)) is not None:
        return None if is_public(literal) else f"{literal} is not a public address"
    if _PRIVATE_NAMES.fullmatch(host):
        return f"{host} is a private host"
    for address in _resolve(host, port):
        if not is_public(address):
            return f"{host} resolves to {address}, which is not a public address"
    return None


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet; an IPv4 address embedded in an IPv6 one is checked as itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and (address in _NAT64 or int(address) >> 32 == 0):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


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
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]


class RefusedError(RequestError):
    """A request to an address that is not allowed."""


class GuardedYoutubeDL(YoutubeDL):
    """yt-dlp whose every request is checked.

    Attributes:
        on_response: Called with each response; may raise to refuse it.
    """

    def __init__(self, parameters: dict[str, Any], *, allow_private: bool, auto_init: bool = True) -> None:
        self.on_response: Callable[[Any], None] | None = None
        self._allow_private = allow_private
        super().__init__(parameters, auto_init=auto_init)  # pyright: ignore[reportArgumentType]

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        """Use our handler only; the others would follow redirects unchecked."""
        del handlers
        guarded: Any = partial(_GuardedRH, allow_private=self._allow_private)
        return super().build_request_director([guarded], preferences)

    def urlopen(self, req: Any) -> Any:
        """Open a URL, and pass the response to `on_response`."""
        response = super().urlopen(req)
        if self.on_response:
            self.on_response(response)
        return response


class _GuardedRH(UrllibRH):
    _SUPPORTED_URL_SCHEMES = ("http", "https", "data")

    def __init__(self, *, allow_private: bool, **parameters: Any) -> None:
        super().__init__(**parameters)
        self._allow_private = allow_private
        self._check = _CheckEachRequest(allow_private)

    def _create_instance(self, *arguments: Any, **parameters: Any) -> Any:
        opener = super()._create_instance(*arguments, **parameters)  # pyright: ignore[reportAttributeAccessIssue]
        opener.add_handler(self._check)
        for handler in () if self._allow_private else opener.handlers:
            if isinstance(handler, HTTPHandler):
                handler._make_conn_class = _choose_connection  # pyright: ignore[reportAttributeAccessIssue]
        return opener


def _choose_connection(base: Any, request: urllib.request.Request) -> Any:
    """Make a connection class that checks the peer's address: the name may resolve differently than at the check.

    Behind a proxy only the proxy's address is known.
    """
    is_direct = not request.has_proxy() and not request.has_header("Ytdl-socks-proxy")
    chosen: Any = HTTPHandler._make_conn_class(base, request)
    if not is_direct:
        return chosen

    class Checked(chosen):
        def connect(self) -> None:
            super().connect()
            peer = ipaddress.ip_address(str(self.sock.getpeername()[0]).partition("%")[0])
            if not is_public(peer):
                self.close()
                raise RefusedError(f"{self.host} resolves to {peer}, which is not a public address")

    return Checked


class _CheckEachRequest(urllib.request.BaseHandler):
    handler_order = 1  # before all others; redirects pass here too

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private

    def http_open(self, request: urllib.request.Request) -> None:
        """Check a request.

        Raises:
            RefusedError: The address is not allowed.
        """
        if request.has_proxy():  # checked before the proxy was set
            return
        # also check the host as urllib has parsed it, which is the one that is contacted
        for address in (request.full_url, f"{request.type}://{request.host}/"):
            reason = find_refusal(address, allow_private=self._allow_private)
            if reason:
                raise RefusedError(reason)

    https_open = ftp_open = http_open
