"""Detections of a run on a split: kept in its folder as COCO results, and translated into the dataset's classes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curate.dataset import ClassEntry, Dataset, Predictions
from curate.engines.base import engine_for, predict_dataset
from curate.errors import StoreError
from curate.evaluation.coco_results import read_results, write_results
from curate.files import write_atomically
from curate.images import Unreadable
from curate.progress import Progress, silent
from curate.run_folder.folder import RunFolder
from curate.store import Store


def predict_split(
    folder: RunFolder, name: str, truth: Dataset, progress: Progress = silent
) -> tuple[Predictions, tuple[str, ...]]:
    """Detections of a run on these images: the kept ones if weights and images are unchanged, else new ones.

    Args:
        folder: Folder of the run.
        name: Name of the kept files, from `evaluations.evaluation_name`.
        truth: The images.
        progress: Callback for progress.

    Returns:
        Detections in the classes of the run, and the paths of images that could not be decoded.

    Raises:
        UsageError: The run has no checkpoint.
        DataError: Too many images cannot be decoded; a few have no detections, and are logged.
    """
    record = folder.read_record()
    folder.require_checkpoint()
    file, mark = folder.predictions_file(name), folder.path / f"predictions_{name}.sha256"
    fingerprint = _fingerprint(folder.best, truth)
    if file.is_file() and mark.is_file() and mark.read_text().strip() == fingerprint:
        return read_results(file), ()
    detector = engine_for(record.model).load(folder.best)
    unreadable = Unreadable(len(truth.images), "the detections, so that its objects count as missed")
    predictions = predict_dataset(detector, truth, progress=progress, unreadable=unreadable)
    mark.unlink(missing_ok=True)
    write_results(predictions, file)
    if unreadable.paths:
        return predictions, tuple(unreadable.paths)  # without the mark they are made again, and the images named again
    write_atomically(mark, lambda out: out.write(fingerprint.encode()))
    return predictions, ()


def _fingerprint(checkpoint: Path, truth: Dataset) -> str:
    """A hash of everything that predictions depend on: size and time of the checkpoint, and the images."""
    status = checkpoint.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    images = truth.images.sort_values("image_id")
    for image_id, content in zip(images["image_id"].tolist(), images["sha256"].tolist(), strict=True):
        digest.update(f"{image_id} {content}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class RunClasses:
    """Classes for the detections of a run, and their translation from the classes of its training.

    Attributes:
        entries: Classes of the dataset, then those of the run that it does not have.
        unknown: Names of the latter.
    """

    entries: tuple[ClassEntry, ...]
    unknown: tuple[str, ...]
    _folder: RunFolder
    _trained_on: Dataset | None  # its class ids are those of the run
    _by_name: dict[int, int | None]  # else: class id in the run → here; None for a dropped class

    @classmethod
    def alone(cls, folder: RunFolder) -> "RunClasses":
        """Classes of the run itself, for images outside a dataset."""
        entries = tuple(ClassEntry(one.id, one.name) for one in folder.read_record().classes)
        return cls(entries, (), folder, None, {entry.id: entry.id for entry in entries})

    @classmethod
    def of(cls, folder: RunFolder, store: Store, current: Dataset) -> "RunClasses":
        """Current classes of a dataset; merged and renamed classes are followed."""
        own = tuple(ClassEntry(one.id, one.name) for one in folder.read_record().classes)
        if _was_trained_on(store, folder, own):
            return cls(current.classes, (), folder, current, {})
        known: dict[str, int | None] = {**current.aliases, **{entry.name: entry.id for entry in current.classes}}
        unknown = tuple(entry.name for entry in own if entry.name not in known)
        added = tuple(ClassEntry(current.next_ids.class_ + place, name) for place, name in enumerate(unknown))
        known.update({entry.name: entry.id for entry in added})
        return cls((*current.classes, *added), unknown, folder, None, {entry.id: known[entry.name] for entry in own})

    def translate(self, predictions: Predictions) -> tuple[Predictions, int]:
        """Detections of the run in these classes, and the number of those whose class was dropped since."""
        if self._trained_on is not None:
            return follow_merges(predictions, self._folder, self._trained_on)
        ids = np.array([self._by_name[id_] or -1 for id_ in predictions.boxes["class_id"].tolist()], dtype=np.int32)
        kept = ids > 0
        return Predictions(predictions.boxes.assign(class_id=ids)[kept]), int((~kept).sum())


def is_run_of(folder: RunFolder, store: Store) -> bool:
    """Whether the run was trained on this dataset; the record of an old run lacks the mark, so its place decides."""
    mark = folder.read_record().dataset_mark
    if mark is not None:
        return mark == store.mark
    return folder.path.resolve().is_relative_to((store.root / "runs").resolve())


def follow_merges(predictions: Predictions, folder: RunFolder, current: Dataset) -> tuple[Predictions, int]:
    """Remap detections of merged classes to the surviving class.

    Returns:
        The detections without those of dropped classes, and the number of these.
    """
    known = set(current.class_names)
    moved = {
        entry.id: current.aliases.get(entry.name) for entry in folder.read_record().classes if entry.id not in known
    }
    if not moved:
        return predictions, 0
    table = predictions.boxes
    ids = np.array([moved.get(id_, id_) or -1 for id_ in table["class_id"].tolist()], dtype=np.int32)
    kept = ids > 0
    return Predictions(table.assign(class_id=ids)[kept]), int((~kept).sum())


def _was_trained_on(store: Store, folder: RunFolder, classes: tuple[ClassEntry, ...]) -> bool:
    """Whether the run was trained on a version of this dataset that has exactly these classes."""
    version = folder.read_record().dataset_version
    try:
        if version is None or not is_run_of(folder, store):
            return False
        return set(classes) <= set(store.read_version(version).classes)
    except StoreError:
        return False
