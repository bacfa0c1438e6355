"""`train`, and the training options of `train-classifier` and `loop`."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, get_origin

import typer
from rich.console import RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder, Overwrite, assignments
from curate.cli.output import EarlyNotes, explain_interruption, progress_on_stderr, show
from curate.cli.table import SIZE_STYLES
from curate.commands.training_options import MODEL, TRAIN, with_options
from curate.formatting import count_of, points
from curate.run_folder.config import Option

_DEFAULT_MODEL = f"that of the run (--resume) or of its checkpoint (--weights), else {MODEL.default}"
Model = Annotated[
    str | None,
    typer.Option(MODEL.flag, metavar=MODEL.metavar, help=MODEL.help, show_default=_DEFAULT_MODEL),
]
NewRun = Annotated[
    str, typer.Option("--run", metavar="NAME", help="Name of the run in DATASET/runs, or a path with a slash.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]

NOTHING_SAVED = "nothing was learnt yet. The same command begins anew."


def what_is_saved(dataset: Any, run: str) -> str:
    """What an interrupted training has on disk, and how it continues."""
    from curate.errors import CurateError
    from curate.run_folder.folder import RunFolder

    try:
        folder = RunFolder.named(dataset, run)
        if not folder.has_learnt:
            return NOTHING_SAVED
        record = folder.read_record()
    except CurateError as error:
        return str(error)
    saved = f"{record.steps_done} of {count_of(record.steps, 'step')} are saved"
    return f"{saved}. Continue with the same command and --resume."


def takes_training_options(taken: Mapping[str, Option]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options in place of its `**options`."""
    annotations = {name: _typer_option(option) for name, option in taken.items()}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = with_options(inspect.signature(command), annotations)
        command.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
        return command

    return decorate


def _typer_option(option: Option) -> Any:
    declared = list[str] if get_origin(option.type) is Mapping else option.type
    shown = typer.Option(option.flag, metavar=option.metavar, help=option.help, show_default=option.default)
    return Annotated[declared | None, shown]


def as_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as Typer parsed them → arguments of `curate.train`."""
    return {**options, "settings": assignments(options["settings"])}


@takes_training_options(TRAIN)
def train(
    dataset: DatasetFolder,
    run: NewRun,
    model: Model = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    from curate.commands.train import train as command

    arguments, warn = as_arguments(options), EarlyNotes()
    with progress_on_stderr() as progress, explain_interruption(partial(what_is_saved, dataset, run)):
        result = command(
            dataset, model=model, run=run, resume=resume, overwrite=overwrite, progress=progress, warn=warn, **arguments
        )
    show(result, train_lines, as_json=as_json, early=warn)


def train_lines(document: Mapping[str, Any]) -> RenderableType:
    """Run, model, steps, and AP by size."""
    best = f", best at {document['best_step']}" if document["best_step"] not in (None, document["steps"]) else ""
    text = f"run {document['run']}: {document['model']}, {count_of(document['steps'], 'step')}{best}"
    last = document["rounds"][-1] if document["rounds"] else None
    if last and last["ap"] is not None:
        sizes = " / ".join(points(last[f"ap_{size}"]) for size in SIZE_STYLES)
        text += f"; val AP {points(last['ap'])} (small / medium / large {sizes})"
    return Text(text)


def train_brief(document: Mapping[str, Any]) -> str:
    return f"{count_of(document['steps'], 'step')}, val AP {points(document['ap'])}"
