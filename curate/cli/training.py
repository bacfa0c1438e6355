"""`train`."""

from typing import Annotated

import typer

from curate.cli.options import AsJson, DatasetFolder, Overwrite
from curate.cli.output import interruption_told, progress_on_stderr, show

_KEPT = "what was learnt up to the last checkpoint is kept. Go on with --resume."


def train(
    dataset: DatasetFolder,
    model: Annotated[str, typer.Option(metavar="ENGINE:NAME", help="Such as torchvision:fasterrcnn_resnet50_fpn_v2.")],
    run: Annotated[str, typer.Option(help="Name of the run in DATASET/runs, or a path with a slash.")],
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE|package:NAME|none", help="Where to start from; default: the library's own."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    image_size: Annotated[int | None, typer.Option(metavar="PX", help="Shorter side that the model sees.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that chance decides.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(metavar="STEPS", help="Steps between checkpoints.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read images.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a detector on the train split and score it on val."""
    from curate.cli.tables import train_lines
    from curate.steps.training import train as step

    with progress_on_stderr() as progress, interruption_told(_KEPT):
        result = step(
            dataset,
            model=model,
            run=run,
            weights=weights,
            steps=steps,
            batch=batch,
            lr=lr,
            image_size=image_size,
            seed=seed,
            device=device,
            checkpoint_every=checkpoint_every,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    show(result, train_lines, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    app.command("train", rich_help_panel="Train and judge")(train)
