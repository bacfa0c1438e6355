"""Plot of AP by size over the rounds of a loop, or over the steps of a training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from curate.formatting import points
from curate.plots.style import INK, SIZE_COLOURS

AP_COLOURS: Mapping[str, str] = {"all": INK, **SIZE_COLOURS}
_COLUMNS = 3


@dataclass(frozen=True)
class ApCurve:
    """AP of one run over time.

    Attributes:
        run: Name of the run.
        unit: Unit of `at`.
        at: Rounds or steps, rising.
        aps: "all", "small", "medium", "large" → AP at each of these, 0 to 1; None for a size without objects.
    """

    run: str
    unit: Literal["round", "step"]
    at: Sequence[int]
    aps: Mapping[str, Sequence[float | None]]


def draw_runs(curves: Sequence[ApCurve]) -> Figure:
    """Draw one axes for each run with several evaluations, and one for all the others."""
    curves_over_time = [curve for curve in curves if len(curve.at) > 1]
    single = [curve for curve in curves if len(curve.at) == 1]
    count = len(curves_over_time) + bool(single)
    columns = min(_COLUMNS, max(count, 1))
    rows = max(1, math.ceil(count / columns))
    figure = Figure(figsize=(1.2 + 3.6 * columns, 0.6 + 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    for axes, curve in zip(grid, curves_over_time, strict=False):
        _draw_over_time(axes, curve)
    if single:
        _draw_points(grid[len(curves_over_time)], single)
    for axes in grid[count:]:
        axes.set_visible(False)
    for place in range(0, count, columns):
        grid[place].set_ylabel("AP on val")
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4, label=name) for name, colour in AP_COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def _draw_over_time(axes, curve: ApCurve) -> None:
    for name, colour in AP_COLOURS.items():
        values = _as_points(curve.aps[name])
        axes.plot(curve.at, values, color=colour, marker="o", markersize=4, linewidth=2 if name == "all" else 1.3)
    best = max(ap for ap in curve.aps["all"] if ap is not None)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_xlabel(curve.unit)
    _finish(axes, f"{curve.run}: best {points(best)}")


def _draw_points(axes, curves: Sequence[ApCurve]) -> None:
    places = range(len(curves))
    for name, colour in AP_COLOURS.items():
        values = _as_points([curve.aps[name][0] for curve in curves])
        # a bar, since a dot would be hidden by that of the most frequent size
        mark = {"marker": "_", "markersize": 16, "markeredgewidth": 2.5} if name == "all" else {"marker": "o"}
        axes.plot(places, values, color=colour, linestyle="none", **mark)
    axes.set_xticks(places, [curve.run for curve in curves], rotation=35, ha="right", parse_math=False)
    axes.set_xlim(-0.6, len(curves) - 0.4)
    _finish(axes, "evaluated once")


def _as_points(aps: Sequence[float | None]) -> list[float]:
    """0.513 → 51.3; None → NaN, which is a gap in the plot."""
    return [math.nan if ap is None else 100 * ap for ap in aps]


def _finish(axes, title: str) -> None:
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
