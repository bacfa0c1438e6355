"""`run`."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.classes import classes_table
from curate.cli.evaluate import evaluation_summary
from curate.cli.options import AsJson, assignments
from curate.cli.output import EarlyNotes, print_rich, progress_on_stderr, show
from curate.commands.registry import COMMANDS, Role
from curate.plain_text import shown_document

if TYPE_CHECKING:
    from curate.commands.run import StepOutcome

_LABELS = {"out": "export", "csv": "table"}  # of arguments whose own name says less


def run(
    pipeline: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml", help="The pipeline file.", show_default=False)],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Value of a variable of the pipeline; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    from curate.commands.run import run as command

    variables, warn = assignments(set_), EarlyNotes()
    with progress_on_stderr() as progress:
        on_step = None if as_json else lambda outcome: print_rich(step_line(outcome))
        result = command(pipeline, variables, on_step=on_step, progress=progress, warn=warn)
    show(result, pipeline_summary, as_json=as_json, early=warn)


def step_line(outcome: "StepOutcome") -> RenderableType:
    """One line: the command, its result in brief, and the time it took."""
    time = "unchanged" if outcome.skipped else f"{outcome.seconds:.1f} s"
    brief = COMMANDS[outcome.step].brief_function()(shown_document(outcome.result))
    return Text.assemble(("✓ ", "green"), (f"{outcome.step:<13} ", "bold"), f"{brief}  ", (f"[{time}]", "dim"))


def pipeline_summary(document: Mapping[str, Any]) -> RenderableType:
    """Class balance before and after each merge, the last evaluation, and the paths of all results."""
    parts: list[RenderableType] = [Text()]
    parts += [classes_table(step["result"]) for step in document["steps"] if step["step"] == "merge-classes"]
    evaluations = [step["result"] for step in document["steps"] if step["step"] == "evaluate"]
    parts += [evaluation_summary(evaluations[-1])] if evaluations else []
    parts += [Text("results", style="bold"), *(Text(f"  {label}: {place}") for label, place in _places(document))]
    return Group(*parts)


def _places(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and path of each dataset, run, written file and report, and the command that shows the last mistakes."""
    places: dict[tuple[str, str], None] = {}
    view = None
    for step in document["steps"]:
        command, arguments = COMMANDS[step["step"]], step["arguments"]
        dataset = arguments.get("dataset") or (arguments["source"] if arguments.get("into_dataset") else None)
        if dataset is not None:
            places["dataset", str(dataset)] = None
        if (run := arguments.get("run")) is not None:
            is_name = "dataset" in arguments and "/" not in str(run)  # `predict` takes a path
            places["run", (Path(str(dataset)) / "runs" / str(run)).as_posix() if is_name else str(run)] = None
        for name in command.names(Role.OUTPUT):
            if arguments.get(name) is not None:
                places[_LABELS.get(name, name), str(arguments[name])] = None
        if isinstance(step["result"], Mapping) and step["result"].get("report") is not None:
            places["report", step["result"]["report"]] = None
        if run is not None and "dataset" in arguments and "run" in command.names(Role.RUN, Role.EVALUATED_RUN):
            view = arguments
    if view is not None:
        words = [_program(), "view", str(view["dataset"]), "--run", str(view["run"])]
        words += ["--split", str(view["split"])] if view.get("split") else []
        places["browse the mistakes", shlex.join(words)] = None
    return list(places)


def _program() -> str:
    """How a shell in this folder starts this program."""
    return "curate" if which("curate") else os.path.relpath(sys.argv[0])
