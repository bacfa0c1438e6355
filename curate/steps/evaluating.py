"""`evaluate`: COCO's numbers, and what was missed, by size."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.curation.splits import TEST, TRAIN, VAL
from curate.dataset import Dataset, Predictions
from curate.engines.base import engine_for, predict_dataset
from curate.engines.runs import RunFolder
from curate.errors import DataError, StoreError, UsageError, unknown_name
from curate.evaluation.mistakes import MistakeCounts, find_mistakes
from curate.evaluation.results import read_results, write_results
from curate.evaluation.scores import ClassScores, RangeScores
from curate.evaluation.scores import score as score_predictions
from curate.files import write_atomically
from curate.progress import Progress, silent
from curate.sizes import RangeOfInterest
from curate.steps.results import Result
from curate.store import Store

IOU = 0.5
ALL = "all"


@dataclass(frozen=True)
class OperatingPoint:
    """Where objects count as found: overlap and score at least so much."""

    iou: float
    score: float


@dataclass(frozen=True)
class EvaluateResult(Result):
    """COCO's numbers and the mistakes at the operating point; None where there is no such object.

    Attributes:
        split: "all" where the dataset has no splits.
        truth, detections: boxes of each, of all scores.
        range_of_interest: the numbers within it; `errors` are then those within it too.
        against: another run's evaluation, where one was asked for.
    """

    split: str
    images: int
    truth: int
    detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar_1: float | None
    ar_10: float | None
    ar_100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    classes: tuple[ClassScores, ...]
    range_of_interest: RangeScores | None
    operating_point: OperatingPoint
    errors: MistakeCounts
    against: dict[str, Any] | None = None

    def to_json(self) -> Any:
        """The document, without what was not asked for."""
        document = super().to_json()
        if self.against is None:
            del document["against"]
        return document


def evaluate(
    dataset: str | os.PathLike[str],
    *,
    run: str | None = None,
    predictions: str | os.PathLike[str] | None = None,
    split: str = "val",
    min_side: float | None = None,
    score: float = 0.5,
    against: str | None = None,
    progress: Progress = silent,
) -> EvaluateResult:
    """Score a run, or a file of predictions, on the labelled images of a split.

    A run's predictions are kept in its folder as COCO results, and used again as long as its weights and the images
    are the same. Its numbers are kept beside them. Classes that were merged after the training count as the class
    that took them.

    Args:
        dataset: the dataset folder.
        run: a name in `DATASET/runs`, or a path with a slash.
        predictions: instead of a run, a COCO results file with our image and class ids.
        split: "train", "val", "test", or "all". A dataset without splits is evaluated whole.
        min_side: the range of interest: shorter side of at least so many pixels.
        score: from which score on a detection counts for what was missed and what is a false positive.
        against: another run, evaluated before, to be shown beside.
        progress: told how far the predicting is.

    Raises:
        UsageError: neither or both of `run` and `predictions`; no such split or run.
        DataError: nothing is labelled in the split, or predictions that do not fit the dataset.
    """
    if (run is None) == (predictions is None):
        raise UsageError(
            "it is not said what to evaluate", place="evaluate", expected="--run RUN or --predictions FILE"
        )
    if not 0 <= score <= 1:
        raise UsageError("not a score", place="--score", got=score, expected="0 to 1")
    interest = RangeOfInterest(min_side) if min_side is not None else None
    current = Store(dataset).load()
    split, truth, notes = _choose_split(current, split)
    if run is not None:
        folder = RunFolder.named(dataset, run)
        found = _predict(folder, split, truth, progress)
        found, dropped = _follow_merges(found, folder, current)
        notes += _note_seen(Store(dataset), folder, truth)
        if dropped:
            notes.append(f"{dropped} detections are of classes that were dropped since; they were left out.")
    else:
        folder = None
        found = _of_images(read_results(Path(str(predictions))), current, truth)
    scores = score_predictions(truth, found, interest)
    result = EvaluateResult(
        split=split,
        **vars(scores),
        operating_point=OperatingPoint(IOU, score),
        errors=find_mistakes(truth, found, IOU, score, interest).counts(),
        against=_read_evaluation(RunFolder.named(dataset, against), split, _terms(truth, interest, score))
        if against is not None
        else None,
        notes=tuple(notes),
    )
    if folder is not None:
        document = {"run": folder.name, "terms": _terms(truth, interest, score), **result.to_json()}
        document.pop("against", None)  # kept once, in its own run
        text = json.dumps(document, indent=1, ensure_ascii=False)
        write_atomically(_evaluation_file(folder, split), lambda file: file.write(text.encode()))
    return result


def _choose_split(dataset: Dataset, split: str) -> tuple[str, Dataset, list[str]]:
    """The split to evaluate, its labelled images, and what to tell about it."""
    labelled = dataset.select()
    names = sorted(labelled.images["split"].dropna().unique())
    notes = []
    if not names and split in (TRAIN, VAL, TEST):
        notes.append("There are no splits: all labelled images are evaluated, also those that were trained on.")
        split = ALL
    if split != ALL and split not in names:
        raise unknown_name("split", split, [*names, ALL], place=dataset.root)
    truth = labelled if split == ALL else dataset.select(split)
    if not len(truth.images):
        raise DataError(
            "no image is labelled", place=dataset.root, remedy="Label some and bring them in with import-voc."
        )
    return split, truth, notes


def _predict(folder: RunFolder, split: str, truth: Dataset, progress: Progress) -> Predictions:
    """The run's detections on these images: those that are kept, if nothing changed, else fresh ones."""
    record = folder.read_record()
    if not folder.best.is_file():
        raise UsageError("the run has no checkpoint yet", place=folder.path, remedy="Train it, or go on with --resume.")
    file, mark = folder.predictions_file(split), folder.path / f"predictions_{split}.sha256"
    wanted = _fingerprint(folder.best, truth)
    if file.is_file() and mark.is_file() and mark.read_text().strip() == wanted:
        return read_results(file)
    detector = engine_for(record.model).load(folder.best)
    found = predict_dataset(detector, truth, progress=progress)
    mark.unlink(missing_ok=True)
    write_results(found, file)
    write_atomically(mark, lambda out: out.write(wanted.encode()))
    return found


