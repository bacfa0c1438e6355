"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from curate.errors import UsageError

DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="The dataset folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Seed = Annotated[int, typer.Option("--seed", help="Another seed, another equally good result.")]
MinSide = Annotated[
    float | None,
    typer.Option("--min-side", metavar="PX", help="Range of interest: shorter side at least so many pixels."),
]
MaxDistance = Annotated[
    float | None,
    typer.Option("--max-distance", metavar="M", help="Range of interest instead: objects up to so many metres away."),
]
ObjectHeight = Annotated[
    float | None,
    typer.Option("--object-height", metavar="M", help="Real height of the objects in metres, to tell distances."),
]
FocalPx = Annotated[
    float | None,
    typer.Option("--focal-px", metavar="F", help="Focal length of the camera in pixels, to tell distances."),
]
MapFile = Annotated[Path | None, typer.Option("--map", metavar="FILE", help="A YAML file for many at once.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would come out.")]


def split_names(text: str | None) -> list[str] | None:
    """`a, b` → ["a", "b"]; None stays None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def assignments(texts: list[str] | None) -> dict[str, Any]:
    """["steps=300", "a.b=[1, 2]"] → {"steps": 300, "a.b": [1, 2]}; what YAML does not read is text.

    Raises:
        UsageError: a text without a name or "=".
    """
    import yaml

    found: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError("not an assignment", place="--set", got=repr(text), expected="NAME=VALUE")
        try:
            read = yaml.safe_load(value)
        except (ValueError, yaml.YAMLError):
            read = value
        found[name] = read if read is None or isinstance(read, str | bool | int | float | list) else value
    return found
