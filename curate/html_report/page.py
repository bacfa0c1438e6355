"""The report of a run as one HTML page that needs nothing else: no script, no request, the same bytes each time.

The template lays out, the style sheet beside it colours, and what they show is made here of a `ReportContent`. The
page's own policy keeps a browser from fetching anything, whatever a file name or a class name may hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from curate import __version__
from curate.evaluation.error_table import FALSE_POSITIVE, MISSED
from curate.evaluation.mistakes import KINDS
from curate.formatting import count, points, score
from curate.html_report import data_tables, tables
from curate.html_report.charts import LINES, chart_ap_by_min_side, chart_precision_recall, chart_scores
from curate.html_report.content import ReportContent
from curate.html_report.gallery import CropGroup
from curate.html_report.tables import against_tables, class_difference
from curate.html_report.wording import (
    SIZE_WORDS,
    count_gained,
    crop_words,
    false_positive_sentence,
    miss_sentence,
    points_gained,
    range_words,
    reason,
    short,
)
from curate.sizes import SIZES

_FIRST_SHOWN = 12  # of a group of pictures; the others unfold
_CHANGES_SHOWN = 2  # the others unfold
_MOST_CHANGES = 20


@dataclass(frozen=True)
class Tile:
    """One large number. `note` is small, below; `against` says what another run has."""

    name: str
    value: str
    note: str = ""
    against: str = ""


def render_report(content: ReportContent) -> bytes:
    """The page; the same content gives the same bytes."""
    evaluation = content.evaluation
    drawn = [curve.name for curve in tables.curves_to_draw(evaluation)]
    interest = evaluation["range_of_interest"]
    changes = content.data.changes
    page = _environment().get_template("report.html.jinja")
    text = page.render(
        content=content,
        evaluation=evaluation,
        tiles=_tiles(content),
        sentences=_sentences(content),
        against_tables=_against(content),
        class_difference=class_difference(evaluation, content.against, content.names_now) if content.against else "",
        size_table=tables.size_table(evaluation, content.objects),
        class_table=tables.class_table(evaluation),
        side_chart=chart_ap_by_min_side(evaluation["by_min_side"], interest["min_side_px"] if interest else None),
        side_table=tables.side_table(evaluation),
        confusion_tables=[tables.confusion_table(evaluation), *tables.paper_tables(evaluation)],
        recall_chart=chart_precision_recall(evaluation["precision_recall"], drawn),
        recall_legend=_legend(evaluation),
        recall_table=tables.recall_table(evaluation),
        score_chart=chart_scores(evaluation["score_histogram"], evaluation["operating_point"]["score"]),
        score_table=tables.score_table(evaluation),
        threshold_table=tables.threshold_table(evaluation),
        kind_table=tables.kind_table(evaluation),
        groups=content.gallery.groups,
        kinds=_kinds(content.gallery.groups),
        first_shown=_FIRST_SHOWN,
        balance_table=data_tables.balance_table(content.data),
        change_tables=[data_tables.change_table(change) for change in changes[-_MOST_CHANGES:]],
        changes_shown=_CHANGES_SHOWN,
        changes_left_out=max(len(changes) - _MOST_CHANGES, 0),
        split_table=data_tables.split_table(content.data),
        history_table=data_tables.history_table(content.data),
        fact_tables=data_tables.fact_tables(content.run),
        tool_version=__version__,
    )
    return text.encode("utf-8", "replace")  # a file name may hold what is no text


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"short": short, "count": count, "score": score}
    environment.globals |= {
        "sizes": tuple(reversed(SIZES)),
        "MISSED": MISSED,
        "FALSE_POSITIVE": FALSE_POSITIVE,
        "crop_words": crop_words,
        "reason": reason,
        "range_words": range_words,
    }
    return environment


def _tiles(content: ReportContent) -> list[Tile]:
    """What matters most first: in fours, as they stand on a wide screen."""
    evaluation, other = content.evaluation, content.against or {}
    interest, which = evaluation["range_of_interest"], range_words(evaluation)
    ap50 = _metric_tile("AP50", evaluation, other, "ap50", "all objects")
    in_range = (
        _metric_tile("AP in range", interest, other.get("range_of_interest") or {}, "ap", which) if interest else None
    )
    of = f"of {count(sum(content.objects.values()))}, {which}"
    first = [
        _metric_tile("AP", evaluation, other, "ap", "all objects"),
        in_range or ap50,
        _count_tile("missed", evaluation, other, "missed", of),
        _count_tile("false positives", evaluation, other, "false_positives", which),
    ]
    sizes = reversed(SIZES)
    by_size = [_metric_tile(f"AP {size}", evaluation, other, f"ap_{size}", SIZE_WORDS[size]) for size in sizes]
    return [*first, *([ap50] if in_range else []), *by_size]


def _count_tile(name: str, now: Mapping[str, Any], before: Mapping[str, Any], key: str, note: str) -> Tile:
    counts = [sum(one["errors"][key].values()) for one in (now, before) if one]
    against = f"{count(counts[1])}, {count_gained(*counts)}" if before else ""
    return Tile(name, count(counts[0]), note, against)


def _metric_tile(name: str, now: Mapping[str, Any], before: Mapping[str, Any], key: str, note: str) -> Tile:
    gained = points_gained(now[key], before.get(key))
    against = f"{points(before[key])}, {gained}" if before.get(key) is not None else ""
    return Tile(name, points(now[key]), note, against)


def _sentences(content: ReportContent) -> list[str]:
    errors, point = content.evaluation["errors"], content.evaluation["operating_point"]
    return [
        miss_sentence(errors["missed"], content.objects, range_words(content.evaluation)),
        false_positive_sentence(errors, point["score"]),
    ]


def _against(content: ReportContent) -> list[tables.Table]:
    if content.against is None:
        return []
    return against_tables(content.evaluation, content.against, content.run.run, content.names_now)


def _legend(evaluation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Of each line that can be told: its class in the style sheet, its name, its AP50."""
    curves, mean = tables.curves_to_draw(evaluation), tables.mean_curve(evaluation)
    lines = [("mean", mean.name, mean.precision)] if mean is not None else []
    if len(curves) <= LINES:
        lines += [(f"line-{place}", short(curve.name), curve.precision) for place, curve in enumerate(curves, 1)]
    return [(kind, name, points(sum(precision) / len(precision))) for kind, name, precision in lines]


def _kinds(groups: Sequence[CropGroup]) -> list[str]:
    """The kinds that pictures are of."""
    met = {crop.kind for group in groups for crop in group.crops}
    return [kind for kind in KINDS if kind in met]
