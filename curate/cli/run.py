"""`run`."""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.classes import classes_table
from curate.cli.evaluate import evaluation_summary
from curate.cli.options import AsJson, assignments
from curate.cli.output import counts_line, print_rich, progress_on_stderr, show
from curate.cli.runs import runs_line
from curate.formatting import points

if TYPE_CHECKING:
    from curate.commands.run import StepOutcome

_PLACES = {"run": "run", "out": "export", "plot": "plot", "csv": "table"}
_JUDGES = ("evaluate", "report")


def _import_line(document: Mapping[str, Any]) -> str:
    changes = ", ".join(
        f"{document[key]} {key}" for key in ("added", "updated", "repaired", "quarantined") if document[key]
    )
    return f"{document['images']} images, {document['boxes']} boxes" + (f" ({changes})" if changes else "")


def _evaluate_line(document: Mapping[str, Any]) -> str:
    missed = sum(document["errors"]["missed"].values())
    interest = document["range_of_interest"]
    objects = f"{interest['truth']} objects in range" if interest else f"{document['truth']} objects"
    return f"AP {points(document['ap'])} on {document['split']}, {missed} of {objects} missed"


def _train_line(document: Mapping[str, Any]) -> str:
    return f"{document['steps']} steps, val AP {points(document['ap'])}"


_BRIEF: Mapping[str, Callable[[Any], str]] = {
    "import-voc": _import_line,
    "import-widerface": _import_line,
    "fetch-youtube": lambda document: (
        ", ".join(f"{len(rows)} {what}" for what, rows in document.items() if rows) or "nothing"
    ),
    "sample-frames": lambda document: f"{document['frames']} new frames of {len(document['videos'])} videos",
    "label": lambda document: f"{document['images']} images in {document['folder']}",
    "stats": lambda document: counts_line({entry["name"]: entry["boxes"] for entry in document["classes"]}),
    "merge-classes": lambda document: counts_line(document["after"]),
    "rename-class": lambda document: counts_line(document["after"]),
    "drop-class": lambda document: counts_line(document["after"]),
    "split": lambda document: counts_line({name: split["images"] for name, split in document["splits"].items()}),
    "export-coco": lambda document: f"{document['images']} images, {document['boxes']} boxes, checked",
    "train": _train_line,
    "train-classifier": _train_line,
    "loop": lambda document: f"{len(document['rounds'])} rounds, val AP {points(document['ap'])}",
    "runs": runs_line,
    "evaluate": _evaluate_line,
    "report": lambda document: f"{document['report']}, {document['shown']} mistakes shown",
    "pull-tags": lambda document: f"{len(document['relabel'])} to correct, {len(document['dropped'])} dropped",
    "predict": lambda document: f"{document['boxes']} boxes in {document['images']} images",
}


def step_line(outcome: "StepOutcome") -> RenderableType:
    """One line: what a step did, and how long it took."""
    took = "unchanged" if outcome.skipped else f"{outcome.seconds:.1f} s"
    brief = _BRIEF.get(outcome.step, lambda _: "done")(outcome.result)
    return Text.assemble(("✓ ", "green"), (f"{outcome.step:<13} ", "bold"), f"{brief}  ", (f"[{took}]", "dim"))


def pipeline_summary(document: Mapping[str, Any]) -> RenderableType:
    """The merges with balance before and after, the last evaluation, and where everything lies."""
    parts: list[RenderableType] = [Text()]
    parts += [classes_table(step["result"]) for step in document["steps"] if step["step"] == "merge-classes"]
    evaluations = [step["result"] for step in document["steps"] if step["step"] == "evaluate"]
    parts += [evaluation_summary(evaluations[-1])] if evaluations else []
    parts += [Text("results", style="bold"), *(Text(f"  {what}: {where}") for what, where in _results(document))]
    return Group(*parts)


def _results(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for step in document["steps"]:
        arguments = step["arguments"]
        dataset = arguments.get("dataset") or (arguments["source"] if arguments.get("into_dataset") else None)
        if dataset is not None:
            found["dataset", str(dataset)] = None
        for name, what in _PLACES.items():
            if arguments.get(name) is not None:
                place = str(arguments[name])
                is_named = name == "run" and "dataset" in arguments and "/" not in place  # `predict` takes a path
                found[what, (Path(str(dataset)) / "runs" / place).as_posix() if is_named else place] = None
        if step["step"] in _JUDGES and step["result"].get("report") is not None:
            found["report", step["result"]["report"]] = None
    judged = [
        step["arguments"] for step in document["steps"] if step["step"] in _JUDGES and step["arguments"].get("run")
    ]
    if judged:
        last = judged[-1]
        command = [_program(), "view", str(last["dataset"]), "--run", str(last["run"])]
        command += ["--split", str(last["split"])] if last.get("split") else []
        found["browse what was missed", shlex.join(command)] = None
    return list(found)


def _program() -> str:
    """How this program can be called again from here."""
    return "curate" if which("curate") else os.path.relpath(sys.argv[0])


def run(
    pipeline: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml", help="A recipe.", show_default=False)],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A variable; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a whole recipe; a second run redoes only what changed."""
    from curate.commands.run import run as step

    variables = assignments(set_)
    with progress_on_stderr() as progress:
        tell = None if as_json else lambda outcome: print_rich(step_line(outcome))
        result = step(pipeline, variables, on_step=tell, progress=progress)
    show(result, pipeline_summary, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    app.command("run", rich_help_panel="Do it all")(run)
