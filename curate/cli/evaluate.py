"""`evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.options import AsJson, DatasetFolder, FocalPx, MaxDistance, MinSide, ObjectHeight, Overwrite
from curate.cli.output import progress_on_stderr, show


def evaluate(
    dataset: DatasetFolder,
    run: Annotated[str | None, typer.Option(help="A run, by name or path.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="COCO results instead of a run.")] = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    min_side: MinSide = None,
    max_distance: MaxDistance = None,
    object_height: ObjectHeight = None,
    focal_px: FocalPx = None,
    score: Annotated[float, typer.Option(help="From which score on a detection counts as a find or a mistake.")] = 0.5,
    precision: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Tell the lowest score of each class that is so precise.")
    ] = None,
    against: Annotated[str | None, typer.Option(metavar="RUN", help="A run evaluated before, shown beside.")] = None,
    errors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every mistake, a row each: .csv or .parquet.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw the curves and counts as PNG.")] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.html into the run's folder.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Show AP by size and class, how many objects of each size were missed, and what each kind of mistake costs."""
    from curate.cli.evaluation_tables import evaluation_tables
    from curate.commands.evaluate import evaluate as step

    with progress_on_stderr() as progress:
        result = step(
            dataset,
            run=run,
            predictions=predictions,
            split=split,
            min_side=min_side,
            max_distance=max_distance,
            object_height=object_height,
            focal_px=focal_px,
            score=score,
            precision=precision,
            against=against,
            errors=errors,
            plots=plots,
            report=not no_report,
            overwrite=overwrite,
            progress=progress,
        )
    show(result, evaluation_tables, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    app.command("evaluate", rich_help_panel="Train and judge")(evaluate)
