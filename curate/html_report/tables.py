"""Tables of the report with the numbers of an evaluation, as values for one template."""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import pairwise

from curate.evaluation.chart_content import (
    FALSE_POSITIVES,
    TRUE_POSITIVES,
    Curve,
    at_iou,
    class_curves,
    fold_sides,
    kind_label,
    mean_curve,
)
from curate.evaluation.judgement import EvaluateResult
from curate.evaluation.mistakes import KINDS
from curate.formatting import count, metres, percent, points, score
from curate.html_report.wording import KIND_WORDS, SIZE_WORDS, distinct_name, range_words, short
from curate.sizes import SIZES

MOST_ROWS = 200  # of classes
MOST_COLUMNS = 24  # of a confusion matrix
COLUMNS_ON_PAPER = 8  # of a confusion matrix with long names, on A4
_RECALLS = range(0, 101, 10)


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: Its text.
        bar: Length of a bar behind the text, 0 to 1.
        tint: Share of the accent colour in the background, 0 to 1.
    """

    text: str
    bar: float | None = None
    tint: float | None = None


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        name: Header of the row.
        cells: The other cells.
        note: Small text after the name.
        strong: Whether it is emphasised.
    """

    name: str
    cells: tuple[Cell, ...]
    note: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows.
        headers: Of all columns, first that of the row names.
        rows: Each has one cell less than there are headers.
        left: Number of columns with text, aligned left; the others have numbers.
        kind: For the style sheet: "matrix", or "words" if cells have long text.
        below: Sentences below the table.
        media: "screen" or "print" if another table replaces it on the other; else for both.
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
        """Whether it may be too wide for a wide screen, and scrolls."""
        return self.kind == "matrix" and len(self.headers) > COLUMNS_ON_PAPER


def size_tables(evaluation: EvaluateResult, objects: Mapping[str, int]) -> list[Table]:
    """Mistakes by size, and AP by size: two tables where the first is of a range and the second of all objects.

    Args:
        evaluation: The evaluation.
        objects: Size → number of objects that count.
    """
    which, headers = range_words(evaluation), ("AP", f"AR {evaluation.max_detections}")
    if evaluation.range_of_interest is None:
        cells = {size: (*_mistake_cells(evaluation, objects, size), *_ap_cells(evaluation, size)) for size in _ROWS}
        return [_by_size(f"By size, {which}", (*_MISTAKES, *headers), cells)]
    mistakes = {size: _mistake_cells(evaluation, objects, size) for size in _ROWS}
    aps = {size: _ap_cells(evaluation, size) for size in _ROWS}
    below = "AP in the range is in the summary; AP by size is defined for all objects, as in COCO."
    return [
        _by_size(f"Mistakes by size, {which}", _MISTAKES, mistakes),
        replace(_by_size("AP by size, all objects", headers, aps), below=below),
    ]


_ALL_SIZES = "all"
_ROWS = (*reversed(SIZES), _ALL_SIZES)
_MISTAKES = ("objects", "missed", "share", FALSE_POSITIVES)


def _by_size(caption: str, headers: tuple[str, ...], cells: Mapping[str, tuple[Cell, ...]]) -> Table:
    rows = (Row(size, cells[size], SIZE_WORDS.get(size, ""), strong=size == _ALL_SIZES) for size in _ROWS)
    return Table(caption, ("size", *headers), tuple(rows))


def _mistake_cells(evaluation: EvaluateResult, objects: Mapping[str, int], size: str) -> tuple[Cell, ...]:
    number, lost, false = (
        sum(counts.values()) if size == _ALL_SIZES else counts[size]
        for counts in (objects, evaluation.errors.missed, evaluation.errors.false_positives)
    )
    share = percent(lost / number if number else None)
    return tuple(map(Cell, (count(number), count(lost), share, count(false))))


def _ap_cells(evaluation: EvaluateResult, size: str) -> tuple[Cell, ...]:
    fields = ("ap", "ar_100") if size == _ALL_SIZES else (f"ap_{size}", f"ar_{size}")
    return tuple(Cell(points(getattr(evaluation, field))) for field in fields)


