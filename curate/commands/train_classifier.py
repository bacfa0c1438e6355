"""`train-classifier`: train the second stage of a two-stage detector and evaluate both stages on the val split."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.commands.train import TrainResult, check_epochs, train
from curate.commands.training_options import CLASSIFIER, CLASSIFIER_BATCH, CLASSIFIER_MODEL, given, takes_options
from curate.dataset import Dataset
from curate.engines.base import names_model
from curate.engines.two_stage.first_stage import ENGINE, find_first_stage, read_first_stage
from curate.errors import UsageError
from curate.inference.judge import training_images
from curate.progress import Progress, Warn, silent, unheard
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.store import Store

_PREFIX = f"{ENGINE}:"


@takes_options(CLASSIFIER)
def train_classifier(
    dataset: str | os.PathLike[str],
    *,
    run: str,
    detector: str | None = None,
    detector_weights: str | os.PathLike[str] | None = None,
    model: str | None = None,
    margin: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
    warn: Warn = unheard,
    **options: Any,
) -> TrainResult:
    """Train a classifier on the boxes of the train split, and combine it with an existing detector.

    Every class is shown equally often; crowd boxes are left out. The run is a detector like any other: its checkpoint
    holds both stages, so the first detector is not needed any more. AP is that of both stages together.

    Args:
        dataset: The dataset folder. Its boxes have two classes or more.
        run: A name in `DATASET/runs`, or a path with a slash.
        detector: The first stage: a run of the dataset, the path of a run with a slash, or ENGINE:NAME. Its classes do
            not matter. Required unless a run is resumed.
        detector_weights: Weights file for a detector ENGINE:NAME.
        model: A ResNet of torchvision. Default: resnet18.
        margin: Context around a box in its crop, on each side, as a share of the box's longer side. Default: 0.3.
        resume: Continue an interrupted run with its options and images; a finished run stays as it is.
        overwrite: Replace an existing run of that name.
        progress: Called after every step.
        warn: See `train`.

    Raises:
        UsageError: No detector is given, or it does not exist; the run exists already; an option is not valid.
        DataError: There is nothing to train on.
        TrainingError: There is only one class; the loss is NaN or infinite; a batch does not fit into memory.
        MissingError: A library or the weights are missing.
    """
    folder = RunFolder.named(dataset, run)
    is_resumed, known = folder.check_start(resume=resume, overwrite=overwrite), folder.earlier_config(resume=resume)
    if known and not known["model"].startswith(_PREFIX):
        raise UsageError(
            "the run does not train a classifier", place=folder.path, got=known["model"], expected=f"{_PREFIX}NAME"
        )
    epochs, chosen = options.pop("epochs", None), given(options)
    own = {
        "detector": None if detector is None else _first_stage_name(dataset, detector, known),
        "detector_weights": detector_weights,
        "margin": margin,
    }
    settings = {**known.get("settings", {}), **chosen.get("settings", {}), **given(own)}
    if not is_resumed:
        _check_first_stage(str(settings.get("detector", "")), str(settings.get("detector_weights", "")), folder)
    engine_model = _PREFIX + model.removeprefix(_PREFIX) if model else known.get("model", _PREFIX + CLASSIFIER_MODEL)
    batch = TrainingConfig.checked(
        model=engine_model, batch=chosen.get("batch", known.get("batch", CLASSIFIER_BATCH))
    ).batch
    _check_network(engine_model)
    if epochs is not None:
        check_epochs(epochs, chosen.get("steps"))
        version = folder.read_record().dataset_version if is_resumed else None
        chosen["steps"] = _steps_of(epochs, batch, training_images(Store(dataset).load(version)))
    return train(
        dataset,
        run=run,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        warn=warn,
        **{**chosen, "model": engine_model, "batch": batch, "settings": settings},
    )


def _first_stage_name(dataset: str | os.PathLike[str], detector: str, known: Mapping[str, Any]) -> str:
    """ENGINE:NAME as it is, or the folder of a run.

    A resumed run keeps its path of the same folder: the command may be run in another working directory.
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
    """Check that the detector can be read, and is not in the folder of the run that would be overwritten."""
    file = find_first_stage(detector, weights).checkpoint
    if file.resolve().is_relative_to(folder.path.resolve()):
        raise UsageError(
            "the run would be its own first stage", place="--detector", got=file, remedy="Choose another --run."
        )
    read_first_stage(detector, weights)  # or --overwrite would remove a run before this fails


def _steps_of(epochs: float, batch: int, images: Dataset) -> int:
    """The number of steps that show `epochs` times as many crops as there are boxes."""
    boxes = int((~images.boxes["crowd"].to_numpy(dtype=bool)).sum())
    return max(1, round(epochs * boxes / batch))
