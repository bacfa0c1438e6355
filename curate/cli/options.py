"""Arguments and options that several commands share, and the parsing of their values."""

from pathlib import Path
from typing import Annotated, Any

import typer

from curate.cli.completion import SPLITS
from curate.errors import DataError, UsageError
from curate.operating_point import DEFAULT_POINT

_DISTANCES = "to convert distances to pixels"

DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="Dataset folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
Link = Annotated[
    bool,
    typer.Option("--link", help="Hard links instead of copies of the images; then nobody may write into them."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Random seed.")]
Device = Annotated[
    str,
    typer.Option("--device", metavar="DEVICE", help="Device: auto (the first GPU, else the CPU), cpu, cuda or cuda:N."),
]
Address = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Address to bind; anything but loopback is reachable from the network.",
    ),
]
SplitName = Annotated[str, typer.Option("--split", metavar=SPLITS, help="Split whose images are evaluated.")]
LastScore = Annotated[
    float | None,
    typer.Option(
        "--score",
        metavar="SCORE",
        help="Lowest score of a detection that counts.",
        show_default=f"that of the run's last evaluation, else {DEFAULT_POINT.score:g}",
    ),
]
Against = Annotated[
    str | None,
    typer.Option("--against", metavar="RUN", help="Run to compare with; it must have been evaluated."),
]
MinSide = Annotated[
    float | None,
    typer.Option("--min-side", metavar="PX", help="Range of interest: objects whose shorter side is at least PX."),
]
LastMinSide = Annotated[
    float | None,
    typer.Option(
        "--min-side",
        metavar="PX",
        help="Range of interest: objects whose shorter side is at least PX.",
        show_default="that of the run's last evaluation",
    ),
]
MaxDistance = Annotated[
    float | None,
    typer.Option("--max-distance", metavar="M", help="Range of interest: objects at most M metres away."),
]
ObjectHeight = Annotated[
    float | None,
    typer.Option("--object-height", metavar="M", help=f"Real height of the objects in metres, {_DISTANCES}."),
]
FocalPx = Annotated[
    float | None,
    typer.Option("--focal-px", metavar="PX", help=f"Focal length of the camera in pixels, {_DISTANCES}."),
]
VideoStream = Annotated[
    int | None,
    typer.Option(
        "--stream", metavar="N", help="Video stream of a file that has several, from 1.", show_default="the best one"
    ),
]
VideoRate = Annotated[
    str | None,
    typer.Option(
        "--rate",
        metavar="FPS",
        help="Frame rate of files without time stamps, such as raw .h264.",
        show_default="what the file tells, else 25",
    ),
]
SampleDepth = Annotated[
    int | None,
    typer.Option("--depth", metavar="BITS", help="Bits that 16-bit samples really use, such as 12.", show_default="16"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the result without changing the dataset.")]


def split_names(text: str | None) -> list[str] | None:
    """`a, b` → ["a", "b"]; None stays None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def assignments(texts: list[str] | None) -> dict[str, Any]:
    """["steps=300", "a.b=[1, 2]"] → {"steps": 300, "a.b": [1, 2]}.

    Values are read as YAML; mappings and invalid YAML stay text.

    Raises:
        UsageError: A text has no name or no "=".
    """
    from curate.documents.yaml_reader import parse_yaml

    values: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError("not an assignment", place="--set", got=repr(text), expected="NAME=VALUE")
        try:
            parsed = parse_yaml(value, "--set", "value")
        except DataError:
            parsed = value
        values[name] = parsed if parsed is None or isinstance(parsed, str | bool | int | float | list) else value
    return values
