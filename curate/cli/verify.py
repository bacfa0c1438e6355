"""`verify`."""

from collections.abc import Mapping
from typing import Any

import typer
from rich.console import RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder
from curate.cli.output import explain_interruption, progress_on_stderr, show
from curate.cli.table import Column, Kind, Table
from curate.formatting import count_of


def verify(dataset: DatasetFolder, as_json: AsJson = False) -> None:
    """Exits with 1 if a file is missing or damaged."""
    from curate.commands.verify import verify as command

    with explain_interruption("nothing was changed."), progress_on_stderr() as progress:
        result = command(dataset, progress=progress)
    show(result, verify_table, as_json=as_json)
    if result.findings:
        raise typer.Exit(1)


def verify_table(document: Mapping[str, Any]) -> RenderableType:
    """The damaged files, or how much was compared."""
    if not document["findings"]:
        return Text(f"nothing is damaged: {verify_brief(document)}")
    count = count_of(len(document["findings"]), "damaged file")
    table = Table(count, "kind", Column("file", Kind.TEXT), Column("what is wrong", Kind.DETAIL))
    for finding in document["findings"]:
        table.add_row(finding["kind"], finding["file"], finding["detail"])
    return table


def verify_brief(document: Mapping[str, Any]) -> str:
    compared = [count_of(document[f"{what}s"], what) for what in ("version", "table", "image", "video")]
    if document["unchecked"]:
        compared.append(f"{document['unchecked']} without a hash")
    return ", ".join(compared)
