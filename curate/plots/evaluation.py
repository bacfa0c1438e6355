"""Plots of an evaluation: AP by size, confusion matrix, precision and recall, scores, mistakes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from curate.evaluation.chart_content import (
    AP_SERIES,
    FALSE_POSITIVE_COLOUR,
    FALSE_POSITIVES,
    LINE_COLOURS,
    PRECISION_AXIS,
    RECALL_AXIS,
    SCORE_AXIS,
    SIDE_AXIS,
    TRUE_POSITIVE_COLOUR,
    TRUE_POSITIVES,
    at_iou,
    class_curves,
    cost_title,
    kind_label,
    mean_curve,
)
from curate.evaluation.confusion import Confusion
from curate.evaluation.costs import MistakeSummary
from curate.evaluation.curves import PrecisionRecall, ScoreHistogram
from curate.evaluation.mistakes import KINDS
from curate.evaluation.scores import SideScores
from curate.formatting import points
from curate.operating_point import OperatingPoint
from curate.plain_text import shown
from curate.plots.style import INK, SIZE_COLOURS
from curate.sizes import SIZES

PALE = "#c8d3d9"
_MOST_NUMBERED = 20  # classes of a confusion matrix with numbers in its cells
_LARGEST_INCHES = 40.0  # of a confusion matrix
_LONGEST_NAME = 24
_LONGEST_IN_TWO_COLUMNS = 12  # characters of a class name in a legend with two columns


def draw_ap_by_min_side(entries: Sequence[SideScores], min_side_px: float | None = None) -> Figure:
    """AP and AP50 by the smallest side that counts, above the number of objects.

    Args:
        entries: By rising side; their distances, if known, are on the upper axis.
        min_side_px: Range of interest, which is marked.
    """
    figure = Figure(figsize=(max(6.5, 2 + 0.55 * len(entries)), 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    _draw_aps(above, entries)
    _draw_counts(below, entries)
    sides = [entry.min_side_px for entry in entries]
    if min_side_px in sides:
        above.axvline(sides.index(min_side_px), color=INK, linestyle=":", linewidth=1)
        above.annotate(" range of interest", (sides.index(min_side_px), 4), color=INK, fontsize=9)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_confusion(confusion: Confusion) -> Figure:
    """The confusion matrix, coloured by share of the row; the row of the background has no share."""
    names, counts = confusion.classes, np.array(confusion.matrix, dtype=np.float64)
    side, name_points = _confusion_layout(len(names))
    figure = Figure(figsize=(side + 1.4, side), layout="constrained")
    axes = figure.subplots()
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    shares[-1] = 0
    axes.imshow(shares, cmap="YlGnBu", vmin=0, vmax=1, aspect="equal")
    if len(names) <= _MOST_NUMBERED + 1:
        for (row, column), count in np.ndenumerate(counts):
            if (row, column) != (len(names) - 1, len(names) - 1):
                colour = "white" if shares[row, column] > 0.55 else INK
                axes.annotate(f"{count:.0f}", (column, row), ha="center", va="center", color=colour)
    ticks = np.arange(len(names))
    labels = [_short(name) for name in names]
    axes.set_xticks(ticks, [*labels[:-1], "missed"], rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(ticks, labels, parse_math=False)
    axes.tick_params(labelsize=name_points)
    axes.set_xlabel("detected class")
    axes.set_ylabel("true class")
    axes.set_title("colour: share of the row", loc="left", fontsize=10)
    axes.spines[:].set_visible(False)
    return figure


def draw_precision_recall(curves: PrecisionRecall, point: OperatingPoint) -> Figure:
    """Precision by recall of each class that has objects, and their mean.

    More classes than there are line colours are drawn pale, and only the mean is named.
    """
    classes, mean = class_curves(curves), mean_curve(curves)
    colours = LINE_COLOURS if len(classes) <= len(LINE_COLOURS) else (PALE,) * len(classes)
    named = [*(classes if colours is LINE_COLOURS else []), *([mean] if mean is not None else [])]
    labels = [replace(curve, name=_short(curve.name)).label(point) for curve in named]
    columns = 1 if max((len(curve.name) for curve in classes), default=0) > _LONGEST_IN_TWO_COLUMNS else 2
    figure = Figure(figsize=(6.5, 4.6 + 0.22 * -(-len(labels) // columns)), layout="constrained")
    axes = figure.subplots()
    recall = 100 * np.array(curves.recall)
    lines = []
    for curve, colour in zip(classes, colours, strict=False):
        lines += axes.plot(recall, 100 * np.array(curve.precision), linewidth=1.5, color=colour)
    if mean is not None:
        lines += axes.plot(recall, 100 * np.array(mean.precision), color=INK, linewidth=2.5)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 102)
    axes.set_xlabel(RECALL_AXIS)
    axes.set_ylabel(PRECISION_AXIS)
    axes.set_title(at_iou(point), loc="left")
    axes.grid(color="#eeeeee")
    if labels:
        _draw_legend(figure, lines[-len(labels) :], labels, columns)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_scores(histogram: ScoreHistogram, score: float | None = None) -> Figure:
    """True and false positives by score.

    Args:
        histogram: The counts.
        score: Lowest score of the operating point, which is marked.
    """
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    edges = np.array(histogram.edges)
    for label, counts, colour in (
        (TRUE_POSITIVES, histogram.true_positives, TRUE_POSITIVE_COLOUR),
        (FALSE_POSITIVES, histogram.false_positives, FALSE_POSITIVE_COLOUR),
    ):
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.45)
        axes.stairs(counts, edges, color=colour, linewidth=1.5, label=f"{label} ({sum(counts)})")
    axes.set_yscale("symlog", linthresh=10)  # low scores far outnumber high ones
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda count, _: f"{count:.0f}")
    axes.set_xlim(edges[0], edges[-1])
    if score is not None:
        axes.axvline(score, color=INK, linestyle=":", linewidth=1)
    axes.set_xlabel(SCORE_AXIS if score is None else f"{SCORE_AXIS}; detections count from {score:g} on (dotted)")
    axes.set_ylabel("detections")
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_errors(errors: MistakeSummary, point: OperatingPoint) -> Figure:
    """Missed objects and false positives by size, and number and cost of the mistakes of each kind."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    by_size, by_kind, by_cost = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
    _draw_by_size(by_size, errors)
    counts = [errors.kinds[kind] for kind in KINDS]
    _draw_bars(by_kind, counts, [str(count) for count in counts])
    by_kind.set_title("by kind, each counted once", loc="left")
    costs = [errors.ap_cost[kind] for kind in KINDS]
    _draw_bars(by_cost, [cost or 0 for cost in costs], [points(cost) for cost in costs])
    by_cost.set_title(cost_title(point), loc="left")
    return figure


