"""The Typer application: its commands, by stage."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from curate import __version__
from curate.cli import (
    classes,
    doctor,
    evaluate,
    export_coco,
    fetch_youtube,
    history,
    imports,
    label,
    loop,
    predict,
    pull_tags,
    report,
    run,
    runs,
    sample_frames,
    split,
    stats,
    train,
    train_classifier,
    view,
    watch,
)


class StagedGroup(TyperGroup):
    """Lists the commands by stage, in plain text: Typer's pages with frames take longer to load than all of curate."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section a stage, in the order of the work."""
        stages: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            stages.setdefault(command.rich_help_panel, []).append((name, command.get_short_help_str(limit=100)))
        for stage, rows in stages.items():
            with formatter.section(stage):
                formatter.write_dl(rows)


app = typer.Typer(
    name="curate",
    cls=StagedGroup,
    help="From videos and hand-drawn boxes to a detector that you can trust.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
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


for stage in (
    fetch_youtube,
    sample_frames,
    label,
    imports,
    stats,
    classes,
    split,
    history,
    export_coco,
    train,
    train_classifier,
    loop,
    runs,
    evaluate,
    report,
    view,
    pull_tags,
    predict,
    watch,
    run,
    doctor,
):
    stage.add_to(app)
