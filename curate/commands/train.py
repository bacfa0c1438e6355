"""`train`: fine-tune a detector on the train split, and score it on the val split."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.commands.evaluate import evaluate
from curate.dataset import Dataset
from curate.engines.base import Detector, engine_for, library_versions, predict_dataset
from curate.engines.training.order import steps_of_epochs
from curate.errors import DataError, UsageError
from curate.evaluation.scores import score
from curate.formatting import count_of
from curate.inference.judge import training_images
from curate.progress import Progress, silent
from curate.result import Result
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.run_folder.record import RunRecord
from curate.run_folder.rounds import Round
from curate.store import Store


@dataclass(frozen=True)
class TrainResult(Result):
    """What a training did; `ap` is that of the best checkpoint on the val split."""

    run: str
    model: str
    steps: int
    best_step: int | None
    ap: float | None
    rounds: tuple[Round, ...]


@dataclass(frozen=True, eq=False)
class Validation:
    """Scores a detector on the val split while it is trained; see `Validate`.

    Attributes:
        truth: the labelled images to look at.
    """

    truth: Dataset

    def __call__(self, detector: Detector) -> Mapping[str, float | None]:
        """AP, and AP by size."""
        scores = score(self.truth, predict_dataset(detector, self.truth))
        return {name: getattr(scores, name) for name in ("ap", "ap_small", "ap_medium", "ap_large")}


def train(
    dataset: str | os.PathLike[str],
    *,
    model: str,
    run: str,
    weights: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    batch: int | None = None,
    lr: float | None = None,
    image_size: int | None = None,
    balance: str | None = None,
    loss: str | None = None,
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
    """Fine-tune a detector on the labelled images of the train split, those without boxes included.

    Without splits, all labelled images are trained on. Settings that are not given take the defaults of
    `TrainingConfig`, and those of the model.

    Args:
        dataset: the dataset folder.
        model: ENGINE:NAME.
        run: a name in `DATASET/runs`, or a path with a slash.
        weights: a file, "package:DISTRIBUTION", or "none"; default: the library's own, downloaded.
        epochs: instead of `steps`: how often every image is shown.
        steps, batch, lr, image_size, balance, loss, settings, seed: see `TrainingConfig`.
        device, processes, eval_every, patience, checkpoint_every, workers: see `TrainingConfig`.
        resume: go on where the run stopped; a finished run stays as it is.
        overwrite: begin a run of that name anew.
        progress: told after every step.

    Raises:
        UsageError: the run exists already, or settings do not fit.
        DataError: nothing to train on.
        TrainingError: the loss is not a number any more, or the batch does not fit the memory.
        MissingError: a library or the weights are not there.
    """
    given = {
        "weights": None if weights is None else str(weights),
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "image_size": image_size,
        "balance": balance,
        "loss": loss,
        "settings": settings or None,
        "seed": seed,
        "device": device,
        "processes": processes,
        "eval_every": eval_every,
        "patience": patience,
        "checkpoint_every": checkpoint_every,
        "workers": workers,
    }
    folder = RunFolder.named(dataset, run)
    goes_on = resume and folder.exists()
    known = folder.read_config() if goes_on else {}
    chosen = known | {name: value for name, value in given.items() if value is not None} | {"model": model}
    store = Store(dataset)
    # a run that goes on needs the very images it began with
    version = (folder.read_record().dataset_version if goes_on else None) or store.head()
    whole = store.load(version)
    images, notes = _training_images(whole)
    config = _config(chosen, steps, epochs, images)
    engine = engine_for(config.model)
    with folder.held():
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
            engine.train(images, folder, config, progress, _validation(whole, config))
    scored = _score(store, folder, progress)
    record = folder.update(ap=scored["ap"]) if scored else folder.read_record()
    notes += _weights_told(record)
    if record.stopped == "patience":
        notes.append(f"Early stopping after step {record.steps_done}: no better AP (patience {config.patience}).")
    size_aps = {name: scored[name] if scored else None for name in ("ap", "ap_small", "ap_medium", "ap_large")}
    return TrainResult(
        run=run,
        model=record.model,
        steps=record.steps_done,
        best_step=record.best_step,
        ap=record.ap,
        rounds=(Round(1, record.steps_done, record.dataset_version, **size_aps),),
        notes=tuple(notes),
    )


def _config(chosen: Mapping[str, Any], steps: int | None, epochs: float | None, images: Dataset) -> TrainingConfig:
    config = TrainingConfig.checked(**chosen)
    if epochs is None:
        return config
    if steps is not None:
        raise UsageError("steps and epochs say the same", place="--epochs", expected="one of --steps and --epochs")
    if not 0 < epochs < float("inf"):
        raise UsageError("not a number of epochs", place="--epochs", got=epochs, expected="over 0")
    return TrainingConfig.checked(**config.model_dump() | {"steps": steps_of_epochs(epochs, images, config)})


def _weights_told(record: RunRecord) -> list[str]:
    """What the initial weights left at random, where they did not fill everything."""
    report = record.weights
    if report is None or report.how == "random" or not report.not_loaded:
        return []
    parts = list(dict.fromkeys(name.rpartition(".")[0] for name in report.not_loaded))
    named = ", ".join(parts[:3]) + (f" and {len(parts) - 3} more parts (run.json lists all)" if len(parts) > 3 else "")
    return [
        f"{report.loaded} of {report.total} tensors came from the weights {report.source}; at random began {named}."
    ]


def _validation(whole: Dataset, config: TrainingConfig) -> Validation | None:
    """What judges the training while it goes on; None where it would only be judged at its end, as it is anyway."""
    val = whole.select("val")
    if not len(val.images):
        if config.eval_every or config.patience:
            raise DataError(
                "there is no val split to evaluate on",
                place=whole.root,
                remedy="Make one with `curate split`, or leave out --eval-every and --patience.",
            )
        return None
    return Validation(val) if config.evaluates_every < config.steps or config.patience else None


def _training_images(dataset: Dataset) -> tuple[Dataset, list[str]]:
    labelled = dataset.select()
    has_splits = labelled.images["split"].notna().any()
    chosen = training_images(dataset)
    if not len(chosen.boxes):
        raise DataError(
            "there is nothing to train on",
            place=dataset.root,
            got=f"{count_of(len(chosen.images), 'labelled image')}{' in train' if has_splits else ''} without a box",
            remedy="Label images and bring them in with import-voc."
            if not len(labelled.boxes)
            else "See `curate split`.",
        )
    notes = [] if has_splits else ["There are no splits: all labelled images were trained on, none are held out."]
    if waiting := int((labelled.images["split"].isna()).sum()) if has_splits else 0:
        notes.append(f"Not trained on: {count_of(waiting, 'labelled image')} in no split; `curate split` assigns one.")
    return chosen, notes


def _score(store: Store, folder: RunFolder, progress: Progress) -> dict[str, float | None] | None:
    """AP on the val split, where there is one."""
    if not len(store.load().select("val").images):
        return None
    return evaluate(store.root, run=str(folder.path) + "/", report=False, progress=progress).to_json()
