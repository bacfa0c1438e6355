"""Reads and writes times such as `2s`, `0.5`, `1/3s`, `1m30s`, `1:02:03.5` exactly, as fractions of seconds."""

import re
from fractions import Fraction

from curate.errors import UsageError
from curate.formatting import short_repr

_UNITS = {"": Fraction(1), "ms": Fraction(1, 1000), "s": Fraction(1)}
_UNITS |= {"m": Fraction(60), "min": Fraction(60), "h": Fraction(3600)}
_NUMBER = re.compile(r"(\d+/[1-9]\d*|\d+(?:\.\d*)?|\.\d+)\s*(ms|min|m|s|h|)")
_UNITED = re.compile(r"(?=\d)(?:(\d+)\s*h)?\s*(?:(\d+)\s*m(?:in)?)?\s*(?:(\d+(?:\.\d*)?)\s*s)?")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):([0-5]?\d(?:\.\d*)?)")
_LONGEST = 60  # characters
_FORMS = "seconds such as 2s, 0.5 or 1/3s, or a time such as 1m30s or 1:02:03.5"


def parse_seconds(text: str | float | Fraction, *, place: object) -> Fraction:
    """Parse a time, 0 or more: `h:m:s`, `1h2m3s`, or a number with the unit s (default), ms, min or h.

    Args:
        text: The time.
        place: Where it is written, for the error.

    Raises:
        UsageError: It is not a time.

    Examples:
        >>> parse_seconds("1/3s", place="--every"), parse_seconds("1:02:03.5", place="--start")
        (Fraction(1, 3), Fraction(7447, 2))
    """
    written = str(text)[: _LONGEST + 1].strip().lower()
    if len(written) > _LONGEST:
        raise UsageError("not a time", place=place, got=short_repr(text), expected=_FORMS)
    if match := _NUMBER.fullmatch(written):
        return Fraction(match[1]) * _UNITS[match[2]]
    if match := _UNITED.fullmatch(written):
        hours, minutes, seconds = match.groups("0")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    if match := _CLOCK.fullmatch(written):
        hours, minutes, seconds = match.groups()
        if hours is None or int(minutes) < 60:
            return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)
    raise UsageError("not a time", place=place, got=short_repr(text), expected=_FORMS)


def format_seconds(time_s: Fraction) -> str:
    """A time as text that `parse_seconds` reads exactly: decimal if that is exact, else a fraction.

    Examples:
        >>> format_seconds(Fraction(5, 2)), format_seconds(Fraction(1, 3)), format_seconds(Fraction(40))
        ('2.5', '1/3', '40')
    """
    for digits in range(10):
        if (time_s * 10**digits).denominator == 1:
            whole, rest = divmod(int(time_s * 10**digits), 10**digits)
            return f"{whole}.{rest:0{digits}d}" if digits else str(whole)
    return str(time_s)
