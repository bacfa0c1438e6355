"""JSON files: what is refused beyond JSON's own rules."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from curate.documents.json_reader import DEEPEST, parse_json, read_json
from curate.errors import DataError, MissingError


def parsed(data, **options):
    return parse_json(data if isinstance(data, bytes) else data.encode(), "a.json", "record", **options)


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        ('[{"a": {"b": 1, "b": 2}}]', "the key 'b' occurs twice"),
        ('{"ab": 1, "a\\u0062": 2}', "the key 'ab' occurs twice"),
        ('{"a": "x: y", "b" : 1, "b"\n:2}', "the key 'b' occurs twice"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested too deeply"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested too deeply"),
        ("[" * 100_000, "depth limit exceeded|nested too deeply"),
        ('{"a": NaN}', "line 1 column 7"),
        ('{"a": 1e999}', "infinity"),
        ('"\\ud800"', "surrogate"),
        ("{", "line 1 column 2"),
        ("", "empty"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
        (b'"\xff"', "UTF-8"),
        ('{"a": 1}'.encode("utf-16")[:-1], "truncated"),
    ],
)
def test_what_is_refused(data, fact):
    """The error says what is wrong."""
    with pytest.raises(DataError, match=rf"^a\.json: the record cannot be read: not valid JSON: .*({fact})"):
        parsed(data)


@pytest.mark.parametrize(
    "document",
    [None, 3, "a: b", [], {}, [[{}]], {"a": {"a": {"a": ":"}}}, [{"a:": ":"}] * 3, json.loads("[" * 50 + "]" * 50)],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_is_read(document, encoding):
    """Any other document is read, in the encodings of lists of names."""
    assert parsed(json.dumps(document).encode(encoding)) == document


def test_keys_in_a_large_table():
    """In a large list, whose keys are counted only, one key that is there twice is still found."""
    rows = [json.dumps({"image_id": row, "file": "C:\\a", "score": 0.5}) for row in range(30_000)]
    assert len(parsed(f"[{','.join(rows)}]")) == len(rows)
    rows[20_000] = '{"image_id": 1, "file": "a", "file": "b"}'
    with pytest.raises(DataError, match="the key 'file' occurs twice"):
        parsed(f"[{','.join(rows)}]")


def test_numbers_that_are_no_json():
    """Only who checks the numbers gets NaN, which Python's writer writes."""
    assert str(parsed('{"a": [NaN, -Infinity]}', allow_nan=True)) == "{'a': [nan, -inf]}"


class _Shape(BaseModel):
    name: str
    sizes: list[int] = []
    inner: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"a\.json: the record is not valid \(got \[\]; expected a mapping"),
        ("{}", r"a\.json, name: the record is not valid: a required key is missing\."),
        ('{"name": 3}', r"a\.json, name: the record is not valid \(got 3; expected text"),
        (
            '{"name": "x", "sizes": [1, 2.5]}',
            r"a\.json, sizes\[1\]: the record is not valid \(got 2.5; expected a whole",
        ),
    ],
)
def test_other_shapes(tmp_path, text, message):
    """The error names the place in the document."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_json(tmp_path / "a.json", "record", _Shape)


def test_files(tmp_path):
    """A file that is not there, or too large, is an error."""
    with pytest.raises(MissingError, match=r"a\.json: the record cannot be read: No such file"):
        read_json(tmp_path / "a.json", "record", _Shape, unreadable=MissingError)
    (tmp_path / "a.json").write_text('{"name": "x"}')
    assert read_json(tmp_path / "a.json", "record", _Shape) == _Shape(name="x")
    with pytest.raises(DataError, match="the limit is 5"):
        read_json(tmp_path / "a.json", "record", _Shape, limit=5)
