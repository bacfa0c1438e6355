"""Field types of the trigger file (durations, `5 of 10`, quiet hours, zones), and error messages with their place."""

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

from curate.documents.shape import location, rule_of
from curate.errors import CurateError, UsageError, unknown_name
from curate.formatting import short_repr
from curate.sources.times import parse_seconds

_MAX_S = 366 * 86_400
_MAX_CLIP_S = 60  # before the event, and after it: the frames are held in memory
_MAX_FRAMES = 100_000
_MAX_CORNERS = 100
_MINUTES_PER_DAY = 24 * 60
_KEY_LIKE = re.compile(r"[\w-]{1,40}")
_HOURS = re.compile(r"([01]?[0-9]|2[0-4]):([0-5][0-9])\s*-\s*([01]?[0-9]|2[0-4]):([0-5][0-9])")


class FieldError(ValueError):
    """Carries a `CurateError` through pydantic; `key` is the place within the value, such as `.url`."""

    def __init__(self, error: CurateError, key: str = "") -> None:
        super().__init__(str(error))
        self.error, self.key = error, key


class StrictModel(BaseModel):
    """A mapping in the trigger file: unknown keys are refused, and values are not converted to other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, written: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in written if isinstance(written, Mapping) else ():
            if key not in known:
                error = unknown_name("key", str(key)[:80], known)
                # a key that is not a word may be a misplaced URL or header, so it is not repeated
                got = error.got if _KEY_LIKE.fullmatch(str(key)) else None
                raise FieldError(UsageError(error.fact, got=got, expected=error.expected, remedy=error.remedy))
        return written


def first_error(file: Path, error: ValidationError) -> UsageError:
    """Convert pydantic's first error to a `UsageError` whose place reads `door.yaml, triggers[0].zone`."""
    details = error.errors(include_url=False)[0]
    cause = details.get("ctx", {}).get("error")
    where = (location(details) + (cause.key if isinstance(cause, FieldError) else "")).removeprefix(".")
    place = f"{file}, {where}" if where else file
    if isinstance(cause, FieldError):
        ours = cause.error
        return UsageError(ours.fact, place=place, got=ours.got, expected=ours.expected, remedy=ours.remedy)
    if details["type"] == "missing":
        return UsageError("required key is missing", place=place)
    return UsageError("invalid value", place=place, got=_printable_input(details), expected=rule_of(details))


def _printable_input(details: ErrorDetails) -> str | None:
    """Return the offending input for a message; None where it may be a secret, as in webhook URLs and headers."""
    value, place = details["input"], details["loc"]
    if isinstance(value, Mapping | list | tuple) and value:
        return "a mapping" if isinstance(value, Mapping) else "a list"
    return None if "webhook" in place or place[-2:-1] == ("actions",) else short_repr(value)


def parsed_by(parse: Callable[[Any], Any]) -> BeforeValidator:
    """Make a pydantic validator of a function that raises `CurateError`."""

    def validate(written: Any) -> Any:
        try:
            return parse(written)
        except CurateError as error:
            raise FieldError(error) from error

    return BeforeValidator(validate)


@dataclass(frozen=True)
class FrameCount:
    """`seen` matches among the latest `of` frames."""

    seen: int
    of: int


@dataclass(frozen=True)
class QuietHours:
    """A part of the day in minutes from midnight, `end_min` excluded; it spans midnight where the end comes first."""

    start_min: int
    end_min: int

    def contains(self, clock: time) -> bool:
        """Whether a local time lies in the quiet hours."""
        now_min = clock.hour * 60 + clock.minute
        if self.start_min < self.end_min:
            return self.start_min <= now_min < self.end_min
        return now_min >= self.start_min or now_min < self.end_min


def _parse_seconds(written: Any) -> float:
    if isinstance(written, bool) or not isinstance(written, str | int | float):
        raise UsageError("invalid duration", got=short_repr(written), expected="a duration such as 30s, 1m30s or 0.5")
    exact = parse_seconds(written, place=None)
    if exact > _MAX_S:
        raise UsageError("duration is too long", got=short_repr(written), expected="at most a year")
    return float(exact)


def _parse_clip_seconds(written: Any) -> float:
    seconds = _parse_seconds(written)
    if seconds > _MAX_CLIP_S:
        raise UsageError(
            "duration is too long for a clip", got=short_repr(written), expected=f"at most {_MAX_CLIP_S} s"
        )
    return seconds


def _parse_timeout(written: Any) -> float:
    seconds = _parse_seconds(written)
    if seconds <= 0:
        raise UsageError("duration must be positive", got=short_repr(written))
    return seconds


