"""Files for `--map`: YAML that names what to merge, rename or drop. Loads no library before a file is read."""

import os

from curate.errors import UsageError
from curate.formatting import short_repr

# what --help, documentation and messages show
MERGE_MAP = "TARGET: [SOURCE, ...], such as fruit: [apple, pear]; or SOURCE: TARGET, such as apple: fruit"
RENAME_MAP = "OLD: NEW, such as appel: apple"
DROP_MAP = "- NAME, such as - leaf"


def read_map(path: str | os.PathLike[str]) -> object:
    """Read a YAML file of class names: mappings, lists, and every scalar as the text that is written.

    YAML would read the names yes, no, 0 and 1.0 as truth values and numbers.

    Raises:
        DataError: The file cannot be read or has another encoding, or a mapping has a name twice.
    """
    from curate.documents.yaml_reader import read_yaml

    return read_yaml(path, "map", as_text=True)


def parse_merges(document: object, *, place: object = "map") -> dict[str, tuple[str, ...]]:
    """Parse merges: `target: [source, …]` or `source: target` entries.

    Returns:
        Target → sources.

    Raises:
        UsageError: The document has another form.
    """
    merges: dict[str, tuple[str, ...]] = {}
    for key, value in _mapping(document, place, MERGE_MAP).items():
        if isinstance(value, list) and value and all(isinstance(name, str) and name for name in value):
            merges[key] = (*merges.get(key, ()), *value)
        elif isinstance(value, str) and value:
            merges[value] = (*merges.get(value, ()), key)
        else:
            raise _wrong("not a merge", place, key, value, MERGE_MAP)
    return merges


def parse_renames(document: object, *, place: object = "map") -> dict[str, str]:
    """Parse renames: `old: new` entries.

    Raises:
        UsageError: The document has another form.
    """
    names = _mapping(document, place, RENAME_MAP)
    for key, value in names.items():
        if not isinstance(value, str) or not value:
            raise _wrong("not a rename", place, key, value, RENAME_MAP)
    return {key: str(value) for key, value in names.items()}


def parse_drops(document: object, *, place: object = "map") -> tuple[str, ...]:
    """Parse a list of class names.

    Raises:
        UsageError: The document has another form.
    """
    if not isinstance(document, list) or not document:
        raise UsageError("not a list of class names", place=place, got=_named(document), expected=f"lines {DROP_MAP}")
    for number, name in enumerate(document, 1):
        if not isinstance(name, str) or not name:
            raise _wrong("not a class name", place, f"entry {number}", name, DROP_MAP)
    return tuple(document)


def _mapping(document: object, place: object, form: str) -> dict[str, object]:
    if not isinstance(document, dict) or not document:
        raise UsageError("not a mapping of class names", place=place, got=_named(document), expected=f"lines {form}")
    for key, value in document.items():
        if not isinstance(key, str) or not key:
            raise _wrong("not a class name", place, key, value, form)
    return document


def _wrong(fact: str, place: object, key: object, value: object, form: str) -> UsageError:
    return UsageError(fact, place=f"{place}, {key}", got=_named(value), expected=f"a line {form}")


def _named(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return f"the list {short_repr(value)}"
    return "nothing" if value in (None, "") else short_repr(value)
