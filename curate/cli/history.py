"""`log`, `diff`, `undo`, `redo`, `checkout`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder
from curate.cli.output import show
from curate.cli.table import Column, Kind, Table
from curate.formatting import count_of


def log(
    dataset: DatasetFolder,
    all: Annotated[
        bool,
        typer.Option("--all", help="List also versions that did not lead to the current one."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.history import log as command

    show(command(dataset, all=all), log_table, as_json=as_json)


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


def redo(dataset: DatasetFolder, as_json: AsJson = False) -> None:
    from curate.commands.history import redo as command

    show(command(dataset), current_line, as_json=as_json)


def checkout(
    dataset: DatasetFolder,
    version: Annotated[
        int, typer.Argument(metavar="N", help="Version to make current; 0 is the empty dataset.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    from curate.commands.history import checkout as command

    show(command(dataset, version), current_line, as_json=as_json)


def log_table(document: list[Mapping[str, Any]]) -> RenderableType:
    """The versions, newest first: the current one with a star, those that did not lead to it in brackets."""
    marks = {"current": "{} *", "past": "{}", "left": "({})"}
    operation, when = Column("operation", Kind.TEXT), Column("time", Kind.TEXT)
    table = Table("history", "version", operation, when, "images", "boxes", Column("arguments", Kind.DETAIL))
    for entry in document:
        arguments = "; ".join(
            f"{name} {_plain(value)}"
            for name, value in entry["arguments"].items()
            if value not in (None, False, [], {})
        )
        table.add_row(
            marks[entry["state"]].format(entry["version"]),
            entry["operation"],
            entry["time"],
            str(entry["images"]),
            str(entry["boxes"]),
            arguments,
        )
    states = {entry["state"] for entry in document}
    current = "it" if "current" in states else "the current version"
    legends = ["* current"] if "current" in states else []
    legends += [f"in brackets: did not lead to {current}"] if "left" in states else []
    return (
        Group(table, Text("; ".join(legends), style="dim")) if document else Text("no versions: the dataset is empty")
    )


def _plain(value: Any) -> str:
    """["a", "b"] → "a, b"; {"a": ["b", "c"]} → "a: b, c"; True → "yes"."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "yes" if value is True else str(value)


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


def current_line(document: Mapping[str, Any]) -> RenderableType:
    """The version that is current now."""
    return Text(f"version {document['version']} is current")


def log_brief(document: Sequence[Mapping[str, Any]]) -> str:
    return count_of(len(document), "version")


def diff_brief(document: Mapping[str, Any]) -> str:
    keys = ("images_added", "images_removed", "boxes_added", "boxes_removed", "boxes_changed")
    return ", ".join(f"{document[key]} {key.replace('_', ' ')}" for key in keys if document[key]) or "no difference"


def undo_brief(document: Mapping[str, Any]) -> str:
    return f"back to version {document['version']}"


def current_brief(document: Mapping[str, Any]) -> str:
    return f"version {document['version']}"
