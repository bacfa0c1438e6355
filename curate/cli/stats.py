"""`stats`."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder, MinSide, Overwrite
from curate.cli.output import counts_line, show, written_lines
from curate.cli.table import SIZE_COLUMNS, SIZE_STYLES, Column, Kind, Table
from curate.formatting import count_of, percent

_BAR_WIDTH = 24


class GroupName(StrEnum):
    """What `stats --by` groups by."""

    SPLIT = "split"
    SOURCE = "source"


def stats_table(document: Mapping[str, Any]) -> RenderableType:
    """Class balance with bars: one table for all images, and one per group."""
    parts = [_balance_table(document, f"version {document['version']}")]
    parts += [_balance_table(balance, name) for name, balance in document.get("groups", {}).items()]
    return Group(*parts)


def _balance_table(balance: Mapping[str, Any], title: str) -> RenderableType:
    table = Table(title, "class", "boxes", "share", Column("", Kind.BAR), "images", *SIZE_COLUMNS)
    most = max((entry["boxes"] for entry in balance["classes"]), default=0)
    for entry in balance["classes"]:
        bar = Text("█" * round(_BAR_WIDTH * entry["boxes"] / most) if most else "", style="cyan")
        sizes = (str(entry[size]) for size in SIZE_STYLES)
        table.add_row(entry["name"], str(entry["boxes"]), percent(entry["share"]), bar, str(entry["images"]), *sizes)
    imbalance = balance["imbalance"]
    line = f"{count_of(balance['images'], 'labelled image')} ({balance['images_without_boxes']} without boxes)"
    line += f", {balance['unlabelled']} not labelled, {count_of(balance['boxes'], 'box')}"
    line += f", imbalance {imbalance:.1f}" if imbalance is not None else ""
    return Group(table, Text(line), Text())


def stats(
    dataset: DatasetFolder,
    by: Annotated[GroupName | None, typer.Option(help="Also count each split or source separately.")] = None,
    min_side: MinSide = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plot class balance and box sizes (.png, .svg or .pdf).")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table as CSV.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.stats import stats as command

    result = command(dataset, by=by.value if by else None, min_side=min_side, plot=plot, csv=csv, overwrite=overwrite)
    written = written_lines({"plot": plot, "table": csv})
    show(result, lambda document: Group(stats_table(document), written), as_json=as_json)


def stats_brief(document: Mapping[str, Any]) -> str:
    return counts_line({entry["name"]: entry["boxes"] for entry in document["classes"]})
