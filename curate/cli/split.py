"""`split`."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from curate.cli.options import AsJson, DatasetFolder, Seed
from curate.cli.output import counts_line, show
from curate.cli.table import Table
from curate.formatting import percent


class TogetherName(StrEnum):
    """Whose images `split --group-by` keeps in one split."""

    VIDEO = "video"
    SOURCE = "source"
    NONE = "none"


def split_table(document: Mapping[str, Any]) -> RenderableType:
    """Counts of each split: a column per split, a row per class."""
    splits = document["splits"]
    table = Table(f"version {document['version']}", "", *splits)
    for what in ("images", "groups", "boxes"):
        table.add_row(what, *(str(counts[what]) for counts in splits.values()))
    table.add_section()
    for name in dict.fromkeys(name for counts in splits.values() for name in counts["classes"]):
        numbers = [counts["classes"].get(name, 0) for counts in splits.values()]
        total = max(sum(numbers), 1)
        table.add_row(name, *(f"{number} ({percent(number / total)})" for number in numbers))
    return table


def split(
    dataset: DatasetFolder,
    val: Annotated[float, typer.Option(metavar="SHARE", help="Share of each class in val.")] = 0.25,
    test: Annotated[float, typer.Option(metavar="SHARE", help="Share of each class in test.")] = 0.0,
    group_by: Annotated[
        TogetherName,
        typer.Option(help="Keep the images of a video or source in one split. Equal pictures always are."),
    ] = TogetherName.VIDEO,
    seed: Seed = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Split again, also images that are in a split.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.split import split as command

    result = command(dataset, val=val, test=test, group_by=group_by.value, seed=seed, overwrite=overwrite)
    show(result, split_table, as_json=as_json)


def split_brief(document: Mapping[str, Any]) -> str:
    return counts_line({name: split["images"] for name, split in document["splits"].items()})
