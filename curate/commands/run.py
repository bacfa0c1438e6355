"""`run`: the steps of a pipeline file, in order. A step that is up to date is skipped.

A step is up to date if its command, arguments, input version and all files that it read are those of its last success,
and its outputs still exist. A step that changed runs again, and so do all steps after it, from the dataset version that
the first of them started from. The record of the last run is `DATASET/pipelines/NAME.json`.
"""

import inspect
import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

from curate.commands.pipeline_file import PipelineStep, read_pipeline, resolve_steps
from curate.commands.registry import COMMANDS, Role
from curate.commands.run_inputs import are_unchanged, fingerprints, named_run, not_below, read_fingerprints
from curate.documents.json_reader import read_json
from curate.errors import DataError
from curate.files import write_atomically
from curate.paths import refuse_links
from curate.progress import Progress, Warn, silent, unheard
from curate.result import Result
from curate.run_folder.folder import RunFolder
from curate.store import Store

RECORDS = "pipelines"  # folder in the dataset
_AFTER_SUCCESS = frozenset({"result", "reads", "output_version"})  # keys of an entry whose step has finished


@dataclass(frozen=True)
class StepOutcome:
    """One step of a pipeline that ran or was skipped.

    Attributes:
        step: Its command.
        arguments: The arguments, without variables.
        skipped: Whether it was up to date.
        seconds: How long it ran; 0 if it was skipped.
        result: The command's document of the JSON contract.
    """

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


