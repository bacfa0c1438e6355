"""Every error that curate raises on purpose.

    CurateError                 exit 1: a problem in data or environment
    ├── UsageError              exit 2: arguments contradict one another, or do not fit this dataset
    ├── DataError               a file or a row breaks a rule of its format
    │   └── StrictImportError   an import with `--strict` found something to repair or quarantine
    ├── StoreError              a dataset folder is missing, damaged or locked
    ├── MissingError            a required package, program, file or network is missing
    └── TrainingError           training cannot start or continue

One form for all messages: **place: fact (got value; expected rule). Remedy.** `system_error` makes one of what the
system says about a file, also where nobody caught it.
"""

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_MOST_NAMES = 30  # in a message
_NO_SPACE = "Free some space on that disk, or use another one, then give the command again."
_NOT_ALLOWED = "Check who may write and read that file and its folder."
_SYSTEM_REMEDIES = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EROFS: "That disk can only be read: use another place.",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EIO: "The disk may be failing: see the log of the system.",
    errno.ELOOP: "A link is in its place, or leads in a circle: remove it.",
    errno.EMFILE: "Allow more open files, as with `ulimit -n 4096`.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


class CurateError(Exception):
    """A problem, described in one line.

    Args:
        fact: What is wrong, without a full stop.
        place: A file, a row or an option.
        got: The offending value.
        expected: The rule that it breaks.
        remedy: What the reader can do, as a sentence.
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
        """Pickle the message itself: calling `__init__` again would format it a second time."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[CurateError], args: tuple[Any, ...], parts: dict[str, Any]) -> CurateError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(parts)
    return error


class UsageError(CurateError):
    """Arguments contradict one another, or do not fit this dataset."""

    exit_code = 2


class DataError(CurateError):
    """A file or a row breaks a rule of its format."""


class StrictImportError(DataError):
    """An import with `--strict` found something to repair or quarantine; `result` lists it for `--json`."""

    def __init__(self, fact: str, *, result: object, **parts: object) -> None:
        super().__init__(fact, **parts)  # pyright: ignore[reportArgumentType]
        self.result = result


class StoreError(CurateError):
    """A dataset folder is missing, damaged or locked."""


class MissingError(CurateError):
    """A required package, program, file or network is missing."""


class TrainingError(CurateError):
    """Training cannot start or continue."""


def system_error(
    error: OSError, fact: str | None = None, *, place: object = None, kind: type[CurateError] = CurateError
) -> CurateError:
    """The error for a file that the system does not read or write, such as one on a full disk.

    Args:
        error: What the system said.
        fact: What failed, such as "the dataset cannot be written"; without it the system's words are the fact.
        place: The file; without it the one that `error` names.
        kind: Of the error.
    """
    words = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return kind(
        f"{fact}: {words}" if fact else words,
        place=error.filename if place is None else place,
        remedy=_SYSTEM_REMEDIES.get(error.errno or 0),
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or the one that it explains, is that of a full disk or quota."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and _SYSTEM_REMEDIES.get(cause.errno or 0) == _NO_SPACE


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most likely meant, whatever its case; None if none is similar."""
    by_folded = {one.casefold(): one for one in reversed(list(known))}
    matches = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    return by_folded[matches[0]] if matches else None


def unknown_name(
    kind: str, name: str, known: Iterable[str], *, place: object = None, remedy: str | None = None
) -> UsageError:
    """The error for an unknown name; it lists the known names and suggests the closest.

    Args:
        kind: What the name is of, such as "class".
        name: As it was given.
        known: The names that exist.
        place: See `CurateError`.
        remedy: What else the reader can do, after the suggestion.
    """
    known = list(known)
    similar = closest(name, known)
    listed = [*known[:_MOST_NAMES], f"{len(known) - _MOST_NAMES} more"] if len(known) > _MOST_NAMES else known
    remedies = [f"Did you mean {similar!r}?" if similar else None, remedy]
    return UsageError(
        f"unknown {kind}",
        place=place,
        got=repr(name),
        expected=f"one of {', '.join(listed)}" if known else f"a {kind}, but there are none yet",
        remedy=" ".join(filter(None, remedies)) or None,
    )


def quote_remedy(value: object) -> str | None:
    """What to do about a name that YAML has read as a truth value or a number; None for other values."""
    values = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
    if any(isinstance(one, bool | int | float) for one in values):
        return "YAML reads yes, no, on, off and numbers as values: put a name in quotes, such as 'no'."
    return None
