"""Pipeline files: read, variables filled in, names and types checked before anything runs.

name: demo
vars: {source: datasets/demo/source, dataset: demo/dataset}
steps:
  - import-voc: {dataset: $dataset, source: $source}
  - split: {dataset: $dataset, val: 0.25}
"""

import inspect
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from curate.commands.registry import COMMANDS
from curate.documents.shape import check_shape
from curate.documents.yaml_reader import read_yaml
from curate.errors import UsageError, quote_remedy, unknown_name
from curate.formatting import short_repr

_COMMANDS = [command.name for command in COMMANDS.values() if command.brief is not None]
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Pipeline(BaseModel):
    """A pipeline file: a name, variables with defaults, and steps, each `command: {argument: value}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^\w[\w .-]*$")  # part of a file name
    about: str = ""
    vars: Mapping[str, Any] = {}
    steps: Sequence[Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class PipelineStep:
    """A command and its arguments, without variables."""

    command: str
    arguments: Mapping[str, Any]

    @property
    def dataset(self) -> Path:
        """The dataset that the step works on. `predict` has no such argument: the dataset of its run."""
        if "dataset" in self.arguments:
            return Path(self.arguments["dataset"])
        if self.arguments.get("into_dataset"):
            return Path(self.arguments["source"])
        return Path(self.arguments["run"]).parent.parent  # DATASET/runs/NAME


def read_pipeline(file: str | os.PathLike[str]) -> Pipeline:
    """Read a pipeline file.

    Raises:
        UsageError: The file does not exist, or is not a pipeline.
    """
    document = read_yaml(file, "pipeline", error=UsageError)
    pipeline = check_shape(document, Pipeline, file, "pipeline", error=UsageError)
    if not pipeline.steps:
        raise UsageError("the pipeline has no steps", place=file)
    return pipeline


def resolve_steps(
    pipeline: Pipeline, variables: Mapping[str, Any], *, place: object = "pipeline"
) -> list[PipelineStep]:
    """Replace variables, check names, and convert arguments to the types that the commands declare.

    `$name` as a whole value takes the variable's value and type; within other text it becomes text.

    Args:
        pipeline: The pipeline.
        variables: Values that replace those of the file.
        place: The file, for error messages.

    Raises:
        UsageError: Unknown variable, command or argument; missing argument; value of the wrong type, or no UTF-8.
    """
    for name, value in variables.items():
        if name not in pipeline.vars:
            raise unknown_name("variable", name, pipeline.vars, place=place)
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()  # the record of the run is UTF-8
        except UnicodeEncodeError as error:
            remedy = "Rename the file or folder."
            raise UsageError(
                "the value is not UTF-8", place=f"variable {name}", got=repr(value), remedy=remedy
            ) from error
    values = {**pipeline.vars, **variables}
    steps = []
    for number, entry in enumerate(pipeline.steps, start=1):
        where = f"{place}, step {number}"
        if len(entry) != 1:
            raise UsageError("a step has exactly one command", place=where, got=", ".join(entry) or "none")
        command, written = next(iter(entry.items()))
        if command not in _COMMANDS:
            raise unknown_name("command", command, _COMMANDS, place=where)
        arguments = {key.replace("-", "_"): _replace(value, values, where) for key, value in written.items()}
        steps.append(PipelineStep(command, _check_arguments(command, arguments, f"{where}, {command}")))
    return steps


def _replace(value: Any, values: Mapping[str, Any], where: str) -> Any:
    if isinstance(value, list):
        return [_replace(inner, values, where) for inner in value]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> Any:
        name = match.group(1) or match.group(2)
        if name not in values:
            raise unknown_name("variable", name, values, place=where)
        return values[name]

    whole = _VARIABLE.fullmatch(value)
    return look_up(whole) if whole else _VARIABLE.sub(lambda match: str(look_up(match)), value)


def _check_arguments(command: str, arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    declared = inspect.signature(COMMANDS[command].function(), eval_str=True).parameters
    known = {name: parameter for name, parameter in declared.items() if not inspect.isfunction(parameter.default)}
    for name in arguments:
        if name not in known:
            raise unknown_name("argument", name, list(known), place=where)
    needed = [name for name, parameter in known.items() if parameter.default is inspect.Parameter.empty]
    if missing := [name for name in needed if name not in arguments]:
        raise UsageError("an argument is missing", place=where, expected=", ".join(missing))
    return {name: _convert(value, known[name].annotation, f"{where}, {name}") for name, value in arguments.items()}


def _convert(value: Any, declared: Any, where: str) -> Any:
    try:
        return TypeAdapter(declared, config=ConfigDict(coerce_numbers_to_str=True)).validate_python(value)
    except ValidationError as error:
        rules = dict.fromkeys(fault["msg"].removeprefix("Input should be ") for fault in error.errors())
        remedy = quote_remedy(value) if any(fault["type"] == "string_type" for fault in error.errors()) else None
        raise UsageError(
            "the argument is not valid", place=where, got=short_repr(value), expected=" or ".join(rules), remedy=remedy
        ) from error
