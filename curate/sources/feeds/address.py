"""Parses a SOURCE that is not a path: the number of a camera, or the URL of a stream."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from curate.errors import UsageError, unknown_name
from curate.redaction import redact_url

_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "udp", "rtp", "tcp")
_SCHEMES_WITHOUT_HOST = ("udp", "rtp")
_MAX_CAMERA = 99
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)", re.DOTALL)


@dataclass(frozen=True)
class LiveAddress:
    """A live source.

    Attributes:
        text: As given, with credentials; the scheme in lower case.
        shown: The same for messages, with `***` for credentials.
        scheme: In lower case; `camera` for a camera.
        camera: Number of the camera; None for a stream.
        host: Host of the stream; None for a camera and for URLs without a host.
    """

    text: str
    shown: str
    scheme: str
    camera: int | None = None
    host: str | None = None


def parse_live(text: str) -> LiveAddress | None:
    """Parse the number of a camera or the URL of a stream; None for a path.

    Digits alone are a camera, even if a file of that name exists: `./0` is the file.

    Raises:
        UsageError: The URL has an unknown scheme, no host, or an invalid port.

    Examples:
        >>> parse_live("rtsp://admin:pw@10.0.0.7/main?token=x").shown
        'rtsp://***@10.0.0.7/main?token=***'
        >>> parse_live("0").camera
        0
        >>> parse_live("clips/a.mp4") is None
        True
    """
    if text.isascii() and text.isdecimal():
        return _parse_camera(text)
    match = _URL.fullmatch(text)
    return _parse_stream(text, match[1].lower(), match[2]) if match else None


def _parse_camera(text: str) -> LiveAddress:
    if len(text) > 9 or int(text) > _MAX_CAMERA:
        remedy = f"Write ./{text} for a file or folder with this name."
        raise UsageError("camera number is too high", place=text, expected=f"0 to {_MAX_CAMERA}", remedy=remedy)
    return LiveAddress(text, f"camera {int(text)}", "camera", camera=int(text))


def _parse_stream(text: str, scheme: str, rest: str) -> LiveAddress:
    shown = redact_url(f"{scheme}://{rest}")
    if scheme == "file":
        raise UsageError("file URLs are not supported", place=shown, remedy="Give the path, without `file://`.")
    if scheme not in _SCHEMES:
        raise unknown_name("URL scheme", scheme, _SCHEMES, place=shown)
    if any(character.isspace() or not character.isprintable() for character in text):
        raise UsageError("URL contains spaces or unprintable characters", place=repr(shown))
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UsageError(
            "invalid host or port in URL",
            place=shown,
            expected=f"{scheme}://USER:PASSWORD@HOST:PORT/PATH",
            remedy="Write the characters / ? # @ of a password as %2F %3F %23 %40.",
        ) from None
    if not host and scheme not in _SCHEMES_WITHOUT_HOST:
        raise UsageError("URL has no host", place=shown, expected=f"{scheme}://HOST/PATH")
    return LiveAddress(f"{scheme}://{rest}", shown, scheme, host=host)
