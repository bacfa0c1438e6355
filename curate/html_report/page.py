"""The report as one HTML page without scripts or requests; the same content gives the same bytes.

A content security policy in the page forbids every request, whatever a file name or a class name contains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from curate import __version__
from curate.evaluation.chart_content import (
    FALSE_POSITIVES,
    LINE_COLOURS,
    TRUE_POSITIVES,
    at_iou,
    mean_curve,
)
from curate.evaluation.error_table import FALSE_POSITIVE, MISSED
from curate.evaluation.finding import describe_cause
from curate.evaluation.mistakes import KINDS
from curate.formatting import count, points, score
from curate.html_report import data_tables, tables
from curate.html_report.charts import (
    chart_ap_by_min_side,
    chart_loss,
    chart_precision_recall,
    chart_scores,
    chart_training_ap,
)
from curate.html_report.comparison import class_difference, comparison_tables
from curate.html_report.content import ReportContent
from curate.html_report.gallery import CropGroup
from curate.html_report.training_curve import curve_table
from curate.html_report.wording import (
    SIZE_WORDS,
    count_difference,
    crop_words,
    false_positive_sentence,
    miss_sentence,
    points_difference,
    range_words,
    reason,
    short,
)
from curate.plain_text import shown
from curate.sizes import SIZES

_FIRST_SHOWN = 12  # pictures of a group; the others are folded
_CHANGES_SHOWN = 2  # the others are folded
_MOST_CHANGES = 20


@dataclass(frozen=True)
class Tile:
    """One large number.

    Attributes:
        note: Small text below.
        against: The number of another run, and the difference.
    """

    name: str
    value: str
    note: str = ""
    against: str = ""


def render_report(content: ReportContent) -> bytes:
    """Render the page."""
    evaluation, other = content.evaluation, content.against
    point, interest = evaluation.operating_point, evaluation.range_of_interest
    curves, mean = tables.shown_curves(evaluation), mean_curve(evaluation.precision_recall)
    changes, curve = content.data.changes, content.run.curve
    page = _environment().get_template("report.html.jinja")
    text = page.render(
        content=content,
        evaluation=evaluation,
        tiles=_tiles(content),
        sentences=[
            *([" ".join(cause).replace("`", "")] if (cause := describe_cause(evaluation.to_json())) else []),
            miss_sentence(evaluation.errors.missed, content.objects, range_words(evaluation)),
            false_positive_sentence(evaluation.errors, point.score),
        ],
        comparison_tables=comparison_tables(evaluation, other, content.run.run, content.current_names) if other else [],
        class_difference=class_difference(evaluation, other, content.current_names) if other else "",
        size_tables=tables.size_tables(evaluation, content.objects),
        class_table=tables.class_table(evaluation),
        side_chart=chart_ap_by_min_side(evaluation.by_min_side, interest.min_side_px if interest else None),
        side_table=tables.side_table(evaluation),
        confusion_tables=tables.confusion_tables(evaluation),
        recall_chart=chart_precision_recall(evaluation.precision_recall.recall, curves, mean, point),
        recall_legend=_legend(content),
        recall_table=tables.recall_table(evaluation),
        score_chart=chart_scores(evaluation.score_histogram, point.score),
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
        curve=curve,
        loss_chart=chart_loss(curve) if curve and curve.losses else None,
        training_ap_chart=chart_training_ap(curve) if curve and curve.aps else None,
        curve_table=curve_table(curve) if curve else None,
        tool_version=__version__,
    )
    return text.encode("utf-8", "replace")  # a file name may not be valid text


def _shown(value: object) -> object:
    """A value of the page: what a reader would not see, or what turns the text around it, is escaped."""
    return shown(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=_shown,
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
        "TRUE_POSITIVES": TRUE_POSITIVES,
        "FALSE_POSITIVES": FALSE_POSITIVES,
        "line_colours": LINE_COLOURS,
        "at_iou": at_iou,
        "crop_words": crop_words,
        "reason": reason,
        "range_words": range_words,
        "id_of": lambda group, place: f"{group.mistake.partition(' ')[0]}-{group.size}-{place}",
    }
    return environment


def _tiles(content: ReportContent) -> list[Tile]:
    """The most important numbers first; a wide screen has four in a row."""
    evaluation, other = content.evaluation, content.against or {}
    interest, which = evaluation.range_of_interest, range_words(evaluation)
    ap50 = _metric_tile("AP50", evaluation, other, "ap50", "all objects")
    in_range = (
        _metric_tile("AP in range", interest, other.get("range_of_interest") or {}, "ap", which) if interest else None
    )
    first = [
        _metric_tile("AP", evaluation, other, "ap", "all objects"),
        in_range or ap50,
        _count_tile(content, "missed", "missed", f"of {count(sum(content.objects.values()))}, {which}"),
        _count_tile(content, FALSE_POSITIVES, "false_positives", which),
    ]
    sizes = reversed(SIZES)
    by_size = [_metric_tile(f"AP {size}", evaluation, other, f"ap_{size}", SIZE_WORDS[size]) for size in sizes]
    return [*first, *([ap50] if in_range else []), *by_size]


def _count_tile(content: ReportContent, name: str, field: str, note: str) -> Tile:
    own = sum(getattr(content.evaluation.errors, field).values())
    against = ""
    if content.against is not None:
        other = sum(content.against["errors"][field].values())
        against = f"{count(other)}, {count_difference(own, other)}"
    return Tile(name, count(own), note, against)


def _metric_tile(name: str, scores: object, other: Mapping[str, Any], field: str, note: str) -> Tile:
    own, others = getattr(scores, field), other.get(field)
    against = f"{points(others)}, {points_difference(own, others)}" if others is not None else ""
    return Tile(name, points(own), note, against)


def _legend(content: ReportContent) -> list[tuple[str, str]]:
    """Style and label of each line that can be told apart."""
    evaluation = content.evaluation
    curves, mean = tables.shown_curves(evaluation), mean_curve(evaluation.precision_recall)
    lines = [("mean", mean)] if mean is not None else []
    if len(curves) <= len(LINE_COLOURS):
        lines += [(f"line-{place}", curve) for place, curve in enumerate(curves, 1)]
    return [(style, replace(curve, name=short(curve.name)).label(evaluation.operating_point)) for style, curve in lines]


def _kinds(groups: Sequence[CropGroup]) -> list[str]:
    """The kinds of the mistakes with a picture."""
    kinds = {crop.kind for group in groups for crop in group.crops}
    return [kind for kind in KINDS if kind in kinds]
