"""`run`: the steps of a YAML file, one after the other, and no step twice for nothing.

    name: demo
    vars: {source: datasets/demo/source, dataset: demo/dataset}
    steps:
      - import-voc: {dataset: $dataset, source: $source}
      - split: {dataset: $dataset, val: 0.25}

A step is passed over when command, arguments, input version and input files are those of its last success, and what it
wrote is still there. A step that changed runs again, and so do all after it, from the version it started from. What
was done is kept in `DATASET/pipelines/NAME.json`.
"""

import hashlib
import inspect
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from curate.card import find_card
from curate.engines.runs import RunFolder, write_atomically
from curate.errors import UsageError, unknown_name
from curate.progress import Progress, silent
from curate.steps import STEPS, step_function
from curate.steps.results import Result
from curate.store import Store

_INPUTS = ("source", "images", "card", "map", "predictions", "weights")  # arguments that name files to read
_OUTPUTS = ("out", "plot", "csv")  # arguments that name what is written
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Recipe(BaseModel):
    """A pipeline file: a name, variables with defaults, and steps, each `command: {argument: value}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str = ""
    vars: Mapping[str, Any] = {}
    steps: Sequence[Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Step:
    """One step, its variables filled in."""

    command: str
    arguments: Mapping[str, Any]

    @property
    def dataset(self) -> Path:
        return Path(self.arguments["dataset"])


@dataclass(frozen=True)
class StepOutcome:
    """What became of a step: its result as of the JSON contract, and whether it was passed over."""

    step: str
    arguments: Mapping[str, Any]
    skipped: bool
    seconds: float
    result: Any


@dataclass(frozen=True)
class PipelineResult(Result):
    """The steps of a pipeline, in order."""

    pipeline: str
    steps: tuple[StepOutcome, ...]


@dataclass
class _Memory:
    """The record of a pipeline's last run: one entry a step."""

    file: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> "_Memory":
        try:
            return cls(file, list(json.loads(file.read_text(encoding="utf-8"))["steps"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(file)  # without it, everything runs once more

    def entry(self, index: int) -> dict[str, Any]:
        return self.entries[index] if index < len(self.entries) else {}

    def keep(self, index: int, entry: dict[str, Any]) -> None:
        """Set the entry of a step and forget those after it."""
        self.entries = [*self.entries[:index], entry]
        text = json.dumps({"steps": self.entries}, indent=1, ensure_ascii=False, default=str)
        write_atomically(self.file, lambda file: file.write(text.encode()))


def run(
    pipeline: str | os.PathLike[str],
    variables: Mapping[str, Any] | None = None,
    *,
    on_step: Callable[[StepOutcome], None] | None = None,
    progress: Progress = silent,
) -> PipelineResult:
    """Run a pipeline file.

    Args:
        pipeline: the YAML file.
        variables: values for its variables, instead of its own.
        on_step: told of each step when it is done or passed over.
        progress: told how far the step at hand is.

    Returns:
        The outcome of every step.

    Raises:
        UsageError: the file is no pipeline, or a step or argument is unknown; nothing has run then.
        CurateError: a step failed; the steps before it are done and kept.
    """
    recipe = read_recipe(pipeline)
    steps = fill_in(recipe, variables or {}, place=pipeline)
    memory = _Memory.read(steps[0].dataset / "pipelines" / f"{recipe.name}.json")
    current: dict[Path, int] = {}
    outcomes: list[StepOutcome] = []
    notes: list[str] = []
    changed = False
    for index, step in enumerate(steps):
        entry = memory.entry(index)
        start = current.get(step.dataset, entry.get("input_version", _head(step.dataset)))
        inputs = {
            "command": step.command,
            "arguments": dict(step.arguments),
            "input_version": start,
            "files": _fingerprints(step),
        }
        same = {key: entry.get(key) for key in inputs} == json.loads(json.dumps(inputs, default=str))
        if same and not changed and "result" in entry and _outputs_exist(step):
            outcomes.append(StepOutcome(step.command, step.arguments, True, 0.0, entry["result"]))
        else:
            changed = True
            notes += _go_back_to(step.dataset, start)
            again = _ways_to_run_again(step, entry, same=same)
            memory.keep(index, inputs)  # without a result: begun
            began = time.monotonic()
            result = _call(step, again, progress).to_json()
            entry = inputs | {"result": result, "output_version": _head(step.dataset)}
            memory.keep(index, entry)
            outcomes.append(StepOutcome(step.command, step.arguments, False, time.monotonic() - began, result))
        current[step.dataset] = entry["output_version"]
        if on_step is not None:
            on_step(outcomes[-1])
    for dataset, version in current.items():
        _stay_after(dataset, version)
    return PipelineResult(pipeline=recipe.name, steps=tuple(outcomes), notes=tuple(notes))


def read_recipe(pipeline: str | os.PathLike[str]) -> Recipe:
    """Read a pipeline file.

    Raises:
        UsageError: it is not there, or not a pipeline.
    """
    try:
        document = yaml.safe_load(Path(pipeline).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the pipeline cannot be read: {error.strerror}", place=pipeline) from error
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"the pipeline is not YAML: {' '.join(str(error).split())}", place=pipeline) from error
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top"
        raise UsageError(f"the pipeline is not valid: {where}: {first['msg']}", place=pipeline) from error
    if not recipe.steps:
        raise UsageError("the pipeline has no steps", place=pipeline)
    return recipe


def fill_in(recipe: Recipe, variables: Mapping[str, Any], *, place: object = "pipeline") -> list[Step]:
    """The steps of a recipe with variables replaced and names checked.

    `$name` alone takes the variable's value as it is; inside other text, its text.

    Raises:
        UsageError: an unknown variable, command or argument; a missing argument.
    """
    for name in variables:
        if name not in recipe.vars:
            raise unknown_name("variable", name, recipe.vars, place=place)
    values = dict(recipe.vars) | dict(variables)
    steps = []
    for number, entry in enumerate(recipe.steps, start=1):
        where = f"{place}, step {number}"
        if len(entry) != 1:
            raise UsageError("a step is one command", place=where, got=", ".join(entry) or "nothing")
        command, written = next(iter(entry.items()))
        if command not in STEPS:
            raise unknown_name("command", command, STEPS, place=where)
        arguments = {key.replace("-", "_"): _replace(value, values, where) for key, value in written.items()}
        _check_arguments(command, arguments, f"{where}, {command}")
        steps.append(Step(command, arguments))
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


def _check_arguments(command: str, arguments: Mapping[str, Any], where: str) -> None:
    parameters = inspect.signature(step_function(command)).parameters
    known = [name for name in parameters if name != "progress"]
    for name in arguments:
        if name not in known:
            raise unknown_name("argument", name, known, place=where)
    needed = [name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    missing = [name for name in needed if name not in arguments]
    if missing:
        raise UsageError("an argument is missing", place=where, expected=", ".join(missing))


def _call(step: Step, again: Mapping[str, Any], progress: Progress) -> Result:
    function = step_function(step.command)
    wants_progress = "progress" in inspect.signature(function).parameters
    return function(**step.arguments, **again, **({"progress": progress} if wants_progress else {}))


def _ways_to_run_again(step: Step, entry: Mapping[str, Any], *, same: bool) -> dict[str, Any]:
    """How to treat what an earlier run of this same step has left: go on with it where possible, else replace it.

    What the pipeline did not make itself is never replaced.
    """
    parameters = inspect.signature(step_function(step.command)).parameters
    made_by_us = entry.get("command") == step.command and _places(step) == _places(
        Step(step.command, entry.get("arguments", {}))
    )
    if not made_by_us:
        return {}
    if "resume" in parameters and same and RunFolder.named(step.dataset, step.arguments["run"]).exists():
        return {"resume": True}
    return {"overwrite": True} if "overwrite" in parameters and _places(step) else {}


def _places(step: Step) -> list[Any]:
    return [step.arguments.get(name) for name in (*_OUTPUTS, "run") if step.arguments.get(name) is not None]


def _outputs_exist(step: Step) -> bool:
    files = [Path(step.arguments[name]) for name in _OUTPUTS if step.arguments.get(name) is not None]
    if step.arguments.get("run") is not None:
        files.append(RunFolder.named(step.dataset, step.arguments["run"]).best)
    return all(file.exists() for file in files)


def _fingerprints(step: Step) -> dict[str, str]:
    """A hash for every argument that names files to read, and for the dataset's card."""
    files = {name: Path(str(step.arguments[name])) for name in _INPUTS if step.arguments.get(name) is not None}
    if step.command.startswith("import-") and (card := find_card(step.dataset)):
        files.setdefault("card", card)
    return {name: _fingerprint(path) for name, path in files.items() if path.exists()}


def _fingerprint(path: Path) -> str:
    """A hash of names, sizes and times of change: quick, and enough to see that something is not as it was."""
    digest = hashlib.sha256()
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        status = file.stat()
        if file.is_file():
            name = file.relative_to(path).as_posix()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _head(dataset: Path) -> int:
    store = Store(dataset)
    return store.head() if store.exists() else 0


def _go_back_to(dataset: Path, version: int) -> list[str]:
    """Make the version current that a step starts from; tell if that leaves something behind."""
    now = _head(dataset)
    if now == version:
        return []
    Store(dataset).check_out(version)
    return [f"{dataset}: a step changed, so work went on from version {version}; version {now} is kept."]


def _stay_after(dataset: Path, version: int) -> None:
    """Make the pipeline's last version current, unless what is current was made from it."""
    store = Store(dataset)
    if store.exists() and version not in (0, *(entry.version for entry in store.history())):
        store.check_out(version)
