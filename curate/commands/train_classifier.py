"""`train-classifier`: train the second stage of a two-stage pipeline, and score both stages on the val split."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.commands.train import TrainResult, train
from curate.dataset import Dataset
from curate.engines.base import names_model
from curate.engines.two_stage.first_stage import ENGINE, find_first_stage, read_first_stage
from curate.errors import UsageError
from curate.inference.judge import training_images
from curate.progress import Progress, silent
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.store import Store

USUAL_MODEL, USUAL_BATCH = "resnet18", 32
_PREFIX = f"{ENGINE}:"


def train_classifier(
    dataset: str | os.PathLike[str],
    *,
    run: str,
    detector: str | None = None,
    detector_weights: str | os.PathLike[str] | None = None,
    model: str | None = None,
    margin: float | None = None,
    weights: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    batch: int | None = None,
    lr: float | None = None,
    image_size: int | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    device: str | None = None,
    processes: int | None = None,
    eval_every: int | None = None,
    patience: int | None = None,
    checkpoint_every: int | None = None,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> TrainResult:
    """Train a classifier on the boxes of the train split, and make it one detector with a detector that is there.

    Each class is shown equally often. The run is like any other; its checkpoint holds both stages, so that the detector
    may go. Crowds are left out. The numbers are of both stages together.

    Args:
        dataset: the dataset folder; its boxes are of two classes or more.
        run: a name in `DATASET/runs`, or a path with a slash.
        detector: of the first stage: a run of the dataset, a run's path with a slash, or ENGINE:NAME. Its classes do
            not matter. Only a run that goes on does without.
        detector_weights: a file, for ENGINE:NAME.
        model: a ResNet of torchvision; default: resnet18.
        margin: what a crop shows around the box at each end, as a share of its longer side; default: 0.3.
        weights: a file, "package:DISTRIBUTION", or "none"; default: torchvision's, trained on ImageNet, downloaded.
        epochs: instead of `steps`: how many crops are shown, in times the number of boxes.
        batch: crops a step; default: 32.
        image_size: side of the crops in pixels; default: 64.
        settings: fields of `engines.two_stage.settings.TwoStage`, of `Recipe` and of its `Augmentation`.
        steps, lr, seed, device, processes, eval_every, patience, checkpoint_every, workers: see `TrainingConfig`.
        resume: go on where the run stopped; a finished run stays as it is.
        overwrite: begin a run of that name anew.
        progress: told after every step.

    Raises:
        UsageError: no detector, or there is no such run; the run exists already, or settings do not fit.
        DataError: nothing to train on.
        TrainingError: there is only one class; the loss is not a number any more; a batch does not fit the memory.
        MissingError: a library or the weights are not there.
    """
    folder = RunFolder.named(dataset, run)
    known = folder.read_config() if resume and folder.exists() else {}
    if known and not known["model"].startswith(_PREFIX):
        raise UsageError("the run is no classifier's", place=folder.path, got=known["model"], expected=f"{_PREFIX}NAME")
    given = {
        "detector": None if detector is None else _named(dataset, detector, known),
        "detector_weights": None if detector_weights is None else str(detector_weights),
        "margin": margin,
    }
    chosen = {**known.get("settings", {}), **(settings or {})}
    chosen |= {name: value for name, value in given.items() if value is not None}
    if not known:
        _check_first_stage(str(chosen.get("detector", "")), str(chosen.get("detector_weights", "")), folder)
    whole_model = _PREFIX + model.removeprefix(_PREFIX) if model else known.get("model", _PREFIX + USUAL_MODEL)
    batch = int(known.get("batch", USUAL_BATCH)) if batch is None else batch
    TrainingConfig.checked(model=whole_model, batch=batch)  # before anything counts with them
    _check_network(whole_model)
    if epochs is not None:
        version = folder.read_record().dataset_version if known else None
        steps = _steps_of(epochs, steps, batch, training_images(Store(dataset).load(version)))
    return train(
        dataset,
        model=whole_model,
        run=run,
        weights=weights,
        steps=steps,
        batch=batch,
        lr=lr,
        image_size=image_size,
        settings=chosen,
        seed=seed,
        device=device,
        processes=processes,
        eval_every=eval_every,
        patience=patience,
        checkpoint_every=checkpoint_every,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )


def _named(dataset: str | os.PathLike[str], detector: str, known: Mapping[str, Any]) -> str:
    """The folder of a run of the dataset, a run's path, or a model's name as it is.

    A run that goes on keeps its own words for the same folder: the command may come from elsewhere this time.
    """
    if names_model(detector):
        return detector
    path = RunFolder.named(dataset, detector).path
    before = str(known.get("settings", {}).get("detector", ""))
    return before if before and Path(before).name == path.name else path.as_posix()


def _check_network(model: str) -> None:
    from curate.engines.two_stage.classifier import check_network

    check_network(model.removeprefix(_PREFIX))


def _check_first_stage(detector: str, weights: str, folder: RunFolder) -> None:
    """Refuse what is no detector, and what would be overwritten before it is read."""
    file = find_first_stage(detector, weights).checkpoint
    if file.resolve().is_relative_to(folder.path.resolve()):
        raise UsageError(
            "the run would be its own first stage", place="--detector", got=file, remedy="Give --run another name."
        )
    read_first_stage(detector, weights)  # else --overwrite would remove a run for a file that cannot be read


def _steps_of(epochs: float, steps: int | None, batch: int, images: Dataset) -> int:
    """The steps in which as many crops pass as there are boxes, times `epochs`."""
    if steps is not None:
        raise UsageError("steps and epochs say the same", place="--epochs", expected="one of --steps and --epochs")
    if not 0 < epochs < float("inf"):
        raise UsageError("not a number of epochs", place="--epochs", got=epochs, expected="over 0")
    boxes = int((~images.boxes["crowd"].to_numpy(dtype=bool)).sum())
    return max(1, round(epochs * boxes / batch))
