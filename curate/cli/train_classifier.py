"""`train-classifier`."""

from typing import Annotated

import typer

from curate.cli import train_options as of
from curate.cli.options import AsJson, DatasetFolder, Overwrite, assignments
from curate.cli.output import interruption_told, progress_on_stderr, show
from curate.cli.train import train_brief as train_brief
from curate.cli.train import train_lines

_KEPT = "what was learnt is saved. Go on with the same command and --resume."


def train_classifier(
    dataset: DatasetFolder,
    run: of.Run,
    detector: Annotated[
        str | None, typer.Option(metavar="RUN|ENGINE:NAME", help="Finds the boxes; a run's name, or its path.")
    ] = None,
    detector_weights: Annotated[str | None, typer.Option(metavar="FILE", help="For --detector ENGINE:NAME.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="ResNet of torchvision; default: resnet18.")] = None,
    margin: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Of a box's longer side, shown around it; default: 0.3.")
    ] = None,
    weights: of.Weights = None,
    steps: of.Steps = None,
    epochs: Annotated[float | None, typer.Option(help="Instead of steps: crops shown, in times the boxes.")] = None,
    batch: Annotated[int | None, typer.Option(help="Crops a step; default: 32.")] = None,
    lr: of.LearningRate = None,
    image_size: Annotated[int | None, typer.Option(metavar="PX", help="Side of a crop; default: 64.")] = None,
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
    from curate.commands.train_classifier import train_classifier as step

    with progress_on_stderr() as progress, interruption_told(_KEPT):
        result = step(
            dataset,
            run=run,
            detector=detector,
            detector_weights=detector_weights,
            model=model,
            margin=margin,
            weights=weights,
            steps=steps,
            epochs=epochs,
            batch=batch,
            lr=lr,
            image_size=image_size,
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