def class_table(evaluation: EvaluateResult) -> Table:
    """AP by class, overall and by size."""
    fields = ("ap", "ap50", *(f"ap_{size}" for size in SIZES))
    entries = evaluation.classes
    shown = largest_classes(evaluation)
    below = f"Objects and AP: all objects, as in COCO. {left_out(entries)}".rstrip()
    return Table(
        "By class",
        ("class", "objects", "AP", "AP50", *(f"AP {size}" for size in SIZES)),
        tuple(
            Row(
                short(entry.name),
                (Cell(count(entry.truth)), *(Cell(points(getattr(entry, field))) for field in fields)),
            )
            for entry in entries
            if entry.name in shown
        ),
        below=below,
    )


def side_table(evaluation: EvaluateResult) -> Table:
    """AP by the smallest side that counts."""
    interest = evaluation.range_of_interest
    has_distances = any(entry.distance_m is not None for entry in evaluation.by_min_side)
    chosen = interest.min_side_px if interest else None
    rows = []
    for folded in fold_sides(evaluation.by_min_side, chosen):
        scores = folded.scores
        distance = (metres(scores.distance_m),) if has_distances else ()
        cells = (*distance, count(scores.truth), points(scores.ap), points(scores.ap50))
        rows.append(Row(folded.label, tuple(map(Cell, cells)), strong=scores.min_side_px == chosen))
    headers = ("shorter side", *(("up to",) if has_distances else ()), "objects", "AP", "AP50")
    return Table("AP by the smallest side that counts", headers, tuple(rows))


def confusion_tables(evaluation: EvaluateResult) -> list[Table]:
    """The confusion matrix; for many classes a list of its largest entries, on paper or everywhere."""
    columns = len(evaluation.confusion.classes)
    if columns > MOST_COLUMNS:
        return [_confusion_list(evaluation)]
    if columns > COLUMNS_ON_PAPER:
        matrix, pairs = _confusion_matrix(evaluation), _confusion_list(evaluation)
        return [replace(matrix, media="screen"), replace(pairs, media="print")]
    return [_confusion_matrix(evaluation)]


_BEST_DETECTION = (
    "The best-scored detection on an object decides here, whatever its class: an object that is detected as another "
    "class is not missed here, but is missed in the counts by size, which require its own class."
)


def _confusion_matrix(evaluation: EvaluateResult) -> Table:
    names, matrix = evaluation.confusion.classes, evaluation.confusion.matrix
    rows = []
    for place, (name, counts) in enumerate(zip(_row_names(names), matrix, strict=True)):
        is_background = place == len(names) - 1
        total = 0 if is_background else sum(counts)  # the background has no number of objects for a share
        cells = [Cell(count(number), tint=number / total if total else 0.0) for number in counts]
        rows.append(Row(short(name), tuple([*cells[:-1], Cell("")] if is_background else cells)))
    return Table(
        "Rows: true class. Columns: detected class.",
        ("truth", *map(short, _column_names(names))),
        tuple(rows),
        kind="matrix",
        below=f"{_BEST_DETECTION} Colour: share of the row.",
    )


def _confusion_list(evaluation: EvaluateResult) -> Table:
    """The pairs of different classes, the most frequent first."""
    names, matrix = evaluation.confusion.classes, evaluation.confusion.matrix
    pairs = [
        (number, row, column)
        for row, counts in enumerate(matrix)
        for column, number in enumerate(counts)
        if number and row != column
    ]
    pairs.sort(key=lambda one: (-one[0], one[1:]))
    row_names, column_names = _row_names(names), _column_names(names)
    return Table(
        f"Most frequent confusions of {len(names) - 1} classes",
        ("truth", "detected as", "count"),
        tuple(
            Row(short(row_names[row]), (Cell(short(column_names[column])), Cell(count(number))))
            for number, row, column in pairs[:MOST_ROWS]
        ),
        left=2,
        kind="words",
        below=f"{min(len(pairs), MOST_ROWS)} of {len(pairs)} pairs; the output of curate evaluate --json has the whole "
        f"matrix. {_BEST_DETECTION}",
    )


