"""The trigger file of `watch`: rules, and the actions that their events start.

    triggers:
      - name: bare face at the door
        class: without_mask
        frames: 5 of 10
        actions:
          - write: alerts.jsonl
          - webhook: {url: "https://example.org/hook", secret_env: CURATE_HOOK_SECRET}
    hosts: [example.org]

Paths are relative to the current folder. The file names secrets, and never contains them.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from curate.documents.yaml_reader import read_yaml
from curate.errors import UsageError, unknown_name
from curate.formatting import short_repr
from curate.monitor.actions.config import Action, Clip
from curate.monitor.actions.webhook.address import parse_host
from curate.monitor.actions.webhook.settings import Webhook
from curate.monitor.triggers.event import STREAM_PREFIX
from curate.monitor.triggers.fields import FieldError, StrictModel, first_error, parsed_by
from curate.monitor.triggers.rule import Rule

_Actions = Annotated[tuple[Action, ...], Field(strict=False)]


class Trigger(Rule):
    """A rule, and the actions that its events start, in the order of the file."""

    actions: _Actions = ()

    @model_validator(mode="after")
    def _check_clips(self) -> Self:
        if sum(action.clip is not None for action in self.actions) > 1:
            remedy = "Keep one; the other actions can use it as {clip}."
            raise FieldError(UsageError("more than one clip", remedy=remedy), ".actions")
        return self

    @property
    def clip(self) -> Clip | None:
        """The clip that it saves."""
        return next((action.clip for action in self.actions if action.clip is not None), None)


class Stream(StrictModel):
    """The actions for a source that stalls, breaks or comes back."""

    actions: _Actions = ()

    @model_validator(mode="after")
    def _check_clips(self) -> Self:
        for index, action in enumerate(self.actions):
            if action.clip is not None:
                raise FieldError(UsageError("clips are not available for stream events"), f".actions[{index}].clip")
        return self


def _check_host(text: Any) -> Any:
    if isinstance(text, str):
        parse_host(text)
    return text


class TriggerFile(StrictModel):
    """The content of a trigger file."""

    triggers: Annotated[tuple[Trigger, ...], Field(strict=False)] = ()
    stream: Stream = Stream()
    hosts: Annotated[tuple[Annotated[str, parsed_by(_check_host)], ...], Field(strict=False)] = ()
    _name: str = PrivateAttr("the trigger file")

    def notes(self) -> tuple[str, ...]:
        """What is valid but probably not intended, in sentences."""
        if not self.triggers:
            return (f"{self._name} has no triggers: no detection becomes an event.",)
        if not any(trigger.actions for trigger in self.triggers):
            return (f"No trigger in {self._name} has an action: events go to --events and --serve only.",)
        return ()

    def all_actions(self) -> Iterator[tuple[str, str, Action]]:
        """Yield (name of the trigger, place in the file, action); the name is `stream_` for the source's actions."""
        for number, trigger in enumerate(self.triggers):
            for index, action in enumerate(trigger.actions):
                yield trigger.name, f"triggers[{number}].actions[{index}]", action
        for index, action in enumerate(self.stream.actions):
            yield STREAM_PREFIX, f"stream.actions[{index}]", action

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        names: dict[str, int] = {}
        for index, trigger in enumerate(self.triggers):
            if trigger.name in names:
                fact = f"duplicate name, also used by triggers[{names[trigger.name]}]"
                raise FieldError(UsageError(fact, got=short_repr(trigger.name)), f"triggers[{index}].name")
            names[trigger.name] = index
        known: dict[str, tuple[str, Webhook]] = {}
        for _, place, action in self.all_actions():
            if action.webhook is not None:
                self._check_webhook(action.webhook, f"{place}.webhook", known)
        return self

    def _check_webhook(self, webhook: Webhook, place: str, known: dict[str, tuple[str, Webhook]]) -> None:
        if not webhook.is_allowed(self.hosts):
            error = UsageError(
                "host is not listed under hosts",
                got=webhook.address.authority,
                expected=f"one of {', '.join(self.hosts)}" if self.hosts else None,
                remedy=f"Add it at the end of the file: hosts: [{webhook.address.authority}].",
            )
            raise FieldError(error, f"{place}.url")
        other, same = known.setdefault(webhook.url, (place, webhook))
        if same != webhook:  # deliveries to one URL share a queue and a secret
            raise FieldError(UsageError(f"same url as {other}, with different settings"), place)


def read_triggers(file: str | os.PathLike[str], classes: Sequence[str]) -> TriggerFile:
    """Read a trigger file, and check everything in it: `parse_triggers` and `check_triggers`."""
    return check_triggers(file, parse_triggers(file), classes)


def parse_triggers(file: str | os.PathLike[str]) -> TriggerFile:
    """Read a trigger file, without a look at what it names.

    Raises:
        UsageError: The file cannot be read, or something in it is invalid.
    """
    path = Path(file)
    try:
        content = TriggerFile.model_validate(_read_document(path))
    except ValidationError as error:
        raise first_error(path, error) from error
    content._name = str(path)
    return content


def check_triggers(file: str | os.PathLike[str], content: TriggerFile, classes: Sequence[str]) -> TriggerFile:
    """Check that the secrets, programs, files and folders that a trigger file names can be used.

    Args:
        file: Where the content is from, for messages.
        content: Of the file.
        classes: Class names of the detector; a trigger without `class` matches all of them.

    Returns:
        The content with the classes of each trigger.

    Raises:
        UsageError: Something that it names is missing.
    """
    path = Path(file)
    for _, place, action in content.all_actions():
        action.check_requirements(f"{path}, {place}")
    triggers = tuple(
        trigger.model_copy(
            update={"classes": _check_classes(trigger.classes, classes, f"{path}, triggers[{index}].class")}
        )
        for index, trigger in enumerate(content.triggers)
    )
    checked = content.model_copy(update={"triggers": triggers})
    checked._name = str(path)
    return checked


def _check_classes(names: Sequence[str] | None, classes: Sequence[str], place: str) -> tuple[str, ...]:
    if names is None:
        return tuple(classes)
    for name in names:
        if name not in classes:
            raise unknown_name("class", name, classes, place=place)
    return tuple(dict.fromkeys(names))


def _read_document(path: Path) -> dict[str, Any]:
    document = read_yaml(path, "trigger file", error=UsageError)
    if not isinstance(document, dict) or not document:
        raise UsageError("the trigger file is empty", place=path, expected="triggers, stream or hosts")
    return document
