"""`merge-classes`, `rename-class`, `drop-class`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from curate.cli.options import AsJson, DatasetFolder, DryRun
from curate.cli.output import counts_line, show
from curate.cli.table import Table
from curate.curation.class_maps import DROP_MAP, MERGE_MAP, RENAME_MAP
from curate.formatting import percent


def classes_table(document: Mapping[str, Any]) -> RenderableType:
    """Boxes of each class before and after the command."""
    version = document["version"]
    before, after = document["before"], document["after"]
    title = f"version {version}" if version is not None else "dry run: nothing was changed"
    table = Table(title, "class", "before", "share", "after", "share")
    totals = sum(before.values()), sum(after.values())
    for name in dict.fromkeys([*before, *after]):
        cells = []
        for counts, total in zip((before, after), totals, strict=True):
            number = counts.get(name)
            cells += ["–", "–"] if number is None else [str(number), percent(number / total if total else None)]
        table.add_row(name, *cells)
    return table


def merge_classes(
    dataset: DatasetFolder,
    sources: Annotated[list[str] | None, typer.Argument(metavar="SOURCE", help="Classes to merge.")] = None,
    into: Annotated[str | None, typer.Option(metavar="TARGET", help="Class that receives their boxes.")] = None,
    map: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"YAML file instead of names; lines are {MERGE_MAP}."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.classes import merge_classes as command

    show(command(dataset, sources or (), into, map=map, dry_run=dry_run), classes_table, as_json=as_json)


def rename_class(
    dataset: DatasetFolder,
    old: Annotated[str | None, typer.Argument(metavar="OLD", help="Current name.")] = None,
    new: Annotated[str | None, typer.Argument(metavar="NEW", help="New name.")] = None,
    map: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"YAML file instead of names; lines are {RENAME_MAP}.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.classes import rename_class as command

    show(command(dataset, old, new, map=map, dry_run=dry_run), classes_table, as_json=as_json)


def drop_class(
    dataset: DatasetFolder,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Classes to remove.")] = None,
    map: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"YAML file instead of names; lines are {DROP_MAP}.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.classes import drop_class as command

    show(command(dataset, names or (), map=map, dry_run=dry_run), classes_table, as_json=as_json)


def classes_brief(document: Mapping[str, Any]) -> str:
    return counts_line(document["after"])
