"""What a SOURCE stands for where it is no path: the number of a camera, or the address of a stream."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from curate.errors import UsageError, unknown_name
from curate.redaction import redact_url

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "udp", "rtp", "tcp")
_HIGHEST_CAMERA = 99
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)", re.DOTALL)


@dataclass(frozen=True)
class LiveAddress:
    """Where frames come from that no file holds.

    Attributes:
        text: as it was given, with its password; the scheme in small letters.
        shown: the same for messages: `***` instead of user, password, and what looks like a secret in path or query.
        scheme: in small letters; `camera` for the number of a camera.
        camera: its number; None for a stream.
        host: of a stream; None for a camera, and where the address names none.
    """

    text: str
    shown: str
    scheme: str
    camera: int | None = None
    host: str | None = None


def parse_live(text: str) -> LiveAddress | None:
    """Tell a camera's number or a stream's address from a path, for which this is None.

    Digits alone are a camera, whether there is a file of that name or not: `./0` is the file.

    Raises:
        UsageError: the address has an unknown scheme, no host, or a port that is none.

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
    found = _SCHEME.fullmatch(text)
    return _parse_stream(text, found[1].lower(), found[2]) if found else None


def _parse_camera(text: str) -> LiveAddress:
    if len(text) > 9 or int(text) > _HIGHEST_CAMERA:
        raise UsageError(
            "there is no camera of that number",
            place=text,
            expected=f"0 to {_HIGHEST_CAMERA}",
            remedy=f"Write ./{text} for a file or folder of that name.",
        )
    return LiveAddress(text, f"camera {int(text)}", "camera", camera=int(text))


def _parse_stream(text: str, scheme: str, rest: str) -> LiveAddress:
    shown = redact_url(f"{scheme}://{rest}")
    if scheme == "file":
        raise UsageError("a file is named by its path", place=shown, remedy="Leave out `file://`.")
    if scheme not in SCHEMES:
        raise unknown_name("kind of stream", scheme, SCHEMES, place=shown)
    if any(character.isspace() or not character.isprintable() for character in text):
        raise UsageError("the address has spaces in it, or what cannot be printed", place=repr(shown))
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UsageError(
            "host or port of the address cannot be understood",
            place=shown,
            expected=f"{scheme}://USER:PASSWORD@HOST:PORT/PATH",
            remedy="Write characters such as / ? # @ in a password as %2F %3F %23 %40.",
        ) from None
    if not host and scheme not in ("udp", "rtp"):
        raise UsageError("the address names no host", place=shown, expected=f"{scheme}://HOST/PATH")
    return LiveAddress(f"{scheme}://{rest}", shown, scheme, host=host)
