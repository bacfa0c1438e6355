"""Commands on the history: `log`, `diff`, `undo`."""

from typing import Annotated

import typer

from curate.cli.options import AsJson, DatasetFolder
from curate.cli.output import show


def log(dataset: DatasetFolder, as_json: AsJson = False) -> None:
    """Tell what was done to a dataset, newest first."""
    from curate.cli.tables import log_table
    from curate.commands.history import log as step

    show(step(dataset), log_table, as_json=as_json)


def diff(
    dataset: DatasetFolder,
    a: Annotated[int, typer.Argument(metavar="A", help="A version.", show_default=False)],
    b: Annotated[int, typer.Argument(metavar="B", help="Another.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Compare two versions."""
    from curate.cli.tables import diff_table
    from curate.commands.history import diff as step

    show(step(dataset, a, b), diff_table, as_json=as_json)


def undo(dataset: DatasetFolder, as_json: AsJson = False) -> None:
    """Go back to the version before; nothing is deleted."""
    from curate.cli.tables import undo_line
    from curate.commands.history import undo as step

    show(step(dataset), undo_line, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add this stage's commands."""
    for command in (log, diff, undo):
        app.command(command.__name__, rich_help_panel="Go back")(command)
