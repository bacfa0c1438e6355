"""A run's numbers, kept in its folder, so that another run can be shown beside."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from curate.columns import CORNERS
from curate.dataset import Dataset
from curate.engines.runs import RunFolder
from curate.errors import DataError, UsageError
from curate.files import write_atomically
from curate.sizes import RangeOfInterest
from curate.steps.run_classes import is_run_of
from curate.store import Store


def evaluation_terms(truth: Dataset, interest: RangeOfInterest | None, score: float) -> dict[str, Any]:
    """What two evaluations must share to stand side by side; classes may differ, for that is often the question.

    So `truth` is where the boxes are, and not what they are of.
    """
    images = sorted(zip(truth.images["image_id"].tolist(), truth.images["sha256"].tolist(), strict=True))
    boxes = truth.boxes[["image_id", *CORNERS, "crowd"]].to_numpy(dtype=np.float64)  # (n, 6)
    return {
        "min_side_px": interest.min_side_px if interest else None,
        "score": score,
        "images": hashlib.sha256(repr(images).encode()).hexdigest(),
        "truth": hashlib.sha256(boxes[np.lexsort(boxes.T)].tobytes()).hexdigest(),
    }


def truth_mark(terms: Mapping[str, Any]) -> str:
    """A short name for the images and boxes that an evaluation was on."""
    return hashlib.sha256(f"{terms['images']} {terms.get('truth')}".encode()).hexdigest()[:12]


def kept_name(folder: RunFolder, store: Store, split: str) -> str:
    """What a split's files in the run's folder are called after: the split, and the dataset if it is another one."""
    return split if is_run_of(folder, store) else f"{split}_of_{store.mark}"


def keep_evaluation(folder: RunFolder, name: str, document: Mapping[str, Any], terms: Mapping[str, Any]) -> None:
    """Write a run's evaluation beside it; what it was shown against is kept in that run alone.

    Args:
        folder: of the run.
        name: from `kept_name`.
        document: the answer of `evaluate`.
        terms: from `evaluation_terms`.
    """
    kept = {"run": folder.name, "terms": terms, **{key: document[key] for key in document if key != "against"}}
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    write_atomically(evaluation_file(folder, name), lambda file: file.write(text.encode()))


def read_evaluation(folder: RunFolder, store: Store, split: str, terms: Mapping[str, Any]) -> dict[str, Any]:
    """A run's evaluation on a split of a dataset, for one of the same terms.

    Raises:
        UsageError: it was not evaluated, or in another way, or trained since.
        DataError: the file cannot be read.
    """
    file = evaluation_file(folder, kept_name(folder, store, split))
    try:
        if folder.best.is_file() and file.stat().st_mtime_ns < folder.best.stat().st_mtime_ns:
            raise UsageError(
                f"the run was trained since it was evaluated on {split}",
                place=folder.path,
                remedy="Evaluate it again: `curate evaluate`.",
            )
        document = json.loads(file.read_text(encoding="utf-8"))
        kept = document.pop("terms")
        if not terms.keys() <= kept.keys():
            raise UsageError(
                "an older version evaluated the run, and did not keep which boxes that was on",
                place=folder.path,
                remedy="Evaluate it again: `curate evaluate`.",
            )
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


def read_terms(folder: RunFolder, name: str) -> dict[str, Any]:
    """What a run's last evaluation was asked for, as options of `evaluate`; nothing where there is none.

    Args:
        folder: of the run.
        name: from `kept_name`.

    Raises:
        DataError: the evaluation cannot be read.
    """
    file = evaluation_file(folder, name)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        terms = document["terms"]
        return {
            "min_side": terms["min_side_px"],
            "score": terms["score"],
            "precision": document.get("wished_precision"),
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the evaluation cannot be read: {error}", place=file, remedy="Make it anew: `curate evaluate`."
        ) from error


def evaluation_file(folder: RunFolder, name: str) -> Path:
    """Where it is kept; `name` is from `kept_name`."""
    return folder.path / f"evaluation_{name}.json"


def errors_file(folder: RunFolder, name: str) -> Path:
    """Where the mistakes are kept, one row each; see `evaluation.error_table`."""
    return folder.path / f"errors_{name}.csv"
