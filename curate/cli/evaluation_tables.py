"""Tables of an evaluation: AP by size and class, and what was missed, beside another run's if there is one."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType

from curate.cli.output import points
from curate.cli.tables import SIZE_STYLES, new_table
from curate.sizes import SIZES


def evaluation_tables(document: Mapping[str, Any]) -> RenderableType:
    """AP by size and class and what was missed, beside another run's if there is one."""
    other = document.get("against")
    columns = [(other["run"], other), ("this run", document)] if other else [("", document)]
    parts: list[RenderableType] = [_metrics_table(columns), _errors_table(columns)]
    parts += [_class_table(title, one) for title, one in columns]
    return Group(*parts)


def _metrics_table(columns: list[tuple[str, Mapping[str, Any]]]) -> RenderableType:
    document = columns[-1][1]
    title = f"{document['split']}: {document['images']} images, {document['truth']} objects"
    table = new_table(title, "", *(name or "all" for name, _ in columns))
    table.add_row("classes", *(str(len(one["classes"])) for _, one in columns))
    for label, key in (("AP", "ap"), ("AP50", "ap50"), ("AP75", "ap75"), ("AR 100", "ar_100")):
        table.add_row(label, *(points(one[key]) for _, one in columns), style="bold" if key == "ap" else "")
    for size in SIZES:
        table.add_row(f"AP {size}", *(points(one[f"ap_{size}"]) for _, one in columns), style=SIZE_STYLES[size])
    if any(one["range_of_interest"] for _, one in columns):
        interest = document["range_of_interest"] or {}
        sides = f"shorter side ≥ {interest.get('min_side_px', 0):g} px" if interest else "in range"
        table.add_section()
        for label, key in (("AP", "ap"), ("AP50", "ap50"), ("AR 100", "ar_100")):
            cells = (points((one["range_of_interest"] or {}).get(key)) for _, one in columns)
            table.add_row(f"{label}, {sides}", *cells)
    return table


def _errors_table(columns: list[tuple[str, Mapping[str, Any]]]) -> RenderableType:
    document = columns[-1][1]
    point = document["operating_point"]
    title = f"mistakes at score ≥ {point['score']:g}, IoU ≥ {point['iou']:g}"
    if document["range_of_interest"]:
        title += f", shorter side ≥ {document['range_of_interest']['min_side_px']:g} px"
    headers = [f"{name} {what}".strip() for name, _ in columns for what in ("missed", "false positives")]
    table = new_table(title, "size", *headers)
    for size in SIZES:
        cells = [str(one["errors"][what][size]) for _, one in columns for what in ("missed", "false_positives")]
        table.add_row(size, *cells, style=SIZE_STYLES[size])
    sums = [sum(one["errors"][what].values()) for _, one in columns for what in ("missed", "false_positives")]
    table.add_row("all", *map(str, sums), style="bold")
    return table


def _class_table(title: str, document: Mapping[str, Any]) -> RenderableType:
    table = new_table(
        f"by class{f', {title}' if title else ''}", "class", "objects", "AP", "AP50", *(f"AP {size}" for size in SIZES)
    )
    for entry in document["classes"]:
        cells = [points(entry[key]) for key in ("ap", "ap50", *(f"ap_{size}" for size in SIZES))]
        table.add_row(entry["name"], str(entry["truth"]), *cells)
    return table