def _fingerprint(checkpoint: Path, truth: Dataset) -> str:
    """A hash of the weights' file state and of the images: what predictions depend on."""
    status = checkpoint.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    images = truth.images.sort_values("image_id")
    for image_id, content in zip(images["image_id"].tolist(), images["sha256"].tolist(), strict=True):
        digest.update(f"{image_id} {content}\n".encode())
    return digest.hexdigest()


def _follow_merges(found: Predictions, folder: RunFolder, current: Dataset) -> tuple[Predictions, int]:
    """Give detections of classes that are no more the class that took them; count those of dropped ones."""
    known = set(current.class_names)
    moved = {
        entry.id: current.aliases.get(entry.name) for entry in folder.read_record().classes if entry.id not in known
    }
    if not moved:
        return found, 0
    table = found.boxes
    ids = np.array([moved.get(id_, id_) or -1 for id_ in table["class_id"].tolist()], dtype=np.int32)
    kept = ids > 0
    return Predictions(table.assign(class_id=ids)[kept]), int((~kept).sum())


def _note_seen(store: Store, folder: RunFolder, truth: Dataset) -> list[str]:
    """A warning where the run was trained on images that are evaluated now."""
    version = folder.read_record().dataset_version
    if version is None:
        return []
    try:
        trained = training_images(store.load(version)).images["image_id"]
    except StoreError:  # the version is gone, or the run is of another dataset
        return []
    seen = int(truth.images["image_id"].isin(trained).sum())
    return [f"{seen} of the {len(truth.images)} evaluated images were trained on."] if seen else []


def training_images(dataset: Dataset) -> Dataset:
    """What `train` trains on: the labelled images of the train split; all of them where there are no splits."""
    labelled = dataset.select()
    return labelled.select(TRAIN) if labelled.images["split"].notna().any() else labelled


def _of_images(found: Predictions, dataset: Dataset, truth: Dataset) -> Predictions:
    """Only the detections in the evaluated images; those of images that the dataset does not have are refused."""
    ids = found.boxes["image_id"]
    strange = ids[~ids.isin(dataset.images["image_id"])]
    if len(strange):
        raise DataError(
            "the predictions are of an image that is not in the dataset",
            place=f"predictions, row {strange.index[0]}",
            got=f"image id {strange.iloc[0]}",
            expected="ids of the images table, as in an export",
        )
    return Predictions(found.boxes[ids.isin(truth.images["image_id"])])


def _evaluation_file(folder: RunFolder, split: str) -> Path:
    return folder.path / f"evaluation_{split}.json"


def _terms(truth: Dataset, interest: RangeOfInterest | None, score: float) -> dict[str, Any]:
    """What two evaluations must share to stand side by side; classes may differ, for that is often the question."""
    images = sorted(zip(truth.images["image_id"].tolist(), truth.images["sha256"].tolist(), strict=True))
    return {
        "min_side_px": interest.min_side_px if interest else None,
        "score": score,
        "images": hashlib.sha256(repr(images).encode()).hexdigest(),
    }


def _read_evaluation(folder: RunFolder, split: str, terms: dict[str, Any]) -> dict[str, Any]:
    file = _evaluation_file(folder, split)
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
        raise DataError(f"the evaluation cannot be read: {error}", place=_evaluation_file(folder, split)) from error
