"""Describes FFmpeg's errors for users. Its own texts are not passed on: they contain the URL with its password."""

import errno
import socket
import ssl
from typing import Any

import av.error

from curate.sources.feeds.address import LiveAddress
from curate.sources.feeds.feed import LiveSourceError

NO_VIDEO = "the source has no video stream"
NO_CODEC = "the video cannot be decoded: FFmpeg does not know its codec"
_NOT_VIDEO = "the source does not send video"
_TEXTS: dict[type[Exception], str] = {
    av.error.HTTPUnauthorizedError: "user or password is missing or wrong (401 unauthorized)",
    av.error.HTTPForbiddenError: "access is denied (403 forbidden)",
    av.error.HTTPNotFoundError: "no such stream (404 not found)",
    av.error.HTTPTooManyRequestsError: "too many requests (429)",
    av.error.HTTPClientError: "the server refuses the request",
    av.error.HTTPServerError: "the server failed (5xx)",
    av.error.ConnectionRefusedError: "connection refused: nothing listens at this address",
    av.error.ConnectionResetError: "connection reset",
    av.error.BrokenPipeError: "connection lost",
    av.error.EOFError: "the connection was closed",
    av.error.PermissionError: "this machine does not permit the connection",
    av.error.InvalidDataError: _NOT_VIDEO,
    av.error.ProtocolNotFoundError: "PyAV's FFmpeg does not support this protocol",
    av.error.DemuxerNotFoundError: _NOT_VIDEO,
    av.error.DecoderNotFoundError: NO_CODEC,
    av.error.LookupError: "PyAV's FFmpeg lacks a component that this stream needs",
    av.error.PatchWelcomeError: "FFmpeg does not support this kind of stream",
}
_REMEDIES: dict[type[Exception], str] = {
    av.error.HTTPUnauthorizedError: "Put them into the URL: SCHEME://USER:PASSWORD@HOST/PATH.",
    av.error.ConnectionRefusedError: "Check host and port, and whether the camera is switched on.",
    av.error.HTTPNotFoundError: "Check the path.",
    av.error.InvalidDataError: "Try the URL in a video player.",
}
_TEXTS_BY_NUMBER = {
    errno.EINVAL: "the URL leads to a picture or a text, not a video",  # the format is not on the white list
    errno.EIO: "connection lost",
    errno.ENETUNREACH: "network is unreachable",
    errno.EHOSTUNREACH: "host is unreachable",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EPROTO: "the host does not encrypt this connection as https does",
    errno.EADDRINUSE: "another program uses this address",
}


def as_ffmpeg_error(error: OSError) -> Exception:
    """Make an error of the proxy's connection the one that FFmpeg's own connection would have had."""
    if isinstance(error, socket.gaierror):
        return av.error.OSError(errno.EIO, "unknown host")
    if isinstance(error, ssl.SSLError):
        return av.error.OSError(errno.EPROTO, "TLS failed")
    number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or errno.EIO
    kind: Any = av.error.classes.get(number, av.error.OSError)
    return kind(number, str(error))


def describe_open_error(address: LiveAddress, error: Exception, elapsed_s: float, timeout_s: float) -> LiveSourceError:
    """Explain why a stream cannot be opened.

    Args:
        address: Of the stream.
        error: Raised by FFmpeg.
        elapsed_s: How long the attempt took.
        timeout_s: How long it was allowed to take; after that, any error counts as a timeout.
    """
    if elapsed_s >= timeout_s or isinstance(error, (av.error.ExitError, av.error.TimeoutError)):
        remedy = "Check host and port, and whether a firewall blocks the connection."
        return LiveSourceError(f"no video within {elapsed_s:.0f} s", kind="stalled", remedy=remedy)
    if _may_be_name_error(error) and address.host and not _can_resolve(address.host):
        return LiveSourceError("unknown host", remedy="Check the name, and this machine's network.")
    return LiveSourceError(describe_stream_error(error), remedy=_look_up(_REMEDIES, error))


def describe_stream_error(error: Exception) -> str:
    """Describe an error of FFmpeg without its text, which may contain the URL."""
    number = getattr(error, "errno", None)
    return (
        _look_up(_TEXTS, error)
        or _TEXTS_BY_NUMBER.get(number or 0)
        or f"connection failed ({errno.errorcode.get(number or 0, type(error).__name__)})"
    )


def _look_up(texts: dict[type[Exception], str], error: Exception) -> str | None:
    return next((text for kind, text in texts.items() if isinstance(error, kind)), None)


def _may_be_name_error(error: Exception) -> bool:
    """FFmpeg has no error of its own for an unknown host."""
    return getattr(error, "errno", None) == errno.EIO


def _can_resolve(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True
