"""`evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.options import AsJson, DatasetFolder, MinSide
from curate.cli.output import progress_on_stderr, show


def evaluate(
    dataset: DatasetFolder,
    run: Annotated[str | None, typer.Option(help="A run, by name or path.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="COCO results instead of a run.")] = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    min_side: MinSide = None,
    score: Annotated[float, typer.Option(help="From which score on a detection counts as a find or a mistake.")] = 0.5,
    against: Annotated[str | None, typer.Option(metavar="RUN", help="A run evaluated before, shown beside.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show AP by size and class, and how many objects of each size were missed."""
    from curate.cli.evaluation_tables import evaluation_tables
    from curate.steps.evaluating import evaluate as step

    with progress_on_stderr() as progress:
        result = step(
            dataset,
            run=run,
            predictions=predictions,
            split=split,
            min_side=min_side,
            score=score,
            against=against,
            progress=progress,
        )
    show(result, evaluation_tables, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    app.command("evaluate", rich_help_panel="Train and judge")(evaluate)
