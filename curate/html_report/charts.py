"""Charts of the report as SVG. Colours and fonts come from the page's style sheet, for light, dark, phone and print.

Coordinates are in a view box that is 360 wide. Every mark has a title with its numbers. Class names can be of any
script and length, so they are written in the page and not in the SVG.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from curate.evaluation.chart_content import (
    AP_SERIES,
    FALSE_POSITIVES,
    LINE_COLOURS,
    RECALL_AXIS,
    SCORE_AXIS,
    SIDE_AXIS,
    STEP_AXIS,
    TRUE_POSITIVES,
    Curve,
    at_iou,
)
from curate.evaluation.curves import ScoreHistogram
from curate.evaluation.scores import SideScores
from curate.formatting import points
from curate.html_report.content import TrainingCurve
from curate.operating_point import OperatingPoint

WIDTH = 360.0
_LEFT, _RIGHT, _TOP = 38.0, 352.0, 10.0
_LETTER_WIDTH = 7.0
_LINE_CLASSES = ("line line-1", "line line-2 dashed")  # of AP_SERIES
_QUARTERS = (0, 0.25, 0.5, 0.75, 1)


@dataclass(frozen=True)
class Chart:
    """A chart: its height in a view box of `WIDTH`, its marks, and a description."""

    height: float
    marks: Markup
    label: str


def chart_ap_by_min_side(entries: Sequence[SideScores], min_side_px: float | None) -> Chart:
    """AP and AP50 by the smallest side that counts, above bars with the number of objects.

    Args:
        entries: `by_min_side` of an evaluation.
        min_side_px: Range of interest, which is marked.
    """
    step = (_RIGHT - _LEFT) / len(entries)
    x = [_LEFT + (place + 0.5) * step for place in range(len(entries))]
    bottom, bars_top, bars_bottom = 150.0, 168.0, 226.0
    marks = _percent_grid(bottom)
    most = max((entry.truth for entry in entries), default=0) or 1
    for place, entry in enumerate(entries):
        height = (bars_bottom - bars_top) * entry.truth / most
        marks.append(_bar(x[place] - 0.36 * step, bars_bottom - height, 0.72 * step, height, "bar", _side_title(entry)))
    marks.append(_line(_LEFT, bars_bottom, _RIGHT, bars_bottom, "axis"))
    marks.append(_text(_LEFT - 6, bars_top + 4, f"{most:,}", "end"))
    marks.append(_text(_LEFT - 6, bars_bottom + 4, "0", "end"))
    marked = next((place for place, entry in enumerate(entries) if entry.min_side_px == min_side_px), None)
    if marked is not None:
        marks.append(_line(x[marked], _TOP - 4, x[marked], bars_bottom, "mark"))
    for (_, field), line in reversed(list(zip(AP_SERIES, _LINE_CLASSES, strict=True))):
        values = [(place, getattr(entry, field)) for place, entry in enumerate(entries)]
        dots = {place: (x[place], _y(value, bottom)) for place, value in values if value is not None}
        marks.append(_polyline(list(dots.values()), line))
        marks += [_dot(*dots[place], line, _side_title(entries[place])) for place in dots]
    sides = [f"{entry.min_side_px:g}" for entry in entries]
    marks += [_text(x[place], bars_bottom + 16, sides[place], "middle") for place in _without_overlap(x, sides, marked)]
    marks.append(_axis_title(SIDE_AXIS, bars_bottom))
    names = " and ".join(name for name, _ in AP_SERIES)
    return Chart(bars_bottom + 40, _joined(marks), f"{names} by the smallest side that counts, and number of objects.")


def chart_precision_recall(
    recall: Sequence[float], curves: Sequence[Curve], mean: Curve | None, point: OperatingPoint
) -> Chart:
    """Precision by recall. More classes than there are line colours are drawn pale, and only the mean stands out.

    Args:
        recall: Of every curve.
        curves: Curves of the classes, in the order of the line colours.
        mean: Their mean.
        point: Operating point of the evaluation.
    """
    bottom = 236.0
    marks = _percent_grid(bottom)
    marks += [
        _text(_x(share), bottom + 16, f"{100 * share:.0f}", "end" if share == 1 else "middle") for share in _QUARTERS
    ]
    marks.append(_axis_title(RECALL_AXIS, bottom))
    lines = [(curve, f"line line-{place}") for place, curve in enumerate(curves, 1)]
    if len(curves) > len(LINE_COLOURS):
        lines = [(curve, "line pale") for curve in curves]
    for curve, line in [*lines, *([(mean, "line mean")] if mean is not None else [])]:
        along = zip(recall, curve.precision, strict=True)
        marks.append(_polyline([(_x(r), _y(p, bottom)) for r, p in along], line))
    return Chart(bottom + 40, _joined(marks), f"Precision by recall {at_iou(point)}, of each class and their mean.")


def chart_scores(histogram: ScoreHistogram, score: float) -> Chart:
    """True and false positives by score, on a logarithmic scale because low scores far outnumber high ones.

    Args:
        histogram: `score_histogram` of an evaluation.
        score: Lowest score of the operating point, which is marked.
    """
    bottom = 196.0
    true_positives, false_positives, edges = histogram.true_positives, histogram.false_positives, histogram.edges
    high = math.log10(1 + max(*true_positives, *false_positives, 9))

    def y(number: float) -> float:
        return _y(math.log10(1 + number) / high, bottom)

    def x(value: float) -> float:
        return _x((value - edges[0]) / (edges[-1] - edges[0]))

    marks = []
    for number in (0, *(10**power for power in range(math.floor(high) + 1))):
        if y(number) >= _TOP - 1:
            marks.append(_line(_LEFT, y(number), _RIGHT, y(number), "grid" if number else "axis"))
            marks.append(_text(_LEFT - 6, y(number) + 4, _thousands(number), "end"))
    for (start, end), right, wrong in zip(pairwise(edges), true_positives, false_positives, strict=True):
        half = (x(end) - x(start)) / 2
        title = f"score {start:.2f} to {end:.2f}: {right} {TRUE_POSITIVES}, {wrong} {FALSE_POSITIVES}"
        for left, number, kind in ((x(start), right, "true-positive"), (x(start) + half, wrong, "false-positive")):
            if number:
                marks.append(_bar(left + 0.1 * half, y(number), 0.85 * half, bottom - y(number), kind, title))
    if edges[0] <= score <= edges[-1]:
        marks.append(_line(x(score), _TOP - 4, x(score), bottom, "mark"))
    last = len(edges) - 1
    marks += [
        _text(x(edge), bottom + 16, f"{edge:.3g}", "end" if edge == edges[-1] else "middle")
        for edge in (edges[round(share * last)] for share in _QUARTERS)
    ]
    marks.append(_axis_title(SCORE_AXIS, bottom))
    label = f"{TRUE_POSITIVES.capitalize()} and {FALSE_POSITIVES} by score, on a logarithmic scale."
    return Chart(bottom + 40, _joined(marks), label)


def chart_loss(curve: TrainingCurve) -> Chart:
    """Loss over the steps of a training."""
    bottom, highest = 196.0, max(0.0, *(loss for _, loss in curve.losses)) or 1.0
    tick = _round_up(highest) / 4
    marks = []
    for number in range(5):
        y = _y(number / 4, bottom)
        marks.append(_line(_LEFT, y, _RIGHT, y, "grid" if number else "axis"))
        marks.append(_text(_LEFT - 6, y + 4, f"{number * tick:.3g}", "end"))
    shares = [(step, loss / (4 * tick)) for step, loss in curve.losses]
    last = _last_step(curve)
    marks.append(_polyline([(_x(step / last), _y(share, bottom)) for step, share in shares], "line faint"))
    marks += _over_steps(curve, _means(shares), bottom)
    return Chart(bottom + 40, _joined(marks), "Loss by step of the training.")


def chart_training_ap(curve: TrainingCurve) -> Chart:
    """AP on the val split over the steps of a training."""
    bottom = 196.0
    marks = _percent_grid(bottom) + _over_steps(curve, curve.aps, bottom)
    last = _last_step(curve)
    for step, ap in curve.aps:
        marks.append(_dot(_x(step / last), _y(ap, bottom), "line line-1", f"step {step:,}: AP {points(ap)}"))
    return Chart(bottom + 40, _joined(marks), "AP on the val split by step of the training.")


def _over_steps(curve: TrainingCurve, shares: Sequence[tuple[int, float]], bottom: float) -> list[str]:
    """A line over the steps, the best step, and the axis of the steps."""
    last = _last_step(curve)
    marks = []
    if curve.best_step is not None and curve.best_step <= last:
        x = _x(curve.best_step / last)
        marks.append(_line(x, _TOP - 4, x, bottom, "mark"))
    marks.append(_polyline([(_x(step / last), _y(share, bottom)) for step, share in shares], "line line-1"))
    marks += [
        _text(_x(share), bottom + 16, f"{round(share * last):,}", "end" if share == 1 else "middle")
        for share in _QUARTERS
    ]
    return [*marks, _axis_title(STEP_AXIS, bottom)]


def _means(values: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The mean of each value and its neighbours: as many to either side as a tenth of all, fewer at the ends."""
    reach = len(values) // 10
    means = []
    for place, (step, _) in enumerate(values):
        near = min(reach, place, len(values) - 1 - place)
        part = [value for _, value in values[place - near : place + near + 1]]
        means.append((step, sum(part) / len(part)))
    return means


