"""The table of mistakes: names, sources, files."""

import numpy as np
import pandas as pd
import pytest
from evaluation_oracle import awkward_case, build_predictions, build_truth

from curate.errors import UsageError
from curate.evaluation.error_table import ERROR_COLUMNS, check_error_file, list_errors, write_errors
from curate.evaluation.mistakes import find_mistakes

FACE, MASK = (1, 1, 0, 0, 100, 100), (2, 2, 500, 500, 520, 530)


def errors_of(truth, predictions):
    return list_errors(find_mistakes(truth, predictions), truth)


@pytest.fixture
def truth():
    """A face in the first image, which is a frame, and a mask in the second."""
    truth = build_truth([FACE, MASK], images=(1, 2))
    columns = {"split": ["val", None], "source": ["clips", "photos"], "video_id": ["clip 1", None]}
    texts = {name: pd.array(values, dtype="str") for name, values in columns.items()}
    return truth.replace(images=truth.images.assign(**texts, timestamp_s=[2.5, np.nan]))


def test_missed_object(truth):
    """A miss has its box and id, its class, and the source of its image, and no score."""
    row = errors_of(truth, build_predictions([(*MASK, 0.9)])).iloc[0]
    assert row[["image_id", "path", "split", "source", "video_id", "timestamp_s"]].tolist() == [
        *(1, "1.jpg", "val", "clips", "clip 1", 2.5)
    ]
    assert row[["mistake", "class", "size", "kind", "iou", "box_id"]].tolist() == [
        *("missed", "face", "large", "missed", 0, 1)
    ]
    assert row[["x0", "y0", "x1", "y1"]].tolist() == [0, 0, 100, 100]
    assert row[["score", "confused_with"]].isna().all()


def test_false_positive(truth):
    """A false positive has its score, box and class, and the class it was confused with."""
    rows = errors_of(truth, build_predictions([(*FACE, 0.9), (2, 1, *MASK[2:], 0.75)]))
    assert rows["mistake"].tolist() == ["missed", "false positive"]
    assert rows["kind"].tolist() == ["class", "class"]
    assert rows["confused_with"].tolist() == ["face", "mask"]
    assert rows["box_id"].tolist() == [2, pd.NA]
    wrong = rows.iloc[1]
    assert wrong[["path", "class", "size", "score", "iou"]].tolist() == ["2.jpg", "face", "small", 0.75, 1]
    assert wrong[["split", "video_id", "timestamp_s"]].isna().all()


def test_columns():
    """The table has the declared columns and types, also when empty."""
    for case in (awkward_case(0), (build_truth([]), build_predictions([]))):
        assert errors_of(*case).dtypes.astype(str).to_dict() == dict(ERROR_COLUMNS)


@pytest.mark.parametrize(("suffix", "read"), [(".csv", pd.read_csv), (".parquet", pd.read_parquet)])
def test_files_hold_the_table(tmp_path, suffix, read):
    """The file has the table, its folder is created, and writing it again gives the same bytes."""
    truth, predictions = awkward_case(1)
    truth = truth.replace(images=truth.images.assign(source="clips"))  # in CSV, no text and no value are one
    errors = errors_of(truth, predictions)
    files = [tmp_path / "new" / f"{name}{suffix}" for name in "ab"]
    for file in files:
        write_errors(errors, file)
    pd.testing.assert_frame_equal(read(files[0]), errors, check_dtype=False)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_csv_is_plain(tmp_path, truth):
    """The CSV is UTF-8, one line per mistake, with empty fields for null."""
    truth = truth.replace(classes=((1, "Gesicht, groß"), (2, "mask")))
    write_errors(errors_of(truth, build_predictions([(*MASK, 0.9)])), tmp_path / "e.csv")
    expected = '1,1.jpg,val,clips,clip 1,2.5,missed,"Gesicht, groß",large,missed,,0.0,,0.0,0.0,100.0,100.0,1'
    assert (tmp_path / "e.csv").read_bytes().decode() == ",".join(ERROR_COLUMNS) + "\n" + expected + "\n"


@pytest.mark.parametrize("name", ["errors.xlsx", "errors", "errors.json"])
def test_unknown_suffix(tmp_path, name):
    """An unknown suffix raises an error with the known ones."""
    with pytest.raises(UsageError, match=r"not a table file .*expected \.csv or \.parquet"):
        check_error_file(tmp_path / name)
    with pytest.raises(UsageError):
        write_errors(errors_of(build_truth([]), build_predictions([])), tmp_path / name)
    assert not (tmp_path / name).exists()
