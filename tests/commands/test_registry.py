"""The registry of commands: nothing about a command is left to a default."""

import inspect
import os
from collections.abc import Callable
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from curate.commands.registry import COMMANDS, Role
from curate.result import Result

EACH = pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
WITHOUT_END = {"view", "watch", "run", "models", "doctor"}  # they run until Ctrl-C, or are no part of a pipeline


def parts_of(declared):
    """A type and all types inside it; what a callback takes and what a choice offers do not count."""
    origin = get_origin(declared)
    if origin in (Literal, Callable):
        return set()
    return {origin or declared}.union(*map(parts_of, get_args(declared)))


def arguments_of(command):
    """Argument name → the types in its annotation."""
    parameters = inspect.signature(command.function(), eval_str=True).parameters
    return {name: parts_of(parameter.annotation) for name, parameter in parameters.items()}


@EACH
def test_every_argument_that_may_name_a_file_has_one_role(command):
    """An argument with text or a path in its type that has no role would not make a pipeline's step run again."""
    declared = [name for role in Role for name in command.names(role)]
    needed = [name for name, types in arguments_of(command).items() if types & {str, os.PathLike}]
    assert sorted(declared) == sorted(needed)


@EACH
def test_a_path_is_never_mere_text(command):
    """An argument whose type is a path names a file, a folder, a dataset or a run."""
    texts = command.names(Role.TEXT)
    assert not [name for name, types in arguments_of(command).items() if os.PathLike in types and name in texts]


@EACH
def test_every_command_returns_a_result(command):
    """The answer of a command is a frozen value with the keys of the JSON contract."""
    assert issubclass(get_type_hints(command.function())["return"], Result)


@EACH
def test_every_command_of_a_pipeline_has_a_brief(command):
    """What `curate run` prints of a command is a function in its cli module, and never a default."""
    if command.name in WITHOUT_END:
        assert command.brief is None
        with pytest.raises(LookupError, match=command.name):
            command.brief_function()
    else:
        assert callable(command.brief_function())


@EACH
def test_about_is_a_sentence(command):
    """The sentence in `curate --help` starts with a capital, ends with a full stop and fits two lines there."""
    assert command.about[0].isupper()
    assert command.about.endswith(".")
    assert len(command.about) <= 100
