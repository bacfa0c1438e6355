"""YAML files: what is refused beyond YAML's own rules, and where the message says it is."""

import pytest

from curate.documents.yaml_reader import DEEPEST, LARGEST_BYTES, parse_yaml, read_yaml
from curate.errors import DataError, UsageError

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def parsed(text, **options):
    return parse_yaml(text, "a.yaml", "map", **options)


@pytest.mark.parametrize(
    ("text", "where", "fact"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1", "duplicate key"),
        ("a:\n  b: {c: 1, c: 2}\n", "line 2, column 13", "duplicate key"),
        ("1: a\n0x1: b\n", "line 2, column 1", "duplicate key"),
        ("1: a\ntrue: b\n", "line 2, column 1", "duplicate key"),
        (BOMB, "line 6, column 11", "too many values, the limit is 200,000"),
        ("[" * (DEEPEST + 1), "line 1, column 51", "nested too deeply, the limit is 50 levels"),
        ("- " * 3000 + "a", "line 1, column 101", "nested too deeply"),
        ("a: &a [*a]", "line 1, column 8", "an alias is part of what it stands for"),
        ("&a {b: {c: *a}}", "line 1, column 12", "an alias is part of what it stands for"),
        ("? [1, 2]\n: 3\n", "line 1, column 3", "a key is not a word"),
        ("a: .nan", "line 1, column 4", "a number that is not finite"),
        ("a: -.inf", "line 1, column 4", "a number that is not finite"),
        ("a: !!python/object/apply:os.system [x]", "line 1, column 4", "a tag that is not understood"),
        ("a: !!binary aGk=", "line 1, column 4", "a tag that is not understood"),
        ("a: !!set {x}", "line 1, column 4", "a tag that is not understood"),
        (f"a: !!int '{'1:' * 5000}1'", "line 1, column 4", "a number of more than 100 characters"),
        ("a: !!float x", "line 1, column 4", "a value cannot be read"),
        ("a: !!bool maybe", "line 1, column 4", "a value cannot be read"),
        ("a: b\n# \x07", "line 2", r"the character U\+0007 is not allowed"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1", "another document"),
    ],
)
def test_what_is_refused(text, where, fact):
    """The error names the line and what is wrong."""
    with pytest.raises(DataError, match=rf"^a\.yaml, {where}: the map cannot be read: not valid YAML: .*{fact}"):
        parsed(text)


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("", None),
        ("a: [1, 2.5, yes, ~, 0x10]", {"a": [1, 2.5, True, None, 16]}),
        ("a: 2026-12-01", {"a": "2026-12-01"}),
        ("a: 2026-99-99", {"a": "2026-99-99"}),
        ("a: =", {"a": "="}),
        (f"a: {'9' * 5000}", {"a": "9" * 5000}),
        ("x: &x {a: 1}\ny:\n  <<: *x\n  a: 2\n", {"x": {"a": 1}, "y": {"a": 2}}),
        ("a: &a [1]\nb: *a\nc: *a\n", {"a": [1], "b": [1], "c": [1]}),
        ("[" * DEEPEST + "]" * DEEPEST, eval("[" * DEEPEST + "]" * DEEPEST)),
    ],
)
def test_what_is_read(text, document):
    """Values are those of JSON; dates and long numbers are text; merge keys and a few aliases are allowed."""
    assert parsed(text) == document


def test_values_as_text():
    """For maps of class names, every scalar is the text that is written."""
    assert parsed("yes: [no, 0, ~]\n<<: =\n", as_text=True) == {"yes": ["no", "0", "~"], "<<": "="}


def test_content_is_not_repeated():
    """Text of the file may be a secret; the message has none of it."""
    with pytest.raises(DataError) as caught:
        parsed("a: *S3CRET")
    assert "S3CRET" not in str(caught.value)


def test_files(tmp_path):
    """A file over the limit, in another encoding, or that is not there, is an error of the kind that is asked for."""
    file = tmp_path / "a.yaml"
    with pytest.raises(UsageError, match=r"a\.yaml: the map cannot be read: No such file"):
        read_yaml(file, "map", error=UsageError)
    file.write_text("#" * (LARGEST_BYTES + 1))
    with pytest.raises(DataError, match="it has 1,048,577 bytes, the limit is 1,048,576"):
        read_yaml(file, "map")
    file.write_bytes(b"a: \xff")
    with pytest.raises(UsageError, match="the encoding of the map is not understood"):
        read_yaml(file, "map", error=UsageError)
    file.write_bytes("a: é".encode("utf-16"))
    assert read_yaml(file, "map") == {"a": "é"}


@pytest.mark.parametrize("text", ['a: "\\ud800"', '"\\uDC00": 1', '["\\ud83d\\ude00"]'])
def test_half_of_a_character_is_refused(tmp_path, text):
    """No file name can hold it, and no other document."""
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(DataError, match="half of a character"):
        read_yaml(tmp_path / "a.yaml", "card")
