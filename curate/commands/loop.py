"""`loop`: rounds of fine-tune, evaluate, errors, until the detector is good enough or does not get better."""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from curate.commands.loop_round import check_val, play_round, publish_best
from curate.commands.train import train
from curate.dataset import Dataset
from curate.engines.base import engine_for, library_versions
from curate.errors import UsageError, unknown_name
from curate.files import TEMPORARY
from curate.inference.judge import training_images
from curate.progress import Progress, silent
from curate.result import Result
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.run_folder.record import RunClass, RunRecord
from curate.run_folder.rounds import (
    LoopState,
    RoundReport,
    clear,
    has_learnt,
    keep_state,
    read_state,
    round_folder,
    rounds_file,
)
from curate.store import Store

ROUNDS = 3
# what a loop decides itself, or what means something else in it
_NOT_FOR_TRAINING = frozenset(
    {"dataset", "model", "run", "weights", "steps", "patience", "resume", "overwrite", "progress"}
)

Announce = Callable[[RoundReport], None]


@dataclass(frozen=True)
class LoopResult(Result):
    """What a loop did.

    Attributes:
        steps: over all rounds; `best_step` counts in them.
        best_round: whose checkpoint the run holds.
        ap: of the best round, on the val split that the last round was judged on.
        stopped: "target_ap", "patience" or "rounds".
    """

    run: str
    model: str
    steps: int
    best_step: int | None
    best_round: int
    ap: float
    rounds: tuple[RoundReport, ...]
    stopped: str


def _say_nothing(report: RoundReport) -> None:
    """Tell nobody."""


def loop(
    dataset: str | os.PathLike[str],
    *,
    model: str,
    run: str,
    weights: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    rounds: int | None = None,
    target_ap: float | None = None,
    patience: int | None = None,
    training: Mapping[str, Any] | None = None,
    min_side: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    announce: Announce = _say_nothing,
    progress: Progress = silent,
) -> LoopResult:
    """Train and evaluate in rounds, each from the best checkpoint so far, on the version that is current at its start.

    Rounds are judged by their AP on the val split. Where labels came in between, earlier rounds are judged anew on the
    val split of now, so that what stands side by side compares.

    Args:
        dataset: the dataset folder.
        model: ENGINE:NAME.
        run: a name in `DATASET/runs`, or a path with a slash; it holds the best round's checkpoint.
        weights: of the first round; see `train`.
        steps: of each round.
        rounds: at most so many; default 3, or as before on resume.
        target_ap: stop once the best round's AP is so high, 0 to 1.
        patience: stop after so many rounds without a better AP.
        training: further arguments of `train`, the same in each round; only the seed is one more each time, so that no
            round sees the batches of another.
        min_side: the range of interest: its AP is told too, and mistakes are those within it.
        resume: go on where the loop stopped; rounds, target and patience may change, and arguments of `train` for the
            rounds to come.
        overwrite: begin a run of that name anew.
        announce: told of every round that is finished now.
        progress: told how far the round at hand is.

    Raises:
        UsageError: the run exists already, or there is none to go on with, or arguments do not fit.
        DataError: there is nothing to train on, or nothing in val to judge by.
        TrainingError, MissingError: as `train`.
    """
    if resume and overwrite:
        raise UsageError("a run goes on or begins anew", place="--resume", got="--overwrite too")
    _check(rounds, target_ap, patience, training or {})
    wanted = LoopState(
        model=model,
        weights=None if weights is None else str(weights),
        steps=steps,
        training=dict(training or {}),
        rounds=ROUNDS if rounds is None else rounds,
        target_ap=target_ap,
        patience=patience,
        min_side=min_side,
    )
    store, folder = Store(dataset), RunFolder.named(dataset, run)
    if not folder.path.exists():
        if resume:
            raise UsageError("there is no run to go on with", place=folder.path, remedy="Start it without --resume.")
        check_val(store)
    notes: dict[str, None] = {}
    with folder.held():
        state = _kept(folder, resume=resume, overwrite=overwrite)
        if state is None:
            state = _begin(store, folder, wanted)
        else:
            state = _go_on(folder, state, wanted, with_rounds=rounds is not None)
        state = publish_best(store, folder, state, progress)
        while state.stopped is None:
            check_val(store)
            state, told = play_round(store, folder, state, wanted, progress)
            notes |= dict.fromkeys(told)
            state = publish_best(store, folder, state, progress)
            announce(state.done[-1])
    return _result(run, state, tuple(notes))


