"""`train`: fine-tune a detector on the train split and evaluate it on the val split."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from curate.commands.evaluate import evaluate
from curate.commands.training_options import MODEL, TRAIN, given, takes_options
from curate.curation.incomplete import nothing_labelled
from curate.dataset import Dataset
from curate.engines.base import Detector, engine_for, library_versions, predict_dataset
from curate.engines.training.order import steps_of_epochs
from curate.errors import DataError, UsageError
from curate.evaluation.scores import score
from curate.formatting import count_of
from curate.images import Unreadable
from curate.inference.judge import training_images, training_notes
from curate.progress import Progress, Warn, silent, unheard
from curate.result import Result
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.run_folder.record import RunRecord
from curate.run_folder.rounds import Round
from curate.store import Store

_APS = ("ap", "ap_small", "ap_medium", "ap_large")


@dataclass(frozen=True)
class TrainResult(Result):
    """A finished training.

    Attributes:
        steps: Steps done.
        best_step: Step of the best checkpoint.
        ap: AP of the best checkpoint on the val split; None without one.
        rounds: One round.
    """

    run: str
    model: str
    steps: int
    best_step: int | None
    ap: float | None
    rounds: tuple[Round, ...]


@dataclass(frozen=True, eq=False)
class Validation:
    """Evaluates a detector during its training; see `Validate`.

    Attributes:
        truth: The labelled images of the val split.
    """

    truth: Dataset

    def __call__(self, detector: Detector) -> Mapping[str, float | None]:
        """AP, and AP by size."""
        unreadable = Unreadable(len(self.truth.images), "the detections, so that its objects count as missed")
        scores = score(self.truth, predict_dataset(detector, self.truth, unreadable=unreadable))
        return {name: getattr(scores, name) for name in _APS}


@takes_options(TRAIN)
def train(
    dataset: str | os.PathLike[str],
    *,
    run: str,
    model: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
    warn: Warn = unheard,
    **options: Any,
) -> TrainResult:
    """Fine-tune a detector on the labelled images of the train split, including those without boxes.

    Without splits, all labelled images are trained on.

    Args:
        dataset: The dataset folder.
        run: A name in `DATASET/runs`, or a path with a slash.
        model: ENGINE:NAME. Default: on resume the run's own; that of `weights`, if it is a checkpoint of curate; else
            torchvision:fasterrcnn_resnet50_fpn_v2.
        resume: Continue an interrupted run with its options and images; a finished run stays as it is.
        overwrite: Replace an existing run of that name.
        progress: Called after every step.
        warn: Called before the training with each note on its images that cannot wait for the result, which has it too.

    Raises:
        UsageError: The run exists already, or an option is not valid.
        DataError: There is nothing to train on.
        TrainingError: The loss is NaN or infinite, or a batch does not fit into memory.
        MissingError: A library or the weights are missing.
    """
    folder = RunFolder.named(dataset, run)
    epochs, chosen = options.pop("epochs", None), given(options)
    if epochs is not None:
        check_epochs(epochs, chosen.get("steps"))
    is_resumed, known = folder.check_start(resume=resume, overwrite=overwrite), folder.earlier_config(resume=resume)
    store = Store(dataset)
    # a resumed run continues on the images that it started with
    version = (folder.read_record().dataset_version if is_resumed else None) or store.head()
    whole = store.load(version)
    images, notes = _training_images(whole), training_notes(whole)
    chosen |= given({"model": model or known.get("model") or default_model(chosen.get("weights"))})
    config = TrainingConfig.checked(**{**known, **chosen})
    if epochs is not None:
        config = TrainingConfig.checked(**{**config.as_dict(), "steps": steps_of_epochs(epochs, images, config)})
    engine, validation = engine_for(config.model), _validation(whole, config)
    with folder.locked():
        if folder.has_learnt and not is_resumed:  # whatever can fail fails before the run is replaced
            folder.refuse_own_weights(config.weights)
            engine.check(images, config)
        record = folder.start(
            config,
            images,
            dataset_version=version,
            dataset_mark=store.mark,
            versions=library_versions(),
            resume=resume,
            overwrite=overwrite,
        )
        if not folder.finished:
            for note in notes:
                warn(note)
            engine.train(images, folder, config, progress, validation)
    scored = _score(store, folder, progress)
    record = folder.update(ap=scored["ap"]) if scored else folder.read_record()
    notes += _note_missing_weights(record)
    if record.stopped == "patience":
        notes.append(f"Early stopping after step {record.steps_done}: no better AP (patience {config.patience}).")
    aps = {name: scored[name] if scored else None for name in _APS}
    return TrainResult(
        run=run,
        model=record.model,
        steps=record.steps_done,
        best_step=record.best_step,
        ap=record.ap,
        rounds=(Round(1, record.steps_done, record.dataset_version, **aps),),
        notes=tuple(notes),
    )


def default_model(weights: str | None) -> str:
    """The model of a training that names none: that of its initial weights, if they are a checkpoint of curate."""
    if weights is None or not is_zipfile(weights):
        return MODEL.default
    return engine_for(MODEL.default).model_in(Path(weights)) or MODEL.default


def check_epochs(epochs: float, steps: int | None) -> None:
    """Check a number of epochs.

    Raises:
        UsageError: It is not positive and finite, or a number of steps was given too.
    """
    if steps is not None:
        raise UsageError(
            "--steps and --epochs are mutually exclusive",
            place="--epochs",
            got=f"--steps {steps} too",
            remedy="Leave one of them out.",
        )
    if not 0 < epochs < math.inf:
        raise UsageError("invalid number of epochs", place="--epochs", got=epochs, expected="a finite number above 0")


def _note_missing_weights(record: RunRecord) -> list[str]:
    """A note that names the parts that the initial weights did not fill."""
    report = record.weights
    if report is None or report.how == "random" or not report.not_loaded:
        return []
    parts = list(dict.fromkeys(name.rpartition(".")[0] for name in report.not_loaded))
    named = ", ".join(parts[:3]) + (f" and {len(parts) - 3} more parts (run.json lists all)" if len(parts) > 3 else "")
    return [f"{report.loaded} of {report.total} tensors were initialised from {report.source}; random: {named}."]


def _validation(whole: Dataset, config: TrainingConfig) -> Validation | None:
    """What evaluates during the training; None if it would do so only at the end, when `train` evaluates anyway."""
    val = whole.select("val")
    if not len(val.images):
        if config.eval_every or config.patience:
            raise DataError(
                "there is no val split to evaluate on",
                place=whole.root,
                remedy="Create one with `curate split`, or leave out --eval-every and --patience.",
            )
        return None
    return Validation(val) if config.evaluates_every < config.steps or config.patience else None


def _training_images(dataset: Dataset) -> Dataset:
    labelled, chosen = dataset.select(), training_images(dataset)
    if not len(labelled.images):
        raise nothing_labelled(dataset)
    if not len(chosen.boxes):
        in_train = " in train" if labelled.images["split"].notna().any() else ""
        raise DataError(
            "there is nothing to train on",
            place=dataset.root,
            got=f"{count_of(len(chosen.images), 'labelled image')}{in_train} without a box",
            remedy="Label images and import them." if not len(labelled.boxes) else "Split again with `curate split`.",
        )
    return chosen


def _score(store: Store, folder: RunFolder, progress: Progress) -> dict[str, float | None] | None:
    """AP on the val split; None if there is no val split."""
    if not len(store.load().select("val").images):
        return None
    return evaluate(store.root, run=str(folder.path) + "/", report=False, progress=progress).to_json()
