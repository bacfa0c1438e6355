"""Checkpoints: a trained model, and the state of its training to resume from."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any
from zipfile import is_zipfile

import numpy as np
import torch
from torch import Tensor

from curate.columns import CORNERS, LANDMARKS, has_landmarks
from curate.dataset import ClassEntry, Dataset
from curate.engines.training.tensor_files import check_tensors, load_tensor_file
from curate.errors import DataError, TrainingError, UsageError
from curate.files import write_atomically
from curate.run_folder.folder import RunFolder

logger = logging.getLogger(__name__)

FORMAT = "curate checkpoint 2"
_FORMATS = (FORMAT, "curate torchvision checkpoint 1")  # the older one has fewer fields


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model at one step of its training.

    Attributes:
        model: ENGINE:NAME.
        classes: In the order of the model's indices.
        image_size: As in `TrainingConfig`.
        settings: As in `TrainingConfig`.
        step: Steps done.
        weights: The network's tensors by name.
        optimizer: State of the optimizer and the schedule; None in a checkpoint that is for inference only.
        average: Running average of the weights; None like the optimizer.
        fingerprint: Digest of the images and boxes trained on, from `fingerprint`.
        engine_config: The engine's own configuration; empty for engines without one.
    """

    model: str
    classes: tuple[ClassEntry, ...]
    image_size: int | None
    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any] | None = None
    average: Mapping[str, Tensor] | None = None
    fingerprint: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    engine_config: str = ""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a kill leaves the old file or the new one."""
    started = time.perf_counter()
    document = {"format": FORMAT, **vars(checkpoint), "classes": [list(entry) for entry in checkpoint.classes]}
    document["settings"] = dict(checkpoint.settings)
    write_atomically(path, partial(_save, document))
    logger.debug("wrote %s at step %d in %.2f s", path, checkpoint.step, time.perf_counter() - started)


def _save(document: Mapping[str, Any], file: IO[bytes]) -> None:
    """Call `torch.save`, which raises errors of its own in place of what the system says."""
    passed = _Passed(file)
    try:
        torch.save(document, passed)  # pyright: ignore[reportArgumentType]
    except Exception as error:
        raise passed.error or error from error


class _Passed:
    """Passes bytes on to a file, and keeps the first error."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        """The caller flushes the file."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, without running any code that it may hold.

    Raises:
        UsageError: There is no such file.
        DataError: Not a checkpoint of curate.
    """
    if not path.is_file():
        raise UsageError("there is no checkpoint here", place=path, remedy="Train first, with `curate train`.")
    document = load_tensor_file(path)
    if not isinstance(document, dict) or document.pop("format", None) not in _FORMATS:
        raise DataError("not a checkpoint of curate", place=path, expected=FORMAT)
    for name, is_valid in _FIELDS.items():
        if name in document and not is_valid(document[name]):
            raise DataError("the checkpoint is damaged", place=path, got=f"{name}: {type(document[name]).__name__}")
    try:
        classes = tuple(ClassEntry(*entry) for entry in document.pop("classes"))
        saved = Checkpoint(classes=classes, **document)
    except (TypeError, KeyError) as error:
        raise DataError("the checkpoint is damaged: its fields are not those of a checkpoint", place=path) from error
    check_tensors({name: value for name, value in saved.weights.items() if isinstance(value, Tensor)}, path)
    check_tensors(saved.average or {}, path)
    return saved


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _is_tensor_table(value: Any) -> bool:
    return _is_table(value) and all(isinstance(tensor, Tensor) and _is_dense(tensor) for tensor in value.values())


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized


def _is_class(value: Any) -> bool:
    return isinstance(value, list) and [type(part) for part in value] == [int, str]


_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "model": _is_text,
    "classes": lambda value: isinstance(value, list) and all(map(_is_class, value)),
    "image_size": lambda value: value is None or (type(value) is int and 0 < value < 1 << 16),
    "step": lambda value: type(value) is int and value >= 0,
    "weights": _is_tensor_table,
    "optimizer": lambda value: value is None or _is_table(value),
    "average": lambda value: value is None or _is_tensor_table(value),
    "fingerprint": _is_text,
    "settings": _is_table,
    "engine_config": _is_text,
}
"""What each field of a checkpoint holds."""


def read_model_name(path: Path) -> str | None:
    """ENGINE:NAME of a checkpoint, without reading its weights; None for any other file."""
    if not is_zipfile(path):
        return None
    try:
        document = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # damaged files raise anything
        return None
    is_checkpoint = isinstance(document, dict) and document.get("format") in _FORMATS
    model = document.get("model") if is_checkpoint else None
    return model if isinstance(model, str) else None


def read_last(run: RunFolder | None, dataset_fingerprint: str) -> Checkpoint | None:
    """The checkpoint to resume a run from; None if there is none yet, or no run.

    Raises:
        TrainingError: It was trained on other images, boxes or classes.
        DataError: Not a checkpoint of curate.
    """
    if run is None or not run.last.is_file():
        return None
    try:
        saved = read_checkpoint(run.last)
    except DataError as error:
        remedy = "Restore the file from a copy, or replace the run with --overwrite."
        raise DataError(error.fact, place=error.place, got=error.got, expected=error.expected, remedy=remedy) from error
    if saved.fingerprint != dataset_fingerprint:
        raise TrainingError(
            "the dataset's images, boxes or classes differ from those that the run started with",
            place=run.path,
            remedy="Start another run, or resume with the dataset version that run.json names.",
        )
    logger.info("resuming %s from step %d", run.path, saved.step)
    return saved


def fingerprint(dataset: Dataset) -> str:
    """A digest of what a training reads of a dataset: classes, images, boxes and, where it has them, landmarks."""
    images = dataset.images.sort_values("image_id")
    boxes = dataset.boxes.sort_values("box_id")
    digest = hashlib.sha256(repr([tuple(entry) for entry in dataset.classes]).encode())
    digest.update("\n".join(images["path"].tolist()).encode())
    for column in (images["image_id"], boxes["image_id"], boxes["class_id"], boxes["crowd"]):
        digest.update(np.ascontiguousarray(column.to_numpy(dtype=np.int64)).tobytes())
    digest.update(np.ascontiguousarray(boxes[CORNERS].to_numpy(dtype=np.float64)).tobytes())
    if has_landmarks(boxes):
        points = boxes[LANDMARKS].to_numpy(dtype=np.float64)
        digest.update(np.where(np.isnan(points), np.nan, points).tobytes())  # NaN has many bit patterns
    return digest.hexdigest()
