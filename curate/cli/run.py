"""Commands for the whole: `run`, `doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.options import AsJson, assignments
from curate.cli.output import print_rich, progress_on_stderr, show


def run(
    pipeline: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml", help="A recipe.", show_default=False)],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A variable; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a whole recipe; a second run redoes only what changed."""
    from curate.cli.pipelines import pipeline_summary, step_line
    from curate.commands.run import run as step

    variables = assignments(set_)
    with progress_on_stderr() as progress:
        tell = None if as_json else lambda outcome: print_rich(step_line(outcome))
        result = step(pipeline, variables, on_step=tell, progress=progress)
    show(result, pipeline_summary, as_json=as_json)


def doctor(as_json: AsJson = False) -> None:
    """Show what is installed, what is missing and how to get it."""
    from curate.cli.tables import doctor_table
    from curate.commands.doctor import doctor as step

    show(step(), doctor_table, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command("run", rich_help_panel="Do it all")(run)
    app.command("doctor", rich_help_panel="Do it all")(doctor)
