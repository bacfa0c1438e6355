"""`train-classifier`."""

from functools import partial
from typing import Annotated, Any

import typer

from curate.cli.options import AsJson, DatasetFolder, Overwrite
from curate.cli.output import EarlyNotes, explain_interruption, progress_on_stderr, show
from curate.cli.train import NewRun, Resume, as_arguments, takes_training_options, train_lines, what_is_saved
from curate.cli.train import train_brief as train_brief
from curate.commands.training_options import CLASSIFIER, CLASSIFIER_MARGIN, CLASSIFIER_MODEL


@takes_training_options(CLASSIFIER)
def train_classifier(
    dataset: DatasetFolder,
    run: NewRun,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|ENGINE:NAME",
            help="First stage: name or path of a run, or a model with --detector-weights; not needed with --resume.",
        ),
    ] = None,
    detector_weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Weights file for --detector ENGINE:NAME.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Classifier: a ResNet of torchvision.", show_default=CLASSIFIER_MODEL),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Context around a box in its crop, on each side, as a share of the box's longer side.",
            show_default=str(CLASSIFIER_MARGIN),
        ),
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    from curate.commands.train_classifier import train_classifier as command

    arguments, warn = as_arguments(options), EarlyNotes()
    with progress_on_stderr() as progress, explain_interruption(partial(what_is_saved, dataset, run)):
        result = command(
            dataset,
            run=run,
            detector=detector,
            detector_weights=detector_weights,
            model=model,
            margin=margin,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            warn=warn,
            **arguments,
        )
    show(result, train_lines, as_json=as_json, early=warn)
