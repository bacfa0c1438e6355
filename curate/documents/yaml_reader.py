"""Reads YAML: cards, pipelines, maps, trigger files and settings of runs all come through here.

Beyond YAML's own rules, a document is small, is not nested deeply, does not grow by its aliases, and has each key once:
PyYAML silently takes the last of two equal keys, and lets nine lines stand for a billion values. The values are those
of JSON; dates are text.
"""

import math
import os
import re
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import BaseConstructor
from yaml.parser import Parser

from curate.errors import CurateError, DataError
from curate.files import read_text, suggest_file

LARGEST_BYTES = 1 << 20  # PyYAML reads some hundred kilobytes a second
MOST_VALUES = 200_000  # aliases counted as what they stand for
DEEPEST = 50  # levels of lists and mappings
_LONGEST_NUMBER = 100  # characters; what is longer is text
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # no file name and no other document can hold it
_TAG = "tag:yaml.org,2002:"
_TEXT, _MERGE = f"{_TAG}str", f"{_TAG}merge"
_TAGS = frozenset({_TEXT, *(_TAG + name for name in ("null", "bool", "int", "float", "seq", "map"))})


def read_yaml(
    path: str | os.PathLike[str], what: str, *, error: type[CurateError] = DataError, as_text: bool = False
) -> Any:
    """Read a YAML file, which is UTF-8, or UTF-16 with its mark.

    Args:
        path: The file.
        what: What it is, for messages, such as "card".
        error: The kind of error that is raised.
        as_text: Every value is the text that is written: YAML reads the names yes, no, 0 and 1.0 as other values.

    Returns:
        Dicts, lists and scalars; None for an empty file.

    Raises:
        CurateError: The file cannot be read, is not YAML, or is beyond a limit; the message has the line.
    """
    try:
        text = read_text(path, what, LARGEST_BYTES)
    except DataError as fault:
        raise error(
            fault.fact, place=path, got=fault.got, expected=fault.expected, remedy=fault.remedy or suggest_file(path)
        ) from fault
    return parse_yaml(text, path, what, error=error, as_text=as_text)


def parse_yaml(
    text: str, place: object, what: str, *, error: type[CurateError] = DataError, as_text: bool = False
) -> Any:
    """Parse the text of a YAML file; see `read_yaml`. `place` is where it comes from."""
    try:
        return yaml.load(text, Loader=_TextLoader if as_text else _ValueLoader)  # noqa: S506 (both are safe)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        where = place if mark is None else f"{place}, line {mark.line + 1}, column {mark.column + 1}"
        fact = _QUOTED.sub(_hide_content, fault.problem or fault.context or "it cannot be read")
        raise error(f"the {what} cannot be read: not valid YAML: {fact}", place=where) from fault
    except yaml.reader.ReaderError as fault:
        line = text.count("\n", 0, fault.position) + 1
        fact = f"the character U+{fault.character:04X} is not allowed"
        raise error(f"the {what} cannot be read: not valid YAML: {fact}", place=f"{place}, line {line}") from fault
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as fault:
        raise error(f"the {what} cannot be read: not valid YAML: a value cannot be read", place=place) from fault


def _hide_content(quoted: re.Match[str]) -> str:
    """Keep YAML's punctuation and the parser's own words such as '<block end>'; hide text of the file: secrets."""
    text = quoted[0][1:-1]
    return quoted[0] if len(text) <= 1 or text[0] in "<\\" else "…"


def _refuse(problem: str, node: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


class _Limits(Parser, Composer, BaseConstructor):
    """The rules of this module, for any of PyYAML's loaders in pure Python."""

    _depth = 0
    _values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, counting levels and values."""
        event = self.peek_event()
        before = self._values
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            weight = getattr(node, "weight", None)  # PyYAML has no place for it
            if weight is None:
                raise _refuse("an alias is part of what it stands for", event)
            self._values += weight
        else:
            self._depth += 1
            if self._depth > DEEPEST:
                raise _refuse(f"nested too deeply, the limit is {DEEPEST} levels", event)
            self._values += 1
            node = super().compose_node(parent, index)
            self._depth -= 1
            node.weight = self._values - before  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        if self._values > MOST_VALUES:
            raise _refuse(f"too many values, the limit is {MOST_VALUES:,}", event)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Construct a value; whatever PyYAML raises has the line."""
        if node.tag not in _TAGS:
            raise _refuse("a tag that is not understood", node)
        if isinstance(node, yaml.ScalarNode) and node.tag != _TEXT and len(node.value) > _LONGEST_NUMBER:
            raise _refuse(f"a number of more than {_LONGEST_NUMBER} characters", node)
        try:
            value = super().construct_object(node, deep=deep)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise _refuse("a value cannot be read", node) from error
        if isinstance(value, str) and not value.isascii() and _HALF_CHARACTER.search(value):
            raise _refuse("an escape that is half of a character", node)
        if isinstance(value, float) and not math.isfinite(value):
            raise _refuse("a number that is not finite", node)
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping, and refuse keys that are equal, whatever their spelling."""
        seen: set[Any] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise _refuse("a key is not a word", key)
            value = self.construct_object(key)
            if value in seen:
                raise _refuse("duplicate key", key)
            seen.add(value)
        return super().construct_mapping(node, deep=deep)


class _ValueLoader(_Limits, yaml.SafeLoader):
    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """The tag of a node. What has no tag of its own is a value of JSON, or text."""
        tag = super().resolve(kind, value, implicit)
        is_plain = kind is yaml.ScalarNode and implicit[0]
        return _TEXT if is_plain and (len(value) > _LONGEST_NUMBER or tag not in {*_TAGS, _MERGE}) else tag


class _TextLoader(_Limits, yaml.BaseLoader):
    """Takes every scalar as the text that is written."""
