"""What the user says about video files that do not say it themselves, or not what is wanted."""

from dataclasses import dataclass
from fractions import Fraction

from curate.errors import UsageError

_MAX_DEPTH = 16


@dataclass(frozen=True)
class ReadOptions:
    """How to read a video.

    Attributes:
        stream: Number of the video stream, from 1; None: the container's best.
        rate: Frames per second of a file without time stamps; None: what the file tells, else 25.
        depth: Bits that samples of 16 bits really use; None: all of them.
    """

    stream: int | None = None
    rate: Fraction | None = None
    depth: int | None = None


def parse_read_options(
    *, stream: int | None = None, rate: str | float | Fraction | None = None, depth: int | None = None
) -> ReadOptions:
    """Check `--stream`, `--rate` and `--depth`.

    Raises:
        UsageError: A value is out of range, or not a number.
    """
    if stream is not None and stream < 1:
        raise UsageError("the value is out of range", place="--stream", got=stream, expected="1 or more")
    if depth is not None and not 1 <= depth <= _MAX_DEPTH:
        raise UsageError("the value is out of range", place="--depth", got=depth, expected=f"1 to {_MAX_DEPTH}")
    exact = None if rate is None else parse_rate(rate, place="--rate")
    if exact == 0:
        raise UsageError("must be positive", place="--rate", got=rate)
    return ReadOptions(stream, exact, depth)


def parse_rate(rate: str | float | Fraction, *, place: str) -> Fraction:
    """Parse frames per second, 0 or more.

    Raises:
        UsageError: It is not a rate.

    Examples:
        >>> parse_rate("30000/1001", place="--rate"), parse_rate(0.5, place="--fps")
        (Fraction(30000, 1001), Fraction(1, 2))
    """
    try:
        exact = Fraction(str(rate))
    except (ValueError, ZeroDivisionError):
        exact = Fraction(-1)
    if exact < 0:
        expected = "frames per second such as 0.5, 2 or 1/3"
        raise UsageError("not a frame rate", place=place, got=repr(rate), expected=expected)
    return exact
