"""How values of a trigger file are written: times, `5 of 10`, quiet hours, zones; and how a fault in one is told."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import time
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from curate.errors import CurateError, UsageError, unknown_name
from curate.sources.times import parse_seconds

_LONGEST_S = 366 * 86_400
LONGEST_OF_A_CLIP_S = 60  # before the moment, and after it: its frames wait in memory
_MOST_FRAMES = 100_000
_MOST_CORNERS = 100
_DAY_MIN = 24 * 60
_WORD = re.compile(r"[\w-]{1,40}")
_HOURS = re.compile(r"([01]?[0-9]|2[0-4]):([0-5][0-9])\s*-\s*([01]?[0-9]|2[0-4]):([0-5][0-9])")
_RULES = {
    "path_type": "the name of a file",
    "string_type": "text; a name such as no or 5 needs quotes",
    "model_type": "a mapping, key: value",
    "dict_type": "a mapping, key: value",
    "tuple_type": "a list",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "at most {le}",
    "too_short": "at least {min_length}",
}


class FaultError(ValueError):
    """What pydantic collects of an error of ours; `key` is where in the value it is."""

    def __init__(self, error: CurateError, key: str = "") -> None:
        super().__init__(str(error))
        self.error, self.key = error, key


class Strict(BaseModel):
    """A part of the trigger file: its keys and no others, nothing turned into what it is not."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _has_known_keys(cls, written: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in written if isinstance(written, Mapping) else ():
            if key not in known:
                error = unknown_name("key", str(key)[:80], known)
                # what is no word may be an address or a header that should have been a value
                got = error.got if _WORD.fullmatch(str(key)) else None
                raise FaultError(UsageError(error.fact, got=got, expected=error.expected, remedy=error.remedy))
        return written


def first_fault(file: Path, error: ValidationError) -> UsageError:
    """The first of pydantic's findings as one of our errors, with its place as `door.yaml, triggers[0].zone`."""
    found = error.errors(include_url=False)[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found["loc"])
    context = found.get("ctx", {})
    cause = context.get("error")
    where = (where + (cause.key if isinstance(cause, FaultError) else "")).removeprefix(".")
    place = f"{file}, {where}" if where else file
    if isinstance(cause, FaultError):
        told = cause.error
        return UsageError(told.fact, place=place, got=told.got, expected=told.expected, remedy=told.remedy)
    if found["type"] == "missing":
        return UsageError("it is missing", place=place)
    rule = _RULES.get(found["type"], found["msg"].removeprefix("Input should be "))
    return UsageError("not valid", place=place, got=_got(found), expected=rule.format(**context))


def _got(found: ErrorDetails) -> str | None:
    """What was written, for a message; None of what may be a secret: addresses, headers, and what may hold them."""
    value, place = found["input"], found["loc"]
    if isinstance(value, Mapping | list | tuple) and value:
        return "a mapping" if isinstance(value, Mapping) else "a list"
    return None if "webhook" in place or place[-2:-1] == ("actions",) else shown(value)


