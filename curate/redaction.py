"""Hides credentials in URLs: the one rule for messages, logs and pages."""

import re

_HIDDEN = "***"
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(\S+)")
# cameras take secrets in the path too: /user=admin_password=…_channel=1
_SECRET = re.compile(r"([\w-]*(?:token|pass|pwd|key|secret|auth|sig|cred)[\w-]*)=[^&/;?#]*", re.IGNORECASE)


def redact_url(url: str) -> str:
    """Replace user, password, and values in path and query whose name suggests a secret, by `***`.

    A secret that is part of a path, such as an RTMP stream key, cannot be recognised.

    Examples:
        >>> redact_url("rtsp://admin:pw@10.0.0.7/main?token=x&fps=5")
        'rtsp://***@10.0.0.7/main?token=***&fps=5'
    """
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{_redact_rest(rest)}" if separator else _SECRET.sub(rf"\1={_HIDDEN}", url)


def redact_text(text: str) -> str:
    """Redact every URL in a text, such as the message of a library's exception.

    Examples:
        >>> redact_text("GET https://me:pw@host/a?key=1 failed")
        'GET https://***@host/a?key=*** failed'
    """
    return _URL.sub(lambda match: f"{match[1]}://{_redact_rest(match[2])}", text)


def _redact_rest(rest: str) -> str:
    """Redact what follows `://`.

    A password may contain `/` or `?`: where an `@` comes only after the path begins, and a colon before it, everything
    up to the last `@` is hidden.
    """
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if authority.startswith("@"):  # udp://@GROUP names no user
        return _SECRET.sub(rf"\1={_HIDDEN}", rest)
    if "@" in authority:
        rest = f"{_HIDDEN}@{rest[authority.rindex('@') + 1 :]}"
    elif ":" in authority and "@" in rest:
        rest = f"{_HIDDEN}@{rest[rest.rindex('@') + 1 :]}"
    return _SECRET.sub(rf"\1={_HIDDEN}", rest)
