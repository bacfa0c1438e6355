"""Commands on classes: `stats`, `merge-classes`, `rename-class`, `drop-class`, `split`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from curate.cli.options import AsJson, DatasetFolder, DryRun, MapFile, MinSide, Overwrite, Seed
from curate.cli.output import show


class GroupName(StrEnum):
    """How `stats` can group."""

    SPLIT = "split"
    SOURCE = "source"


class TogetherName(StrEnum):
    """What `split` keeps together."""

    VIDEO = "video"
    SOURCE = "source"
    NONE = "none"


def stats(
    dataset: DatasetFolder,
    by: Annotated[GroupName | None, typer.Option(help="Also count each split or source.")] = None,
    min_side: MinSide = None,
    plot: Annotated[Path | None, typer.Option(help="Write balance and sizes as .png, .svg or .pdf.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table as CSV.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Show the class balance and box sizes."""
    from curate.cli.tables import stats_table
    from curate.commands.stats import stats as step

    result = step(dataset, by=by.value if by else None, min_side=min_side, plot=plot, csv=csv, overwrite=overwrite)
    show(result, stats_table, as_json=as_json)


def merge_classes(
    dataset: DatasetFolder,
    sources: Annotated[list[str] | None, typer.Argument(metavar="SOURCE...", help="Classes that end.")] = None,
    into: Annotated[str | None, typer.Option(metavar="TARGET", help="The class that takes their boxes.")] = None,
    map: MapFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Merge classes into another; `undo` takes it back."""
    from curate.cli.tables import classes_table
    from curate.commands.classes import merge_classes as step

    show(step(dataset, sources or (), into, map=map, dry_run=dry_run), classes_table, as_json=as_json)


def rename_class(
    dataset: DatasetFolder,
    old: Annotated[str | None, typer.Argument(help="A class.")] = None,
    new: Annotated[str | None, typer.Argument(help="Its new name.")] = None,
    map: MapFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Rename a class; its id stays."""
    from curate.cli.tables import classes_table
    from curate.commands.classes import rename_class as step

    show(step(dataset, old, new, map=map, dry_run=dry_run), classes_table, as_json=as_json)


def drop_class(
    dataset: DatasetFolder,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Classes to take out.")] = None,
    map: MapFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take out classes with their boxes; the images stay."""
    from curate.cli.tables import classes_table
    from curate.commands.classes import drop_class as step

    show(step(dataset, names or (), map=map, dry_run=dry_run), classes_table, as_json=as_json)


def split(
    dataset: DatasetFolder,
    val: Annotated[float, typer.Option(help="Share of every class in val.")] = 0.25,
    test: Annotated[float, typer.Option(help="Share of every class in test.")] = 0.0,
    group_by: Annotated[TogetherName, typer.Option(help="What must stay on one side.")] = TogetherName.VIDEO,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Split into train, val and test, stratified by class; a video is never on both sides."""
    from curate.cli.tables import split_table
    from curate.commands.split import split as step

    result = step(dataset, val=val, test=test, group_by=group_by.value, seed=seed, overwrite=overwrite)
    show(result, split_table, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add this stage's commands."""
    panel = "Look and put in order"
    app.command("stats", rich_help_panel=panel)(stats)
    app.command("merge-classes", rich_help_panel=panel)(merge_classes)
    app.command("rename-class", rich_help_panel=panel)(rename_class)
    app.command("drop-class", rich_help_panel=panel)(drop_class)
    app.command("split", rich_help_panel=panel)(split)
