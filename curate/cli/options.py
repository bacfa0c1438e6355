"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="The dataset folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Seed = Annotated[int, typer.Option("--seed", help="Another seed, another equally good result.")]
MinSide = Annotated[
    float | None,
    typer.Option("--min-side", metavar="PX", help="Range of interest: shorter side at least so many pixels."),
]
MapFile = Annotated[Path | None, typer.Option("--map", metavar="FILE", help="A YAML file for many at once.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would come out.")]


def split_names(text: str | None) -> list[str] | None:
    """`a, b` → ["a", "b"]; None stays None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
