"""What a trigger does when it fires, as the trigger file says it: write, webhook, command, clip."""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from curate.errors import UsageError, unknown_name
from curate.monitor.actions.webhook.address import Address, is_named, read_address
from curate.monitor.triggers.fields import ClipSeconds, FaultError, FilePath, Strict, Timeout, reading, shown

PLACEHOLDERS = ("trigger", "class", "track_id", "score", "time", "timestamp_s", "clip", "source")
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")  # the first form stands for {word} itself
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_OUR_HEADERS = ("connection", "content-length", "content-type", "host", "transfer-encoding", "expect", "upgrade")
_LONGEST_SECRET = 4096


def _standing_for(key: str) -> BeforeValidator:
    """A text or list that stands for the mapping with `key` alone."""
    return BeforeValidator(lambda written: {key: written} if isinstance(written, str | list) else written)


def _check_url(url: Any) -> Any:
    if isinstance(url, str):
        read_address(url)
    return url


def _check_headers(headers: Any) -> Any:
    for name, value in headers.items() if isinstance(headers, Mapping) else ():
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            raise UsageError("not the name of a header", expected="such as X-Door")
        if name.lower() in _OUR_HEADERS or name.lower().startswith("x-curate-"):
            raise UsageError("a header that curate sets itself", got=shown(name))
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            raise UsageError(f"the value of {name} has a character that none may have", expected="printable ASCII")
    return headers


def _check_arguments(run: Any) -> Any:
    for argument in run if isinstance(run, list) else ():
        for match in PLACEHOLDER.finditer(argument) if isinstance(argument, str) else ():
            if match[2] is not None and match[2] not in PLACEHOLDERS:
                error = unknown_name("placeholder", match[2], PLACEHOLDERS)
                raise UsageError(
                    error.fact, got=error.got, expected=error.expected, remedy=f"{{{match[0]}}} stands for {match[0]}."
                )
    if isinstance(run, list) and run and isinstance(run[0], str) and PLACEHOLDER.search(run[0]):
        raise UsageError("what is seen would choose the program", got=shown(run[0]), expected="the name of a program")
    return run


class Webhook(Strict):
    """Where an event is sent to, and what it is signed with."""

    url: Annotated[str, reading(_check_url)]
    secret_env: str | None = None
    secret_file: FilePath | None = None
    timeout_s: Timeout = Field(10.0, alias="timeout", le=600)
    headers: Annotated[Mapping[str, str], reading(_check_headers)] = Field(default_factory=dict)
    allow_http: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> "Webhook":
        if self.secret_env is not None and self.secret_file is not None:
            raise FaultError(UsageError("the secret is named twice", expected="secret_env or secret_file"))
        if self.address.scheme == "http" and not self.address.is_loopback and not self.allow_http:
            remedy = "Use https, or allow_http: true where the network in between is yours."
            raise FaultError(
                UsageError("the event would travel in the open", got=self.address.place, remedy=remedy), ".url"
            )
        return self

    @property
    def address(self) -> Address:
        """Its url, taken apart."""
        return read_address(self.url)

    def is_allowed(self, hosts: Iterable[str]) -> bool:
        """Whether the file names the host that it goes to."""
        return is_named(self.address, hosts)

    def read_secret(self) -> bytes | None:
        """What its deliveries are signed with, without a line's end; None where nothing is named.

        Raises:
            UsageError: what is named is not there, or empty.
        """
        if self.secret_env is not None:
            secret = os.environ.get(self.secret_env, "").encode("utf-8", "surrogateescape")
            if not secret:
                remedy = "Set the variable that has this name before curate starts."  # it may be the secret itself
                raise UsageError("the secret is not there", place="secret_env", got="none or empty", remedy=remedy)
            return secret
        if self.secret_file is None:
            return None
        try:
            secret = self.secret_file.read_bytes() if self.secret_file.is_file() else b""
        except OSError as error:
            raise UsageError(f"the secret cannot be read: {error.strerror}", place="secret_file") from error
        secret = secret.removesuffix(b"\n").removesuffix(b"\r")
        if not 0 < len(secret) <= _LONGEST_SECRET:
            rule = f"a file of 1 to {_LONGEST_SECRET} bytes"
            raise UsageError("the secret is not there", place="secret_file", got=self.secret_file, expected=rule)
        return secret


