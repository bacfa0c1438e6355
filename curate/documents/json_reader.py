"""Reads JSON: results of other tools, COCO files, records of runs and everything else comes through here.

Beyond JSON's own rules, a document is not nested deeply, has each key once, and its numbers are finite. The parsers
silently take the last of two equal keys; here they are counted, which costs next to nothing.
"""

import codecs
import json
import os
from typing import Any, TypeVar

import orjson

from curate.documents.shape import check_shape
from curate.errors import CurateError, DataError
from curate.files import read_regular, suggest_file

T = TypeVar("T")
LARGEST_BYTES = 1 << 26  # of a document
LARGEST_TABLE_BYTES = 1 << 33  # of a list of predictions, or of a COCO file
DEEPEST = 50  # levels of lists and objects
_LARGE_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"  # how its files begin


def read_json(
    path: str | os.PathLike[str],
    what: str,
    shape: type[T],
    *,
    error: type[CurateError] = DataError,
    unreadable: type[CurateError] | None = None,
    remedy: str | None = None,
    limit: int = LARGEST_BYTES,
) -> T:
    """Read a JSON file and check its form.

    Args:
        path: The file.
        what: What it is, for messages, such as "record of the run".
        shape: Its form: a pydantic model, or a type such as `dict[str, int]`.
        error: The kind of error that is raised.
        unreadable: That for a file that cannot be opened. Default: the same.
        remedy: See `CurateError`.
        limit: The most bytes that the file may have.

    Raises:
        CurateError: The file cannot be read, is not JSON, is beyond a limit, or has another form.
    """
    data = read_json_bytes(path, what, limit, error=unreadable or error, remedy=remedy)
    document = parse_json(data, path, what, error=error, remedy=remedy)
    return check_shape(document, shape, path, what, error=error, remedy=remedy)


def read_json_bytes(
    path: str | os.PathLike[str],
    what: str,
    limit: int,
    *,
    error: type[CurateError] = DataError,
    remedy: str | None = None,
) -> bytes:
    """Read a file for `parse_json`.

    Raises:
        CurateError: It cannot be read, or is too large.
    """
    try:
        return read_regular(path, limit)
    except OSError as fault:
        raise error(
            f"the {what} cannot be read: {fault.strerror}", place=path, remedy=suggest_file(path) or remedy
        ) from fault


def parse_json(
    data: bytes,
    place: object,
    what: str,
    *,
    error: type[CurateError] = DataError,
    remedy: str | None = None,
    allow_nan: bool = False,
) -> Any:
    """Parse the bytes of a JSON file; see `read_json`.

    Args:
        data, place, what, error, remedy: See `read_json`.
        allow_nan: Accept NaN and Infinity, which Python writes and which are no JSON; the caller checks the numbers.
    """
    try:
        return _parse(data, allow_nan)
    except (ValueError, RecursionError) as fault:
        why = "it is nested too deeply" if isinstance(fault, RecursionError) else str(fault)
        raise error(f"the {what} cannot be read: not valid JSON: {why}", place=place, remedy=remedy) from fault


def _parse(data: bytes, allow_nan: bool) -> Any:
    if data.startswith(_GZIP):
        raise ValueError("it is compressed with gzip. Decompress it first")
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode(json.detect_encoding(data)).encode()
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        if not allow_nan or not any(word in data for word in (b"NaN", b"Infinity")):
            raise
        document = json.loads(data)
    # in a large file of flat rows, such as a list of predictions, the count alone is much cheaper
    if len(data) < _LARGE_BYTES or data.count(b":") != _count_flat_keys(document):
        _check_nested(data, document)
    return document


def _count_flat_keys(document: Any) -> int:
    """Number of keys of a list of flat objects. Each key is followed by a colon: with no other colons, none is lost."""
    rows = document if type(document) is list else [document]
    return sum(len(row) for row in rows if type(row) is dict)


def _check_nested(data: bytes, document: Any) -> None:
    """Check depth, and that no key is lost, in a document that is nested or has colons in its text."""
    keys, depth, level = 0, 0, [document] if type(document) in (dict, list) else []
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"it is nested too deeply, the limit is {DEEPEST} levels")
        keys += sum(len(one) for one in level if type(one) is dict)
        inner = (one.values() if type(one) is dict else one for one in level)
        level = [value for values in inner for value in values if type(value) in (dict, list)]
    if data.count(b":") != keys:
        json.loads(data, object_pairs_hook=_refuse_duplicates)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {key[:80]!r} occurs twice")
        seen.add(key)
