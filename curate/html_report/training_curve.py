"""The curve of a training, from the metrics in the run's folder: read, and thinned for a chart and a table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from curate.errors import CurateError
from curate.formatting import count, points
from curate.html_report.content import TrainingCurve
from curate.html_report.tables import Cell, Row, Table
from curate.run_folder.folder import RunFolder
from curate.run_folder.rounds import read_state, round_folder

_MOST_POINTS = 150  # of the loss, in a chart
_MOST_ROWS = 20


def read_curve(folder: RunFolder, best_step: int | None) -> TrainingCurve | None:
    """Read loss and AP over the steps of a training; None without metrics that can be read."""
    try:
        lines = list(_metrics(folder))
    except (CurateError, OSError, ValueError, KeyError, TypeError):  # a report of a run is more than its curve
        return None
    losses, aps = _values(lines, "loss"), _values(lines, "ap")
    return TrainingCurve(thin(losses, _MOST_POINTS), aps, best_step) if losses or aps else None


def _values(lines: Sequence[tuple[int, Mapping[str, Any]]], name: str) -> list[tuple[int, float]]:
    """Step and value of the lines that have a finite one."""
    numbers = ((step, line.get(name)) for step, line in lines)
    return [(step, float(one)) for step, one in numbers if isinstance(one, int | float) and math.isfinite(one)]


def _metrics(folder: RunFolder) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Step and line of the metrics of a training, or of all rounds of a loop."""
    state = None if folder.metrics_file.is_file() else read_state(folder)
    if state is None:
        yield from ((line["step"], line) for line in folder.read_metrics())
        return
    before = 0
    for report in state.done:
        for line in round_folder(folder, report.round).read_metrics():
            yield before + line["step"], line
        before += report.steps


def thin(values: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most so many steps with their values: the last step and the mean of each of as many equal parts."""
    parts = np.array_split(np.arange(len(values)), min(most, max(len(values), 1)))
    return [(values[part[-1]][0], float(np.mean([values[row][1] for row in part]))) for part in parts if len(part)]


def curve_table(curve: TrainingCurve) -> Table:
    """Loss and AP at some of the steps."""
    losses = dict(thin(curve.losses, _MOST_ROWS))
    aps = dict(curve.aps)
    rows = [
        Row(
            count(step),
            (Cell(f"{losses[step]:.3f}" if step in losses else ""), Cell(points(aps[step]) if step in aps else "")),
            strong=step == curve.best_step,
        )
        for step in sorted({*losses, *aps})
    ]
    below = "Loss: mean of the recorded steps since the row before. AP: on the val split."
    return Table("Loss and AP by step", ("step", "loss", "AP"), tuple(rows), below=below)
