"""The problems of one watch, from all threads: counted, logged, passed on while it runs, returned at its end."""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from curate.redaction import redact_text

Failure = tuple[str, str]
"""What failed, as singular and plural: `("delivery failed", "deliveries failed")`."""

logger = logging.getLogger(__name__)
_MAX_REASONS = 20  # of one failure at one place; further reasons are counted together
_MAX_REASON_CHARACTERS = 200
_OTHER_REASONS = "other reasons"
_REPEAT_S = 60.0


class Kind(NamedTuple):
    """What identifies a counted problem.

    Attributes:
        place: Such as `webhook example.org`.
        failure: Singular and plural.
        reason: Without a full stop.
    """

    place: str
    failure: Failure
    reason: str


class Problems:
    """Collects problems; equal ones become one line with a count. All methods may be called from any thread.

    Sources, triggers, outputs and actions report here and nowhere else, so this is where to look for a failed webhook.
    Each new problem is logged as a warning.

    Args:
        on_problem: Called by `notify` with each new line.
    """

    def __init__(self, on_problem: Callable[[str], None] = lambda _: None) -> None:
        self._on_problem = on_problem
        self._lock = threading.Lock()
        self._counts: dict[Kind | str, int] = {}
        self._pending: list[Callable[[], Iterable[tuple[Kind, int]]]] = []
        self._notified: dict[Kind | str, tuple[float, str]] = {}

    def add(self, sentence: str) -> None:
        """Report a problem as a sentence; the same sentence counts once."""
        sentence = redact_text(sentence)
        with self._lock:
            is_new = sentence not in self._counts
            self._counts[sentence] = 1
        if is_new:
            logger.warning("%s", sentence)

    def report_kept(self, path: Path) -> None:
        """Report what an earlier watch left when it was killed, and where it is now."""
        self.add(f"{path} is what an earlier watch wrote before it was interrupted.")

    def report_moved(self, path: Path, beside: Path) -> None:
        """Report the name that an output gets since another process writes one with its name."""
        self.add(f"{path} is being written by another process; this watch writes {beside}.")

    def count(self, place: str, failure: Failure, reason: str, count: int = 1) -> None:
        """Report a problem that may happen often.

        Args:
            place: Such as `webhook example.org`; the number of places must be bounded.
            failure: What failed, as singular and plural.
            reason: Without a full stop; long reasons are cut.
            count: How often it happened.
        """
        kind = Kind(place, failure, _tidy(reason))
        with self._lock:
            if kind not in self._counts:
                reasons = sum(isinstance(known, Kind) and known[:2] == kind[:2] for known in self._counts)
                kind = kind if reasons < _MAX_REASONS else kind._replace(reason=_OTHER_REASONS)
            is_new = kind not in self._counts
            self._counts[kind] = self._counts.get(kind, 0) + count
            line = _format(kind, self._counts[kind])
        logger.log(logging.WARNING if is_new else logging.DEBUG, "%s", line)

    def watch_pending(self, pending: Callable[[], Iterable[tuple[Kind, int]]]) -> None:
        """Register a function that returns problems which may still resolve, such as deliveries being retried."""
        with self._lock:
            self._pending.append(pending)

    def lines(self) -> tuple[str, ...]:
        """One line per problem: sentences, counted ones, pending ones; each in order of first occurrence."""
        return tuple(self._current().values())

    def notify(self, now_s: float) -> None:
        """Pass new lines to `on_problem`; a line whose count has grown is passed again after a minute.

        Args:
            now_s: Seconds of a monotonic clock.
        """
        for kind, line in self._current().items():
            notified_s, notified_line = self._notified.get(kind, (float("-inf"), ""))
            if line != notified_line and now_s - notified_s >= _REPEAT_S:
                self._notified[kind] = now_s, line
                self._on_problem(line)

    @property
    def notified(self) -> int:
        """Number of problems that `notify` has passed on."""
        return len(self._notified)

    def _current(self) -> dict[Kind | str, str]:
        with self._lock:
            counts, pending = dict(self._counts), tuple(self._pending)
        for get_pending in pending:
            counts |= {kind._replace(reason=_tidy(kind.reason)): count for kind, count in get_pending()}
        lines = {kind: kind if isinstance(kind, str) else _format(kind, count) for kind, count in counts.items()}
        return dict(sorted(lines.items(), key=lambda item: not isinstance(item[0], str)))


def _format(kind: Kind, count: int) -> str:
    """One line: `webhook example.org: 3 deliveries failed: answered 410 Gone`."""
    return f"{kind.place}: {count} {kind.failure[count != 1]}: {kind.reason}"


def _tidy(text: str) -> str:
    """Make a reason printable, one line, bounded, and free of credentials."""
    words = " ".join("".join(char if char.isprintable() else " " for char in redact_text(text)).split())
    return words if len(words) <= _MAX_REASON_CHARACTERS else f"{words[: _MAX_REASON_CHARACTERS - 1]}…"
