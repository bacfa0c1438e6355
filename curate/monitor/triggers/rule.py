"""The rule of a trigger: which detections it matches, and when it may fire."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from curate.errors import CurateError, UsageError
from curate.formatting import short_repr
from curate.monitor.triggers.event import STREAM_PREFIX
from curate.monitor.triggers.fields import (
    FieldError,
    FrameCount,
    Frames,
    Hours,
    Polygon,
    Seconds,
    StrictModel,
    as_list,
)
from curate.plain_text import is_clean
from curate.sizes import RangeOfInterest, choose_range

_MAX_NAME_LENGTH = 100
_KEY_OF_OPTION = {
    "--min-side": "min_side",
    "--max-distance": "max_distance",
    "--object-height": "object_height",
    "--focal-px": "focal_px",
}
_ClassNames = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


class Rule(StrictModel):
    """What one trigger matches.

    Attributes:
        name: Name of the trigger and its events.
        classes: Class names; None matches every class.
        min_score: Lowest score; None matches every detection.
        min_side, max_distance, object_height, focal_px: The rule's own range of interest; see `interest`.
        zone: Corners of a polygon, all as fractions of the picture or all in pixels; None is the whole picture.
        anchor: Point of a box that must lie in the zone: its centre, or the middle of its bottom side.
        frames: In how many of the latest frames a track must match.
        cool_down_s: Seconds after an event during which the trigger does not fire.
        repeat_s: Seconds after which the same track fires again; None is never.
        quiet_hours: Local times of day at which the trigger does not fire.
    """

    name: str
    classes: Annotated[_ClassNames | None, BeforeValidator(as_list)] = Field(None, alias="class")
    min_score: float | None = Field(None, ge=0, le=1)
    min_side: float | None = None
    max_distance: float | None = None
    object_height: float | None = None
    focal_px: float | None = None
    zone: Polygon | None = None
    anchor: Literal["center", "bottom"] = "center"
    frames: Frames = FrameCount(1, 1)
    cool_down_s: Seconds = Field(0.0, alias="cool_down")
    repeat_s: Seconds | None = Field(None, alias="repeat")
    quiet_hours: Annotated[tuple[Hours, ...], BeforeValidator(as_list), Field(strict=False)] = ()

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not name.strip() or name != name.strip() or not is_clean(name) or len(name) > _MAX_NAME_LENGTH:
            rule = f"visible text of 1 to {_MAX_NAME_LENGTH} characters without spaces at either end"
            raise FieldError(UsageError("invalid name", got=short_repr(name), expected=rule))
        if name.startswith(STREAM_PREFIX):
            raise FieldError(UsageError(f"the prefix {STREAM_PREFIX} is reserved", got=short_repr(name)))
        return name

    @model_validator(mode="after")
    def _check_interest(self) -> Self:
        try:
            _ = self.interest
        except UsageError as error:
            key = _KEY_OF_OPTION.get(str(error.place), "min_side")
            raise FieldError(_with_keys_for_options(error), f".{key}") from error
        return self

    @property
    def interest(self) -> RangeOfInterest | None:
        """Its own range of interest; None uses that of the watch."""
        return choose_range(self.min_side, self.max_distance, self.object_height, self.focal_px)


def _with_keys_for_options(error: CurateError) -> UsageError:
    """Rewrite a message about command-line options in terms of the keys of the trigger file."""

    def translate(text: object) -> str | None:
        words = None if text is None else str(text)
        for option, key in _KEY_OF_OPTION.items():
            words = words.replace(option, key) if words else words
        return words

    return UsageError(error.fact, got=error.got, expected=translate(error.expected), remedy=translate(error.remedy))