def _draw_aps(axes, entries: Sequence[SideScores]) -> None:
    places = np.arange(len(entries))
    for (label, field), colour in reversed(list(zip(AP_SERIES, LINE_COLOURS, strict=False))):
        values = [getattr(entry, field) for entry in entries]
        heights = [np.nan if value is None else 100 * value for value in values]
        axes.plot(places, heights, label=label, color=colour, marker="o")
    axes.set_ylim(0, 104)  # room for a marker at 100
    axes.set_ylabel("AP")
    axes.grid(axis="y", color="#eeeeee")
    axes.legend(frameon=False, loc="best")
    if any(entry.distance_m is not None for entry in entries):
        distances = axes.secondary_xaxis("top")
        far = [entry.distance_m for entry in entries]
        distances.set_xticks(places, ["∞" if one is None else f"{one:.3g}" for one in far])
        distances.set_xlabel("largest distance, in metres")


def _draw_counts(axes, entries: Sequence[SideScores]) -> None:
    places, counts = np.arange(len(entries)), [entry.truth for entry in entries]
    axes.bar_label(axes.bar(places, counts, color=PALE), fontsize=8, color=INK)
    axes.set_ylim(0, max(counts, default=0) * 1.2 or 1)
    axes.set_ylabel("objects")
    axes.set_xlabel(SIDE_AXIS)
    axes.set_xticks(places, [f"{entry.min_side_px:g}" for entry in entries])


def _draw_by_size(axes, errors: MistakeSummary) -> None:
    for offset, (label, counts) in enumerate((("missed", errors.missed), (FALSE_POSITIVES, errors.false_positives))):
        places = np.arange(len(SIZES)) + 0.4 * offset - 0.2
        bars = axes.bar(
            places,
            [counts[size] for size in SIZES],
            width=0.38,
            color=[SIZE_COLOURS[size] for size in SIZES],
            hatch="" if offset == 0 else "///",
            edgecolor="white",
            label=label,
        )
        axes.bar_label(bars, fontsize=9, color=INK)
    axes.set_ylim(0, max(*errors.missed.values(), *errors.false_positives.values()) * 1.15 or 1)
    axes.set_xticks(np.arange(len(SIZES)), SIZES)
    axes.set_yticks([])
    axes.set_title(f"missed (filled), {FALSE_POSITIVES} (hatched)", loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bars(axes, values: Sequence[float], labels: Sequence[str]) -> None:
    bars = axes.barh(np.arange(len(KINDS)), values, color=PALE)
    axes.bar_label(bars, labels, padding=3, fontsize=9, color=INK)
    axes.set_yticks(np.arange(len(KINDS)), [kind_label(kind) for kind in KINDS])
    axes.set_xlim(0, max(values) * 1.2 or 1)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def _confusion_layout(classes: int) -> tuple[float, float]:
    """Side of the figure in inches, and font size of the names in points that fits a row."""
    if classes <= _MOST_NUMBERED + 1:
        return max(3.6, 1.6 + 0.7 * min(classes, _MOST_NUMBERED)), 10.0
    side = min(3 + 0.4 * classes, _LARGEST_INCHES)
    return side, min(14.0, 72 * 0.7 * (side - 3) / classes)


def _draw_legend(figure: Figure, lines: Sequence[Line2D], labels: Sequence[str], columns: int) -> None:
    """Draw the legend; matplotlib itself drops labels with a leading underscore and interprets dollar signs."""
    legend = figure.legend(lines, ["-"] * len(lines), frameon=False, loc="outside lower left", ncols=columns)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)


def _short(name: str) -> str:
    name = shown(name)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
