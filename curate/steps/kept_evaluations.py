"""A run's numbers, kept in its folder, so that another run can be shown beside."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.dataset import Dataset
from curate.engines.runs import RunFolder
from curate.errors import DataError, UsageError
from curate.files import write_atomically
from curate.sizes import RangeOfInterest


def evaluation_terms(truth: Dataset, interest: RangeOfInterest | None, score: float) -> dict[str, Any]:
    """What two evaluations must share to stand side by side; classes may differ, for that is often the question."""
    images = sorted(zip(truth.images["image_id"].tolist(), truth.images["sha256"].tolist(), strict=True))
    return {
        "min_side_px": interest.min_side_px if interest else None,
        "score": score,
        "images": hashlib.sha256(repr(images).encode()).hexdigest(),
    }


def keep_evaluation(folder: RunFolder, split: str, document: Mapping[str, Any], terms: Mapping[str, Any]) -> None:
    """Write a run's evaluation beside it; what it was shown against is kept in that run alone."""
    kept = {"run": folder.name, "terms": terms, **{key: document[key] for key in document if key != "against"}}
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    write_atomically(evaluation_file(folder, split), lambda file: file.write(text.encode()))


def read_evaluation(folder: RunFolder, split: str, terms: Mapping[str, Any]) -> dict[str, Any]:
    """A run's evaluation on a split, for one of the same terms.

    Raises:
        UsageError: it was not evaluated, or in another way, or trained since.
        DataError: the file cannot be read.
    """
    file = evaluation_file(folder, split)
    try:
        if folder.best.is_file() and file.stat().st_mtime_ns < folder.best.stat().st_mtime_ns:
            raise UsageError(
                f"the run was trained since it was evaluated on {split}",
                place=folder.path,
                remedy="Evaluate it again: `curate evaluate`.",
            )
        document = json.loads(file.read_text(encoding="utf-8"))
        kept = document.pop("terms")
        different = [name.removesuffix("_px") for name, value in terms.items() if kept[name] != value]
        if different:
            raise UsageError(
                f"the run was evaluated with other {' and '.join(different)}",
                place=folder.path,
                remedy="Evaluate it again in the same way.",
            )
        return document
    except FileNotFoundError:
        raise UsageError(
            f"the run was not evaluated on {split} yet", place=folder.path, remedy="Do that first: `curate evaluate`."
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"the evaluation cannot be read: {error}", place=file) from error


def evaluation_file(folder: RunFolder, split: str) -> Path:
    """Where it is kept."""
    return folder.path / f"evaluation_{split}.json"


def errors_file(folder: RunFolder, split: str) -> Path:
    """Where the mistakes are kept, one row each; see `evaluation.error_table`."""
    return folder.path / f"errors_{split}.csv"