def _last_step(curve: TrainingCurve) -> int:
    return max(step for step, _ in (*curve.losses, *curve.aps)) or 1


def _round_up(number: float) -> float:
    """The next of 1, 2, 4, 5, 8, 10 times a power of ten: a quarter of it has few digits."""
    power = 10 ** math.floor(math.log10(number))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if number <= step * power * 1.0001)


def _x(share: float) -> float:
    """The place of a share of the width."""
    return _LEFT + (_RIGHT - _LEFT) * share


def _y(share: float, bottom: float) -> float:
    """The place of a share of the height."""
    return bottom - (bottom - _TOP) * share


def _percent_grid(bottom: float) -> list[str]:
    marks = []
    for share in _QUARTERS:
        y = _y(share, bottom)
        marks.append(_line(_LEFT, y, _RIGHT, y, "grid" if share else "axis"))
        marks.append(_text(_LEFT - 6, y + 4, f"{100 * share:.0f}", "end"))
    return marks


def _without_overlap(x: Sequence[float], texts: Sequence[str], first: int | None) -> list[int]:
    """The places whose texts do not overlap: `first`, then the last one, then backwards what has room."""
    taken: list[tuple[float, float]] = []
    fitting: list[int] = []
    for place in [*([] if first is None else [first]), *reversed(range(len(texts)))]:
        half = _LETTER_WIDTH * len(texts[place]) / 2 + 2
        if all(x[place] + half <= start or end <= x[place] - half for start, end in taken):
            fitting.append(place)
            taken.append((x[place] - half, x[place] + half))
    return fitting


def _side_title(entry: SideScores) -> str:
    aps = [f"{name} {points(getattr(entry, field))}" for name, field in AP_SERIES]
    return f"≥ {entry.min_side_px:g} px: {', '.join(aps)}, {entry.truth:,} objects"


def _thousands(number: int) -> str:
    return f"{number // 1000:,}k" if number >= 1000 else str(number)


def _axis_title(text: str, bottom: float) -> str:
    return _text((_LEFT + _RIGHT) / 2, bottom + 33, text, "middle")


def _line(x0: float, y0: float, x1: float, y1: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def _polyline(places: Sequence[tuple[float, float]], kind: str) -> str:
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline class="{kind}" points="{corners}"/>' if places else ""


def _dot(x: float, y: float, kind: str, title: str) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{title}</title></circle>'


def _bar(x: float, y: float, width: float, height: float, kind: str, title: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {place}><title>{title}</title></rect>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _joined(marks: Sequence[str]) -> Markup:
    return Markup("".join(marks))  # noqa: S704 - only numbers, and words of this project
