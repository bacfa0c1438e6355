"""The tables of a report, as values that one template lays out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from curate.browse.report_content import ClassChange, DataFacts, RunFacts
from curate.browse.report_words import (
    KIND_WORDS,
    NOTHING,
    count,
    count_gained,
    moment,
    percent,
    points,
    points_gained,
    range_words,
    score,
    short,
)
from curate.evaluation.mistakes import KINDS
from curate.sizes import SIZES

MOST_ROWS = 200  # of classes; what a page can hold and a person read
MOST_COLUMNS = 24  # of a confusion matrix
SIZE_WORDS = {"small": "area < 32² px", "medium": "32² to 96² px", "large": "≥ 96² px"}
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
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[Row, ...]
    left: int = 1
    kind: str = ""
    below: str = ""


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
    rows, below = _most_objects(evaluation["classes"])
    return Table(
        "By class",
        ("class", "objects", "AP", "AP50", *(f"AP {size}" for size in SIZES)),
        tuple(
            Row(short(entry["name"]), (Cell(count(entry["truth"])), *(Cell(points(entry[key])) for key in keys)))
            for entry in rows
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
        far = () if not has_distances else ((entry["distance_m"] and f"{entry['distance_m']:.3g} m") or NOTHING,)
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
        return _confused_most(names, matrix)
    rows = []
    for place, (name, counts) in enumerate(zip(names, matrix, strict=True)):
        is_background = place == len(names) - 1
        total = 0 if is_background else sum(counts)  # the background has no number of its own to be a share of
        cells = [Cell(count(number), tint=number / total if total else 0.0) for number in counts]
        rows.append(Row(short(name), tuple([*cells[:-1], Cell("")] if is_background else cells)))
    return Table(
        "Rows: what it is. Columns: what it was taken for.",
        ("truth", *map(short, names[:-1]), "missed"),
        tuple(rows),
        kind="matrix",
        below="By the best-scored detection on each object. Colour: share of the row.",
    )


def _confused_most(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> Table:
    off = [
        (number, row, column)
        for row, counts in enumerate(matrix)
        for column, number in enumerate(counts)
        if number and row != column
    ]
    off.sort(key=lambda one: (-one[0], one[1:]))
    headings = [*names[:-1], "missed"]
    return Table(
        f"Confused most often, of {len(names) - 1} classes",
        ("truth", "taken for", "times"),
        tuple(
            Row(short(names[row]), (Cell(short(headings[column])), Cell(count(number))))
            for number, row, column in off[:MOST_ROWS]
        ),
        left=2,
        kind="words",
        below=f"{min(len(off), MOST_ROWS)} of {len(off)} pairs; `curate evaluate --json` has the whole matrix.",
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
        "The cost is what AP50 would gain if the kind were mended and nothing else, over all scores.",
    )


def threshold_table(evaluation: Mapping[str, Any]) -> Table:
    """Which score to cut at, for each class."""
    wished = evaluation["wished_precision"]
    headers = ("class", "best F1", "from score", "precision", "recall")
    if wished is not None:
        headers += (f"for precision {wished:g}: from score", "recall")
    rows = []
    for entry in evaluation["thresholds"][:MOST_ROWS]:
        best = entry["best_f1"] or {}
        cells = [points(best.get("f1")), score(best.get("score"))]
        cells += [points(best.get("precision")), points(best.get("recall"))]
        cells += [] if wished is None else [score(entry["score"]), points(entry["recall"])]
        rows.append(Row(short(entry["class"]), tuple(map(Cell, cells))))
    return Table("Scores to cut at", headers, tuple(rows), below=_left_out(evaluation["thresholds"]))


def recall_table(evaluation: Mapping[str, Any]) -> Table:
    """Precision at a few recalls."""
    curves = evaluation["precision_recall"]
    lines = {name: values for name, values in curves["classes"].items() if values is not None}
    if curves["mean"] is not None and len(lines) > 1:
        lines = {"mean": curves["mean"], **lines}
    return Table(
        "Precision at each recall, at IoU 0.5",
        ("recall", *(f"{recall} %" for recall in _RECALLS)),
        tuple(
            Row(short(name), tuple(Cell(points(values[recall])) for recall in _RECALLS))
            for name, values in list(lines.items())[:MOST_ROWS]
        ),
        below=_left_out(lines),
    )


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


def against_tables(evaluation: Mapping[str, Any], other: Mapping[str, Any], run: str) -> list[Table]:
    """Another run beside this one: metrics, mistakes, and AP of the classes that either has."""
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
    mine, its = ({entry["name"]: entry["ap"] for entry in one["classes"]} for one in (evaluation, other))
    names = list(dict.fromkeys([*mine, *its]))[:MOST_ROWS]
    return [
        Table("AP", ("", *headers), tuple(_metric_row(*pair) for pair in pairs)),
        Table(f"Mistakes, {range_words(evaluation)}", ("", *headers), tuple(_count_row(*pair) for pair in counts)),
        Table(
            "AP by class",
            ("class", *headers),
            tuple(_metric_row(short(name), mine.get(name), its.get(name)) for name in names),
        ),
    ]


def _metric_row(name: str, now: float | None, before: float | None) -> Row:
    return Row(name, (Cell(points(before)), Cell(points(now)), Cell(points_gained(now, before))))


def _count_row(name: str, now: int, before: int) -> Row:
    return Row(name, (Cell(count(before)), Cell(count(now)), Cell(count_gained(now, before))))


def balance_table(data: DataFacts) -> Table:
    """Boxes a class, and how many of them are of which size."""
    most = max((entry.boxes for entry in data.balance.classes), default=0) or 1
    kept = sorted(data.balance.classes, key=lambda entry: -entry.boxes)[:MOST_ROWS]
    rows = tuple(
        Row(
            short(entry.name),
            (
                Cell(count(entry.boxes), bar=entry.boxes / most),
                Cell(percent(entry.share)),
                Cell(count(entry.images)),
                *(Cell(count(getattr(entry, size))) for size in reversed(SIZES)),
            ),
        )
        for entry in data.balance.classes
        if entry in kept
    )
    headers = ("class", "boxes", "share", "images", *reversed(SIZES))
    return Table(f"Now, version {data.version}: labelled images", headers, rows, below=_left_out(data.balance.classes))


def change_table(change: ClassChange) -> Table:
    """Boxes a class before and after a change of classes."""
    totals = sum(change.before.values()), sum(change.after.values())
    rows = []
    for name in list(dict.fromkeys([*change.before, *change.after]))[:MOST_ROWS]:
        cells = []
        for counts, total in zip((change.before, change.after), totals, strict=True):
            number = counts.get(name)
            share = None if number is None or not total else number / total
            cells += [Cell(count(number), bar=share), Cell(percent(share))]
        rows.append(Row(short(name), tuple(cells)))
    headers = ("class", "before", "share", "after", "share")
    return Table(f"{change.operation}, which made version {change.version}", headers, tuple(rows))


def split_table(data: DataFacts) -> Table:
    """What each split holds."""
    return Table(
        "Splits",
        ("split", "labelled images", "without boxes", "boxes", *(size for size in reversed(SIZES))),
        tuple(
            Row(
                name,
                (
                    Cell(count(split.images)),
                    Cell(count(split.images_without_boxes)),
                    Cell(count(split.boxes)),
                    *(Cell(count(sum(getattr(entry, size) for entry in split.classes))) for size in reversed(SIZES)),
                ),
            )
            for name, split in data.splits.items()
        ),
    )


def history_table(data: DataFacts) -> Table:
    """The versions that led here, newest first."""
    kept = data.history[:MOST_ROWS]
    return Table(
        "History, newest first",
        ("version", "operation", "time", "images", "boxes"),
        tuple(
            Row(
                str(line.version),
                (Cell(line.operation), Cell(moment(line.time)), Cell(count(line.images)), Cell(count(line.boxes))),
            )
            for line in kept
        ),
        left=3,
        below=f"{len(kept)} of {len(data.history)} versions." if len(kept) < len(data.history) else "",
    )


def fact_tables(run: RunFacts) -> list[Table]:
    """What the training did, its settings, and the versions of what it used."""
    parts = (("Training", run.facts), ("Versions", run.versions), ("Settings (config.yaml)", run.settings))
    return [
        Table(
            caption,
            ("what", "value"),
            tuple(Row(name, (Cell(value),)) for name, value in facts.items()),
            left=2,
            kind="words",
        )
        for caption, facts in parts
        if facts
    ]


def _most_objects(entries: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], str]:
    """The entries with most objects, in their order, and what to say of the others."""
    kept = sorted(range(len(entries)), key=lambda place: -entries[place]["truth"])[:MOST_ROWS]
    return [entries[place] for place in sorted(kept)], _left_out(entries)


def _left_out(entries: Any) -> str:
    return f"{MOST_ROWS} of {len(entries)} classes." if len(entries) > MOST_ROWS else ""
