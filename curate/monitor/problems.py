"""What went wrong behind the video's back: each thing once, with how often."""

import threading
from collections.abc import Iterable
from typing import NamedTuple

_MOST_REASONS = 20  # of one place; the rest is counted together
_LONGEST = 200
_OTHER = "other reasons"


class Kind(NamedTuple):
    """What a fault is, but for how often it happened.

    Attributes:
        place: such as `webhook example.org`.
        what: what failed, as one and as many: `delivery failed|deliveries failed`.
        why: the reason, without full stop.
    """

    place: str
    what: str
    why: str


class Troubles:
    """A list for several threads that does not grow with the number of faults."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Kind, int] = {}

    def add(self, place: str, what: str, why: str, count: int = 1) -> None:
        """Count a fault.

        Args:
            place: such as `webhook example.org`; of places there must be a bounded number.
            what: what failed, as one and as many: `delivery failed|deliveries failed`.
            why: the reason, without full stop; a reason that many faults share is told once.
            count: how many of them.
        """
        kind = Kind(place, what, tidy(why))
        with self._lock:
            if kind not in self._counts:
                reasons = sum(known[:2] == kind[:2] for known in self._counts)
                kind = kind if reasons < _MOST_REASONS else kind._replace(why=_OTHER)
            self._counts[kind] = self._counts.get(kind, 0) + count

    def lines(self) -> tuple[str, ...]:
        """One line a place and reason, in the order in which they came up first."""
        return tuple(self.kinds().values())

    def kinds(self) -> dict[str, str]:
        """The same lines by what stays the same in them while their counts grow."""
        return lines_by_kind(self.counted())

    def counted(self) -> list[tuple[Kind, int]]:
        """Every fault and how often it happened, in the order in which they came up first."""
        with self._lock:
            return list(self._counts.items())


def lines_by_kind(counted: Iterable[tuple[Kind, int]]) -> dict[str, str]:
    """Faults as lines, each by a key that does not change with its count."""
    return {": ".join(kind): _line(kind, count) for kind, count in counted}


def _line(kind: Kind, count: int) -> str:
    """One fault as a line: `webhook example.org: 3 deliveries failed: answered 410`."""
    one, many = kind.what.split("|")
    return f"{kind.place}: {count} {one if count == 1 else many}: {tidy(kind.why)}"


def tidy(text: str) -> str:
    """On one line, printable, and not too long."""
    words = " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
