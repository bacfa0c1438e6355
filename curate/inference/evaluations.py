"""Evaluations in a run's folder: written by `evaluate`, read for comparison with another run."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from curate.columns import CORNERS
from curate.dataset import Dataset
from curate.documents.json_reader import read_json
from curate.documents.shape import check_shape
from curate.errors import DataError, UsageError
from curate.evaluation.judgement import EvaluationOptions
from curate.evaluation.mistakes import KINDS
from curate.files import write_atomically
from curate.inference.predictions import is_run_of
from curate.operating_point import MAX_DETECTIONS
from curate.result import as_json
from curate.run_folder.folder import RunFolder
from curate.sizes import PinholeView
from curate.store import Store

_TERM_NAMES = {
    "min_side_px": "--min-side",
    "iou": "IoU",
    "score": "--score",
    "max_detections": "--max-detections",
    "ignore_difficult": "--ignore-difficult",
    "images": "images",
    "truth": "boxes",
}
_BEFORE_OPTIONS = {"max_detections": MAX_DETECTIONS, "ignore_difficult": False}  # of evaluations of older versions
_EVALUATE_AGAIN = "Evaluate it again: `curate evaluate`."


def evaluation_name(folder: RunFolder, store: Store, split: str) -> str:
    """Name for files of a split in a run's folder: the split, with the dataset's mark if the run is of another one."""
    return split if is_run_of(folder, store) else f"{split}_of_{store.mark}"


def evaluation_file(folder: RunFolder, name: str) -> Path:
    """Path of the evaluation; `name` is from `evaluation_name`."""
    return folder.path / f"evaluation_{name}.json"


def errors_file(folder: RunFolder, name: str) -> Path:
    """Path of the table of mistakes (`evaluation.error_table`); `name` is from `evaluation_name`."""
    return folder.path / f"errors_{name}.csv"


def evaluation_terms(truth: Dataset, options: EvaluationOptions) -> dict[str, Any]:
    """What two evaluations must share to be compared; `truth` excludes the classes, which may differ."""
    interest, point = options.interest, options.point
    images = sorted(zip(truth.images["image_id"].tolist(), truth.images["sha256"].tolist(), strict=True))
    ignored = ["crowd", "difficult"] if options.ignore_difficult else ["crowd"]
    boxes = truth.boxes[["image_id", *CORNERS, *ignored]].to_numpy(dtype=np.float64)  # (n, 6 or 7)
    return {
        "min_side_px": interest.min_side_px if interest else None,
        "iou": point.iou,
        "score": point.score,
        "max_detections": options.max_detections,
        "ignore_difficult": options.ignore_difficult,
        "images": hashlib.sha256(repr(images).encode()).hexdigest(),
        "truth": hashlib.sha256(boxes[np.lexsort(boxes.T)].tobytes()).hexdigest(),
    }


def truth_mark(terms: Mapping[str, Any]) -> str:
    """A short name for the images and boxes of an evaluation."""
    return hashlib.sha256(f"{terms['images']} {terms.get('truth')}".encode()).hexdigest()[:12]


def write_evaluation(
    folder: RunFolder,
    name: str,
    document: Mapping[str, Any],
    terms: Mapping[str, Any],
    camera: PinholeView | None = None,
) -> None:
    """Write an evaluation into the folder of its run, without the other run of a comparison.

    Args:
        folder: Folder of the run.
        name: From `evaluation_name`.
        document: JSON document of `evaluate`.
        terms: From `evaluation_terms`.
        camera: Camera for distances. It is written with the terms, but evaluations with other cameras can be compared.
    """
    content = {key: value for key, value in document.items() if key != "against"}
    content = {"run": folder.name, "terms": {**terms, "camera": as_json(camera)}, **content}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_atomically(evaluation_file(folder, name), lambda file: file.write(text.encode()))


def read_evaluation(folder: RunFolder, store: Store, split: str, terms: Mapping[str, Any]) -> dict[str, Any]:
    """Read the evaluation of a run on a split, for a comparison with an evaluation on the same terms.

    Raises:
        UsageError: The run was not evaluated, was evaluated on other terms, or was trained after the evaluation.
        DataError: The file cannot be read.
    """
    file = evaluation_file(folder, evaluation_name(folder, store, split))
    try:
        if folder.best.is_file() and file.stat().st_mtime_ns < folder.best.stat().st_mtime_ns:
            raise UsageError(
                f"the run was trained after its evaluation on {split}", place=folder.path, remedy=_EVALUATE_AGAIN
            )
        document = _read_document(file, _Requested)
        own = _terms_of(document)
        del document["terms"]
        if not terms.keys() <= own.keys():
            raise UsageError(
                "the evaluation is of an older version, which did not record its boxes",
                place=folder.path,
                remedy=_EVALUATE_AGAIN,
            )
        changed = [name for name, value in terms.items() if own[name] != value]
        if "ignore_difficult" in changed:  # with it, the boxes are recorded with their marks
            changed.remove("truth")
        different = [_TERM_NAMES[name] for name in changed]
        if different:
            raise UsageError(
                f"the run was evaluated with different {' and '.join(different)}",
                place=folder.path,
                remedy="Evaluate it again with the same options.",
            )
        return _validated(document, file, _Numbers)
    except FileNotFoundError:
        raise UsageError(
            f"the run was not evaluated on {split} yet", place=folder.path, remedy="Evaluate it: `curate evaluate`."
        ) from None
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error


def read_options(folder: RunFolder, name: str) -> dict[str, Any]:
    """Read the options of a run's last evaluation, as arguments of `EvaluationOptions.from_command`.

    Args:
        folder: Folder of the run.
        name: From `evaluation_name`.

    Returns:
        Empty without an evaluation.

    Raises:
        DataError: The evaluation cannot be read.
    """
    file = evaluation_file(folder, name)
    try:
        document = _read_document(file, _Requested)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error
    terms = _terms_of(document)
    camera = terms.get("camera") or {}
    return {
        "min_side": terms["min_side_px"],
        "iou": terms.get("iou"),
        "score": terms["score"],
        "precision": document.get("wished_precision"),
        "object_height": camera.get("object_height_m"),
        "focal_px": camera.get("focal_px"),
        **{name: terms[name] for name in _BEFORE_OPTIONS},
    }


def _terms_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The terms of an evaluation; older versions wrote its IoU in the operating point alone, and had fewer options."""
    point = document.get("operating_point") or {}
    return {**_BEFORE_OPTIONS, **{name: point[name] for name in ("iou",) if name in point}, **document["terms"]}


