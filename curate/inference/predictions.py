"""A run's detections: made once, kept in its folder as COCO results, and used again while nothing changed."""

import hashlib
from pathlib import Path

import numpy as np

from curate.dataset import Dataset, Predictions
from curate.engines.base import engine_for, predict_dataset
from curate.errors import UsageError
from curate.evaluation.coco_results import read_results, write_results
from curate.files import write_atomically
from curate.progress import Progress, silent
from curate.run_folder.folder import RunFolder


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
