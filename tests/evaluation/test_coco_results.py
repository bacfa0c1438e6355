"""COCO results files: reading, writing, and rows that are not valid."""

import gzip
import json

import numpy as np
import orjson
import pandas as pd
import pytest
from evaluation_oracle import awkward_case, build_predictions

from curate.errors import DataError, MissingError
from curate.evaluation.coco_results import read_results, read_rows, write_results

GOOD = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}


def test_results_come_back(tmp_path):
    """Written and read results are the same detections in the same order."""
    _, predictions = awkward_case(2)
    write_results(predictions, tmp_path / "predictions.json")
    again = read_results(tmp_path / "predictions.json")
    pd.testing.assert_frame_equal(again.boxes, predictions.boxes, rtol=0, atol=1e-9)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]


def test_results_are_xywh(tmp_path):
    """A results file holds COCO's keys, and left, top, width, height."""
    write_results(build_predictions([(3, 2, 10, 20, 40, 60, 0.5)]), tmp_path / "p.json")
    expected = [{"image_id": 3, "category_id": 2, "bbox": [10, 20, 30, 40], "score": 0.5}]
    assert json.loads((tmp_path / "p.json").read_text()) == expected


def test_empty_results(tmp_path):
    """A results file can be empty."""
    (tmp_path / "p.json").write_text("[]")
    assert len(read_results(tmp_path / "p.json").boxes) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"annotations": []}', r"got dict; expected a list"),
        ('{"images": [], "annotations": []}', r"got a COCO dataset; expected a list of results\).*import-coco"),
        ("[" * 100_000, "not valid JSON"),
        ("[3]", r"entry 0: not a COCO result"),
        ('[{"image_id": "a.jpg", "category_id": 1, "bbox": [0,0,1,1], "score": 1}]', r"'image_id' .*got 'a.jpg'"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [0,0,1], "score": 1}]', r"'bbox' .*\[x, y, width, height\]"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [0,0,1,1]}]', r"'score' .*got None; expected a number"),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [0,0,0,1], "score": 1}]',
            r"p\.json, entry 0: the box has no area",
        ),
        (
            '[{"image_id": 1, "category_id": 5000000000, "bbox": [0,0,1,1], "score": 1}]',
            r"'category_id' .*got 5000000000; expected a whole number of 32 bits",
        ),
    ],
)
def test_broken_results(tmp_path, text, message):
    """A broken results file raises an error with its name, the entry and the rule."""
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_results(tmp_path / "p.json")


def test_compressed_results(tmp_path):
    """A compressed file is called so."""
    (tmp_path / "p.json").write_bytes(gzip.compress(b"[]"))
    with pytest.raises(DataError, match=r"compressed with gzip.*Decompress it"):
        read_results(tmp_path / "p.json")


def test_missing_results(tmp_path):
    """A missing results file raises an error with its name."""
    with pytest.raises(MissingError, match=r"nowhere\.json"):
        read_results(tmp_path / "nowhere.json")


# ── rows that are left out ───────────────────────────────────────────────────────────────────────────────────────

FAULTS = [
    (3, "not a COCO result"),
    (GOOD | {"image_id": ""}, "'image_id' is not valid"),
    (GOOD | {"image_id": 1.5}, "'image_id' is not valid"),
    (GOOD | {"image_id": 2**63}, "'image_id' is not valid"),
    (GOOD | {"image_id": True}, "'image_id' is not valid"),
    (GOOD | {"category_id": "1"}, "'category_id' is not valid"),
    (GOOD | {"category_id": 2**31}, "'category_id' is not valid"),
    (GOOD | {"bbox": [0, 0]}, "'bbox' is not valid"),
    (GOOD | {"bbox": [0, 0, 5, None]}, "'bbox' is not valid"),
    (GOOD | {"bbox": [0, 0, 5, True]}, "'bbox' is not valid"),
    (GOOD | {"bbox": [1e308] * 4}, "'bbox' is not valid"),
    (GOOD | {"bbox": [0, 0, float("nan"), 5]}, "'bbox' is not valid"),
    (GOOD | {"bbox": [0, 0, 5, float("inf")]}, "'bbox' is not valid"),
    (GOOD | {"bbox": [200, 50, 0, 12.5]}, "the box has no area"),
    (GOOD | {"bbox": [200, 50, 12, 0]}, "the box has no area"),
    (GOOD | {"bbox": [0, 0, -5, 5]}, "the box has no area"),
    (GOOD | {"bbox": [1e17, 0, 5, 5]}, "the box has no area"),  # too far away for its width to count in a float
    (GOOD | {"score": None}, "'score' is not valid"),
    (GOOD | {"score": "0.5"}, "'score' is not valid"),
    (GOOD | {"score": float("nan")}, "'score' is not valid"),
    (GOOD | {"score": 1e308}, "'score' is not valid"),
    (GOOD | {"score": -0.1}, "the score is negative"),
]


@pytest.mark.parametrize(("row", "fact"), FAULTS)
@pytest.mark.filterwarnings("error")
def test_one_bad_row(tmp_path, row, fact):
    """A bad row is left out, counted by what is wrong with it and named by its place; the others are read."""
    (tmp_path / "p.json").write_text(json.dumps([GOOD, row, GOOD]))
    rows = read_rows(tmp_path / "p.json")
    assert (rows.total, rows.entry.tolist(), rows.image_ids) == (3, [0, 2], [1, 1])
    assert rows.faults == {fact: 1}
    assert f"p.json, entry 1: {fact}" in str(rows.first_fault)


def test_bad_rows_of_several_kinds(tmp_path):
    """The first fault is that of the first bad row in the file, whatever its kind."""
    (tmp_path / "p.json").write_text(json.dumps([GOOD, *(row for row, _ in reversed(FAULTS))]))
    rows = read_rows(tmp_path / "p.json")
    assert sum(rows.faults.values()) == len(FAULTS)
    assert "entry 1: the score is negative" in str(rows.first_fault)


def test_numbers_that_other_tools_write(tmp_path):
    """Whole numbers with a decimal point are ids, and whole pixels are boxes."""
    (tmp_path / "p.json").write_text(json.dumps([GOOD | {"image_id": 7.0, "category_id": 2.0, "score": 1}]))
    rows = read_rows(tmp_path / "p.json")
    assert (rows.image_ids, rows.class_ids.tolist(), rows.scores.tolist()) == ([7], [2], [1.0])
    assert rows.boxes_xyxy.tolist() == [[0, 0, 5, 5]]


def test_image_ids_that_are_text(tmp_path):
    """Text as image id is a row like any other; only `read_results` needs ids of a dataset."""
    (tmp_path / "p.json").write_text(json.dumps([GOOD, GOOD | {"image_id": "a.jpg"}]))
    assert read_rows(tmp_path / "p.json").image_ids == [1, "a.jpg"]
    with pytest.raises(DataError, match="entry 1: 'image_id' is not valid"):
        read_results(tmp_path / "p.json")


def test_plain_and_checked_rows_are_the_same(tmp_path):
    """The quick way for files without a fault and the row by row one give the same rows."""
    _, predictions = awkward_case(3)
    write_results(predictions, tmp_path / "plain.json")
    rows = orjson.loads((tmp_path / "plain.json").read_bytes())
    (tmp_path / "checked.json").write_bytes(orjson.dumps([*rows, None]))
    plain, checked = read_rows(tmp_path / "plain.json"), read_rows(tmp_path / "checked.json")
    assert plain.image_ids == checked.image_ids
    for name in ("entry", "class_ids", "boxes_xyxy", "scores"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(checked, name))
