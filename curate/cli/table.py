"""Tables for the terminal: no value is lost, however narrow the terminal is.

A table that is too wide gives way in this order:

1. A bar is left out: it only repeats a number.
2. Headers and text wrap between words; numbers never wrap.
3. Details move below their row, where they have the whole width and need no header.
4. Another table takes its place, where one is given: many classes go down instead of across.
5. Each row becomes a record: its name, then every value with its header.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

from curate.plain_text import shown

SIZE_STYLES = {"small": "red", "medium": "yellow", "large": "green"}

_GAP = "  "
_INDENT = "  "
_MIN_DETAIL_WIDTH = 24  # a narrower detail is easier to read below its row


class Kind(Enum):
    """How a column looks, and how it gives way."""

    NUMBER = "flush right, never wrapped"
    TEXT = "flush left, wrapped between words"
    BAR = "flush left, left out first"
    DETAIL = "text that moves below its row; the last column only"


@dataclass(frozen=True)
class Column:
    """A column of a table: its header, its kind, and a rich style for its cells."""

    header: str
    kind: Kind = Kind.NUMBER
    style: str = ""


SIZE_COLUMNS = tuple(Column(size, style=style) for size, style in SIZE_STYLES.items())


class Table:
    """Rows under headers, for `rich` to print.

    Args:
        title: A line above the table; "" for no line.
        columns: Columns, or headers alone: the first of a text column, the others of number columns.
        narrow: The table to print where this one does not fit.
    """

    def __init__(self, title: str, *columns: Column | str, narrow: "Table | None" = None) -> None:
        self.title = title
        self.narrow = narrow
        self.columns = [
            column if isinstance(column, Column) else Column(column, Kind.NUMBER if place else Kind.TEXT)
            for place, column in enumerate(columns)
        ]
        self.rows: list[list[Text]] = []

    def add_row(self, *cells: Text | str, style: str = "") -> None:
        """Add a row with a cell for each column; `style` holds for the whole row."""
        row = []
        for column, cell in zip(self.columns, cells, strict=True):
            text = cell.copy() if isinstance(cell, Text) else Text(shown(cell, lines=True))
            text.expand_tabs()
            text.stylize_before(f"{style} {column.style}".strip())
            row.append(text)
        self.rows.append(row)

    def add_section(self) -> None:
        """Add an empty row."""
        self.add_row(*[""] * len(self.columns))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width = options.max_width
        title = [Text(self.title, style="bold")] if self.title else []
        for left_out, wraps in (((), False), ((Kind.BAR,), True), ((Kind.BAR, Kind.DETAIL), True)):
            places = [place for place, column in enumerate(self.columns) if column.kind not in left_out]
            if (widths := self._widths(places, width, wraps=wraps)) is not None:
                yield from (*title, *self._grid(console, widths, width), Text())
                return
        if self.narrow is not None:
            yield from self.narrow.__rich_console__(console, options)
        else:
            yield from (*title, *self._records(console, width), Text())

    def _widths(self, places: Iterable[int], width: int, *, wraps: bool) -> dict[int, int] | None:
        """Column → its width; None where the columns do not fit."""
        widths: dict[int, int] = {}
        narrowest: dict[int, int] = {}
        for place in places:
            header, kind = Text(self.columns[place].header), self.columns[place].kind
            cells = [row[place] for row in self.rows]
            widths[place] = max(map(_line_width, (header, *cells)))
            if kind is Kind.DETAIL:
                narrowest[place] = min(widths[place], _MIN_DETAIL_WIDTH)
            else:
                unbroken = _word_width if kind is Kind.TEXT else _line_width
                narrowest[place] = max(_word_width(header), *map(unbroken, cells), 0)
        room = width - len(_GAP) * (len(widths) - 1)
        if sum((narrowest if wraps else widths).values()) > room:
            return None
        while sum(widths.values()) > room:
            wide = [place for place in widths if widths[place] > narrowest[place]]
            widths[max(wide, key=lambda place: (self.columns[place].kind is Kind.DETAIL, widths[place]))] -= 1
        return widths

    def _grid(self, console: Console, widths: dict[int, int], width: int) -> Iterator[Text]:
        heads = _wrapped(console, {place: Text(self.columns[place].header, style="bold") for place in widths}, widths)
        height = max(map(len, heads.values()))
        yield from self._lines({place: [Text()] * (height - len(head)) + head for place, head in heads.items()}, widths)
        yield Text("─" * (sum(widths.values()) + len(_GAP) * (len(widths) - 1)), style="bold")
        for row in self.rows:
            below = {place for place, cell in enumerate(row) if self._is_below(place, cell, widths.get(place, 0))}
            cells = {place: Text() if place in below else row[place] for place in widths}
            yield from self._lines(_wrapped(console, cells, widths), widths)
            for place in below:
                yield from _indented(console, row[place], width)

    def _is_below(self, place: int, cell: Text, width: int) -> bool:
        """Whether a cell stands below its row: a detail with a word that does not fit, or of more than two lines."""
        is_detail = self.columns[place].kind is Kind.DETAIL
        return is_detail and (_word_width(cell) > width or _line_width(cell) > 2 * width)

    def _lines(self, cells: dict[int, list[Text]], widths: dict[int, int]) -> Iterator[Text]:
        for number in range(max(map(len, cells.values()))):
            parts = []
            for place, lines in cells.items():
                part = lines[number].copy() if number < len(lines) else Text()
                part.align("right" if self.columns[place].kind is Kind.NUMBER else "left", widths[place])
                parts.append(part)
            line = Text(_GAP).join(parts)
            line.rstrip()
            yield line

    def _records(self, console: Console, width: int) -> Iterator[Text]:
        for row in self.rows:
            name, *values = [
                Text.assemble((f"{column.header}: " if column.header and cell.plain else "", "dim"), cell)
                for column, cell in zip(self.columns, row, strict=True)
                if column.kind is not Kind.BAR
            ]
            yield from name.wrap(console, width, overflow="fold")
            line = Text()
            for value in filter(len, values):
                longer = Text(_GAP).join([line, value]) if line else value
                if line and _line_width(longer) > width - len(_INDENT):
                    yield from _indented(console, line, width)
                    longer = value
                line = longer
            yield from _indented(console, line, width)


def _line_width(text: Text) -> int:
    return max(map(cell_len, text.plain.splitlines()), default=0)


def _word_width(text: Text) -> int:
    return max(map(cell_len, text.plain.split()), default=0)


def _wrapped(console: Console, cells: dict[int, Text], widths: dict[int, int]) -> dict[int, list[Text]]:
    return {place: list(cell.wrap(console, max(widths[place], 1), overflow="fold")) for place, cell in cells.items()}


def _indented(console: Console, text: Text, width: int) -> Iterator[Text]:
    """Lines of a text that stands below its row; a word that is longer than the line is folded."""
    for line in text.wrap(console, max(width - len(_INDENT), 1), overflow="fold") if text else []:
        line.rstrip()
        yield Text.assemble(_INDENT, line)


def mark_best(name: str, is_best: bool) -> str:
    """The name of a run or round, with a star at the best."""
    return f"{name} *" if is_best else name
