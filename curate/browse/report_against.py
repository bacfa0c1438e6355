"""Another run beside the one that a report is of: the tables, and what to know of them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from curate.html_report.tables import MOST_ROWS, Cell, Row, Table
from curate.html_report.wording import count, count_gained, points, points_gained, range_words, short
from curate.sizes import SIZES


def class_difference(evaluation: Mapping[str, Any], other: Mapping[str, Any], names_now: Mapping[str, str]) -> str:
    """What other classes do to numbers that stand beside one another; nothing where they were only renamed since.

    The arguments are those of `against_tables`.
    """
    now, before = evaluation["classes"], other["classes"]
    if sorted(names_now.get(entry["name"], entry["name"]) for entry in before) == sorted(one["name"] for one in now):
        return ""
    met = [sum(entry["ap"] is not None for entry in one) for one in (now, before)]
    return (
        f"Their classes differ. AP is a mean over the classes that have objects, {count(met[0])} here and "
        f"{count(met[1])} there; and an object that is found under another class is a mistake, so fewer classes leave "
        "fewer to make."
    )


def against_tables(
    evaluation: Mapping[str, Any], other: Mapping[str, Any], run: str, names_now: Mapping[str, str]
) -> list[Table]:
    """Another run beside this one: metrics, mistakes, and AP of the classes that either has.

    Args:
        evaluation: of this run.
        other: of the other one.
        run: the name of this one.
        names_now: see `ReportContent`.
    """
    metrics = [("AP", "ap"), ("AP50", "ap50"), ("AP75", "ap75"), ("AR 100", "ar_100")]
    metrics += [(f"AP {size}", f"ap_{size}") for size in reversed(SIZES)]
    pairs = [(name, evaluation[key], other[key]) for name, key in metrics]
    if evaluation["range_of_interest"]:
        mine, its = evaluation["range_of_interest"], other["range_of_interest"] or {}
        pairs += [(f"{name}, {range_words(evaluation)}", mine[key], its.get(key)) for name, key in metrics[:2]]
    headers = (short(other["run"]), short(run), "difference")
    counts = [
        (f"{words}, {size}", evaluation["errors"][what][size], other["errors"][what][size])
        for what, words in (("missed", "missed"), ("false_positives", "false positives"))
        for size in reversed(SIZES)
    ]
    rows = _class_rows(evaluation, other, names_now)
    below = f"{MOST_ROWS} of {len(rows)} classes." if len(rows) > MOST_ROWS else ""
    return [
        Table("AP", ("metric", *headers), tuple(_metric_row(*pair) for pair in pairs)),
        Table(
            f"Mistakes, {range_words(evaluation)}", ("mistake", *headers), tuple(_count_row(*pair) for pair in counts)
        ),
        Table("AP by class", ("class", *headers), tuple(rows[:MOST_ROWS]), below=below),
    ]


def _class_rows(evaluation: Mapping[str, Any], other: Mapping[str, Any], names_now: Mapping[str, str]) -> list[Row]:
    """AP of each class here and there; a class that was only renamed since is one, those that were merged are not."""
    mine = {entry["name"]: entry["ap"] for entry in evaluation["classes"]}
    its = {entry["name"]: entry["ap"] for entry in other["classes"]}
    taken = Counter(names_now.get(name, name) for name in its)
    now = {name: names_now.get(name, name) for name in its}
    was = {now[name]: name for name in its if name not in mine and now[name] in mine and taken[now[name]] == 1}
    rows = [
        replace(
            _metric_row(short(name), ap, its.get(was.get(name, name))),
            note=f"there {short(was[name])}" if name in was else "",
        )
        for name, ap in mine.items()
    ]
    gone = [name for name in its if name not in mine and name not in was.values()]
    return rows + [_metric_row(short(name), None, its[name]) for name in gone]


def _metric_row(name: str, now: float | None, before: float | None) -> Row:
    return Row(name, (Cell(points(before)), Cell(points(now)), Cell(points_gained(now, before))))


def _count_row(name: str, now: int, before: int) -> Row:
    return Row(name, (Cell(count(before)), Cell(count(now)), Cell(count_gained(now, before))))
