"""The tables of a report that tell an evaluation's numbers, as values that one template lays out."""

from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from curate.evaluation.mistakes import KINDS
from curate.formatting import count, metres, percent, points, score
from curate.html_report.wording import (
    KIND_WORDS,
    SIZE_WORDS,
    count_gained,
    own_word,
    points_gained,
    range_words,
    short,
)
from curate.sizes import SIZES

MOST_ROWS = 200  # of classes; what a page can hold and a person read
MOST_COLUMNS = 24  # of a confusion matrix
COLUMNS_ON_PAPER = 8  # of a confusion matrix with long names, on A4
_RECALLS = range(0, 101, 10)


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: of it.
        bar: length of a bar behind it, 0 to 1.
        tint: how much of the accent colour it has, 0 to 1.
    """

    text: str
    bar: float | None = None
    tint: float | None = None


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        name: its header.
        cells: the others.
        note: small, behind the name.
        strong: whether it stands out.
    """

    name: str
    cells: tuple[Cell, ...]
    note: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first header is that of the rows' names.

    Attributes:
        caption: what it tells.
        headers: of all columns.
        rows: each with one cell less than there are headers.
        left: how many columns hold words and stand on the left; the others hold numbers.
        kind: for the style sheet: "matrix", or "words" where cells hold long ones.
        below: a sentence under it.
        media: "screen" or "print", where another table takes its place on the other.
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[Row, ...]
    left: int = 1
    kind: str = ""
    below: str = ""
    media: str = ""

    @property
    def is_wide(self) -> bool:
        """Whether a wide screen may have no room for its columns, so that people need to scroll it."""
        return self.kind == "matrix" and len(self.headers) > COLUMNS_ON_PAPER


def size_table(evaluation: Mapping[str, Any], objects: Mapping[str, int]) -> Table:
    """Objects, what was missed of them, and AP, by size."""
    missed, wrong = evaluation["errors"]["missed"], evaluation["errors"]["false_positives"]
    rows = [
        Row(
            size,
            (
                Cell(count(objects[size])),
                Cell(count(missed[size])),
                Cell(percent(missed[size] / objects[size] if objects[size] else None)),
                Cell(count(wrong[size])),
                Cell(points(evaluation[f"ap_{size}"])),
                Cell(points(evaluation[f"ar_{size}"])),
            ),
            SIZE_WORDS[size],
        )
        for size in reversed(SIZES)
    ]
    total, lost = sum(objects.values()), sum(missed.values())
    sums = (count(total), count(lost), percent(lost / total if total else None), count(sum(wrong.values())))
    last = (*sums, points(evaluation["ap"]), points(evaluation["ar_100"]))
    rows.append(Row("all", tuple(map(Cell, last)), strong=True))
    below = f"Objects, misses and false positives: {range_words(evaluation)}. AP and AR: all objects, as in COCO."
    headers = ("size", "objects", "missed", "share", "false positives", "AP", "AR 100")
    return Table("By size", headers, tuple(rows), below=below)


def class_table(evaluation: Mapping[str, Any]) -> Table:
    """AP of each class, overall and by size."""
    keys = ("ap", "ap50", *(f"ap_{size}" for size in SIZES))
    entries = evaluation["classes"]
    kept = most_met(evaluation)
    below = f"Objects and AP: all objects, as in COCO. {left_out(entries)}".rstrip()
    return Table(
        "By class",
        ("class", "objects", "AP", "AP50", *(f"AP {size}" for size in SIZES)),
        tuple(
            Row(short(entry["name"]), (Cell(count(entry["truth"])), *(Cell(points(entry[key])) for key in keys)))
            for entry in entries
            if entry["name"] in kept
        ),
        below=below,
    )


