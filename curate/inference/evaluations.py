"""A run's numbers, kept in its folder, so that another run can be shown beside."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from curate.columns import CORNERS
from curate.dataset import Dataset
from curate.errors import DataError, UsageError
from curate.evaluation.mistakes import KINDS
from curate.files import write_atomically
from curate.inference.predictions import is_run_of
from curate.result import as_json
from curate.run_folder.folder import RunFolder
from curate.sizes import PinholeView, RangeOfInterest
from curate.store import Store


def _check_kinds(kinds: dict[str, int]) -> dict[str, int]:
    if missing := [kind for kind in KINDS if kind not in kinds]:
        raise ValueError(f"no count of {missing[0]}")
    return kinds


class _Part(BaseModel):
    """What is read of a kept document; what else it holds is no matter here, and older ones hold less."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class _Camera(_Part):
    object_height_m: Annotated[float, Field(gt=0)]
    focal_px: Annotated[float, Field(gt=0)]


class _Terms(_Part):
    min_side_px: Annotated[float, Field(ge=0)] | None
    score: Annotated[float, Field(ge=0, le=1)]
    camera: _Camera | None = None


class _Asked(_Part):
    terms: _Terms
    wished_precision: Annotated[float, Field(gt=0, le=1)] | None = None


class _ApBySize(_Part):
    ap: float | None
    ap50: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None


class _ClassNumbers(_ApBySize):
    name: str
    truth: int


class _RangeNumbers(_Part):
    ap: float | None
    ap50: float | None
    ar_100: float | None


class _Counts(_Part):
    small: int
    medium: int
    large: int


class _ErrorNumbers(_Part):
    missed: _Counts
    false_positives: _Counts
    kinds: Annotated[dict[str, int], AfterValidator(_check_kinds)]
    ap_cost: dict[str, float | None] = {}


class _Numbers(_ApBySize):
    """What is shown of one run beside another."""

    run: str
    ap75: float | None
    ar_100: float | None
    classes: list[_ClassNumbers]
    range_of_interest: _RangeNumbers | None
    errors: _ErrorNumbers


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


def keep_evaluation(
    folder: RunFolder,
    name: str,
    document: Mapping[str, Any],
    terms: Mapping[str, Any],
    camera: PinholeView | None = None,
) -> None:
    """Write a run's evaluation beside it; what it was shown against is kept in that run alone.

    The camera is kept with the terms and is none of them: it only tells distances.

    Args:
        folder: of the run.
        name: from `kept_name`.
        document: the answer of `evaluate`.
        terms: from `evaluation_terms`.
        camera: that distances were told for.
    """
    asked = {**terms, "camera": as_json(camera)}
    kept = {"run": folder.name, "terms": asked, **{key: document[key] for key in document if key != "against"}}
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
        document = _read_document(file, _Asked)
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
        return _checked(document, file, _Numbers)
    except FileNotFoundError:
        raise UsageError(
            f"the run was not evaluated on {split} yet", place=folder.path, remedy="Do that first: `curate evaluate`."
        ) from None
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error


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
        document = _read_document(file, _Asked)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error
    terms, camera = document["terms"], document["terms"].get("camera") or {}
    return {
        "min_side": terms["min_side_px"],
        "score": terms["score"],
        "precision": document.get("wished_precision"),
        "object_height": camera.get("object_height_m"),
        "focal_px": camera.get("focal_px"),
    }


def _read_document(file: Path, form: type[BaseModel]) -> dict[str, Any]:
    """A kept document, whole, of which `form` holds."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unreadable(file, str(error)) from error
    return _checked(document, file, form)


def _checked(document: Any, file: Path, form: type[BaseModel]) -> dict[str, Any]:
    try:
        form.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]  # of a long list of faults the first is enough
        place = ".".join(map(str, first["loc"]))
        raise _unreadable(file, f"{place}: {first['msg']}" if place else "it is no JSON object") from error
    return document


def _unreadable(file: Path, why: str) -> DataError:
    return DataError(f"the evaluation cannot be read: {why}", place=file, remedy="Make it anew: `curate evaluate`.")


def evaluation_file(folder: RunFolder, name: str) -> Path:
    """Where it is kept; `name` is from `kept_name`."""
    return folder.path / f"evaluation_{name}.json"


def errors_file(folder: RunFolder, name: str) -> Path:
    """Where the mistakes are kept, one row each; see `evaluation.error_table`."""
    return folder.path / f"errors_{name}.csv"
