"""Counts what a check of many hostile inputs tried and what went wrong, and keeps the figures for `docs/results.md`."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

FIGURES = "CURATE_FIGURES"  # a folder; `make test-long` sets it
KINDS = ("lost", "let in", "tracebacks", "hangs")
BEGIN, END = "<!-- figures of make test-long -->", "<!-- end of figures -->"
_SHOWN = 10


@dataclass
class Tally:
    """What a check saw.

    Attributes:
        check: What was done, as the row of the table says: "damaged dataset folders".
        tried: Number of inputs.
        faults: For each of `KINDS`, the faults: which input, and what came of it.
    """

    check: str
    tried: int = 0
    faults: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def fault(self, kind: str, what: str) -> None:
        """Note that an input did harm: one of `KINDS`."""
        self.faults[kind].append(what)

    def __str__(self) -> str:
        counts = ", ".join(f"{len(found)} {kind}" for kind, found in self.faults.items())
        shown = [f"{kind}: {what}" for kind, found in self.faults.items() for what in found[:_SHOWN]]
        return "\n".join((f"{self.check}: {self.tried} tried, {counts}", *shown))


@contextmanager
def tally(check: str, part: str = "") -> Iterator[Tally]:
    """Count in the block, then keep the figures where `FIGURES` names a folder, and fail if anything went wrong.

    Args:
        check: The row of the table. Several tests can share one: their figures are added.
        part: Tells those tests apart.
    """
    counted = Tally(check)
    yield counted
    if folder := os.environ.get(FIGURES):
        file = Path(folder) / f"{check} {part}.json".replace("/", "-")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(counted)))
    assert counted.tried, "nothing was tried"
    assert not any(counted.faults.values()), str(counted)


def long_table(folder: Path) -> str:
    """The figures of a folder as a table in Markdown, a row a check."""
    rows: dict[str, Tally] = {}
    for file in sorted(folder.glob("*.json")):
        read = Tally(**json.loads(file.read_text()))
        row = rows.setdefault(read.check, Tally(read.check))
        row.tried += read.tried
        for kind in KINDS:
            row.faults[kind] += read.faults[kind]
    lines = [
        f"| {row.check} | {row.tried:,} | {' | '.join(str(len(row.faults[kind])) for kind in KINDS)} |"
        for row in sorted(rows.values(), key=lambda row: row.check)
    ]
    return "\n".join((f"| check | tried | {' | '.join(KINDS)} |", "|---|" + "--:|" * (len(KINDS) + 1), *lines))


def write_table(folder: Path, page: Path) -> None:
    """Replace the table between the two marks of a page by that of a folder of figures."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{long_table(folder)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_table(Path(sys.argv[1]), Path(sys.argv[2]))
