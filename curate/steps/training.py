"""`train`: fine-tune a detector on the train split, and score it on the val split."""

import os
from dataclasses import dataclass

from curate.dataset import Dataset
from curate.engines.base import TrainingConfig, engine_for
from curate.engines.runs import RunFolder
from curate.errors import DataError
from curate.progress import Progress, silent
from curate.steps.evaluating import evaluate, training_images
from curate.steps.results import Result
from curate.store import Store


@dataclass(frozen=True)
class Round:
    """One fine-tune-and-evaluate turn; AP is None where there is no val split, or nothing of that size in it."""

    round: int
    steps: int
    version: int | None
    ap: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None


@dataclass(frozen=True)
class TrainResult(Result):
    """What a training did; `ap` is that of the best checkpoint, which is still the last one, on the val split."""

    run: str
    model: str
    steps: int
    best_step: int | None
    ap: float | None
    rounds: tuple[Round, ...]


def train(
    dataset: str | os.PathLike[str],
    *,
    model: str,
    run: str,
    weights: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    image_size: int | None = None,
    seed: int | None = None,
    device: str | None = None,
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
        steps, batch, lr, image_size, seed, device, checkpoint_every, workers: see `TrainingConfig`.
        resume: go on where the run stopped; a finished run stays as it is.
        overwrite: begin a run of that name anew.
        progress: told after every step.

    Raises:
        UsageError: the run exists already, or settings do not fit.
        DataError: nothing to train on.
        TrainingError: the loss is not a number any more.
        MissingError: a library or the weights are not there.
    """
    given = {
        "weights": None if weights is None else str(weights),
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "image_size": image_size,
        "seed": seed,
        "device": device,
        "checkpoint_every": checkpoint_every,
        "workers": workers,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    folder = RunFolder.named(dataset, run)
    if resume and folder.exists():
        chosen = folder.read_config() | chosen | {"model": model}
    config = TrainingConfig.checked(**chosen | {"model": model})
    engine = engine_for(config.model)
    store = Store(dataset)
    # a run that goes on needs the very images it began with
    version = (folder.read_record().dataset_version if resume and folder.exists() else None) or store.head()
    chosen_images, notes = _training_images(store.load(version))
    with folder.held():
        record = folder.start(config, chosen_images, dataset_version=version, resume=resume, overwrite=overwrite)
        if not folder.finished:
            engine.train(chosen_images, folder, config, progress)
    scored = _score(store, folder, progress)
    record = folder.update(ap=scored["ap"]) if scored else folder.read_record()
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


def _training_images(dataset: Dataset) -> tuple[Dataset, list[str]]:
    labelled = dataset.select()
    has_splits = labelled.images["split"].notna().any()
    chosen = training_images(dataset)
    if not len(chosen.boxes):
        raise DataError(
            "there is nothing to train on",
            place=dataset.root,
            got=f"{len(chosen.images)} labelled images{' in train' if has_splits else ''} without a box",
            remedy="Label images and bring them in with import-voc."
            if not len(labelled.boxes)
            else "See `curate split`.",
        )
    notes = [] if has_splits else ["There are no splits: all labelled images were trained on, none are held out."]
    if waiting := int((labelled.images["split"].isna()).sum()) if has_splits else 0:
        notes.append(
            f"{waiting} labelled images are in no split and were not trained on; `curate split` puts them into one."
        )
    return chosen, notes


def _score(store: Store, folder: RunFolder, progress: Progress) -> dict[str, float | None] | None:
    """AP on the val split, where there is one."""
    if not len(store.load().select("val").images):
        return None
    return evaluate(store.root, run=str(folder.path) + "/", progress=progress).to_json()
