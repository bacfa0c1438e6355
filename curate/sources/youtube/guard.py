"""yt-dlp with one way to the network, which looks at each address and each redirect before it is followed."""

import ipaddress
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

from yt_dlp import YoutubeDL
from yt_dlp.networking._urllib import HTTPHandler, UrllibRH
from yt_dlp.networking.exceptions import RequestError

from curate.sources.youtube.network_policy import find_refusal, is_public


class RefusedError(RequestError):
    """A request that would have gone where none may go."""


class GuardedYoutubeDL(YoutubeDL):
    """yt-dlp whose every request passes our check.

    Attributes:
        watch: is shown each answer, and raises to refuse it; None for nobody.
    """

    def __init__(self, parameters: dict[str, Any], *, allow_private: bool, auto_init: bool = True) -> None:
        self.watch: Callable[[Any], None] | None = None
        self._allow_private = allow_private
        super().__init__(parameters, auto_init=auto_init)  # pyright: ignore[reportArgumentType]

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        """Build with our handler alone; the others would follow redirects without asking."""
        del handlers
        guarded: Any = partial(_GuardedRH, allow_private=self._allow_private)
        return super().build_request_director([guarded], preferences)

    def urlopen(self, req: Any) -> Any:
        """Open an address, and show the answer."""
        answer = super().urlopen(req)
        if self.watch:
            self.watch(answer)
        return answer


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
    """A kind of connection that looks where it got: a name may lead elsewhere than when it was checked.

    Through a proxy only the proxy's address could be seen.
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
                raise RefusedError(f"{self.host} leads to {peer}, which is not a public address")

    return Checked


class _CheckEachRequest(urllib.request.BaseHandler):
    handler_order = 1  # before all others; redirects come by here too

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private

    def http_open(self, request: urllib.request.Request) -> None:
        """Let a request pass, or raise."""
        if request.has_proxy():  # it was looked at before it was turned to the proxy
            return
        # the host is what will be contacted: it is not always read from the address the way that we read it
        for address in (request.full_url, f"{request.type}://{request.host}/"):
            why = find_refusal(address, allow_private=self._allow_private)
            if why:
                raise RefusedError(why)

    https_open = ftp_open = http_open
