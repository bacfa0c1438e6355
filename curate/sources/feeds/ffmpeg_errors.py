"""FFmpeg's errors in plain words. Its own texts are never passed on: they hold the address with its password."""

import errno
import socket

import av.error

from curate.sources.feeds.address import LiveAddress
from curate.sources.feeds.feed import LiveTroubleError

NO_VIDEO = "it has no video stream"
_NO_CODEC = "its video cannot be decoded: FFmpeg does not know the codec"
_WORDS: dict[type[Exception], str] = {
    av.error.HTTPUnauthorizedError: "user or password is missing or wrong (401 unauthorized)",
    av.error.HTTPForbiddenError: "access is denied (403 forbidden)",
    av.error.HTTPNotFoundError: "there is no such stream (404 not found)",
    av.error.HTTPTooManyRequestsError: "the server is asked too often (429)",
    av.error.HTTPClientError: "the server refuses the request",
    av.error.HTTPServerError: "the server failed (5xx)",
    av.error.ConnectionRefusedError: "the connection was refused: nothing listens at this address",
    av.error.ConnectionResetError: "the connection was reset",
    av.error.BrokenPipeError: "the connection was cut",
    av.error.EOFError: "the connection was closed",
    av.error.PermissionError: "this machine does not permit the connection",
    av.error.InvalidDataError: "what it sends is no video",
    av.error.ProtocolNotFoundError: "the FFmpeg that PyAV brings cannot speak this protocol",
    av.error.DemuxerNotFoundError: "what it sends is no video",
    av.error.DecoderNotFoundError: _NO_CODEC,
    av.error.LookupError: "the FFmpeg that PyAV brings lacks what this stream needs",
    av.error.PatchWelcomeError: "FFmpeg cannot read this kind of stream",
}
_REMEDIES: dict[type[Exception], str] = {
    av.error.HTTPUnauthorizedError: "Write them into the address: SCHEME://USER:PASSWORD@HOST/PATH.",
    av.error.ConnectionRefusedError: "Check host and port, and whether it is switched on.",
    av.error.HTTPNotFoundError: "Check the path.",
    av.error.InvalidDataError: "Try the address in a player.",
}
_NUMBERS = {
    errno.EIO: "the connection broke off",
    errno.ENETUNREACH: "there is no way to its network",
    errno.EHOSTUNREACH: "there is no way to its host",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EADDRINUSE: "another program listens at this address",
}


def tell_unopened(address: LiveAddress, error: Exception, took_s: float, limit_s: float) -> LiveTroubleError:
    """Why a stream could not be opened.

    Args:
        address: of the stream.
        error: what FFmpeg raised.
        took_s: how long it had tried.
        limit_s: how long it was allowed to; whatever it raises then, the time was up.
    """
    if took_s >= limit_s or isinstance(error, (av.error.ExitError, av.error.TimeoutError)):
        return LiveTroubleError(
            f"it did not answer, or sent no video, within {took_s:.0f} s",
            kind="stalled",
            remedy="Check host and port, and whether a firewall is between.",
        )
    if _may_be_name(error) and address.host and not _is_known(address.host):
        return LiveTroubleError("its host is not known", remedy="Check the name, and this machine's network.")
    return LiveTroubleError(tell_error(error), remedy=_find(_REMEDIES, error))


def tell_error(error: Exception) -> str:
    """What an error of FFmpeg means, without what it says about the address."""
    number = getattr(error, "errno", None)
    return (
        _find(_WORDS, error)
        or _NUMBERS.get(number or 0)
        or f"the connection failed ({errno.errorcode.get(number or 0, type(error).__name__)})"
    )


def _find(texts: dict[type[Exception], str], error: Exception) -> str | None:
    return next((text for kind, text in texts.items() if isinstance(error, kind)), None)


def _may_be_name(error: Exception) -> bool:
    """FFmpeg has no error of its own for a host that nobody knows."""
    return getattr(error, "errno", None) == errno.EIO


def _is_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True
