"""How tables, reports, plots and messages write numbers and commands; an undefined number is a dash."""

import shlex
from collections.abc import Iterable
from reprlib import Repr

UNDEFINED = "–"
_LONGEST_REPR = 80  # characters
_REPR = Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxdict = 4, 20, 20, 10
_REPR.maxstring, _REPR.maxlong, _REPR.maxother = 200, 100, 200


def points(metric: float | None) -> str:
    """0.5132 → "51.3", as detection papers print AP."""
    return UNDEFINED if metric is None else f"{100 * metric:.1f}"


def percent(share: float | None) -> str:
    """0.793 → "79.3 %"."""
    return UNDEFINED if share is None else f"{100 * share:.1f} %"


def count(number: int | None) -> str:
    """12345 → "12,345"."""
    return UNDEFINED if number is None else f"{number:,}"


def count_of(number: int, noun: str) -> str:
    """(1, "box") → "1 box", (3, "box") → "3 boxes"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun[-1] in 'sx' else 's'}"


def listed(names: Iterable[str], most: int = 3) -> str:
    """("a", "b", "a", "c", "d") → "a, b, c, …": each name once, and the first few."""
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:most]) + (", …" if len(distinct) > most else "")


def score(value: float | None) -> str:
    """0.69063 → "0.691"."""
    return UNDEFINED if value is None else f"{value:.3f}"


def metres(distance_m: float | None) -> str:
    """12.345 → "12.3 m"."""
    return UNDEFINED if distance_m is None else f"{distance_m:.3g} m"


def curate_command(*words: object) -> str:
    """("undo", "my masks") → "`curate undo 'my masks'`", as a shell takes it."""
    return f"`{shlex.join(['curate', *map(str, words)])}`"


def short_repr(value: object) -> str:
    """`repr(value)`, cut to 80 characters; values of any size and depth take no time."""
    text = _REPR.repr(value)
    return text if len(text) <= _LONGEST_REPR else f"{text[: _LONGEST_REPR - 3]}…"
