"""`class_ids.json`: exported class ids and those of the dataset."""

import json

import pytest

from curate.errors import DataError
from curate.formats.coco import contiguous_ids, read_class_ids, write_class_ids


def test_gaps_are_closed():
    """Exported ids are 1 to n, in the order of the dataset's."""
    assert contiguous_ids([7, 2, 5]) == {1: 2, 2: 5, 3: 7}


def test_written_ids_come_back(tmp_path):
    """The file maps exported ids, as text, to those of the dataset; reading it gives the same mapping."""
    file = tmp_path / "class_ids.json"
    write_class_ids(file, {1: 2, 2: 5})
    assert json.loads(file.read_text()) == {"1": 2, "2": 5}
    assert read_class_ids(file) == {1: 2, 2: 5}


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("[1, 2]", "the mapping of class ids is not valid"),
        ("{", "not valid JSON"),
        ('{"mask": 1}', r"mask\.\[key\]: .*integer"),
        ('{"1": "mask"}', "expected a whole number"),
        ('{"1": true}', "expected a whole number"),
    ],
)
def test_other_content(tmp_path, text, fact):
    """Anything but a mapping of whole numbers is an error that names the file."""
    (tmp_path / "ids.json").write_text(text)
    with pytest.raises(DataError, match=rf"ids\.json.*{fact}"):
        read_class_ids(tmp_path / "ids.json")


def test_missing_file(tmp_path):
    """A missing file is an error that names it."""
    with pytest.raises(DataError, match=r"ids\.json: the mapping of class ids cannot be read"):
        read_class_ids(tmp_path / "ids.json")