class Command(Strict):
    """A program and its arguments, started without a shell."""

    run: Annotated[tuple[str, ...], reading(_check_arguments), Field(strict=False, min_length=1)]
    timeout_s: Timeout = Field(60.0, alias="timeout")

    @model_validator(mode="after")
    def _has_program(self) -> "Command":
        if not self.run[0].strip() or any("\0" in argument for argument in self.run):
            raise FaultError(UsageError("not a program and its arguments", got=shown(list(self.run))), ".run")
        return self

    def see_program(self) -> None:
        """Look whether the program is there, before the moment when it is needed.

        Raises:
            UsageError: it is not.
        """
        if shutil.which(self.run[0]) is None:
            rule = "a program of PATH, or the path of one"
            raise UsageError("there is no such program", place="run[0]", got=shown(self.run[0]), expected=rule)


class Clip(Strict):
    """A short video around the moment."""

    folder: FilePath
    before_s: ClipSeconds = Field(5.0, alias="before")
    after_s: ClipSeconds = Field(5.0, alias="after")

    def see_folder(self) -> None:
        """Look whether it is a folder that can be written to, or one can be made there.

        Raises:
            UsageError: it is not.
        """
        there = next(place for place in (self.folder, *self.folder.absolute().parents) if os.path.exists(place))
        if not os.path.isdir(there):
            raise UsageError("a file is in its place", place="folder", got=there, expected="a folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError("nothing can be written there", place="folder", got=there)


class Action(Strict):
    """One thing to do; exactly one of these is not None."""

    write: FilePath | None = None
    webhook: Annotated[Webhook | None, _standing_for("url")] = None
    command: Annotated[Command | None, _standing_for("run")] = None
    clip: Annotated[Clip | None, _standing_for("folder")] = None

    @model_validator(mode="after")
    def _is_one(self) -> "Action":
        named = [name for name in Action.model_fields if getattr(self, name) is not None]
        if len(named) != 1:
            got = " and ".join(named) or "none"
            raise FaultError(
                UsageError("an action is one thing", got=got, expected="one of write, webhook, command, clip")
            )
        return self

    def see_what_it_needs(self, place: str) -> None:
        """Look for its secret, program, file or folder, before the moment when they are needed; nothing is made.

        Args:
            place: of the action, for the message.

        Raises:
            UsageError: something is not there, or cannot be used.
        """
        try:
            if self.write is not None:
                _see_file(self.write)
            if self.webhook is not None:
                self.webhook.read_secret()
            if self.command is not None:
                self.command.see_program()
            if self.clip is not None:
                self.clip.see_folder()
        except UsageError as error:
            kind = next(name for name in Action.model_fields if getattr(self, name) is not None)
            where = f"{place}.{kind}" + (f".{error.place}" if error.place else "")
            raise UsageError(
                error.fact, place=where, got=error.got, expected=error.expected, remedy=error.remedy
            ) from error


def _see_file(path: Path) -> None:
    """Open a file for a moment as events will; a pipe need not have a reader yet."""
    if os.path.isdir(path):
        raise UsageError("a folder is there", got=path, expected="a file")
    is_new = not os.path.exists(path)
    target = Path(os.path.realpath(path)) if is_new else path  # a link to a file that is not there yet
    if not os.path.isdir(target.parent):
        raise UsageError("there is no such folder", got=target.parent, remedy="Make it first.")
    if not is_new and not os.path.isfile(target):
        return
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_APPEND | (os.O_CREAT | os.O_EXCL if is_new else 0), 0o644))
        if is_new:
            target.unlink()
    except OSError as error:
        raise UsageError(f"the file cannot be written: {error.strerror}", got=path) from error
