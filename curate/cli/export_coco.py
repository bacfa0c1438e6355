"""Commands that write files for other tools: `export-coco`."""

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.options import AsJson, DatasetFolder, Overwrite
from curate.cli.output import progress_on_stderr, show


def export_coco(
    dataset: DatasetFolder,
    out: Annotated[Path, typer.Argument(help="A new folder for images and annotations.", show_default=False)],
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Export as COCO, one file a split, checked by evaluating it against itself."""
    from curate.cli.tables import export_lines
    from curate.commands.export_coco import export_coco as step

    with progress_on_stderr() as progress:
        result = step(dataset, out, overwrite=overwrite, progress=progress)
    show(result, export_lines, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command("export-coco", rich_help_panel="Give to other tools")(export_coco)