def shown(value: object) -> str:
    """A value for a message, not too long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def reading(read: Callable[[Any], Any]) -> BeforeValidator:
    """A validator that lets pydantic know of our errors."""

    def validate(written: Any) -> Any:
        try:
            return read(written)
        except CurateError as error:
            raise FaultError(error) from error

    return BeforeValidator(validate)


@dataclass(frozen=True)
class FrameCount:
    """So many of so many frames, the newest included."""

    seen: int
    of: int


@dataclass(frozen=True)
class QuietHours:
    """A part of the day, in minutes from midnight; `end_min` is outside it, and it spans midnight where it is less."""

    start_min: int
    end_min: int

    def contains(self, clock: time) -> bool:
        """Whether it is quiet at that time of the day."""
        now_min = clock.hour * 60 + clock.minute
        if self.start_min < self.end_min:
            return self.start_min <= now_min < self.end_min
        return now_min >= self.start_min or now_min < self.end_min


def _read_seconds(written: Any) -> float:
    if isinstance(written, bool) or not isinstance(written, str | int | float):
        raise UsageError("not a time", got=shown(written), expected="a time such as 30s, 1m30s or 0.5")
    exact = parse_seconds(written, place=None)
    if exact > _LONGEST_S:
        raise UsageError("the time is too long", got=shown(written), expected="at most a year")
    return float(exact)


def _read_clip_seconds(written: Any) -> float:
    seconds = _read_seconds(written)
    if seconds > LONGEST_OF_A_CLIP_S:
        raise UsageError("too long for a clip", got=shown(written), expected=f"at most {LONGEST_OF_A_CLIP_S} s")
    return seconds


def _read_timeout(written: Any) -> float:
    seconds = _read_seconds(written)
    if seconds <= 0:
        raise UsageError("nothing is done in no time", got=shown(written), expected="a time over 0")
    return seconds


def _read_frames(written: Any) -> FrameCount:
    match = re.fullmatch(r"\s*([0-9]{1,7})\s+of\s+([0-9]{1,7})\s*", written) if isinstance(written, str) else None
    if match:
        seen, of = int(match[1]), int(match[2])
    elif isinstance(written, Mapping) and set(written) == {"seen", "of"}:
        seen, of = written["seen"], written["of"]
    else:
        seen = of = None
    if type(seen) is not int or type(of) is not int or not 1 <= seen <= of <= _MOST_FRAMES:
        rule = "such as 5 of 10 or {seen: 5, of: 10}; the first not over the second, both at least 1"
        raise UsageError("not a number of frames", got=shown(written), expected=rule)
    return FrameCount(seen, of)


def _read_quiet_hours(written: Any) -> QuietHours:
    match = _HOURS.fullmatch(written.strip()) if isinstance(written, str) else None
    start, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (0, 0)
    if start == end or start >= _DAY_MIN or end > _DAY_MIN:
        rule = "such as 22:00-06:00, in quotes; the whole day is 00:00-24:00"
        raise UsageError("not a part of the day", got=shown(written), expected=rule)
    return QuietHours(start, end)


def one_or_more(written: Any) -> Any:
    """A value that stands for a list of its own."""
    return written if isinstance(written, list) or written is None else [written]


Point = tuple[float, float]
Zone = tuple[Point, ...]


def _read_zone(written: Any) -> Zone:
    points = written if isinstance(written, list) and len(written) <= _MOST_CORNERS else []
    numbers = [number for point in points if isinstance(point, list) and len(point) == 2 for number in point]
    real = [number for number in numbers if type(number) in (int, float) and abs(number) <= 1e6]  # nan is not
    if len(points) < 3 or len(real) != 2 * len(points):
        rule = "three to a hundred points [x, y], all fractions of the picture or all pixels"
        raise UsageError("not a zone", got=shown(written), expected=rule)
    zone = tuple((float(x), float(y)) for x, y in points)
    if not any(_turn(*three) for three in combinations(zone, 3)):
        raise UsageError("the zone has no area", got=shown(written))
    if _crosses_itself(zone):
        remedy = "Name the corners in the order in which they follow one another around it."
        raise UsageError("the zone's sides cross", got=shown(written), remedy=remedy)
    _check_unit(zone)
    return zone


def _check_unit(zone: Zone) -> None:
    """Refuse what is neither fractions nor pixels: a fraction somewhat over 1 must not turn all into pixels."""
    numbers = [number for point in zone for number in point]
    rule = "fractions of the picture, all within 0..1, or pixels, all 0 or more"
    if min(numbers) < 0:
        raise UsageError("the zone leaves the picture", got=f"{min(numbers):g}", expected=rule)
    if 1 < max(numbers) <= 2:
        raise UsageError("the zone leaves the picture", got=f"{max(numbers):g}", expected=rule)
    parts = [number for number in numbers if 0 < number < 1]
    if max(numbers) > 2 and parts:
        raise UsageError("the zone mixes fractions and pixels", got=f"{parts[0]:g} and {max(numbers):g}", expected=rule)


def _turn(a: Point, b: Point, c: Point) -> float:
    """Over 0 where c is on one side of the line from a to b, under 0 on the other, 0 on it."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _crosses_itself(zone: Zone) -> bool:
    sides = list(zip(zone, [*zone[1:], zone[0]], strict=True))
    return any(
        _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0
        for (a, b), (c, d) in combinations(sides, 2)
    )


def _check_path(written: Any) -> Any:
    if isinstance(written, str) and (not written.strip() or "\0" in written):
        raise UsageError("not the name of a file", got=shown(written))
    return os.path.expanduser(written) if isinstance(written, str) else written


FilePath = Annotated[Path, reading(_check_path), Field(strict=False)]
Seconds = Annotated[float, reading(_read_seconds)]
ClipSeconds = Annotated[float, reading(_read_clip_seconds)]
Timeout = Annotated[float, reading(_read_timeout)]
Frames = Annotated[FrameCount, reading(_read_frames)]
Hours = Annotated[QuietHours, reading(_read_quiet_hours)]
Polygon = Annotated[Zone, reading(_read_zone), Field(strict=False)]
