"""Charts as SVG within a page. The page's style sheet gives colours and letters, so that dark and light, phone and
print are its own business; names of classes, which may be of any script and length, stay outside.

Coordinates are those of the view box, 360 wide. Each mark that a pointer can rest on tells its numbers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from curate.formatting import points

WIDTH = 360.0
LINES = 8  # colours that the style sheet has for lines
_LEFT, _RIGHT, _TOP = 38.0, 352.0, 10.0
_LETTER_WIDTH = 7.0


@dataclass(frozen=True)
class Chart:
    """A chart: its height in a view box of `WIDTH`, its marks, and what it shows in a sentence."""

    height: float
    marks: Markup
    label: str


def chart_ap_by_min_side(entries: Sequence[Mapping[str, Any]], min_side_px: float | None) -> Chart:
    """AP and AP50 against the smallest side that counts, over how many objects that leaves.

    Args:
        entries: `by_min_side` of an evaluation.
        min_side_px: the range of interest, to be marked.
    """
    step = (_RIGHT - _LEFT) / len(entries)
    x = [_LEFT + (place + 0.5) * step for place in range(len(entries))]
    bottom, low_top, low = 150.0, 168.0, 226.0
    marks = _grid_of_shares(bottom, lambda share: bottom - (bottom - _TOP) * share)
    most = max((entry["truth"] for entry in entries), default=0) or 1
    for place, entry in enumerate(entries):
        height = (low - low_top) * entry["truth"] / most
        told = _side_told(entry)
        marks.append(_bar(x[place] - 0.36 * step, low - height, 0.72 * step, height, "bar", told))
    marks.append(_line(_LEFT, low, _RIGHT, low, "axis"))
    marks.append(_text(_LEFT - 6, low_top + 4, f"{most:,}", "end"))
    marks.append(_text(_LEFT - 6, low + 4, "0", "end"))
    marked = next((place for place, entry in enumerate(entries) if entry["min_side_px"] == min_side_px), None)
    if marked is not None:
        marks.append(_line(x[marked], _TOP - 4, x[marked], low, "mark"))
    for key, line in (("ap50", "line line-2 dashed"), ("ap", "line line-1")):
        known = [(x[place], entry[key], entry) for place, entry in enumerate(entries) if entry[key] is not None]
        spots = [(at, bottom - (bottom - _TOP) * value) for at, value, _ in known]
        marks.append(_path(spots, line))
        marks += [_dot(at, y, line, _side_told(entry)) for (at, y), (_, _, entry) in zip(spots, known, strict=True)]
    sides = [f"{entry['min_side_px']:g}" for entry in entries]
    marks += [_text(x[place], low + 16, sides[place], "middle") for place in _without_overlap(x, sides, marked)]
    marks.append(_text((_LEFT + _RIGHT) / 2, low + 33, "smallest side that counts, in pixels", "middle"))
    return Chart(low + 40, _joined(marks), "AP and AP50 against the smallest side that counts, and the objects left.")


def chart_precision_recall(curves: Mapping[str, Any], classes: Sequence[str]) -> Chart:
    """Precision against recall at IoU 0.5; more than `LINES` classes are drawn pale, for only the mean can be told.

    Args:
        curves: `precision_recall` of an evaluation.
        classes: those to draw, in the order of their colours; each has a curve.
    """
    bottom = 236.0
    marks = _grid_of_shares(bottom, lambda share: bottom - (bottom - _TOP) * share)
    marks += [
        _text(_LEFT + (_RIGHT - _LEFT) * share, bottom + 16, f"{100 * share:.0f}", "end" if share == 1 else "middle")
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    marks.append(_text((_LEFT + _RIGHT) / 2, bottom + 33, "recall, in percent", "middle"))

    def draw(precision: Sequence[float], line: str) -> str:
        along = zip(curves["recall"], precision, strict=True)
        return _path([(_LEFT + (_RIGHT - _LEFT) * r, bottom - (bottom - _TOP) * p) for r, p in along], line)

    for place, name in enumerate(classes):
        line = f"line line-{place + 1}" if len(classes) <= LINES else "line pale"
        marks.append(draw(curves["classes"][name], line))
    if curves["mean"] is not None and len(classes) > 1:
        marks.append(draw(curves["mean"], "line mean"))
    return Chart(bottom + 40, _joined(marks), "Precision against recall at IoU 0.5, of each class and their mean.")


def chart_scores(histogram: Mapping[str, Any], score: float) -> Chart:
    """How many detections of each score are right and wrong, on a scale that also shows few beside many.

    Args:
        histogram: `score_histogram` of an evaluation.
        score: of the operating point, to be marked.
    """
    bottom = 196.0
    right, wrong = histogram["true_positives"], histogram["false_positives"]
    edges = histogram["edges"]
    high = math.log10(1 + max(*right, *wrong, 9))

    def y(number: float) -> float:
        return bottom - (bottom - _TOP) * math.log10(1 + number) / high

    def x(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (value - edges[0]) / (edges[-1] - edges[0])

    marks = []
    for number in (0, *(10**power for power in range(math.floor(high) + 1))):
        if y(number) >= _TOP - 1:
            marks.append(_line(_LEFT, y(number), _RIGHT, y(number), "grid" if number else "axis"))
            marks.append(_text(_LEFT - 6, y(number) + 4, _brief(number), "end"))
    for place, (start, end) in enumerate(pairwise(edges)):
        half = (x(end) - x(start)) / 2
        told = f"score {start:.2f} to {end:.2f}: {right[place]} right, {wrong[place]} wrong"
        for left, number, kind in ((x(start), right[place], "right"), (x(start) + half, wrong[place], "wrong")):
            if number:
                marks.append(_bar(left + 0.1 * half, y(number), 0.85 * half, bottom - y(number), kind, told))
    if edges[0] <= score <= edges[-1]:
        marks.append(_line(x(score), _TOP - 4, x(score), bottom, "mark"))
    ends = (0, len(edges) // 4, len(edges) // 2, 3 * len(edges) // 4, len(edges) - 1)
    marks += [
        _text(x(edges[place]), bottom + 16, f"{edges[place]:.3g}", "end" if place == ends[-1] else "middle")
        for place in ends
    ]
    marks.append(_text((_LEFT + _RIGHT) / 2, bottom + 33, "score", "middle"))
    return Chart(bottom + 40, _joined(marks), "Right and wrong detections by score, on a logarithmic scale.")


def _grid_of_shares(bottom: float, y: Callable[[float], float]) -> list[str]:
    marks = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        marks.append(_line(_LEFT, y(share), _RIGHT, y(share), "grid" if share else "axis"))
        marks.append(_text(_LEFT - 6, y(share) + 4, f"{100 * share:.0f}", "end"))
    return marks


def _without_overlap(x: Sequence[float], texts: Sequence[str], first: int | None) -> list[int]:
    """The places whose texts fit beside one another: `first`, the last, and from there back what has room."""
    taken: list[tuple[float, float]] = []
    fitting: list[int] = []
    for place in [*([] if first is None else [first]), *reversed(range(len(texts)))]:
        half = _LETTER_WIDTH * len(texts[place]) / 2 + 2
        if all(x[place] + half <= start or end <= x[place] - half for start, end in taken):
            fitting.append(place)
            taken.append((x[place] - half, x[place] + half))
    return fitting


def _side_told(entry: Mapping[str, Any]) -> str:
    aps = [f"{name} {points(entry[key])}" for name, key in _APS]
    return f"≥ {entry['min_side_px']:g} px: {', '.join(aps)}, {entry['truth']:,} objects"


_APS = (("AP", "ap"), ("AP50", "ap50"))


def _brief(number: int) -> str:
    return f"{number // 1000:,}k" if number >= 1000 else str(number)


def _line(x0: float, y0: float, x1: float, y1: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def _path(spots: Sequence[tuple[float, float]], kind: str) -> str:
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    return f'<polyline class="{kind}" points="{corners}"/>' if spots else ""


def _dot(x: float, y: float, kind: str, told: str) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{told}</title></circle>'


def _bar(x: float, y: float, width: float, height: float, kind: str, told: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {place}><title>{told}</title></rect>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _joined(marks: Sequence[str]) -> Markup:
    return Markup("".join(marks))  # noqa: S704 - numbers and words of this module only
