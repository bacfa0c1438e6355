"""What is wanted of every link: from the options of `fetch-youtube` to one checked value."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.errors import UsageError
from curate.sources.times import parse_seconds

Licence = Literal["creative-commons"]
_CREATIVE_COMMONS = re.compile(r"creative.?commons|\bcc[ :_-]?(?:by|0)\b", re.IGNORECASE)
_DENIED = re.compile(
    r"\b(?:not|non|no|without)\W+(?:(?:a|under|licensed)\W+)*(?:creative.?commons|cc)\b", re.IGNORECASE
)
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?(?:/s)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


@dataclass(frozen=True)
class Wanted:
    """What is wanted of every link.

    Attributes:
        max_height: in pixels.
        licence: "creative-commons", or None for any.
        max_duration_s: of whole videos.
        cookies: the text of a cookie file.
        rate_limit: bytes a second, of all workers together.
        sleep_s: between the starts of two videos.
        workers: how many at once.
        allow_private: follow links to hosts that are not public.
    """

    max_height: int = 720
    licence: str | None = None
    max_duration_s: float | None = None
    cookies: str | None = None
    rate_limit: float | None = None
    sleep_s: float = 0.0
    workers: int = 2
    allow_private: bool = False


def parse_wanted(
    *,
    max_height: int,
    licence: str | None,
    max_duration: str | float | None,
    cookies: str | os.PathLike[str] | None,
    rate_limit: str | float | None,
    sleep: str | float | None,
    workers: int,
    allow_private: bool,
) -> Wanted:
    """Check the options of `fetch-youtube`; see there.

    Raises:
        UsageError: one is not what it must be.
    """
    return Wanted(
        max_height=_positive(max_height, "--max-height"),
        licence=_licence(licence),
        max_duration_s=None if max_duration is None else _positive_seconds(max_duration, "--max-duration"),
        cookies=None if cookies is None else _read_cookies(Path(cookies)),
        rate_limit=None if rate_limit is None else parse_rate(rate_limit),
        sleep_s=0.0 if sleep is None else float(parse_seconds(sleep, place="--sleep")),
        workers=_positive(workers, "--workers"),
        allow_private=allow_private,
    )


def unwanted(wanted: Wanted, licence: str | None, whole_s: float | None) -> str | None:
    """Why a video is to be left out; None where it is wanted. A licence that is not told is none."""
    if wanted.licence and (not licence or _DENIED.search(licence) or not _CREATIVE_COMMONS.search(licence)):
        return (
            f"its licence is {licence!r}, not Creative Commons" if licence else "it tells no Creative Commons licence"
        )
    if wanted.max_duration_s is not None and whole_s is not None and whole_s > wanted.max_duration_s:
        return f"it is {whole_s:g} s long, more than {wanted.max_duration_s:g} s"
    return None


def parse_rate(text: str | float) -> float:
    """Bytes a second, from "500K", "2M" or a number.

    Raises:
        UsageError: it is no rate.

    Examples:
        >>> parse_rate("1.5M")
        1572864.0
    """
    match = _RATE.fullmatch(str(text).strip())
    rate = float(match[1]) * _UNITS[match[2].lower()] if match else 0.0
    if not rate:
        raise UsageError(
            "not a rate", place="--rate-limit", got=repr(text), expected="bytes a second such as 500K or 2M"
        )
    return rate


def _positive_seconds(time: str | float, place: str) -> float:
    seconds = float(parse_seconds(time, place=place))
    if not seconds:
        raise UsageError("too small", place=place, got=repr(time), expected="more than 0")
    return seconds


def _positive(number: int, place: str) -> int:
    if number < 1:
        raise UsageError("too small", place=place, got=number, expected="1 or more")
    return number


def _licence(licence: str | None) -> str | None:
    if licence not in (None, "creative-commons"):
        raise UsageError("unknown licence", place="--licence", got=repr(licence), expected="creative-commons")
    return licence


def _read_cookies(path: Path) -> str:
    """The text of a cookie file, so that yt-dlp, which writes cookies back, leaves the file alone."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fact = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"the cookies cannot be read: {fact}", place=path) from error
    lines = [line for line in text.splitlines() if line.strip() and not re.match(r"#(?!HttpOnly_)", line)]
    if any(line.count("\t") < 6 for line in lines):
        raise UsageError(
            "not a file of cookies",
            place=path,
            expected="the Netscape form: seven columns with tabs in between",
            remedy="Export the cookies with a browser extension that writes cookies.txt.",
        )
    return text
