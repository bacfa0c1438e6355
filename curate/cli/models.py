"""`models`."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import AsJson
from curate.cli.output import show
from curate.cli.table import Column, Kind, Table
from curate.commands.training_options import MODEL
from curate.formatting import points

# engine → further models, which it takes by name
_MORE = {
    "torchvision": "Also Faster R-CNN on other timm backbones, torchvision:fasterrcnn+timm/NAME.",
    "two-stage": "For `curate train-classifier`, behind any detector.",
    "detectron2": "Also other detectors of its model zoo, and configuration files, detectron2:FILE.",
}
_LEGEND = (
    "* the default of `train`; AP: published, on COCO val2017; size: parameters",
    "weights: data they were trained on, and here, in an installed package (--json",
    "has the --weights that takes it), or to be downloaded by the first training",
)


def models_tables(document: Mapping[str, Any]) -> RenderableType:
    """A table for each engine, and what the columns mean."""
    parts: list[RenderableType] = []
    for engine, group in groupby(document["models"], key=lambda row: row["model"].partition(":")[0]):
        rows = list(group)
        parts.append(_engine_table(engine, rows))
        if engine in _MORE:
            parts.append(Text(_MORE[engine] + "\n"))
    parts += [Text(line, style="dim") for line in _LEGEND]
    return Group(*parts)


def _engine_table(engine: str, rows: list[Mapping[str, Any]]) -> Table:
    licences = ", ".join(dict.fromkeys(row["licence"] for row in rows))
    state = "" if rows[0]["installed"] else "not installed; "
    columns = list(_columns(rows))
    table = Table(f"{engine} ({state}weights: {licences})", "model", *(column for column, _ in columns))
    for row in rows:
        mark = " *" if row["model"] == MODEL.default else ""
        table.add_row(row["model"] + mark, *(cell(row) for _, cell in columns))
    return table


def _columns(rows: list[Mapping[str, Any]]) -> Iterator[tuple[Column, Any]]:
    """The columns after the name that have a value in some row, each with what it shows of a row."""
    if any(row["ap"] is not None for row in rows):
        yield Column("AP"), lambda row: points(row["ap"])
    if any(row["parameters"] is not None for row in rows):
        yield Column("size"), lambda row: f"{row['parameters'] / 1e6:.1f} M"
    yield Column("weights", Kind.TEXT), _weights


def _weights(row: Mapping[str, Any]) -> str:
    """Data of the weights, and where they are: "COCO, 167 MB"."""
    if row["weights"] == "download" and row["download_mb"] is not None:
        return f"{row['trained_on']}, {row['download_mb']:.0f} MB"
    return f"{row['trained_on']}, {row['weights']}"


def models(as_json: AsJson = False) -> None:
    from curate.commands.models import models as command

    show(command(), models_tables, as_json=as_json)
