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

import inspect
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from curate.commands.registry import COMMANDS, Role
from curate.commands.run_inputs import fingerprints, run_folder
from curate.errors import UsageError, unknown_name
from curate.files import write_atomically
from curate.progress import Progress, silent
from curate.result import Result
from curate.run_folder.folder import RunFolder
from curate.store import Store

_DONE = frozenset({"result", "output_version"})  # what an entry has when its step is done
_COMMANDS = [command.name for command in COMMANDS.values() if command.brief is not None]
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Recipe(BaseModel):
    """A pipeline file: a name, variables with defaults, and steps, each `command: {argument: value}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^\w[\w .-]*$")  # it names a file
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
        """The folder that it works on; of `predict`, which has a run in its place, the one that the run belongs to."""
        if "dataset" in self.arguments:
            return Path(self.arguments["dataset"])
        if self.arguments.get("into_dataset"):
            return Path(self.arguments["source"])
        return Path(self.arguments["run"]).parent.parent  # DATASET/runs/NAME


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
    """The record of a pipeline's last run: one entry a step, and all that its steps ever made."""

    file: Path
    entries: list[dict[str, Any]] = field(default_factory=list)
    made: list[list[str]] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> "_Memory":
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            return cls(file, [dict(entry) for entry in document["steps"]], list(document["made"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(file)  # without it, everything runs once more

    def entry(self, index: int) -> dict[str, Any]:
        return self.entries[index] if index < len(self.entries) else {}

    def keep(self, index: int, entry: dict[str, Any]) -> None:
        """Set the entry of a step; those after it are not done any more."""
        undone = [{key: one[key] for key in one.keys() - _DONE} for one in self.entries[index + 1 :]]
        self.entries = [*self.entries[:index], entry, *undone]
        text = json.dumps({"steps": self.entries, "made": self.made}, indent=1, ensure_ascii=False, default=str)
        write_atomically(self.file, lambda file: file.write(text.encode()))

    def has_made(self, step: Step) -> bool:
        """Whether what lies where the step writes is of the same step, in this recipe or an earlier state of it."""
        return _marks(step) in self.made

    def remember(self, step: Step) -> None:
        """Note that what lies where the step writes is its own; `keep` brings it to disk."""
        if _places(step) and not self.has_made(step):
            self.made.append(_marks(step))


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
        head = _head(step.dataset)
        start = current[step.dataset] if step.dataset in current else int(entry.get("input_version", head))
        inputs = {
            "command": step.command,
            "arguments": dict(step.arguments),
            "input_version": start,
            "files": fingerprints(step.command, step.arguments, step.dataset),
        }
        same = {key: entry.get(key) for key in inputs} == json.loads(json.dumps(inputs, default=str))
        if same and not changed and "result" in entry and _outputs_exist(step, entry["result"]):
            outcomes.append(StepOutcome(step.command, step.arguments, True, 0.0, entry["result"]))
        else:
            changed = True
            notes += _go_back_to(step.dataset, start)
            again = _ways_to_run_again(step, made_before=memory.has_made(step), same=same)
            if _places_are_free(step):
                memory.remember(step)
            memory.keep(index, inputs)  # without a result: begun
            began = time.monotonic()
            result = _call(step, again, progress).to_json()
            memory.remember(step)
            entry = inputs | {"result": result, "output_version": _head(step.dataset)}
            memory.keep(index, entry)
            outcomes.append(StepOutcome(step.command, step.arguments, False, time.monotonic() - began, result))
        current[step.dataset] = entry["output_version"]
        if on_step is not None:
            on_step(outcomes[-1])
    for dataset, version in current.items():
        notes += _stay_after(dataset, version)
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
        if command not in _COMMANDS:
            raise unknown_name("command", command, _COMMANDS, place=where)
        arguments = {key.replace("-", "_"): _replace(value, values, where) for key, value in written.items()}
        steps.append(Step(command, _check_arguments(command, arguments, f"{where}, {command}")))
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
    """The arguments in the types that the step's function declares."""
    function = COMMANDS[command].function()
    parameters = inspect.signature(function).parameters
    known = [name for name in parameters if name != "progress"]
    for name in arguments:
        if name not in known:
            raise unknown_name("argument", name, known, place=where)
    needed = [name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    missing = [name for name in needed if name not in arguments]
    if missing:
        raise UsageError("an argument is missing", place=where, expected=", ".join(missing))
    types = get_type_hints(function)
    return {name: _as_type(value, types[name], f"{where}, {name}") for name, value in arguments.items()}


def _as_type(value: Any, declared: Any, where: str) -> Any:
    try:
        return TypeAdapter(declared, config=ConfigDict(coerce_numbers_to_str=True)).validate_python(value)
    except ValidationError as error:
        raise UsageError("the argument does not fit", place=where, got=repr(value), expected=_rule(error)) from error


def _rule(error: ValidationError) -> str:
    return " or ".join(dict.fromkeys(one["msg"].removeprefix("Input should be ") for one in error.errors()))


def _call(step: Step, again: Mapping[str, Any], progress: Progress) -> Result:
    function = COMMANDS[step.command].function()
    wants_progress = "progress" in inspect.signature(function).parameters
    return function(**{**step.arguments, **again, **({"progress": progress} if wants_progress else {})})


def _ways_to_run_again(step: Step, *, made_before: bool, same: bool) -> dict[str, Any]:
    """How to treat what an earlier run of such a step has left: go on with it where possible, else replace it.

    What the pipeline did not make itself is never replaced.
    """
    parameters = inspect.signature(COMMANDS[step.command].function()).parameters
    if not made_before:
        return {}
    if "resume" in parameters and same and RunFolder.named(step.dataset, step.arguments["run"]).exists():
        return {"resume": True}
    return {"overwrite": True} if "overwrite" in parameters else {}


def _places(step: Step) -> list[Path]:
    """The files and folders that a step writes to, apart from the dataset itself."""
    places = [
        Path(step.arguments[name])
        for name in COMMANDS[step.command].names(Role.OUTPUT)
        if step.arguments.get(name) is not None
    ]
    if step.command == "predict":
        return places or _places_of_predict(step)
    run = run_folder(step.command, step.arguments, step.dataset)
    return [*places, run.path] if run is not None else places


def _places_of_predict(step: Step) -> list[Path]:
    """Where `predict` writes to unless it is told."""
    from curate.inference.outputs import results_folder

    source = Path(step.arguments["source"])
    if step.arguments.get("into_dataset"):
        return []
    return [source if step.arguments.get("form") == "voc" else results_folder(RunFolder(step.arguments["run"]), source)]


def _marks(step: Step) -> list[str]:
    return [step.command, *map(str, _places(step))]


def _places_are_free(step: Step) -> bool:
    return not any(place.is_file() or (place.is_dir() and any(place.iterdir())) for place in _places(step))


def _outputs_exist(step: Step, result: Any) -> bool:
    files = _places(step)
    if isinstance(result, dict):
        files += [Path(file) for file in result.get("files", {}).values()]
    if run := run_folder(step.command, step.arguments, step.dataset):
        files.append(run.best)
    return all(file.exists() for file in files)


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


def _stay_after(dataset: Path, version: int) -> list[str]:
    """Make the pipeline's last version current, unless what is current was made from it; tell if it was not."""
    store = Store(dataset)
    if not store.exists() or version in (0, *(entry.version for entry in store.history())):
        return []
    now = store.head()
    store.check_out(version)
    return [f"{dataset}: version {version}, the pipeline's last, is current again; version {now} is kept."]