def _row_names(names: Sequence[str]) -> list[str]:
    return [*names[:-1], distinct_name(names[-1], names[:-1])]


def _column_names(names: Sequence[str]) -> list[str]:
    return [*names[:-1], distinct_name("missed", names[:-1])]


def kind_table(evaluation: EvaluateResult) -> Table:
    """Number and cost of the mistakes of each kind."""
    errors, ap_name = evaluation.errors, evaluation.operating_point.ap_name
    most = max(errors.kinds.values(), default=0) or 1
    return Table(
        "Mistakes by kind",
        ("kind", "count", f"cost in {ap_name}"),
        tuple(
            Row(
                kind_label(kind),
                (Cell(count(errors.kinds[kind]), bar=errors.kinds[kind] / most), Cell(points(errors.ap_cost[kind]))),
                KIND_WORDS[kind],
            )
            for kind in KINDS
        ),
        below="Each mistake is counted once; a missed object that a false positive explains counts as that false "
        f"positive. The cost is the {ap_name} gained by fixing this kind alone, over all scores. "
        f"Counts and costs: {range_words(evaluation)}.",
    )


def threshold_table(evaluation: EvaluateResult) -> Table:
    """Score thresholds by class."""
    target = evaluation.wished_precision
    headers = ("class", "best F1", "from score", "precision", "recall")
    if target is not None:
        headers += (f"precision {target:g} from score", "recall")
    rows = []
    shown = largest_classes(evaluation)
    for entry in evaluation.thresholds:
        if entry.class_ not in shown:
            continue
        best = entry.best_f1
        f1 = (best.f1, best.score, best.precision, best.recall) if best else (None,) * 4
        cells = [points(f1[0]), score(f1[1]), points(f1[2]), points(f1[3])]
        cells += [] if target is None else [score(entry.score), points(entry.recall)]
        rows.append(Row(short(entry.class_), tuple(map(Cell, cells))))
    condition = f"{at_iou(evaluation.operating_point)}, {range_words(evaluation)}."
    below = f"{condition[0].upper()}{condition[1:]} {left_out(evaluation.thresholds)}".rstrip()
    return Table("Score thresholds", headers, tuple(rows), below=below)


def recall_table(evaluation: EvaluateResult) -> Table:
    """Precision at some recalls, of the mean and of each class."""
    mean = mean_curve(evaluation.precision_recall)
    curves = [*([mean] if mean is not None else []), *shown_curves(evaluation)]
    return Table(
        f"Precision by recall, {at_iou(evaluation.operating_point)}",
        ("recall", *(f"{recall} %" for recall in _RECALLS)),
        tuple(
            Row(short(curve.name), tuple(Cell(points(curve.precision[recall])) for recall in _RECALLS))
            for curve in curves
        ),
        below=left_out(class_curves(evaluation.precision_recall)),
    )


def shown_curves(evaluation: EvaluateResult) -> list[Curve]:
    """The curves of the classes that tables and charts show."""
    shown = largest_classes(evaluation)
    return [curve for curve in class_curves(evaluation.precision_recall) if curve.name in shown]


def score_table(evaluation: EvaluateResult) -> Table:
    """True and false positives by score."""
    histogram = evaluation.score_histogram
    counts = zip(histogram.true_positives, histogram.false_positives, strict=True)
    return Table(
        "Detections by score",
        ("score", TRUE_POSITIVES, FALSE_POSITIVES),
        tuple(
            Row(f"{start:.2f} – {end:.2f}", (Cell(count(right)), Cell(count(wrong))))
            for (start, end), (right, wrong) in zip(pairwise(histogram.edges), counts, strict=True)
        ),
    )


def largest_classes(evaluation: EvaluateResult) -> frozenset[str]:
    """The `MOST_ROWS` classes with the most objects."""
    shown = sorted(evaluation.classes, key=lambda entry: -entry.truth)[:MOST_ROWS]
    return frozenset(entry.name for entry in shown)


def left_out(entries: Sized) -> str:
    """A sentence for a table that has not all classes; empty for one that has."""
    return f"{MOST_ROWS} of {len(entries)} classes, those with most objects." if len(entries) > MOST_ROWS else ""
