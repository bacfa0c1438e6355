"""Every error that curate raises on purpose.

    CurateError                 exit 1: a problem in data or environment
    ├── UsageError              exit 2: the arguments do not fit one another, or this dataset
    ├── DataError               a file or a row breaks a rule of its format
    │   └── StrictImportError   `--strict` was asked for and something needed mending
    ├── StoreError              a dataset folder is missing, damaged or locked
    ├── MissingError            a package, program, file or network that is needed is not there
    └── TrainingError           training cannot start or go on

One form for all messages: **place: fact (got value; expected rule). Remedy.**
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class CurateError(Exception):
    """A problem told in one line.

    Args:
        fact: what is wrong, without a full stop.
        place: where: a file, a row, an option.
        got: the offending value.
        expected: the rule it breaks.
        remedy: what the reader can do, as a sentence.
    """

    exit_code = 1

    def __init__(
        self,
        fact: str,
        *,
        place: object = None,
        got: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        self.fact, self.place, self.got, self.expected, self.remedy = fact, place, got, expected, remedy
        details = "; ".join(
            f"{word} {value}" for word, value in (("got", got), ("expected", expected)) if value is not None
        )
        message = f"{place}: " if place is not None else ""
        message += fact + (f" ({details})" if details else "") + "."
        super().__init__(message + (f" {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes the message stays as it is, and is not made a second time."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[CurateError], args: tuple[Any, ...], parts: dict[str, Any]) -> CurateError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(parts)
    return error


class UsageError(CurateError):
    """The arguments do not fit one another, or this dataset."""

    exit_code = 2


class DataError(CurateError):
    """A file or a row breaks a rule of its format."""


class StrictImportError(DataError):
    """Carries the import's result, so that `--json` can still list the problems."""

    def __init__(self, fact: str, *, result: object, **parts: object) -> None:
        super().__init__(fact, **parts)  # pyright: ignore[reportArgumentType]
        self.result = result


class StoreError(CurateError):
    """A dataset folder is missing, damaged or locked."""


class MissingError(CurateError):
    """Something that is needed is not there: a package, a program, a file, the network."""


class TrainingError(CurateError):
    """Training cannot start or go on."""


def unknown_name(kind: str, name: str, known: Iterable[str], *, place: object = None) -> UsageError:
    """An error for a name that is not there, which lists the known ones and the closest."""
    known = list(known)
    closest = get_close_matches(name, known, n=1, cutoff=0.5)
    return UsageError(
        f"unknown {kind}",
        place=place,
        got=repr(name),
        expected=f"one of {', '.join(known)}" if known else f"a {kind}, but there is none yet",
        remedy=f"Did you mean {closest[0]!r}?" if closest else None,
    )
