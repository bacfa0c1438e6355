"""Checks the form of a document, and says in one line where it differs and how."""

from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from curate.errors import CurateError, DataError
from curate.formatting import short_repr

T = TypeVar("T")
# pydantic's kinds of errors → what is expected
_RULES = {
    "path_type": "a file name",
    "string_type": "text; put names such as no or 5 in quotes",
    "model_type": "a mapping, key: value",
    "model_attributes_type": "a mapping, key: value",
    "dataclass_type": "a mapping, key: value",
    "dict_type": "a mapping, key: value",
    "mapping_type": "a mapping, key: value",
    "list_type": "a list",
    "tuple_type": "a list",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "at most {le}",
    "too_short": "at least {min_length}",
}


def check_shape(
    document: Any,
    shape: type[T],
    place: object,
    what: str,
    *,
    error: type[CurateError] = DataError,
    remedy: str | None = None,
) -> T:
    """Check a document against a type, such as a pydantic model or `dict[str, int]`.

    Args:
        document: As a reader of this package returns it.
        shape: The type.
        place: The file.
        what: What the file is, for the message, such as "record of the run".
        error: The kind of error that is raised.
        remedy: See `CurateError`.

    Returns:
        The document as a value of the type.

    Raises:
        CurateError: It differs; the message has the place in the document, such as `rounds[2].ap`.
    """
    try:
        return _adapter(shape).validate_python(document)
    except ValidationError as fault:
        details = fault.errors(include_url=False)[0]  # the first of many errors is enough
    except RecursionError:
        raise error(f"the {what} is nested too deeply", place=place, remedy=remedy) from None
    where = location(details)
    known = {"missing": "a required key is missing", "extra_forbidden": "unknown key"}.get(details["type"])
    raise error(
        f"the {what} is not valid" + (f": {known}" if known else ""),
        place=f"{place}, {where}" if where else place,
        got=None if known else short_repr(details["input"]),
        expected=None if known else rule_of(details),
        remedy=remedy,
    )


def location(details: ErrorDetails) -> str:
    """Where an error of pydantic is: `triggers[0].zone`; "" for the whole document."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in details["loc"]).removeprefix(".")


def rule_of(details: ErrorDetails) -> str:
    """What pydantic expected: a phrase."""
    rule = _RULES.get(details["type"])
    return details["msg"].removeprefix("Input should be ") if rule is None else rule.format(**details.get("ctx", {}))


@cache
def _adapter(shape: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(shape)