class _Entry(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # pyright: ignore[reportGeneralTypeIssues]

    input_version: int
    output_version: int
    result: dict[str, Any] | list[Any]
    reads: dict[str, str]


class _Record(BaseModel):
    """The file of `_LastRun`."""

    steps: list[_Entry]
    made: list[list[str]]


@dataclass
class _LastRun:
    """The record of a pipeline's last run.

    Attributes:
        file: Where it is kept.
        entries: One per step: what it was given, and after success what it returned and read.
        made: Command and output paths of every step that ever ran: what the pipeline may replace.
    """

    file: Path
    entries: list[dict[str, Any]] = field(default_factory=list)
    made: list[list[str]] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> "_LastRun":
        try:
            known = read_json(file, "record of the pipeline", _Record)
            return cls(file, [{**entry} for entry in known.steps], known.made)
        except DataError:
            return cls(file)  # without a record, everything runs once more

    def entry(self, index: int) -> dict[str, Any]:
        return self.entries[index] if index < len(self.entries) else {}

    def write(self, index: int, entry: dict[str, Any]) -> None:
        """Set the entry of a step, and mark all later steps as not finished."""
        later = [{key: old[key] for key in old.keys() - _AFTER_SUCCESS} for old in self.entries[index + 1 :]]
        self.entries = [*self.entries[:index], entry, *later]
        text = json.dumps({"steps": self.entries, "made": self.made}, indent=1, ensure_ascii=False, default=str)
        write_atomically(self.file, lambda file: file.write(text.encode()))

    def has_made(self, step: PipelineStep) -> bool:
        """Whether the outputs of the step come from this pipeline, or from an earlier version of it."""
        return _signature(step) in self.made

    def add_outputs(self, step: PipelineStep) -> None:
        """Note that the outputs of the step come from this pipeline; `write` saves it."""
        if _output_places(step) and not self.has_made(step):
            self.made.append(_signature(step))


def run(
    pipeline: str | os.PathLike[str],
    variables: Mapping[str, Any] | None = None,
    *,
    on_step: Callable[[StepOutcome], None] | None = None,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> PipelineResult:
    """Run a pipeline file.

    Args:
        pipeline: The YAML file; see `curate.commands.pipeline_file`.
        variables: Values that replace those of the file's variables.
        on_step: Called with the outcome of each step.
        progress: Callback for the progress of the current step.
        warn: Called with notes that a step reports before long work; see `train`.

    Returns:
        The outcome of every step.

    Raises:
        UsageError: The file is not a pipeline, or a step or argument is unknown; no step has run.
        CurateError: A step failed; the steps before it are finished and recorded.
    """
    parsed = read_pipeline(pipeline)
    steps = resolve_steps(parsed, variables or {}, place=pipeline)
    refuse_links(steps[0].dataset, RECORDS)
    last_run = _LastRun.read(steps[0].dataset / RECORDS / f"{parsed.name}.json")
    versions: dict[Path, int] = {}  # dataset → the version after the last step
    callbacks = {"progress": progress, "warn": warn}
    outcomes: list[StepOutcome] = []
    notes: list[str] = []
    changed = False
    for index, step in enumerate(steps):
        entry = last_run.entry(index)
        written_later = [place for later in steps[index + 1 :] for place in _output_places(later)]
        start = versions.get(step.dataset, int(entry.get("input_version", _head(step.dataset))))
        inputs = {
            "command": step.command,
            "arguments": dict(step.arguments),
            "input_version": start,
            "files": fingerprints(step.command, step.arguments, step.dataset, written_later),
        }
        same_inputs = {key: entry.get(key) for key in inputs} == json.loads(json.dumps(inputs, default=str))
        changed = changed or not (same_inputs and _is_up_to_date(step, entry, written_later))
        if changed:
            notes += _check_out(step.dataset, start)
            entry, outcome = _run_step(step, index, inputs, last_run, same_inputs=same_inputs, callbacks=callbacks)
        else:
            outcome = StepOutcome(step.command, step.arguments, True, 0.0, entry["result"])
        versions[step.dataset] = entry["output_version"]
        outcomes.append(outcome)
        if on_step is not None:
            on_step(outcome)
    for dataset, version in versions.items():
        notes += _restore(dataset, version)
    return PipelineResult(pipeline=parsed.name, steps=tuple(outcomes), notes=tuple(notes))


def _is_up_to_date(step: PipelineStep, entry: Mapping[str, Any], written_later: Collection[Path]) -> bool:
    """Whether a step that has the inputs of its last run has finished then, and what it read and wrote is unchanged."""
    if not entry.keys() >= {"result", "output_version"} or not _outputs_exist(step, entry["result"], written_later):
        return False
    return are_unchanged(entry.get("reads", {}), step.dataset)  # older versions recorded named files alone


def _run_step(
    step: PipelineStep,
    index: int,
    inputs: dict[str, Any],
    last_run: _LastRun,
    *,
    same_inputs: bool,
    callbacks: Mapping[str, Callable[..., object]],
) -> tuple[dict[str, Any], StepOutcome]:
    """Run a step and record it; its entry and its outcome."""
    options = _rerun_options(step, made_before=last_run.has_made(step), same_inputs=same_inputs)
    if _outputs_are_free(step):
        last_run.add_outputs(step)
    last_run.write(index, inputs)
    started, started_ns = time.monotonic(), time.time_ns()
    result = _call(step, options, callbacks)
    seconds = time.monotonic() - started
    last_run.add_outputs(step)
    reads = read_fingerprints(step.command, step.arguments, result.reads, step.dataset, started_ns)
    document = result.to_json()
    entry = inputs | {"result": document, "reads": reads, "output_version": _head(step.dataset)}
    last_run.write(index, entry)
    return entry, StepOutcome(step.command, step.arguments, False, seconds, document)


def _call(step: PipelineStep, options: Mapping[str, Any], callbacks: Mapping[str, Callable[..., object]]) -> Result:
    function = COMMANDS[step.command].function()
    taken = {name: callbacks[name] for name in callbacks.keys() & inspect.signature(function).parameters.keys()}
    return function(**{**step.arguments, **options, **taken})


def _rerun_options(step: PipelineStep, *, made_before: bool, same_inputs: bool) -> dict[str, Any]:
    """Options for outputs of an earlier run: resume if possible, else overwrite.

    What the pipeline did not make itself is never replaced.
    """
    parameters = inspect.signature(COMMANDS[step.command].function()).parameters
    if not made_before:
        return {}
    if "resume" in parameters and same_inputs and RunFolder.named(step.dataset, step.arguments["run"]).exists():
        return {"resume": True}
    return {"overwrite": True} if "overwrite" in parameters else {}


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _output_places(step: PipelineStep) -> list[Path]:
    """The files and folders that a step writes, apart from the dataset itself."""
    names = COMMANDS[step.command].names(Role.OUTPUT)
    places = [Path(step.arguments[name]) for name in names if step.arguments.get(name) is not None]
    if COMMANDS[step.command].names(Role.IMAGES):
        return places or _default_place_of_predict(step)
    run = _run_of(step)
    return [*places, run.path] if run is not None else places


def _default_place_of_predict(step: PipelineStep) -> list[Path]:
    from curate.inference.outputs import results_folder

    source = Path(step.arguments["source"])
    if step.arguments.get("into_dataset"):
        return []
    return [source if step.arguments.get("form") == "voc" else results_folder(RunFolder(step.arguments["run"]), source)]


def _run_of(step: PipelineStep) -> RunFolder | None:
    """The run that a step trains, or whose folder it writes results into."""
    run = step.arguments.get("run")
    return None if run is None else named_run(step.command, run, step.dataset)


def _signature(step: PipelineStep) -> list[str]:
    return [step.command, *map(str, _output_places(step))]


def _outputs_are_free(step: PipelineStep) -> bool:
    return not any(place.is_file() or (place.is_dir() and any(place.iterdir())) for place in _output_places(step))


def _outputs_exist(step: PipelineStep, document: Any, written_later: Collection[Path]) -> bool:
    """Whether everything that the step wrote is there, apart from files that later steps write or remove."""
    files = _output_places(step)
    for key in COMMANDS[step.command].written.split():
        value = document.get(key)  # None in a record of an older version
        paths = value.values() if isinstance(value, Mapping) else [value]
        files += not_below((Path(path) for path in paths if path is not None), written_later)
    if run := _run_of(step):
        files.append(run.best)
    return all(file.exists() for file in files)


# ── dataset versions ─────────────────────────────────────────────────────────────────────────────────────────────


def _head(dataset: Path) -> int:
    store = Store(dataset)
    return store.head() if store.exists() else 0


def _check_out(dataset: Path, version: int) -> list[str]:
    """Make the version current that a step starts from; a note names the version that was current."""
    head = _head(dataset)
    if head == version:
        return []
    Store(dataset).check_out(version)
    return [f"{dataset}: a step changed; the pipeline continued from version {version}. Version {head} is kept."]


def _restore(dataset: Path, version: int) -> list[str]:
    """Make the pipeline's last version current, unless the current one was made from it; a note says so."""
    store = Store(dataset)
    if not store.exists() or version in (0, *(entry.version for entry in store.history())):
        return []
    head = store.head()
    store.check_out(version)
    return [f"{dataset}: version {version}, the pipeline's last, is current again. Version {head} is kept."]
