"""Checkpoints: all that a model needs to be used, and all that a training needs to go on."""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curate.columns import CORNERS, LANDMARKS, has_landmarks
from curate.dataset import ClassEntry, Dataset
from curate.errors import DataError, TrainingError, UsageError
from curate.files import write_atomically

_FORMAT = "curate checkpoint 2"
_FORMER = "curate torchvision checkpoint 1"  # has fewer fields


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model at one step of its training.

    Attributes:
        model: ENGINE:NAME.
        classes: in the order of the model's indices.
        image_size: as in `TrainingConfig`.
        settings: as in `TrainingConfig`.
        step: steps done.
        weights: the network's tensors by name.
        optimizer: its state, and that of what goes with it; None in a checkpoint that is only to be used.
        average: the running average of the weights; None like the optimizer.
        fingerprint: of the images and boxes trained on.
        engine_config: the engine's own configuration, where it has one.
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
    document = {"format": _FORMAT, **vars(checkpoint), "classes": [list(entry) for entry in checkpoint.classes]}
    document["settings"] = dict(checkpoint.settings)
    write_atomically(path, lambda file: torch.save(document, file))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, without running any code it may hold.

    Raises:
        UsageError: there is no such file.
        DataError: it is no checkpoint of this engine.
    """
    if not path.is_file():
        raise UsageError("there is no checkpoint here", place=path, remedy="Train first, with `curate train`.")
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        # torch's own words advise to run whatever code a file holds
        raise DataError("the checkpoint cannot be read, or is none", place=path, got=type(error).__name__) from error
    if not isinstance(document, dict) or document.pop("format", None) not in (_FORMAT, _FORMER):
        raise DataError("not a checkpoint of curate", place=path, expected=_FORMAT)
    classes = tuple(ClassEntry(*entry) for entry in document.pop("classes"))
    return Checkpoint(classes=classes, **document)


def read_model_name(path: Path) -> str | None:
    """The model of a checkpoint, without reading its weights; None where it is no checkpoint of curate."""
    try:
        document = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, KeyError):
        return None
    is_ours = isinstance(document, dict) and document.get("format") in (_FORMAT, _FORMER)
    return document["model"] if is_ours else None


def check_fingerprint(saved: Checkpoint, own: str, place: Path) -> None:
    """Refuse to go on with other data than a checkpoint was trained on.

    Raises:
        TrainingError: the fingerprints differ.
    """
    if saved.fingerprint != own:
        raise TrainingError(
            "the images, boxes or classes are not those that the run began with",
            place=place,
            remedy="Start another run, or go on with the version of the dataset that run.json names.",
        )


def fingerprint(dataset: Dataset) -> str:
    """A digest of what a training sees of a dataset: classes, images, boxes, and landmarks where it has them."""
    images = dataset.images.sort_values("image_id")
    boxes = dataset.boxes.sort_values("box_id")
    digest = hashlib.sha256(repr([tuple(entry) for entry in dataset.classes]).encode())
    digest.update("\n".join(images["path"].tolist()).encode())
    for column in (images["image_id"], boxes["image_id"], boxes["class_id"], boxes["crowd"]):
        digest.update(np.ascontiguousarray(column.to_numpy(dtype=np.int64)).tobytes())
    digest.update(np.ascontiguousarray(boxes[CORNERS].to_numpy(dtype=np.float64)).tobytes())
    if has_landmarks(boxes):
        points = boxes[LANDMARKS].to_numpy(dtype=np.float64)
        digest.update(np.where(np.isnan(points), np.nan, points).tobytes())  # a NaN has many patterns of bits
    return digest.hexdigest()
