"""Tables of the report about the data and the run, as values for one template."""

from curate.formatting import count, percent
from curate.html_report.content import ClassChange, DataFacts, RunFacts
from curate.html_report.tables import MOST_ROWS, Cell, Row, Table, left_out
from curate.html_report.wording import date_and_time, short
from curate.sizes import SIZES

_MOST_UNCHANGED = 20  # classes of a dataset for which a change lists also the unchanged ones


def balance_table(data: DataFacts) -> Table:
    """Boxes by class and size."""
    most = max((entry.boxes for entry in data.balance.classes), default=0) or 1
    shown = sorted(data.balance.classes, key=lambda entry: -entry.boxes)[:MOST_ROWS]
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
        if entry in shown
    )
    headers = ("class", "boxes", "share", "images", *reversed(SIZES))
    caption = f"Version {data.version}, labelled images"
    return Table(caption, headers, rows, below=left_out(data.balance.classes))


def change_table(change: ClassChange) -> Table:
    """Boxes by class before and after a change of classes; of many classes only those that changed."""
    totals = sum(change.before.values()), sum(change.after.values())
    names = list(dict.fromkeys([*change.before, *change.after]))
    shown = names
    if len(names) > _MOST_UNCHANGED:
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
        f"{change.operation}, version {change.version}",
        ("class", "before", "share", "after", "share"),
        tuple(rows),
        below=f"{len(shown)} of {len(names)} classes: those that changed." if len(shown) < len(names) else "",
    )


def split_table(data: DataFacts) -> Table:
    """Images and boxes by split."""
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
    """The history of the version, newest first."""
    shown = data.history[:MOST_ROWS]
    return Table(
        "History, newest first",
        ("version", "operation", "time", "images", "boxes"),
        tuple(
            Row(
                str(entry.version),
                (
                    Cell(entry.operation),
                    Cell(date_and_time(entry.time)),
                    Cell(count(entry.images)),
                    Cell(count(entry.boxes)),
                ),
            )
            for entry in shown
        ),
        left=3,
        below=f"{len(shown)} of {len(data.history)} versions." if len(shown) < len(data.history) else "",
    )


def fact_tables(run: RunFacts) -> list[Table]:
    """Facts of the training, versions of packages, and settings."""
    parts = (("Training", run.facts), ("Versions", run.versions), ("Settings (config.yaml)", run.settings))
    return [
        Table(
            caption,
            ("name", "value"),
            tuple(Row(name, (Cell(value),)) for name, value in facts.items()),
            left=2,
            kind="words",
        )
        for caption, facts in parts
        if facts
    ]
