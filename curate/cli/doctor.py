"""`doctor`."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from curate.cli.options import AsJson
from curate.cli.output import show
from curate.cli.table import new_table


def doctor_table(document: Mapping[str, Any]) -> RenderableType:
    """What is there and what is missing."""
    table = new_table("doctor", "", "part", "found", "needed for", "how to get it", left=5)
    table.columns[4].no_wrap, table.columns[4].overflow = False, "fold"  # a link is of use only whole
    for check in document["checks"]:
        mark = ("✓", "green") if check["ok"] else ("✗", "yellow")
        table.add_row(
            Text(*mark), check["name"], check["found"] or "missing", check["needed_for"], check["remedy"] or ""
        )
    return table


def doctor(as_json: AsJson = False) -> None:
    from curate.commands.doctor import doctor as step

    show(step(), doctor_table, as_json=as_json)
