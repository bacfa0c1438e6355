"""`log`, `diff`, `undo`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder
from curate.cli.output import show
from curate.cli.table import Column, Kind, Table
from curate.formatting import count_of


def log(dataset: DatasetFolder, as_json: AsJson = False) -> None:
    from curate.commands.history import log as command

    show(command(dataset), log_table, as_json=as_json)


def diff(
    dataset: DatasetFolder,
    a: Annotated[int, typer.Argument(metavar="A", help="Older version.", show_default=False)],
    b: Annotated[int, typer.Argument(metavar="B", help="Newer version.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    from curate.commands.history import diff as command

    show(command(dataset, a, b), diff_table, as_json=as_json)


def undo(dataset: DatasetFolder, as_json: AsJson = False) -> None:
    from curate.commands.history import undo as command

    show(command(dataset), undo_line, as_json=as_json)


def log_table(document: list[Mapping[str, Any]]) -> RenderableType:
    """The versions, newest first."""
    operation, when = Column("operation", Kind.TEXT), Column("time", Kind.TEXT)
    table = Table("history", "version", operation, when, "images", "boxes", Column("arguments", Kind.DETAIL))
    for entry in document:
        arguments = "; ".join(
            f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
            for name, value in entry["arguments"].items()
            if value not in (None, False, [])
        )
        table.add_row(
            str(entry["version"]),
            entry["operation"],
            entry["time"],
            str(entry["images"]),
            str(entry["boxes"]),
            arguments,
        )
    return table


def diff_table(document: Mapping[str, Any]) -> RenderableType:
    """Boxes per class in two versions, and counts of the changes."""
    table = Table(f"version {document['from']} → {document['to']}", "", "before", "after")
    for name, (before, after) in document["classes"].items():
        table.add_row(name, str(before), str(after))
    lines = [
        f"images: {document['images_added']} added, {document['images_removed']} removed",
        f"boxes: {document['boxes_added']} added, {document['boxes_removed']} removed, "
        f"{document['boxes_changed']} changed",
    ]
    return Group(table, *(Text(line) for line in lines))


def undo_line(document: Mapping[str, Any]) -> RenderableType:
    """The version that was undone, and the current one."""
    return Text(f"version {document['undone']} is undone; version {document['version']} is current")


def log_brief(document: Sequence[Mapping[str, Any]]) -> str:
    return count_of(len(document), "version")


def diff_brief(document: Mapping[str, Any]) -> str:
    keys = ("images_added", "images_removed", "boxes_added", "boxes_removed", "boxes_changed")
    return ", ".join(f"{document[key]} {key.replace('_', ' ')}" for key in keys if document[key]) or "no difference"


def undo_brief(document: Mapping[str, Any]) -> str:
    return f"back to version {document['version']}"
