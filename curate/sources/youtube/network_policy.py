"""A yt-dlp that checks the host of every request, contacts only addresses that were checked, and prints nothing."""

import logging
import socket
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

from yt_dlp import YoutubeDL
from yt_dlp.networking._urllib import HTTPHandler, UrllibRH
from yt_dlp.networking.exceptions import RequestError

from curate.redaction import redact_text
from curate.sources.hosts import RefusedAddressError, connect, find_refusal

logger = logging.getLogger(__name__)


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


class YtdlpLogger:
    """Passes yt-dlp's messages to our log, and keeps warnings and errors."""

    def __init__(self, warnings: list[str]) -> None:
        self._warnings = warnings

    def debug(self, message: str) -> None:
        logger.debug("yt-dlp: %s", redact_text(message))

    info = debug

    def warning(self, message: str, **_: Any) -> None:
        logger.info("yt-dlp: %s", redact_text(message))
        self._warnings.append(message)

    error = warning  # raised as an exception, too


class _GuardedRH(UrllibRH):
    _SUPPORTED_URL_SCHEMES = ("http", "https", "data")

    def __init__(self, *, allow_private: bool, **parameters: Any) -> None:
        super().__init__(**parameters)
        self._allow_private = allow_private
        self._check = _CheckEachRequest(allow_private)

    def _create_instance(self, *arguments: Any, **parameters: Any) -> Any:
        opener = super()._create_instance(*arguments, **parameters)  # pyright: ignore[reportAttributeAccessIssue]
        opener.add_handler(self._check)
        for handler in opener.handlers:
            if isinstance(handler, HTTPHandler):
                choose: Any = partial(_choose_connection, self._allow_private)
                handler._make_conn_class = choose
        return opener


def _choose_connection(allow_private: bool, base: Any, request: urllib.request.Request) -> Any:
    """Make a connection class that checks the address it connects to: the name may resolve otherwise than before.

    Behind a proxy only the proxy's address is known.
    """
    is_direct = not request.has_proxy() and not request.has_header("Ytdl-socks-proxy")
    chosen: Any = HTTPHandler._make_conn_class(base, request)
    if not is_direct:
        return chosen

    def create_connection(address: tuple[str, int], timeout: float, _: Any) -> socket.socket:
        try:
            return connect(*address, timeout, allow_private=allow_private)
        except RefusedAddressError as error:
            raise RefusedError(str(error)) from error

    class Checked(chosen):
        def connect(self) -> None:
            self._create_connection = create_connection
            super().connect()

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
