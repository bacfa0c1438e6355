"""Tables of the report that compare a run with another one."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from curate.evaluation.chart_content import FALSE_POSITIVES
from curate.evaluation.judgement import EvaluateResult
from curate.formatting import count, points
from curate.html_report.tables import MOST_ROWS, Cell, Row, Table
from curate.html_report.wording import count_difference, points_difference, range_words, short
from curate.sizes import SIZES

_MISTAKES = (("missed", "missed"), (FALSE_POSITIVES, "false_positives"))


def comparison_tables(
    evaluation: EvaluateResult, other: Mapping[str, Any], run: str, current_names: Mapping[str, str]
) -> list[Table]:
    """Metrics, mistakes, and AP by class of this run and another one.

    Args:
        evaluation: Of this run.
        other: Kept document of the other run's evaluation.
        run: Name of this run.
        current_names: See `ReportContent`.
    """
    limit = f"AR {evaluation.max_detections}"
    metrics = [("AP", "ap"), ("AP50", "ap50"), ("AP75", "ap75"), (limit, "ar_100")]
    metrics += [(f"AP {size}", f"ap_{size}") for size in reversed(SIZES)]
    rows = [(name, getattr(evaluation, field), other[field]) for name, field in metrics]
    if evaluation.range_of_interest is not None:
        own, others = evaluation.range_of_interest, other["range_of_interest"] or {}
        rows += [
            (f"{name}, {range_words(evaluation)}", getattr(own, field), others.get(field))
            for name, field in metrics[:2]
        ]
    counts = [
        (f"{name}, {size}", getattr(evaluation.errors, field)[size], other["errors"][field][size])
        for name, field in _MISTAKES
        for size in reversed(SIZES)
    ]
    classes = _class_rows(evaluation, other, current_names)
    headers = (short(other["run"]), short(run), "difference")
    below = f"{MOST_ROWS} of {len(classes)} classes." if len(classes) > MOST_ROWS else ""
    return [
        Table("AP", ("metric", *headers), tuple(_metric_row(*row) for row in rows)),
        Table(f"Mistakes, {range_words(evaluation)}", ("mistake", *headers), tuple(_count_row(*row) for row in counts)),
        Table("AP by class", ("class", *headers), tuple(classes[:MOST_ROWS]), below=below),
    ]


def class_difference(evaluation: EvaluateResult, other: Mapping[str, Any], current_names: Mapping[str, str]) -> str:
    """A sentence on what different classes do to the numbers; empty if classes were only renamed.

    The arguments are those of `comparison_tables`.
    """
    names = sorted(entry.name for entry in evaluation.classes)
    if sorted(current_names.get(entry["name"], entry["name"]) for entry in other["classes"]) == names:
        return ""
    own = sum(entry.ap is not None for entry in evaluation.classes)
    others = sum(entry["ap"] is not None for entry in other["classes"])
    return (
        f"Their classes differ: AP is the mean over the classes that have objects, {count(own)} here and "
        f"{count(others)} there, and with fewer classes there are fewer to confuse."
    )


def _class_rows(evaluation: EvaluateResult, other: Mapping[str, Any], current_names: Mapping[str, str]) -> list[Row]:
    """AP by class; a renamed class has one row, merged classes have a row each."""
    own = {entry.name: entry.ap for entry in evaluation.classes}
    others = {entry["name"]: entry["ap"] for entry in other["classes"]}
    current = {name: current_names.get(name, name) for name in others}
    uses = Counter(current.values())
    former = {
        current[name]: name for name in others if name not in own and current[name] in own and uses[current[name]] == 1
    }
    rows = [
        replace(
            _metric_row(short(name), ap, others.get(former.get(name, name))),
            note=f"formerly {short(former[name])}" if name in former else "",
        )
        for name, ap in own.items()
    ]
    gone = [name for name in others if name not in own and name not in former.values()]
    return rows + [_metric_row(short(name), None, others[name]) for name in gone]


def _metric_row(name: str, own: float | None, other: float | None) -> Row:
    return Row(name, (Cell(points(other)), Cell(points(own)), Cell(points_difference(own, other))))


def _count_row(name: str, own: int, other: int) -> Row:
    return Row(name, (Cell(count(other)), Cell(count(own)), Cell(count_difference(own, other))))
