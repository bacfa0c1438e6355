"""The tables of a report that tell of the data and the run, as values that one template lays out."""

from curate.formatting import count, percent
from curate.html_report.content import ClassChange, DataFacts, RunFacts
from curate.html_report.tables import MOST_ROWS, Cell, Row, Table, left_out
from curate.html_report.wording import moment, short
from curate.sizes import SIZES

_SHOWN_WHOLE = 20  # classes, of a change


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
    return Table(f"Now, version {data.version}: labelled images", headers, rows, below=left_out(data.balance.classes))


def change_table(change: ClassChange) -> Table:
    """Boxes a class before and after a change of classes; of many classes only those that changed."""
    totals = sum(change.before.values()), sum(change.after.values())
    names = list(dict.fromkeys([*change.before, *change.after]))
    shown = names
    if len(names) > _SHOWN_WHOLE:
        shown = [name for name in names if change.before.get(name) != change.after.get(name)][:MOST_ROWS]
    rows = []
    for name in shown:
        cells = []
        for counts, total in zip((change.before, change.after), totals, strict=True):
            number = counts.get(name)
            share = None if number is None or not total else number / total
            cells += [Cell(count(number), bar=share), Cell(percent(share))]
        rows.append(Row(short(name), tuple(cells)))
    return Table(
        f"{change.operation}, which made version {change.version}",
        ("class", "before", "share", "after", "share"),
        tuple(rows),
        below=f"{len(shown)} of {len(names)} classes, those that changed." if len(shown) < len(names) else "",
    )


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
