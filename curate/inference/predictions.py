"""A run's detections: made once, kept in its folder as COCO results, and used again while nothing changed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curate.dataset import ClassEntry, Dataset, Predictions
from curate.engines.base import engine_for, predict_dataset
from curate.errors import StoreError, UsageError
from curate.evaluation.coco_results import read_results, write_results
from curate.files import write_atomically
from curate.progress import Progress, silent
from curate.run_folder.folder import RunFolder
from curate.store import Store


@dataclass(frozen=True)
class RunClasses:
    """The classes that a run's detections are told in.

    Attributes:
        entries: the dataset's classes, and behind them those of the run that it does not have.
        unknown: names of the latter.
    """

    entries: tuple[ClassEntry, ...]
    unknown: tuple[str, ...]
    _folder: RunFolder
    _trained_on: Dataset | None  # where ids say which class it is
    _by_name: dict[int, int | None]  # elsewhere: id in the run → id here; None was dropped here

    @classmethod
    def alone(cls, folder: RunFolder) -> "RunClasses":
        """As the run has them: for images that are of no dataset."""
        entries = tuple(ClassEntry(one.id, one.name) for one in folder.read_record().classes)
        return cls(entries, (), folder, None, {entry.id: entry.id for entry in entries})

    @classmethod
    def of(cls, folder: RunFolder, store: Store, current: Dataset) -> "RunClasses":
        """As the dataset has them now: merged and renamed classes are followed."""
        own = tuple(ClassEntry(one.id, one.name) for one in folder.read_record().classes)
        if _was_trained_on(store, folder, own):
            return cls(current.classes, (), folder, current, {})
        known: dict[str, int | None] = {**current.aliases, **{entry.name: entry.id for entry in current.classes}}
        unknown = tuple(entry.name for entry in own if entry.name not in known)
        added = tuple(ClassEntry(current.next_ids.class_ + place, name) for place, name in enumerate(unknown))
        known.update({entry.name: entry.id for entry in added})
        return cls((*current.classes, *added), unknown, folder, None, {entry.id: known[entry.name] for entry in own})

    def translate(self, found: Predictions) -> tuple[Predictions, int]:
        """A run's detections in these classes, and how many were of classes that were dropped since."""
        if self._trained_on is not None:
            return follow_merges(found, self._folder, self._trained_on)
        ids = np.array([self._by_name[id_] or -1 for id_ in found.boxes["class_id"].tolist()], dtype=np.int32)
        kept = ids > 0
        return Predictions(found.boxes.assign(class_id=ids)[kept]), int((~kept).sum())


def is_run_of(folder: RunFolder, store: Store) -> bool:
    """Whether the run was trained on this dataset; of an older run, which does not say, where it lies decides."""
    mark = folder.read_record().dataset_mark
    if mark is not None:
        return mark == store.mark
    return folder.path.resolve().is_relative_to((store.root / "runs").resolve())


def _was_trained_on(store: Store, folder: RunFolder, classes: tuple[ClassEntry, ...]) -> bool:
    """Whether the version that the run was trained on is one of this dataset, with those very classes."""
    version = folder.read_record().dataset_version
    try:
        if version is None or not is_run_of(folder, store):
            return False
        return set(classes) <= set(store.read_version(version).classes)
    except StoreError:
        return False


def predict_split(folder: RunFolder, name: str, truth: Dataset, progress: Progress = silent) -> Predictions:
    """The run's detections on these images: those that are kept, if weights and images are the same, else fresh ones.

    Args:
        folder: of the run.
        name: that they are kept under, from `kept_evaluations.kept_name`.
        truth: the images.
        progress: told how many images were looked at.

    Raises:
        UsageError: the run has no checkpoint.
    """
    record = folder.read_record()
    if not folder.best.is_file():
        raise UsageError("the run has no checkpoint yet", place=folder.path, remedy="Train it, or go on with --resume.")
    file, mark = folder.predictions_file(name), folder.path / f"predictions_{name}.sha256"
    wanted = _fingerprint(folder.best, truth)
    if file.is_file() and mark.is_file() and mark.read_text().strip() == wanted:
        return read_results(file)
    detector = engine_for(record.model).load(folder.best)
    found = predict_dataset(detector, truth, progress=progress)
    mark.unlink(missing_ok=True)
    write_results(found, file)
    write_atomically(mark, lambda out: out.write(wanted.encode()))
    return found


def follow_merges(found: Predictions, folder: RunFolder, current: Dataset) -> tuple[Predictions, int]:
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


def _fingerprint(checkpoint: Path, truth: Dataset) -> str:
    """A hash of the weights' file state and of the images: what predictions depend on."""
    status = checkpoint.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    images = truth.images.sort_values("image_id")
    for image_id, content in zip(images["image_id"].tolist(), images["sha256"].tolist(), strict=True):
        digest.update(f"{image_id} {content}\n".encode())
    return digest.hexdigest()
