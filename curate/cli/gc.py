"""`gc`."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder
from curate.cli.output import show
from curate.formatting import count_of


def gc(
    dataset: DatasetFolder,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Versions, images, videos, runs and files that curate did not write are never removed."""
    from curate.commands.gc import gc as command

    show(command(dataset, dry_run=dry_run), gc_lines, as_json=as_json)


def gc_lines(document: Mapping[str, Any]) -> RenderableType:
    """A line for each file, then the sum."""
    return Group(*map(Text, document["removed"]), Text(gc_brief(document)))


def gc_brief(document: Mapping[str, Any]) -> str:
    verb = "would be removed" if document["dry_run"] else "removed"
    return f"{count_of(len(document['removed']), 'file')} {verb}, {document['bytes']:,} bytes"
