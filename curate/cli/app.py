"""The Typer application: its commands, by stage."""

from typing import Annotated

import typer

from curate import __version__
from curate.cli import classes, history, running, sharing, sources, training

app = typer.Typer(
    name="curate",
    help="From videos and hand-drawn boxes to a detector that you can trust.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"curate {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From videos and hand-drawn boxes to a detector that you can trust."""


for stage in (sources, classes, history, sharing, training, running):
    stage.add_to(app)
