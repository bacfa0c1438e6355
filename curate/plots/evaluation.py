"""Pictures of an evaluation: how far the range reaches, what was confused, which score to cut at, what went wrong."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from curate.evaluation.confusion import Confusion
from curate.evaluation.costs import MistakeSummary
from curate.evaluation.curves import PrecisionRecall, ScoreHistogram
from curate.evaluation.mistakes import KINDS
from curate.evaluation.scores import SideScores
from curate.formatting import points
from curate.plots.style import INK, SIZE_COLOURS
from curate.sizes import SIZES

RIGHT, WRONG, PALE = "#2e8b6f", "#d1495b", "#c8d3d9"
_LINES = ("#00798c", "#d1495b", "#edae49", "#66a182", "#8d6a9f", "#2e4057", "#b5651d", "#7a9e9f", "#c06c84", "#556b2f")
_MOST_NAMED = 20  # classes with numbers in their cells
_LARGEST_INCHES = 40.0  # of a confusion matrix
_LONGEST_NAME = 24
_LONGEST_BESIDE = 24  # letters of a name in the legend, where two stand side by side


def draw_ap_by_min_side(entries: Sequence[SideScores], min_side_px: float | None = None) -> Figure:
    """AP and AP50 against the smallest side that counts, over how many objects that leaves.

    Args:
        entries: rising sides; with distances, these are written above.
        min_side_px: the range of interest, to be marked.
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
    """The confusion matrix; colours are shares of a row, the last row has none, for nothing is no object."""
    names, counts = confusion.classes, np.array(confusion.matrix, dtype=np.float64)
    side, name_points = _confusion_layout(len(names))
    figure = Figure(figsize=(side + 1.4, side), layout="constrained")
    axes = figure.subplots()
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    shares[-1] = 0
    axes.imshow(shares, cmap="YlGnBu", vmin=0, vmax=1, aspect="equal")
    if len(names) <= _MOST_NAMED + 1:
        for (row, column), count in np.ndenumerate(counts):
            if (row, column) != (len(names) - 1, len(names) - 1):
                colour = "white" if shares[row, column] > 0.55 else INK
                axes.annotate(f"{count:.0f}", (column, row), ha="center", va="center", color=colour)
    ticks = np.arange(len(names))
    shown = [_short(name) for name in names]
    axes.set_xticks(ticks, [*shown[:-1], "missed"], rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(ticks, shown, parse_math=False)
    axes.tick_params(labelsize=name_points)
    axes.set_xlabel("detected as")
    axes.set_ylabel("truth")
    axes.set_title("colour: share of the row", loc="left", fontsize=10)
    axes.spines[:].set_visible(False)
    return figure


def draw_precision_recall(curves: PrecisionRecall, iou: float) -> Figure:
    """Precision against recall for each class that has objects, and their mean."""
    defined = {name: values for name, values in curves.classes.items() if values is not None}
    many = len(defined) > len(_LINES)
    labels = [] if many else [_label(name, values) for name, values in defined.items()]
    if curves.mean is not None and len(defined) > 1:
        labels.append(_label("mean", curves.mean))
    columns = 1 if max(map(len, labels), default=0) > _LONGEST_BESIDE else 2
    figure = Figure(figsize=(6.5, 4.6 + 0.22 * -(-len(labels) // columns)), layout="constrained")
    axes = figure.subplots()
    lines = []
    for place, values in enumerate(defined.values()):
        lines += axes.plot(curves.recall, values, linewidth=1.5, color=PALE if many else _LINES[place])
    if curves.mean is not None and len(defined) > 1:
        lines += axes.plot(curves.recall, curves.mean, color=INK, linewidth=2.5)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_title(f"at IoU {iou:g}", loc="left")
    axes.grid(color="#eeeeee")
    if labels:
        _draw_legend(figure, lines[-len(labels) :], labels, columns)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_scores(histogram: ScoreHistogram, score: float | None = None) -> Figure:
    """How many detections of each score are right and wrong.

    Args:
        histogram: the counts.
        score: of the operating point, to be marked.
    """
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    edges = np.array(histogram.edges)
    for label, counts, colour in (
        ("right", histogram.true_positives, RIGHT),
        ("wrong", histogram.false_positives, WRONG),
    ):
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.45)
        axes.stairs(counts, edges, color=colour, linewidth=1.5, label=f"{label} ({sum(counts)})")
    axes.set_yscale("symlog", linthresh=10)  # low scores outnumber the rest a hundred times
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda count, _: f"{count:.0f}")
    axes.set_xlim(edges[0], edges[-1])
    if score is not None:
        axes.axvline(score, color=INK, linestyle=":", linewidth=1)
    axes.set_xlabel("score" if score is None else f"score; dotted: {score:g}, from which on detections count")
    axes.set_ylabel("detections")
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_errors(errors: MistakeSummary, iou: float) -> Figure:
    """Missed objects and false positives by size, and how many mistakes of each kind there are and what they cost."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    by_size, by_kind, by_cost = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
    _draw_by_size(by_size, errors)
    counts = [errors.kinds[kind] for kind in KINDS]
    _draw_bars(by_kind, counts, [str(count) for count in counts])
    by_kind.set_title("by kind, each counted once", loc="left")
    costs = [errors.ap_cost[kind] for kind in KINDS]
    _draw_bars(by_cost, [cost or 0 for cost in costs], [points(cost) for cost in costs])
    by_cost.set_title(f"cost in AP{100 * iou:g}, all scores", loc="left")
    return figure


def _draw_aps(axes, entries: Sequence[SideScores]) -> None:
    places = np.arange(len(entries))
    aps = {"AP50": [entry.ap50 for entry in entries], "AP": [entry.ap for entry in entries]}
    for (label, values), colour in zip(aps.items(), (_LINES[2], _LINES[0]), strict=True):
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
        distances.set_xlabel("farthest distance, in metres")


def _draw_counts(axes, entries: Sequence[SideScores]) -> None:
    places, counts = np.arange(len(entries)), [entry.truth for entry in entries]
    axes.bar_label(axes.bar(places, counts, color=PALE), fontsize=8, color=INK)
    axes.set_ylim(0, max(counts, default=0) * 1.2 or 1)
    axes.set_ylabel("objects")
    axes.set_xlabel("smallest side that counts, in pixels")
    axes.set_xticks(places, [f"{entry.min_side_px:g}" for entry in entries])


def _draw_by_size(axes, errors: MistakeSummary) -> None:
    for offset, (label, counts) in enumerate((("missed", errors.missed), ("false positives", errors.false_positives))):
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
    axes.set_title("missed (filled), false positives (hatched)", loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bars(axes, values: Sequence[float], labels: Sequence[str]) -> None:
    bars = axes.barh(np.arange(len(KINDS)), values, color=PALE)
    axes.bar_label(bars, labels, padding=3, fontsize=9, color=INK)
    axes.set_yticks(np.arange(len(KINDS)), KINDS)
    axes.set_xlim(0, max(values) * 1.2 or 1)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def _confusion_layout(classes: int) -> tuple[float, float]:
    """The side of the picture in inches, and the size of the names in points, which is what a cell has room for."""
    if classes <= _MOST_NAMED + 1:
        return max(3.6, 1.6 + 0.7 * min(classes, _MOST_NAMED)), 10.0
    side = min(3 + 0.4 * classes, _LARGEST_INCHES)
    return side, min(14.0, 72 * 0.7 * (side - 3) / classes)


def _draw_legend(figure: Figure, lines: Sequence[Line2D], labels: Sequence[str], columns: int) -> None:
    """Name the lines; matplotlib would leave out a name that begins with an underscore, and read dollar signs."""
    legend = figure.legend(lines, ["-"] * len(lines), frameon=False, loc="outside lower left", ncols=columns)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)


def _label(name: str, precision: Sequence[float]) -> str:
    return f"{_short(name)}, AP50 {points(float(np.mean(precision)))}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
