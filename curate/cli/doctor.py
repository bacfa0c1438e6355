"""`doctor`."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from curate.cli.options import AsJson
from curate.cli.output import show
from curate.cli.table import Column, Kind, Table


def doctor_table(document: Mapping[str, Any]) -> RenderableType:
    """What each part is needed for, and its version or how to get it."""
    table = Table("doctor", "part", Column("needed for", Kind.TEXT), Column("found, or how to get it", Kind.DETAIL))
    for check in document["checks"]:
        mark = ("✓ ", "green") if check["ok"] else ("✗ ", "yellow")
        state = ". ".join(words for words in (check["found"] or "missing", check["remedy"]) if words)
        table.add_row(Text.assemble(mark, check["name"]), check["needed_for"], state)
    return table


def doctor(as_json: AsJson = False) -> None:
    from curate.commands.doctor import doctor as command

    show(command(), doctor_table, as_json=as_json)