def _read_document(file: Path, form: type[BaseModel]) -> dict[str, Any]:
    """The whole document, with the parts in `form` validated."""
    file.stat()  # FileNotFoundError
    document = read_json(file, "evaluation", dict[str, Any], remedy=_EVALUATE_AGAIN)
    return _validated(document, file, form)


def _validated(document: Any, file: Path, form: type[BaseModel]) -> dict[str, Any]:
    check_shape(document, form, file, "evaluation", remedy=_EVALUATE_AGAIN)
    return document


def _unreadable(file: Path, why: str) -> DataError:
    return DataError(f"the evaluation cannot be read: {why}", place=file, remedy=_EVALUATE_AGAIN)


def _check_kinds(kinds: dict[str, int]) -> dict[str, int]:
    if missing := [kind for kind in KINDS if kind not in kinds]:
        raise ValueError(f"the count of {missing[0]} is missing")
    return kinds


class _Part(BaseModel):
    """A part of the document that is read; other keys are ignored, since versions differ in them."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class _Camera(_Part):
    object_height_m: Annotated[float, Field(gt=0)]
    focal_px: Annotated[float, Field(gt=0)]


class _Point(_Part):
    iou: Annotated[float, Field(gt=0, le=1)]


class _Terms(_Part):
    min_side_px: Annotated[float, Field(ge=0)] | None
    iou: Annotated[float, Field(gt=0, le=1)] | None = None
    score: Annotated[float, Field(ge=0, le=1)]
    max_detections: Annotated[int, Field(ge=1)] = MAX_DETECTIONS
    ignore_difficult: bool = False
    camera: _Camera | None = None


class _Requested(_Part):
    """The options of an evaluation."""

    terms: _Terms
    operating_point: _Point | None = None
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
    """The numbers of a run that a comparison shows."""

    run: str
    ap75: float | None
    ar_100: float | None
    classes: list[_ClassNumbers]
    range_of_interest: _RangeNumbers | None
    errors: _ErrorNumbers
