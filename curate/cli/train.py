"""`train`."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from curate.cli import train_options as of
from curate.cli.options import AsJson, DatasetFolder, Overwrite, assignments
from curate.cli.output import interruption_told, progress_on_stderr, show
from curate.cli.table import SIZE_STYLES
from curate.formatting import count_of, points

_KEPT = "what was learnt is saved. Go on with the same command and --resume."


def train(
    dataset: DatasetFolder,
    model: of.Model,
    run: of.Run,
    weights: of.Weights = None,
    steps: of.Steps = None,
    epochs: of.Epochs = None,
    batch: of.Batch = None,
    lr: of.LearningRate = None,
    image_size: of.ImageSize = None,
    balance: of.Balance = None,
    loss: of.Loss = None,
    setting: of.Setting = None,
    seed: of.Seed = None,
    device: of.Device = None,
    processes: of.Processes = None,
    eval_every: of.EvalEvery = None,
    patience: Annotated[
        int | None, typer.Option(metavar="N", help="Stop after N evaluations without a better AP.")
    ] = None,
    checkpoint_every: of.CheckpointEvery = None,
    workers: of.Workers = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.train import train as step

    with progress_on_stderr() as progress, interruption_told(_KEPT):
        result = step(
            dataset,
            model=model,
            run=run,
            weights=weights,
            steps=steps,
            epochs=epochs,
            batch=batch,
            lr=lr,
            image_size=image_size,
            balance=balance,
            loss=loss,
            settings=assignments(setting),
            seed=seed,
            device=device,
            processes=processes,
            eval_every=eval_every,
            patience=patience,
            checkpoint_every=checkpoint_every,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    show(result, train_lines, as_json=as_json)


def train_lines(document: Mapping[str, Any]) -> RenderableType:
    """How a training ended."""
    best = f", best at {document['best_step']}" if document["best_step"] not in (None, document["steps"]) else ""
    text = f"run {document['run']}: {document['model']}, {count_of(document['steps'], 'step')}{best}"
    last = document["rounds"][-1] if document["rounds"] else None
    if last and last["ap"] is not None:
        sizes = " / ".join(points(last[f"ap_{size}"]) for size in SIZE_STYLES)
        text += f"; val AP {points(last['ap'])} (small / medium / large {sizes})"
    return Text(text)


def train_brief(document: Mapping[str, Any]) -> str:
    return f"{count_of(document['steps'], 'step')}, val AP {points(document['ap'])}"
