"""Text of others: what a name may hold, and how any text is shown."""

import json
import unicodedata

import pytest

from curate.errors import DataError, UsageError
from curate.plain_text import check_name, clean_name, csv_cell, is_clean, shown, shown_document, shown_json

HIDDEN = ["\x1b[2J", "\r", "\x00", "\x7f", "\x9b31m", "\u202e", "\u2066", "\u200b", "\u2028", "\ufeff", "\U000e0041"]
ENGLAND, SCOTLAND = (
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f"
    for region in ("gbeng", "gbsct")
)
WORDS = [
    ENGLAND,
    SCOTLAND,
    "❤\ufe0f",
    "e\u0301",
    "with  mask",
    "with\xa0mask",
    "café",
    "口罩",
    "नहीं",
    "می\u200cخواهم",
    "👩\u200d🏭",
    "wear-mask_2",
    "a [b] :c:",
    "שלום",
    "مرحبا",
]


@pytest.mark.parametrize("text", HIDDEN)
def test_what_nobody_would_see_is_shown(text):
    """Control, direction and other invisible characters become escapes, and nothing else changes."""
    escaped = shown(f"a{text}b")
    assert escaped.isprintable()
    assert escaped.startswith("a\\")
    assert escaped.endswith("b")
    assert shown(escaped) == escaped


@pytest.mark.parametrize("text", WORDS)
def test_words_stay(text):
    """Text of any language is shown as it is, and can be a name."""
    assert shown(text) == clean_name(text) == text
    assert is_clean(text)


def test_all_control_and_direction_characters():
    """Every control character, separator and direction mark of Unicode is escaped."""
    marks = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs") or unicodedata.bidirectional(character) in marks:
            assert not is_clean(character), hex(code)


def test_lines():
    """A text of several lines keeps its line ends, and only these."""
    assert shown("a\nb\r\x1b", lines=True) == "a\nb\\r\\x1b"
    assert shown("a\nb") == "a\\nb"


def test_bytes_of_a_file_name():
    """A byte that is no text is shown as a byte."""
    assert shown("a\udcffb") == "a\\xffb"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"\u202e{ENGLAND}  x", f"{ENGLAND} x"),
        (f"{SCOTLAND[:-1]}", "\U0001f3f4"),
        ("\ufeffmask", "mask"),
        (" with\n\tmask ", "with mask"),
        ("ma\u200bsk\u202e", "mask"),
        ("\u202e\x00", ""),
    ],
)
def test_clean_names(text, name):
    """Names lose what is invisible, and then white space of any kind is one space."""
    assert clean_name(text) == name


@pytest.mark.parametrize("text", HIDDEN)
def test_names_are_checked(text):
    """A name with an invisible character is an error that shows it."""
    with pytest.raises(UsageError, match=r"^--into: not a class name: it has an invisible character \(got '.*\\"):
        check_name(f"a{text}", "--into", "class")
    with pytest.raises(DataError):
        check_name(f"a{text}", "--into", "class", error=DataError)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_cells_of_csv(text):
    """A spreadsheet computes no text; numbers stay numbers."""
    assert csv_cell(text) == f"'{text}"
    assert [csv_cell(value) for value in (-1, -0.5, None, "a=b", "")] == [-1, -0.5, None, "a=b", ""]


def test_documents():
    """All texts of a document are escaped, keys too; other values stay."""
    document = {"a\n": ["b\x1b", 1, None, {"c": "d\u202e"}], "e": ("é",)}
    assert shown_document(document) == {"a\\n": ["b\\x1b", 1, None, {"c": "d\\u202e"}], "e": ["é"]}


def test_json_is_the_same_document():
    """The escapes of JSON's text are JSON's own; line ends between values stay."""
    document = {name: name for name in (*HIDDEN, *WORDS, "a\udcffb", "a\nb", r"a\u202eb")}
    text = shown_json(json.dumps(document, indent=2, ensure_ascii=False))
    assert json.loads(text) == document
    assert all(map(is_clean, text.split("\n")))
    assert "नहीं" in text
