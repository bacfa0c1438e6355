"""The actions of the trigger file: write, webhook, command, clip."""

import os
import re
import shutil
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from curate.errors import UsageError, unknown_name
from curate.formatting import short_repr
from curate.growing_files import check_appendable
from curate.monitor.actions.webhook.settings import Webhook
from curate.monitor.triggers.fields import (
    ClipSeconds,
    FieldError,
    FilePath,
    StrictModel,
    Timeout,
    parsed_by,
)

PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
"""`{{word}}` (group 1) stands for the text `{word}`, `{word}` (group 2) for a value of the event."""

_PLACEHOLDERS = ("trigger", "class", "track_id", "score", "time", "timestamp_s", "clip", "source")


def _short_form_of(key: str) -> BeforeValidator:
    """Accept a text or list as short form of the mapping `{key: …}`."""
    return BeforeValidator(lambda written: {key: written} if isinstance(written, str | list) else written)


def _check_arguments(run: Any) -> Any:
    for argument in run if isinstance(run, list) else ():
        for match in PLACEHOLDER.finditer(argument) if isinstance(argument, str) else ():
            if match[2] is not None and match[2] not in _PLACEHOLDERS:
                error = unknown_name("placeholder", match[2], _PLACEHOLDERS)
                remedy = f"Write {{{match[0]}}} for the text {match[0]}."
                raise UsageError(error.fact, got=error.got, expected=error.expected, remedy=remedy)
    if isinstance(run, list) and run and isinstance(run[0], str) and PLACEHOLDER.search(run[0]):
        raise UsageError("a placeholder is not allowed in the program name", got=short_repr(run[0]))
    return run


class Command(StrictModel):
    """A program with its arguments, started without a shell."""

    run: Annotated[tuple[str, ...], parsed_by(_check_arguments), Field(strict=False, min_length=1)]
    timeout_s: Timeout = Field(60.0, alias="timeout")

    @model_validator(mode="after")
    def _check_program_name(self) -> Self:
        if not self.run[0].strip() or any("\0" in argument for argument in self.run):
            rule = "a program and its arguments, without NUL characters"
            raise FieldError(UsageError("invalid command", got=short_repr(list(self.run)), expected=rule), ".run")
        return self

    def check_program(self) -> None:
        """Check before the first event that the program exists.

        Raises:
            UsageError: It does not.
        """
        if shutil.which(self.run[0]) is None:
            rule = "a program on PATH, or a path"
            raise UsageError("program not found", place="run[0]", got=short_repr(self.run[0]), expected=rule)


class Clip(StrictModel):
    """A short video around an event."""

    folder: FilePath
    before_s: ClipSeconds = Field(5.0, alias="before")
    after_s: ClipSeconds = Field(5.0, alias="after")

    def check_folder(self) -> None:
        """Check that the folder, or the nearest one above it that exists, is writable.

        Raises:
            UsageError: It is not.
        """
        existing = next(place for place in (self.folder, *self.folder.absolute().parents) if os.path.exists(place))
        if not os.path.isdir(existing):
            raise UsageError("this is a file", place="folder", got=existing, expected="a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UsageError("folder is not writable", place="folder", got=existing)


class Action(StrictModel):
    """One action; exactly one of its fields is set."""

    write: FilePath | None = None
    webhook: Annotated[Webhook | None, _short_form_of("url")] = None
    command: Annotated[Command | None, _short_form_of("run")] = None
    clip: Annotated[Clip | None, _short_form_of("folder")] = None

    @model_validator(mode="after")
    def _check_one_kind(self) -> Self:
        kinds = self._kinds()
        if len(kinds) != 1:
            rule = f"exactly one of {', '.join(Action.model_fields)}"
            raise FieldError(UsageError("invalid action", got=" and ".join(kinds) or "none", expected=rule))
        return self

    def check_requirements(self, place: str) -> None:
        """Check before the first event that its secret, program, file or folder can be used. Creates nothing.

        Args:
            place: Of the action, for the message.

        Raises:
            UsageError: Something is missing or cannot be used.
        """
        try:
            if self.write is not None:
                _check_writable(self.write)
            if self.webhook is not None:
                self.webhook.read_secret()
            if self.command is not None:
                self.command.check_program()
            if self.clip is not None:
                self.clip.check_folder()
        except UsageError as error:
            where = f"{place}.{self._kinds()[0]}" + (f".{error.place}" if error.place else "")
            raise UsageError(
                error.fact, place=where, got=error.got, expected=error.expected, remedy=error.remedy
            ) from error

    def _kinds(self) -> list[str]:
        return [name for name in Action.model_fields if getattr(self, name) is not None]


def _check_writable(path: Path) -> None:
    """Open a file briefly the way events will; a pipe need not have a reader yet."""
    if os.path.isdir(path):
        raise UsageError("this is a folder", got=path, expected="a file")
    is_new = not os.path.exists(path)
    target = Path(os.path.realpath(path)) if is_new else path  # a symbolic link to a file that does not exist yet
    if not os.path.isdir(target.parent):
        raise UsageError("folder does not exist", got=target.parent, remedy="Create it first.")
    try:
        check_appendable(path)
    except OSError as error:
        raise UsageError(f"file is not writable: {error.strerror}", got=path) from error
