"""`runs`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder, Overwrite
from curate.cli.output import show, written_lines
from curate.cli.table import SIZE_COLUMNS, SIZE_STYLES, Table, mark_best
from curate.formatting import count_of, points


def runs_tables(document: Mapping[str, Any]) -> RenderableType:
    """One row per run, the best marked; then the runs that cannot be read."""
    if not document["runs"]:
        return Text("there are no runs yet; start one with `curate train`")
    rows = [row for row in document["runs"] if row["model"] is not None]
    problems = [Text.assemble((f"{row['run']}: ", "red"), row["problem"]) for row in document["runs"] if row["problem"]]
    return Group(*([_runs_table(rows)] if rows else []), *problems)


def _runs_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    aps = [row["ap"] for row in rows if row["ap"] is not None]
    best = max(aps) if len(aps) > 1 else None
    table = Table("runs", "run", "version", "boxes", "steps", "rounds", "AP", *SIZE_COLUMNS, "time")
    for row in rows:
        is_best = best is not None and row["ap"] == best
        counts = (_count(row["version"]), _count(row["boxes"]), _steps(row), str(len(row["rounds"])))
        aps_by_size = (points(row[f"ap_{size}"]) for size in SIZE_STYLES)
        cells = (*counts, points(row["ap"]), *aps_by_size, _duration(row["seconds"]))
        table.add_row(mark_best(row["run"], is_best), *cells, style="bold" if is_best else "")
    legend = [Text("* best AP", style="dim")] if best is not None else []
    return Group(table, *legend, *_model_lines(rows))


def _model_lines(rows: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """The runs of each model. Model names are too long for a column, and often all the same."""
    runs: dict[str, list[str]] = {}
    for row in rows:
        runs.setdefault(row["model"], []).append(row["run"])
    return [
        Text(f"model {model}: {', '.join(names) if len(runs) > 1 else 'all runs'}") for model, names in runs.items()
    ]


def runs_brief(document: Mapping[str, Any]) -> str:
    """Number of runs, and the best of them."""
    evaluated = [row for row in document["runs"] if row["ap"] is not None]
    best = max(evaluated, key=lambda row: row["ap"], default=None)
    count = count_of(len(document["runs"]), "run")
    return count if best is None else f"{count}, best {best['run']} with AP {points(best['ap'])}"


def _count(number: int | None) -> str:
    return "–" if number is None else str(number)


def _steps(row: Mapping[str, Any]) -> str:
    done, steps = row["steps_done"], row["steps"]
    return str(done) if done == steps else f"{done} of {steps}"


def _duration(seconds: float) -> str:
    """3725 → "1:02:05", hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def runs(
    dataset: DatasetFolder,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plot AP by size over rounds and steps (.png, .svg or .pdf).")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.runs import runs as command

    written = written_lines({"plot": plot})
    result = command(dataset, plot=plot, overwrite=overwrite)
    show(result, lambda document: Group(runs_tables(document), written), as_json=as_json)
