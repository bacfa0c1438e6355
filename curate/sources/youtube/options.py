"""The options of `fetch-youtube` that apply to every link, checked."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.errors import DataError, UsageError
from curate.files import read_text
from curate.sources.times import parse_seconds

Licence = Literal["creative-commons"]
_CREATIVE_COMMONS = re.compile(r"creative.?commons|\bcc[ :_-]?(?:by|0)\b", re.IGNORECASE)
_NEGATED = re.compile(
    r"\b(?:not|non|no|without)\W+(?:(?:a|under|licensed)\W+)*(?:creative.?commons|cc)\b", re.IGNORECASE
)
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?(?:/s)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


@dataclass(frozen=True)
class FetchOptions:
    """Options for every link.

    Attributes:
        max_height: Largest shorter side in pixels, the height of a wide video.
        licence: "creative-commons", or None for any.
        max_duration_s: Longest duration of whole videos.
        cookies: Text of a cookie file.
        rate_limit: Bytes per second, of all workers together.
        sleep_s: Least time between the starts of two videos.
        workers: Videos fetched at once.
        allow_private: Whether hosts that are not public may be contacted.
        newest: Most videos of a channel or playlist; None for all.
    """

    max_height: int = 720
    licence: str | None = None
    max_duration_s: float | None = None
    cookies: str | None = None
    rate_limit: float | None = None
    sleep_s: float = 0.0
    workers: int = 2
    allow_private: bool = False
    newest: int | None = None

    def find_skip_reason(self, licence: str | None, duration_s: float | None) -> str | None:
        """Return why a video is skipped; None if it is fetched. An unknown licence is not Creative Commons."""
        if self.licence and (not licence or _NEGATED.search(licence) or not _CREATIVE_COMMONS.search(licence)):
            return (
                f"its licence is {licence!r}, not Creative Commons" if licence else "no Creative Commons licence given"
            )
        if self.max_duration_s is not None and duration_s is not None and duration_s > self.max_duration_s:
            return f"it is {duration_s:g} s long, more than {self.max_duration_s:g} s"
        return None


def parse_options(
    *,
    max_height: int,
    licence: str | None,
    max_duration: str | float | None,
    cookies: str | os.PathLike[str] | None,
    rate_limit: str | float | None,
    sleep: str | float | None,
    workers: int,
    allow_private: bool,
    newest: int | None,
) -> FetchOptions:
    """Check the options of `fetch_youtube`, which describes them.

    Raises:
        UsageError: An option is invalid.
    """
    return FetchOptions(
        max_height=_check_positive(max_height, "--max-height"),
        licence=_check_licence(licence),
        max_duration_s=None if max_duration is None else _parse_positive_seconds(max_duration, "--max-duration"),
        cookies=None if cookies is None else _read_cookies(Path(cookies)),
        rate_limit=None if rate_limit is None else parse_rate(rate_limit),
        sleep_s=0.0 if sleep is None else float(parse_seconds(sleep, place="--sleep")),
        workers=_check_positive(workers, "--workers"),
        allow_private=allow_private,
        newest=None if newest is None else _check_positive(newest, "--newest"),
    )


def parse_rate(text: str | float) -> float:
    """Parse bytes per second, from "500K", "2M" or a number.

    Raises:
        UsageError: The text is not a rate.

    Examples:
        >>> parse_rate("1.5M")
        1572864.0
    """
    match = _RATE.fullmatch(str(text).strip())
    rate = float(match[1]) * _UNITS[match[2].lower()] if match else 0.0
    if not rate:
        rule = "bytes per second such as 500K or 2M"
        raise UsageError("invalid rate", place="--rate-limit", got=repr(text), expected=rule)
    return rate


def _parse_positive_seconds(time: str | float, place: str) -> float:
    seconds = float(parse_seconds(time, place=place))
    if not seconds:
        raise UsageError("value is too small", place=place, got=repr(time), expected="more than 0")
    return seconds


def _check_positive(number: int, place: str) -> int:
    if number < 1:
        raise UsageError("value is too small", place=place, got=number, expected="1 or more")
    return number


def _check_licence(licence: str | None) -> str | None:
    if licence not in (None, "creative-commons"):
        raise UsageError("unknown licence", place="--licence", got=repr(licence), expected="creative-commons")
    return licence


def _read_cookies(path: Path) -> str:
    """Read a cookie file. yt-dlp gets its text, since it would write cookies back to the file."""
    try:
        text = read_text(path, "cookie file")
    except DataError as error:
        raise UsageError(error.fact, place=path, expected=error.expected) from error  # what it holds is secret
    lines = [line for line in text.splitlines() if line.strip() and not re.match(r"#(?!HttpOnly_)", line)]
    if any(line.count("\t") < 6 for line in lines):
        raise UsageError(
            "not a cookie file",
            place=path,
            expected="Netscape format: seven columns separated by tabs",
            remedy="Export the cookies with a browser extension that writes cookies.txt.",
        )
    return text