def _check(rounds: int | None, target_ap: float | None, patience: int | None, training: Mapping[str, Any]) -> None:
    for name, number in (("--rounds", rounds), ("--patience", patience)):
        if number is not None and number < 1:
            raise UsageError("not a number of rounds", place=name, got=number, expected="1 or more")
    if target_ap is not None and not 0 < target_ap <= 1:
        raise UsageError("not an AP", place="--target-ap", got=target_ap, expected="over 0, up to 1, such as 0.5")
    known = inspect.signature(train).parameters.keys() - _NOT_FOR_TRAINING
    for name in training:
        if name not in known:
            raise unknown_name("training argument", name, sorted(known), place="loop")


# ── beginning and going on ───────────────────────────────────────────────────────────────────────────────────────


def _kept(folder: RunFolder, *, resume: bool, overwrite: bool) -> LoopState | None:
    """The state to go on from; None where the loop begins, because nothing is there, or nothing learnt, or it may go.

    Raises:
        UsageError: what is there is to be kept, or is no loop's.
    """
    state = read_state(folder)
    if state is not None:
        learnt = state.ready and (bool(state.done) or has_learnt(round_folder(folder, 1)))
    else:
        ours = {".lock", rounds_file(folder).name + TEMPORARY}
        is_begun = folder.exists() or folder.config_file.is_file()
        is_new = all(file.name in ours for file in folder.path.iterdir())
        learnt = has_learnt(folder) if is_begun else not is_new
        if overwrite and not is_begun and not is_new:
            raise UsageError(
                "the folder is not empty and holds no run",
                place=folder.path,
                remedy="Choose another name; it is not overwritten.",
            )
    if not learnt or overwrite:
        return None
    if not resume:
        raise UsageError(
            "the run exists already",
            place=folder.path,
            remedy="Go on with --resume, or begin anew with --overwrite.",
        )
    if state is None:
        raise UsageError(
            "the run is not a loop's", place=folder.path, remedy="Go on with `curate train`, or choose another name."
        )
    return state


def _begin(store: Store, folder: RunFolder, wanted: LoopState) -> LoopState:
    """Write the first files of a loop, after whatever was there is gone."""
    check_val(store)
    engine_for(wanted.model)
    version = store.head()
    images = training_images(store.load(version))
    record, config = _first_record(folder, wanted, images, version, store.mark)
    keep_state(folder, wanted)  # not ready: from here on, what else lies here does not count
    clear(folder)
    folder.write_config(config)
    folder.write_record(record)
    return keep_state(folder, wanted.replace(ready=True))


def _first_record(
    folder: RunFolder, wanted: LoopState, images: Dataset, version: int, mark: str | None
) -> tuple[RunRecord, TrainingConfig]:
    """What the run's own files tell until a round is finished."""
    asked = {"model": wanted.model, "weights": wanted.weights, "steps": wanted.steps, **wanted.training}
    known = {name: asked[name] for name in asked if name in TrainingConfig.model_fields and asked[name] is not None}
    config = TrainingConfig.checked(**known)
    record = RunRecord(
        run=folder.name,
        model=config.model,
        classes=tuple(RunClass(id=entry.id, name=entry.name) for entry in images.classes),
        dataset_version=version,
        dataset_mark=mark,
        images=len(images.images),
        boxes=len(images.boxes),
        seed=config.seed,
        steps=config.steps * wanted.rounds,
        versions=library_versions(),
    )
    return record, config


def _go_on(folder: RunFolder, state: LoopState, wanted: LoopState, *, with_rounds: bool) -> LoopState:
    """Keep when to stop as it is asked now; what is not said stays.

    Raises:
        UsageError: it would be another loop.
    """
    for name in ("model", "weights", "min_side"):
        before, now = getattr(state, name), getattr(wanted, name)
        if now is not None and now != before:
            raise UsageError(
                f"the loop began with another setting: {name}",
                place=folder.path,
                got=now,
                expected="none" if before is None else before,
                remedy="Leave it out, or give the run another name.",
            )
    asked = {name: getattr(wanted, name) for name in ("target_ap", "patience")}
    asked["rounds"] = wanted.rounds if with_rounds else None
    changed = state.replace(**{name: value for name, value in asked.items() if value is not None})
    return state if changed == state else keep_state(folder, changed)


def _result(run: str, state: LoopState, notes: tuple[str, ...]) -> LoopResult:
    if state.best is None or state.stopped is None:
        raise RuntimeError("a loop ended before it was done")
    return LoopResult(
        run=run,
        model=state.model,
        steps=state.steps_done,
        best_step=state.best_step,
        best_round=state.best.round,
        ap=state.best.ap,
        rounds=state.done,
        stopped=state.stopped,
        notes=notes,
    )
