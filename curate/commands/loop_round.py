"""One round of a loop: train, evaluate, compare with the round before. The loop's run is a copy of the best round."""

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
from curate.files import sync_folder, temporary_name, write_atomically
from curate.inference.judge import training_images
from curate.media import link_or_copy
from curate.progress import Progress, Warn
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.run_folder.record import RunRecord
from curate.run_folder.rounds import (
    BestSoFar,
    ClassAp,
    LoopState,
    RoundReport,
    RoundScores,
    has_checkpoint,
    remove_round,
    round_folder,
    scores_of,
    write_state,
)
from curate.store import Store


def check_val(store: Store) -> None:
    """Check that the val split has objects: without them no AP compares the rounds.

    Raises:
        DataError: It has none.
    """
    boxes = store.load().select(VAL).boxes
    if boxes["crowd"].to_numpy(dtype=bool).all():
        raise DataError(
            "the val split has no objects to evaluate the rounds on",
            place=store.root,
            got=f"{len(boxes)} crowd boxes" if len(boxes) else "0 boxes",
            remedy="Split the dataset with `curate split`.",
        )


def play_round(
    store: Store, folder: RunFolder, state: LoopState, options: LoopState, progress: Progress, warn: Warn
) -> tuple[LoopState, tuple[str, ...]]:
    """Train and evaluate the next round, or finish an interrupted one.

    Args:
        store: The dataset.
        folder: The loop's run, locked.
        state: The loop's state.
        options: Options that were given now; they apply from this round on.
        progress: Callback for the progress of the round.
        warn: See `train`.

    Returns:
        The state with the round, already on disk; and notes for the person at the terminal.
    """
    number = len(state.done) + 1
    run = round_folder(folder, number)
    state = state.replace(steps=options.steps or state.steps, training={**state.training, **options.training})
    if has_checkpoint(run):
        # the round keeps its options; `train` checks that those given now are the same
        arguments = _with_seed(options.training, number) | {"steps": options.steps, "resume": True}
    else:
        remove_round(run)
        write_state(folder, state)
        weights = state.weights if state.best is None else str(round_folder(folder, state.best.round).best)
        training = {"seed": TrainingConfig.seed, **state.training}
        arguments = _with_seed(training, number) | {"steps": state.steps, "weights": weights}

    def round_progress(task: str, done: int, total: int, note: str = "") -> None:
        progress(f"round {number}: {task}", done, total, note)

    trained = train(store.root, model=state.model, run=str(run.path), progress=round_progress, warn=warn, **arguments)
    version = store.head()
    evaluated = evaluate(store.root, run=str(run.path), min_side=state.min_side, report=False, progress=round_progress)
    (trained_round,) = trained.rounds
    boxes = training_images(store.load(trained_round.version)).class_counts()
    scores = RoundScores(number, trained_round.steps, trained_round.version, boxes=boxes, **_scores(evaluated))
    report = _compare(store, folder, state, scores, trained.best_step, version, round_progress)
    return write_state(folder, state.replace(done=(*state.done, report))), (*trained.notes, *evaluated.notes)


def _with_seed(training: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The options of one round. Each round has a seed of its own, or it would see the batches of the first again."""
    seed = training.get("seed")
    return dict(training) if seed is None else {**training, "seed": seed + number - 1}


def _scores(result: EvaluateResult) -> dict[str, Any]:
    return {
        **{name: getattr(result, name) for name in ("ap", "ap_small", "ap_medium", "ap_large")},
        "classes": tuple(ClassAp(entry.name, entry.ap) for entry in result.classes),
        "ap_in_range": result.range_of_interest.ap if result.range_of_interest else None,
        "missed": dict(result.errors.missed),
        "false_positives": dict(result.errors.false_positives),
    }


def _compare(
    store: Store,
    folder: RunFolder,
    state: LoopState,
    scores: RoundScores,
    best_step: int | None,
    version: int,
    progress: Progress,
) -> RoundReport:
    """Compare a round with the one before and the best one, all evaluated on the val split of one version."""

    def on_this_version(number: int) -> RoundScores:
        report = state.done[number - 1]
        if report.evaluated_version == version:
            return scores_of(report)
        run = str(round_folder(folder, number).path)
        result = evaluate(store.root, run=run, min_side=state.min_side, report=False, progress=progress)
        return scores_of(report, **_scores(result))

    if scores.ap is None:  # the objects were removed during the training
        check_val(store)
    best = BestSoFar(scores.round, scores.ap or 0.0)
    if state.best is not None:
        ap = on_this_version(state.best.round).ap or 0.0
        best = best if best.ap > ap else BestSoFar(state.best.round, ap)
    return RoundReport(
        **vars(scores),
        best_step=best_step,
        evaluated_version=version,
        before=on_this_version(len(state.done)) if state.done else None,
        best=best,
    )


# ── the run's own files ──────────────────────────────────────────────────────────────────────────────────────────


def publish_best(store: Store, folder: RunFolder, state: LoopState, progress: Progress) -> LoopState:
    """Copy the best round into the loop's run, so that the run can be evaluated and used by its name."""
    if state.best is None or state.published == len(state.done):
        return state
    best = round_folder(folder, state.best.round)
    _link(best.best, folder.best)
    # sorted: the file that says which images the predictions are of comes last, as when `evaluate` writes them
    for file in sorted(best.path.glob(f"predictions_{VAL}.*")):
        _link(file, folder.path / file.name)
    write_atomically(folder.config_file, lambda file: file.write(best.config_file.read_bytes()))
    folder.write_record(_record(folder, state, best.read_record()))
    evaluate(store.root, run=f"{folder.path}{os.sep}", min_side=state.min_side, report=False, progress=progress)
    return write_state(folder, state.replace(published=len(state.done)))


def _link(origin: Path, target: Path) -> None:
    """Replace a file by a link to, or copy of, another one; a kill leaves the old or the new file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(target.parent)
    try:
        link_or_copy(origin, temporary)
        os.replace(temporary, target)
    finally:
        with suppress(FileNotFoundError):  # still there if both were links to one file, which `replace` leaves alone
            os.unlink(temporary)
    sync_folder(target.parent)


def _record(folder: RunFolder, state: LoopState, best: RunRecord) -> RunRecord:
    """The best round's record, with the steps and seconds of all rounds."""
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
