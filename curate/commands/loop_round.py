"""One round of a loop: train, judge, put beside the round before. The loop's own run then is what the best round is."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from curate.commands.evaluate import evaluate
from curate.commands.train import train
from curate.curation.splits import VAL
from curate.errors import DataError
from curate.evaluation.judgement import EvaluateResult
from curate.files import TEMPORARY, sync_folder, write_atomically
from curate.inference.judge import training_images
from curate.media import link_or_copy
from curate.progress import Progress
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.run_folder.record import RunRecord
from curate.run_folder.rounds import (
    BestSoFar,
    ClassAp,
    LoopState,
    RoundReport,
    Standing,
    clear_round,
    has_learnt,
    keep_state,
    round_folder,
    standing_of,
)
from curate.store import Store


def check_val(store: Store) -> None:
    """Refuse a dataset whose val split holds nothing to find, for then no round is better than another.

    Raises:
        DataError: it is so now.
    """
    boxes = store.load().select(VAL).boxes
    if boxes["crowd"].to_numpy(dtype=bool).all():
        raise DataError(
            "there is nothing to judge the rounds by",
            place=store.root,
            got=f"{len(boxes)} objects to find in the val split",
            remedy="Split the dataset with `curate split`.",
        )


def play_round(
    store: Store, folder: RunFolder, state: LoopState, wanted: LoopState, progress: Progress
) -> tuple[LoopState, tuple[str, ...]]:
    """Train and judge the next round, or what is left of it.

    Args:
        store: of the dataset.
        folder: of the loop, held.
        state: of the loop.
        wanted: what is asked of `train` now; it counts from this round on.
        progress: told how far the round is.

    Returns:
        The state with the round in it, which is on disk already; and what is to be told.
    """
    number = len(state.done) + 1
    own = round_folder(folder, number)
    state = state.replace(steps=wanted.steps or state.steps, training=dict(state.training) | dict(wanted.training))
    if has_learnt(own):
        # it has its settings; those that are given now must fit them
        arguments = _of_round(wanted.training, number) | {"steps": wanted.steps, "resume": True}
    else:
        clear_round(own)
        keep_state(folder, state)
        weights = state.weights if state.best is None else str(round_folder(folder, state.best.round).best)
        seeded = {"seed": TrainingConfig.model_fields["seed"].default} | dict(state.training)
        arguments = _of_round(seeded, number) | {"steps": state.steps, "weights": weights}

    def tell(task: str, done: int, total: int, note: str = "") -> None:
        progress(f"round {number}: {task}", done, total, note)

    trained = train(store.root, model=state.model, run=str(own.path), progress=tell, **arguments)
    version = store.head()
    found = evaluate(store.root, run=str(own.path), min_side=state.min_side, report=False, progress=tell)
    (turn,) = trained.rounds
    boxes = training_images(store.load(turn.version)).class_counts()
    standing = Standing(number, turn.steps, turn.version, boxes=boxes, **_numbers(found))
    report = _compare(store, folder, state, standing, trained.best_step, version, tell)
    return keep_state(folder, state.replace(done=(*state.done, report))), (*trained.notes, *found.notes)


def _of_round(training: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The arguments for one round; with one seed for all, each would see the batches of the first again."""
    seed = training.get("seed")
    return dict(training) if seed is None else {**training, "seed": seed + number - 1}


def _numbers(found: EvaluateResult) -> dict[str, Any]:
    return {
        **{name: getattr(found, name) for name in ("ap", "ap_small", "ap_medium", "ap_large")},
        "classes": tuple(ClassAp(entry.name, entry.ap) for entry in found.classes),
        "ap_in_range": found.range_of_interest.ap if found.range_of_interest else None,
        "missed": dict(found.errors.missed),
        "false_positives": dict(found.errors.false_positives),
    }


def _compare(
    store: Store,
    folder: RunFolder,
    state: LoopState,
    standing: Standing,
    best_step: int | None,
    version: int,
    progress: Progress,
) -> RoundReport:
    """Put a round beside the one before and the best one, all judged on the val split of one version."""

    def as_of_now(number: int) -> Standing:
        report = state.done[number - 1]
        if report.evaluated_version == version:
            return standing_of(report)
        run = str(round_folder(folder, number).path)
        found = evaluate(store.root, run=run, min_side=state.min_side, report=False, progress=progress)
        return standing_of(report, **_numbers(found))

    if standing.ap is None:  # the objects went while it was trained
        check_val(store)
    best = BestSoFar(standing.round, standing.ap or 0.0)
    if state.best is not None:
        ap = as_of_now(state.best.round).ap or 0.0
        best = best if best.ap > ap else BestSoFar(state.best.round, ap)
    return RoundReport(
        **vars(standing),
        best_step=best_step,
        evaluated_version=version,
        before=as_of_now(len(state.done)) if state.done else None,
        best=best,
    )


# ── the run's own files ──────────────────────────────────────────────────────────────────────────────────────────


def publish_best(store: Store, folder: RunFolder, state: LoopState, progress: Progress) -> LoopState:
    """Make the run what its best round is, so that it can be evaluated and used by its own name."""
    if state.best is None or state.published == len(state.done):
        return state
    best = round_folder(folder, state.best.round)
    _put(best.best, folder.best)
    # the mark that tells what predictions are of comes last by name, too
    for file in sorted(best.path.glob(f"predictions_{VAL}.*")):
        _put(file, folder.path / file.name)
    write_atomically(folder.config_file, lambda file: file.write(best.config_file.read_bytes()))
    folder.write_record(_record(folder, state, best.read_record()))
    evaluate(store.root, run=f"{folder.path}{os.sep}", min_side=state.min_side, report=False, progress=progress)
    return keep_state(folder, state.replace(published=len(state.done)))


def _put(origin: Path, target: Path) -> None:
    """Give a file a second name, in the place of what has that name, at once."""
    temporary = target.with_name(target.name + TEMPORARY)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    link_or_copy(origin, str(temporary))
    os.replace(temporary, target)
    with suppress(FileNotFoundError):  # a rename between two names of one file does nothing
        temporary.unlink()
    sync_folder(target.parent)


def _record(folder: RunFolder, state: LoopState, best: RunRecord) -> RunRecord:
    """The best round's record, with the counts of all rounds."""
    left = state.rounds - len(state.done) if state.stopped is None else 0
    seconds = sum(round_folder(folder, report.round).read_record().seconds for report in state.done)
    changes = {
        "run": folder.name,
        "steps": state.steps_done + left * state.done[-1].steps,
        "steps_done": state.steps_done,
        "stopped": None,
        "best_step": state.best_step,
        "ap": state.best.ap if state.best else None,
        "seconds": round(seconds, 1),
    }
    return RunRecord.model_validate(best.model_dump() | changes)