def side_table(evaluation: Mapping[str, Any]) -> Table:
    """AP by the smallest side that counts."""
    entries = evaluation["by_min_side"]
    wanted = (evaluation["range_of_interest"] or {}).get("min_side_px")
    has_distances = any(entry["distance_m"] is not None for entry in entries)
    rows = []
    for entry in entries:
        far = () if not has_distances else (metres(entry["distance_m"]),)
        cells = (*far, count(entry["truth"]), points(entry["ap"]), points(entry["ap50"]))
        rows.append(
            Row(f"≥ {entry['min_side_px']:g} px", tuple(map(Cell, cells)), strong=entry["min_side_px"] == wanted)
        )
    headers = ("shorter side", *(("up to",) if has_distances else ()), "objects", "AP", "AP50")
    return Table("AP by the smallest side that counts", headers, tuple(rows))


def confusion_table(evaluation: Mapping[str, Any]) -> Table:
    """The confusion matrix; of many classes, what was confused most often."""
    names, matrix = evaluation["confusion"]["classes"], evaluation["confusion"]["matrix"]
    if len(names) > MOST_COLUMNS:
        return confused_most(evaluation)
    rows = []
    for place, (name, counts) in enumerate(zip(_row_names(names), matrix, strict=True)):
        is_background = place == len(names) - 1
        total = 0 if is_background else sum(counts)  # the background has no number of its own to be a share of
        cells = [Cell(count(number), tint=number / total if total else 0.0) for number in counts]
        rows.append(Row(short(name), tuple([*cells[:-1], Cell("")] if is_background else cells)))
    return Table(
        "Rows: what it is. Columns: what it was taken for.",
        ("truth", *map(short, _column_names(names))),
        tuple(rows),
        kind="matrix",
        below=f"{_BY_THE_BEST} Colour: share of the row.",
        media="screen" if len(names) > COLUMNS_ON_PAPER else "",
    )


def paper_tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """What takes the confusion matrix's place on paper, where it has too many columns for that."""
    if COLUMNS_ON_PAPER < len(evaluation["confusion"]["classes"]) <= MOST_COLUMNS:
        return [replace(confused_most(evaluation), media="print")]
    return []


_BY_THE_BEST = (
    "Here the best-scored detection on an object decides, whatever its class: an object that is found under another "
    "class is not missed here, and is missed in the counts by size, which ask for its own class."
)


def _row_names(names: Sequence[str]) -> list[str]:
    return [*names[:-1], own_word(names[-1], names[:-1])]


def _column_names(names: Sequence[str]) -> list[str]:
    return [*names[:-1], own_word("missed", names[:-1])]


def confused_most(evaluation: Mapping[str, Any]) -> Table:
    """The pairs of the confusion matrix that differ, the most frequent first."""
    names, matrix = evaluation["confusion"]["classes"], evaluation["confusion"]["matrix"]
    off = [
        (number, row, column)
        for row, counts in enumerate(matrix)
        for column, number in enumerate(counts)
        if number and row != column
    ]
    off.sort(key=lambda one: (-one[0], one[1:]))
    truths, headings = _row_names(names), _column_names(names)
    return Table(
        f"Confused most often, of {len(names) - 1} classes",
        ("truth", "taken for", "times"),
        tuple(
            Row(short(truths[row]), (Cell(short(headings[column])), Cell(count(number))))
            for number, row, column in off[:MOST_ROWS]
        ),
        left=2,
        kind="words",
        below=f"{min(len(off), MOST_ROWS)} of {len(off)} pairs; the document of curate evaluate --json has the whole "
        f"matrix. {_BY_THE_BEST}",
    )


def kind_table(evaluation: Mapping[str, Any]) -> Table:
    """The kinds of mistakes, and what each costs."""
    kinds, costs = evaluation["errors"]["kinds"], evaluation["errors"].get("ap_cost", {})
    most = max(kinds.values(), default=0) or 1
    return Table(
        "Kinds of mistakes",
        ("kind", "count", "costs AP50"),
        tuple(
            Row(
                kind,
                (Cell(count(kinds[kind]), bar=kinds[kind] / most), Cell(points(costs.get(kind)))),
                KIND_WORDS[kind],
            )
            for kind in KINDS
        ),
        below="Each mistake is counted once: a missed object that a wrong detection explains, with that detection. "
        "The cost is what AP50 would gain if the kind were mended and nothing else, over all scores. "
        f"Counts and costs: {range_words(evaluation)}.",
    )


