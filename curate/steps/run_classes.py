"""Which class of a dataset a run's class is: by id where the run was trained on it, else by name."""

from dataclasses import dataclass

import numpy as np

from curate.dataset import ClassEntry, Dataset, Predictions
from curate.errors import StoreError
from curate.inference.predictions import follow_merges
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
