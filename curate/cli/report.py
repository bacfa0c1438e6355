"""`report`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.options import (
    Against,
    AsJson,
    DatasetFolder,
    FocalPx,
    LastMinSide,
    LastScore,
    MaxDistance,
    ObjectHeight,
    Overwrite,
    SplitName,
)
from curate.cli.output import progress_on_stderr, show
from curate.formatting import count_of

if TYPE_CHECKING:
    from rich.console import RenderableType


def report(
    dataset: DatasetFolder,
    run: Annotated[str, typer.Option(metavar="RUN", help="Run to report on, by name or path.", show_default=False)],
    split: SplitName = "val",
    min_side: LastMinSide = None,
    max_distance: MaxDistance = None,
    object_height: ObjectHeight = None,
    focal_px: FocalPx = None,
    score: LastScore = None,
    against: Against = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="HTML file to write.", show_default="report.html in the run's folder"),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Range, camera and score default to those of the run's last evaluation. For all objects, give
    --min-side 0."""
    from curate.commands.report import report as command

    with progress_on_stderr() as progress:
        result = command(
            dataset,
            run=run,
            split=split,
            min_side=min_side,
            max_distance=max_distance,
            object_height=object_height,
            focal_px=focal_px,
            score=score,
            against=against,
            out=out,
            overwrite=overwrite,
            progress=progress,
        )
    show(result, report_lines, as_json=as_json)


def report_lines(document: Mapping[str, Any]) -> "RenderableType":
    """The file, its size, and how many mistakes it shows."""
    from rich.text import Text

    mistakes = f"{document['missed']} missed, {count_of(document['false_positives'], 'false positive')}"
    size = f"{document['bytes'] / 1e6:.1f} MB"
    return Text(f"{document['report']} ({size})\n{mistakes}; {document['shown']} of them shown")


def report_brief(document: Mapping[str, Any]) -> str:
    return f"{document['report']}, {count_of(document['shown'], 'mistake')} shown"