def threshold_table(evaluation: Mapping[str, Any]) -> Table:
    """Which score to cut at, for each class."""
    wished = evaluation["wished_precision"]
    headers = ("class", "best F1", "from score", "precision", "recall")
    if wished is not None:
        headers += (f"for precision {wished:g}: from score", "recall")
    rows = []
    kept = most_met(evaluation)
    for entry in evaluation["thresholds"]:
        if entry["class"] not in kept:
            continue
        best = entry["best_f1"] or {}
        cells = [points(best.get("f1")), score(best.get("score"))]
        cells += [points(best.get("precision")), points(best.get("recall"))]
        cells += [] if wished is None else [score(entry["score"]), points(entry["recall"])]
        rows.append(Row(short(entry["class"]), tuple(map(Cell, cells))))
    below = f"At IoU 0.5, {range_words(evaluation)}. {left_out(evaluation['thresholds'])}".rstrip()
    return Table("Scores to cut at", headers, tuple(rows), below=below)


def recall_table(evaluation: Mapping[str, Any]) -> Table:
    """Precision at a few recalls."""
    lines = [(short(line.name), line.precision) for line in curves_to_draw(evaluation)]
    if (mean := mean_curve(evaluation)) is not None:
        lines.insert(0, (mean.name, mean.precision))
    return Table(
        "Precision at each recall, at IoU 0.5",
        ("recall", *(f"{recall} %" for recall in _RECALLS)),
        tuple(Row(name, tuple(Cell(points(precision[recall])) for recall in _RECALLS)) for name, precision in lines),
        below=left_out(_known_curves(evaluation)),
    )


@dataclass(frozen=True)
class Curve:
    """A line of precision against recall; of the mean, `name` says so in a way that no class is called."""

    name: str
    precision: Sequence[float]


def curves_to_draw(evaluation: Mapping[str, Any]) -> list[Curve]:
    """Of the classes that have a curve, as many as are told."""
    kept = most_met(evaluation)
    return [Curve(name, values) for name, values in _known_curves(evaluation).items() if name in kept]


def mean_curve(evaluation: Mapping[str, Any]) -> Curve | None:
    """The mean over classes, where there are several."""
    known, mean = _known_curves(evaluation), evaluation["precision_recall"]["mean"]
    return Curve(f"mean of {count(len(known))} classes", mean) if mean is not None and len(known) > 1 else None


def _known_curves(evaluation: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    classes = evaluation["precision_recall"]["classes"]
    return {name: values for name, values in classes.items() if values is not None}


def score_table(evaluation: Mapping[str, Any]) -> Table:
    """Right and wrong detections by score."""
    histogram = evaluation["score_histogram"]
    edges = histogram["edges"]
    counts = zip(histogram["true_positives"], histogram["false_positives"], strict=True)
    return Table(
        "Detections by score",
        ("score", "right", "wrong"),
        tuple(
            Row(f"{start:.2f} – {end:.2f}", (Cell(count(right)), Cell(count(wrong))))
            for (start, end), (right, wrong) in zip(pairwise(edges), counts, strict=True)
        ),
    )


def most_met(evaluation: Mapping[str, Any]) -> frozenset[str]:
    """The classes with most objects, as many as the tables hold."""
    kept = sorted(evaluation["classes"], key=lambda entry: -entry["truth"])[:MOST_ROWS]
    return frozenset(entry["name"] for entry in kept)


def left_out(entries: Sized) -> str:
    """What to say of classes where a table holds only those with most objects."""
    return f"{MOST_ROWS} of {len(entries)} classes, those with most objects." if len(entries) > MOST_ROWS else ""


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
