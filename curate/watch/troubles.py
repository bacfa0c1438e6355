"""What went wrong behind the video's back: each thing once, with how often."""

import threading

_MOST_REASONS = 20  # of one place; the rest is counted together
_LONGEST = 200
_OTHER = "other reasons"


class Troubles:
    """A list for several threads that does not grow with the number of faults."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, str], int] = {}

    def add(self, place: str, what: str, why: str, count: int = 1) -> None:
        """Count a fault.

        Args:
            place: such as `webhook example.org`.
            what: what failed, as one and as many: `delivery failed|deliveries failed`.
            why: the reason, without full stop; a reason that many faults share is told once.
            count: how many of them.
        """
        why = tidy(why)
        with self._lock:
            if (place, what, why) not in self._counts:
                reasons = sum(key[:2] == (place, what) for key in self._counts)
                why = why if reasons < _MOST_REASONS else _OTHER
            self._counts[place, what, why] = self._counts.get((place, what, why), 0) + count

    def lines(self) -> tuple[str, ...]:
        """One line a place and reason, in the order in which they came up first."""
        with self._lock:
            return tuple(line(*key, count) for key, count in self._counts.items())


def line(place: str, what: str, why: str, count: int) -> str:
    """One fault as a line: `webhook example.org: 3 deliveries failed: answered 410`."""
    one, many = what.split("|")
    return f"{place}: {count} {one if count == 1 else many}: {tidy(why)}"


def tidy(text: str) -> str:
    """On one line, printable, and not too long."""
    words = " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