def _parse_frames(written: Any) -> FrameCount:
    match = re.fullmatch(r"\s*([0-9]{1,7})\s+of\s+([0-9]{1,7})\s*", written) if isinstance(written, str) else None
    if match:
        seen, of = int(match[1]), int(match[2])
    elif isinstance(written, Mapping) and set(written) == {"seen", "of"}:
        seen, of = written["seen"], written["of"]
    else:
        seen = of = None
    if type(seen) is not int or type(of) is not int or not 1 <= seen <= of <= _MAX_FRAMES:
        rule = "such as 5 of 10 or {seen: 5, of: 10}, with 1 ≤ seen ≤ of"
        raise UsageError("invalid number of frames", got=short_repr(written), expected=rule)
    return FrameCount(seen, of)


def _parse_quiet_hours(written: Any) -> QuietHours:
    match = _HOURS.fullmatch(written.strip()) if isinstance(written, str) else None
    start, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (0, 0)
    if start == end or start >= _MINUTES_PER_DAY or end > _MINUTES_PER_DAY:
        rule = "such as 22:00-06:00 in quotes; 00:00-24:00 is the whole day"
        raise UsageError("invalid quiet hours", got=short_repr(written), expected=rule)
    return QuietHours(start, end)


def as_list(written: Any) -> Any:
    """Wrap a single value in a list; lists and None stay as they are."""
    return written if isinstance(written, list) or written is None else [written]


Point = tuple[float, float]
Zone = tuple[Point, ...]


def _parse_zone(written: Any) -> Zone:
    points = written if isinstance(written, list) and len(written) <= _MAX_CORNERS else []
    numbers = [number for point in points if isinstance(point, list) and len(point) == 2 for number in point]
    real = [number for number in numbers if type(number) in (int, float) and abs(number) <= 1e6]  # excludes NaN
    if len(points) < 3 or len(real) != 2 * len(points):
        rule = f"3 to {_MAX_CORNERS} points [x, y], all fractions of the picture or all pixels"
        raise UsageError("invalid zone", got=short_repr(written), expected=rule)
    zone = tuple((float(x), float(y)) for x, y in points)
    if not any(_cross(*three) for three in combinations(zone, 3)):
        raise UsageError("zone has no area", got=short_repr(written))
    if _crosses_itself(zone):
        remedy = "List the corners in order around the zone."
        raise UsageError("sides of the zone cross", got=short_repr(written), remedy=remedy)
    _check_unit(zone)
    return zone


def _check_unit(zone: Zone) -> None:
    """Refuse zones that are neither fractions nor pixels: one fraction slightly over 1 must not mean pixels."""
    numbers = [number for point in zone for number in point]
    rule = "fractions of the picture, all within 0..1, or pixels, all 0 or more"
    if min(numbers) < 0:
        raise UsageError("zone lies outside the picture", got=f"{min(numbers):g}", expected=rule)
    if 1 < max(numbers) <= 2:
        raise UsageError("zone lies outside the picture", got=f"{max(numbers):g}", expected=rule)
    parts = [number for number in numbers if 0 < number < 1]
    if max(numbers) > 2 and parts:
        raise UsageError("zone mixes fractions and pixels", got=f"{parts[0]:g} and {max(numbers):g}", expected=rule)


def _cross(a: Point, b: Point, c: Point) -> float:
    """Cross product of b − a and c − a: its sign tells on which side of the line a-b the point c lies; 0 is on it."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _crosses_itself(zone: Zone) -> bool:
    sides = list(zip(zone, [*zone[1:], zone[0]], strict=True))
    return any(
        _cross(a, b, c) * _cross(a, b, d) < 0 and _cross(c, d, a) * _cross(c, d, b) < 0
        for (a, b), (c, d) in combinations(sides, 2)
    )


def _parse_path(written: Any) -> Any:
    if isinstance(written, str) and (not written.strip() or "\0" in written):
        raise UsageError("invalid file name", got=short_repr(written))
    return os.path.expanduser(written) if isinstance(written, str) else written


FilePath = Annotated[Path, parsed_by(_parse_path), Field(strict=False)]
Seconds = Annotated[float, parsed_by(_parse_seconds)]
ClipSeconds = Annotated[float, parsed_by(_parse_clip_seconds)]
Timeout = Annotated[float, parsed_by(_parse_timeout)]
Frames = Annotated[FrameCount, parsed_by(_parse_frames)]
Hours = Annotated[QuietHours, parsed_by(_parse_quiet_hours)]
Polygon = Annotated[Zone, parsed_by(_parse_zone), Field(strict=False)]
