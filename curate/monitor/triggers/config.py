"""The trigger file of `watch`: what to wait for, and what to do then.

    triggers:
      - name: bare face at the door
        class: without_mask
        frames: 5 of 10
        actions:
          - write: alerts.jsonl
          - webhook: {url: "https://example.org/hook", secret_env: CURATE_HOOK_SECRET}
    hosts: [example.org]

Paths in it are relative to the current folder. Secrets are named in it, and never stand in it.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, field_validator, model_validator

from curate.errors import CurateError, UsageError, unknown_name
from curate.monitor.actions.config import Action, Clip, Webhook
from curate.monitor.actions.webhook.address import read_host
from curate.monitor.triggers.fields import (
    FaultError,
    FrameCount,
    Frames,
    Hours,
    Polygon,
    Seconds,
    Strict,
    first_fault,
    one_or_more,
    reading,
    shown,
)
from curate.sizes import RangeOfInterest, choose_range

STREAM_PREFIX = "stream_"
_LONGEST_NAME = 100
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_OPTIONS = {"--min-side": "min_side", "--max-distance": "max_distance"}
_OPTIONS |= {"--object-height": "object_height", "--focal-px": "focal_px"}


_Names = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


class Rule(Strict):
    """One trigger.

    Attributes:
        name: of its events.
        classes: names; after `read_triggers` never None.
        min_score: the least score; None takes whatever counts.
        zone: corners of a polygon, all fractions of the picture or all pixels; None is everywhere.
        anchor: the point of a box that has to be in the zone: its centre, or the middle of its lower side.
        frames: in how many of the newest frames a track has to meet the trigger.
        cool_down_s: for so long after it fired, nothing fires it.
        repeat_s: after so long the same track fires it again; None is never.
        quiet_hours: by the clock's local time; then nothing fires it.
        actions: in the order of the file.
    """

    name: str
    classes: Annotated[_Names | None, BeforeValidator(one_or_more)] = Field(None, alias="class")
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
    quiet_hours: Annotated[tuple[Hours, ...], BeforeValidator(one_or_more), Field(strict=False)] = ()
    actions: Annotated[tuple[Action, ...], Field(strict=False)] = ()

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
            rule = f"printable text of 1 to {_LONGEST_NAME} characters, no space at its ends"
            raise FaultError(UsageError("not a name", got=shown(name), expected=rule))
        if name.startswith(STREAM_PREFIX):
            raise FaultError(UsageError(f"names with {STREAM_PREFIX} are the source's own", got=shown(name)))
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> "Rule":
        try:
            _ = self.interest
        except UsageError as error:
            raise FaultError(_in_words_of_the_file(error), f".{_OPTIONS.get(str(error.place), 'min_side')}") from error
        if len([action for action in self.actions if action.clip is not None]) > 1:
            raise FaultError(
                UsageError("more than one clip", remedy="Save it once; the other actions can name it."), ".actions"
            )
        return self

    @property
    def interest(self) -> RangeOfInterest | None:
        """Its own range of interest; None is that of the watch."""
        return choose_range(self.min_side, self.max_distance, self.object_height, self.focal_px)

    @property
    def clip(self) -> Clip | None:
        """The clip that it saves."""
        return next((action.clip for action in self.actions if action.clip is not None), None)


class Stream(Strict):
    """What to do when the source stalls, breaks, or is back."""

    actions: Annotated[tuple[Action, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _has_no_clip(self) -> "Stream":
        for index, action in enumerate(self.actions):
            if action.clip is not None:
                raise FaultError(UsageError("there is no clip of a source that fails"), f".actions[{index}].clip")
        return self


def _check_host(text: Any) -> Any:
    if isinstance(text, str):
        read_host(text)
    return text


class TriggerFile(Strict):
    """A trigger file."""

    triggers: Annotated[tuple[Rule, ...], Field(strict=False)] = ()
    stream: Stream = Stream()
    hosts: Annotated[tuple[Annotated[str, reading(_check_host)], ...], Field(strict=False)] = ()
    _name: str = PrivateAttr("the trigger file")

    def notes(self) -> tuple[str, ...]:
        """What is no fault, and yet should be known before the watch begins, in sentences."""
        if not self.triggers:
            return (f"{self._name} has no triggers: nothing that is seen is an event.",)
        if not any(rule.actions for rule in self.triggers):
            return (f"No trigger of {self._name} has an action: their events come to --events and --serve only.",)
        return ()

    def placed_actions(self) -> Iterator[tuple[str, str, Action]]:
        """Every action: the name of its trigger (`stream_` for the source's), its place in the file, and itself."""
        for number, rule in enumerate(self.triggers):
            for index, action in enumerate(rule.actions):
                yield rule.name, f"triggers[{number}].actions[{index}]", action
        for index, action in enumerate(self.stream.actions):
            yield STREAM_PREFIX, f"stream.actions[{index}]", action

    @model_validator(mode="after")
    def _fits_together(self) -> "TriggerFile":
        names: dict[str, int] = {}
        for index, rule in enumerate(self.triggers):
            if rule.name in names:
                first = f"triggers[{names[rule.name]}]"
                raise FaultError(
                    UsageError(f"{first} has this name too", got=shown(rule.name)), f"triggers[{index}].name"
                )
            names[rule.name] = index
        known: dict[str, tuple[str, Webhook]] = {}
        for _, place, action in self.placed_actions():
            if action.webhook is not None:
                self._check_webhook(action.webhook, f"{place}.webhook", known)
        return self

    def _check_webhook(self, webhook: Webhook, place: str, known: dict[str, tuple[str, Webhook]]) -> None:
        if not webhook.is_allowed(self.hosts):
            got, named = webhook.address.place, ", ".join(self.hosts) or "none is named"
            remedy = f"Add it to hosts: [{got}] at the end of the file."
            error = UsageError(
                "webhooks do not go to this host", got=got, expected=f"one of hosts: {named}", remedy=remedy
            )
            raise FaultError(error, f"{place}.url")
        other, same = known.setdefault(webhook.url, (place, webhook))
        if same != webhook:  # its deliveries wait in one line, signed with one secret
            raise FaultError(UsageError(f"the same url as {other}, with other settings"), place)


def read_triggers(file: str | os.PathLike[str], classes: Sequence[str]) -> TriggerFile:
    """Read a trigger file, and see that the secrets, programs, files and folders that it names can be used.

    Args:
        file: YAML.
        classes: the names that the detector knows; a trigger without `class` waits for all of them.

    Raises:
        UsageError: it cannot be read, something in it is wrong, or a class or what an action needs is not there.
    """
    path = Path(file)
    try:
        found = TriggerFile.model_validate(_read_yaml(path))
    except ValidationError as error:
        raise first_fault(path, error) from error
    for _, place, action in found.placed_actions():
        action.see_what_it_needs(f"{path}, {place}")
    rules = tuple(
        rule.model_copy(update={"classes": _known(rule.classes, classes, f"{path}, triggers[{index}].class")})
        for index, rule in enumerate(found.triggers)
    )
    found = found.model_copy(update={"triggers": rules})
    found._name = str(path)
    return found


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML's own loader takes the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem="this key is there twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _read_yaml(path: Path) -> Any:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise UsageError(f"the trigger file cannot be read: {error.strerror}", place=path) from error
    except (ValueError, LookupError, AttributeError, RecursionError, yaml.YAMLError) as error:  # of PyYAML itself
        raise UsageError(f"the trigger file is not YAML: {_yaml_fault(error)}", place=path) from error
    if not isinstance(document, dict) or not document:
        raise UsageError("the trigger file says nothing", place=path, expected="triggers, stream or hosts")
    return document


def _yaml_fault(error: Exception) -> str:
    """Where and what, without the line itself, of which a part may be a secret."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"{error.reason}, at character {error.position + 1}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if not isinstance(error, yaml.MarkedYAMLError):
        return "it is nested too deeply" if isinstance(error, RecursionError) else "a value cannot be read"
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return where + _QUOTED.sub(_without_names, error.problem or error.context or "cannot be read")


def _without_names(quoted: re.Match[str]) -> str:
    """Marks of YAML as they are, and the parser's own words such as '<block end>'; not what somebody wrote."""
    text = quoted[0][1:-1]
    return quoted[0] if len(text) <= 1 or text[0] in "<\\" else "…"


def _in_words_of_the_file(error: CurateError) -> UsageError:
    def translated(text: object) -> str | None:
        words = None if text is None else str(text)
        for option, key in _OPTIONS.items():
            words = words.replace(option, key) if words else words
        return words

    return UsageError(error.fact, got=error.got, expected=translated(error.expected), remedy=translated(error.remedy))


def _known(names: Sequence[str] | None, classes: Sequence[str], place: str) -> tuple[str, ...]:
    if names is None:
        return tuple(classes)
    for name in names:
        if name not in classes:
            raise unknown_name("class", name, classes, place=place)
    return tuple(dict.fromkeys(names))
