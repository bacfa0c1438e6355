"""Text of others: what a name may hold, and how any text is shown on a terminal, in a table file or on a page.

Control characters move the cursor, colour a line or end it; bidirectional ones (Unicode Standard Annex 9) show a text
in another order than it has; other invisible ones make two names look alike. Names hold none of them. Paths on a disk
may: they work, and are shown with escapes.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from curate.errors import CurateError, UsageError

# the flags of England, Scotland and Wales are tags behind a black flag (Unicode Technical Standard 51)
_FLAG = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
# controls, soft hyphen, direction marks, zero width, line and paragraph separators, tags, halves of surrogate pairs;
# the joiners of Persian, Indic scripts and emoji (U+200C, U+200D) belong to words
_HIDDEN = re.compile(
    f"{_FLAG}|"
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_HIDDEN_BUT_LINES = re.compile(_HIDDEN.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet computes (OWASP, "CSV Injection")


def shown(text: str, *, lines: bool = False) -> str:
    r"""A text with escapes for what a terminal or a reader would not see.

    Args:
        text: Any text, such as a path.
        lines: Keep line ends, in a text of several lines.

    Examples:
        >>> shown("a\x1b[2J.jpg"), shown("café")
        ('a\\x1b[2J.jpg', 'café')
    """
    return (_HIDDEN_BUT_LINES if lines else _HIDDEN).sub(_escape, text)


def shown_document(document: Any) -> Any:
    """A document of JSON in which every text is shown, so that none begins a line of its own."""
    if isinstance(document, str):
        return shown(document)
    if isinstance(document, Mapping):
        return {shown_document(key): shown_document(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [shown_document(value) for value in document]
    return document


def shown_json(text: str) -> str:
    """The text of a JSON document with JSON's escapes for what is invisible."""
    return _HIDDEN_BUT_LINES.sub(lambda match: match[0] if len(match[0]) > 1 else json.dumps(match[0])[1:-1], text)


def _escape(match: re.Match[str]) -> str:
    if len(match[0]) > 1:  # a flag
        return match[0]
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no text
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode("ascii")


def clean_name(text: str) -> str:
    r"""A name without what names must not hold, and then with one space for white space. It may be empty.

    A name that holds nothing of the kind loses its outer white space only.

    Examples:
        >>> clean_name("\ufeffwith\n mask\u202e")
        'with mask'
    """
    if is_clean(text):
        return text.strip()
    return " ".join(_HIDDEN.sub(_remove, text).split())


def _remove(match: re.Match[str]) -> str:
    if len(match[0]) > 1:  # a flag
        return match[0]
    return " " if match[0].isspace() else ""


def is_clean(name: str) -> bool:
    """Whether a name holds nothing that is invisible."""
    return shown(name) == name


def check_name(name: str, place: object, what: str, *, error: type[CurateError] = UsageError) -> None:
    """Check a new name of a class or run that a person gave. Names that a dataset has already are shown with escapes.

    Raises:
        CurateError: Of the kind `error`; it holds a character that is invisible.
    """
    if not is_clean(name):
        raise error(
            f"not a {what} name: it has an invisible character",
            place=place,
            got=repr(name),
            expected="text without line ends, control and direction characters",
        )


def csv_cell(value: object) -> object:
    """A cell for a CSV file: a text that a spreadsheet would compute begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
