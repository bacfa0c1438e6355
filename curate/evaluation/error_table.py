"""The mistakes as a table for people: names instead of ids, and the source of each image."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from curate.columns import CORNERS
from curate.dataset import Dataset
from curate.errors import UsageError
from curate.evaluation.mistakes import Mistakes
from curate.files import write_atomically
from curate.plain_text import csv_cell

MISSED, FALSE_POSITIVE = "missed", "false positive"

ERROR_COLUMNS: Mapping[str, str] = {
    "image_id": "int64",
    "path": "str",  # POSIX, relative to the dataset folder
    "split": "str",
    "source": "str",
    "video_id": "str",
    "timestamp_s": "float64",
    "mistake": "str",  # MISSED or FALSE_POSITIVE
    "class": "str",  # of the missed object, or of the detection
    "size": "str",  # of the missed object, or of the detection
    "kind": "str",  # one of mistakes.KINDS; for a miss: missed, or the kind of the false positive that explains it
    "score": "float64",  # null for a miss
    "iou": "float64",  # see mistakes.MISTAKE_COLUMNS
    "confused_with": "str",  # the other class, for the kinds class and both; else null
    **dict.fromkeys(CORNERS, "float64"),  # pixels: of the missed object, or of the detection
    "box_id": "Int64",  # the missed object; null for a false positive
}


def list_errors(mistakes: Mistakes, truth: Dataset) -> pd.DataFrame:
    """List missed objects and false positives, one per row: columns `ERROR_COLUMNS`, order of `mistakes.table`.

    Args:
        mistakes: Found in `truth`.
        truth: Has the images and classes that the rows name.
    """
    table, names = mistakes.table, truth.class_names
    images = truth.images.set_index("image_id").loc[table["image_id"]].reset_index(drop=True)
    named: dict[str, Any] = {
        "mistake": np.where(table["box_id"].notna(), MISSED, FALSE_POSITIVE),
        "class": table["class_id"].map(names),
        "confused_with": table["confused_with"].map(names),
    }
    columns = {
        name: pd.Series(named[name] if name in named else images[name] if name in images else table[name], dtype=dtype)  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, dtype in ERROR_COLUMNS.items()
    }
    return pd.DataFrame(columns)


def write_errors(errors: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV or Parquet, by suffix; an interruption leaves no partial file, equal tables equal bytes.

    Raises:
        UsageError: The suffix is neither .csv nor .parquet.
    """
    write = _writer(path)
    write_atomically(path, lambda file: write(errors, file))


def check_error_file(path: Path) -> None:
    """Check the suffix of a file for `write_errors`.

    Raises:
        UsageError: The suffix is neither .csv nor .parquet.
    """
    _writer(path)


def _writer(path: Path) -> Callable[[pd.DataFrame, IO[bytes]], object]:
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise UsageError("not a table file", place=path, got=repr(path.suffix), expected=" or ".join(_WRITERS))
    return _WRITERS[suffix]


def _write_csv(errors: pd.DataFrame, file: IO[bytes]) -> None:
    errors.map(csv_cell).to_csv(file, index=False, lineterminator="\n", encoding="utf-8")


def _write_parquet(errors: pd.DataFrame, file: IO[bytes]) -> None:
    errors.to_parquet(file, index=False)


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet}
