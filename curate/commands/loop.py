"""`loop`: fine-tune and evaluate in rounds, until the detector is good enough or does not improve."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from curate.commands.loop_round import check_val, play_round, publish_best
from curate.commands.train import default_model
from curate.commands.training_options import LOOP, ROUNDS, given
from curate.dataset import Dataset
from curate.engines.base import engine_for, library_versions
from curate.errors import UsageError, unknown_name
from curate.inference.judge import training_images
from curate.progress import Progress, Warn, silent, unheard
from curate.result import Result
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.run_folder.record import RunRecord
from curate.run_folder.rounds import (
    LoopState,
    RoundReport,
    check_removable,
    has_checkpoint,
    read_state,
    remove_loop,
    round_folder,
    runs_in,
    write_state,
)
from curate.store import Store

_OWN_ARGUMENTS = ("weights", "steps")  # options of `train` that are not part of `training`

Announce = Callable[[RoundReport], None]


@dataclass(frozen=True)
class LoopResult(Result):
    """A finished loop.

    Attributes:
        steps: Steps of all rounds.
        best_step: Step of the best checkpoint, counted over all rounds.
        best_round: The round whose checkpoint the run holds.
        ap: AP of the best round, on the val split that the last round was evaluated on.
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


def _ignore(report: RoundReport) -> None:
    pass


def loop(
    dataset: str | os.PathLike[str],
    *,
    run: str,
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    rounds: int | None = None,
    target_ap: float | None = None,
    patience: int | None = None,
    training: Mapping[str, Any] | None = None,
    min_side: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    announce: Announce = _ignore,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> LoopResult:
    """Train and evaluate in rounds. Each starts from the best checkpoint so far, on the dataset version of that moment.

    Rounds are compared by AP on the val split. After new labels came in, earlier rounds are evaluated again on the
    current val split, so that the numbers are comparable.

    Args:
        dataset: The dataset folder.
        run: A name in `DATASET/runs`, or a path with a slash; it holds the checkpoint of the best round.
        model: ENGINE:NAME. Default: as in `train`.
        weights: Initial weights of the first round; see `train`.
        steps: Steps per round.
        rounds: Maximum number of rounds. Default: 3, or as before on resume.
        target_ap: Stop once the best round's AP is at least this, 0 to 1.
        patience: Stop after this many rounds without a better AP.
        training: Further options of `train`, the same in each round. Only the seed grows by 1 per round, because
            otherwise each round would see the same batches.
        min_side: The range of interest: shorter side in pixels. Its AP is reported, and mistakes are those within it.
        resume: Continue an interrupted or finished loop. Rounds, target and patience may change, and for further rounds
            the options of `train`.
        overwrite: Replace an existing run of that name.
        announce: Called with the report of each finished round.
        progress: Callback for the progress of the current round.
        warn: See `train`; each note is reported once.

    Raises:
        UsageError: The run exists already; there is none to resume; an argument is not valid.
        DataError: There is nothing to train on, or no object in the val split.
        TrainingError, MissingError: As in `train`.
    """
    store, folder = Store(dataset), RunFolder.named(dataset, run)
    folder.refuse_both(resume=resume, overwrite=overwrite)
    _check(rounds, target_ap, patience, training or {})
    saved = read_state(folder) if resume else None
    options = LoopState(
        model=model or (saved.model if saved else default_model(None if weights is None else str(weights))),
        weights=None if weights is None else str(weights),
        steps=steps,
        training=dict(training or {}),
        rounds=ROUNDS if rounds is None else rounds,
        target_ap=target_ap,
        patience=patience,
        min_side=min_side,
    )
    if not folder.path.exists():
        if resume:
            raise folder.missing()
        check_val(store)
    notes: dict[str, None] = {}

    def warn_once(note: str) -> None:
        if note not in notes:
            notes[note] = None
            warn(note)

    with folder.locked():
        state = _saved_state(folder, resume=resume, overwrite=overwrite)
        if state is None:
            state = _start(store, folder, _completed(options, saved, with_rounds=rounds is not None))
        else:
            state = _continue(folder, state, options, with_rounds=rounds is not None)
        state = publish_best(store, folder, state, progress)
        while state.stopped is None:
            check_val(store)
            state, round_notes = play_round(store, folder, state, options, progress, warn_once)
            notes |= dict.fromkeys(round_notes)
            state = publish_best(store, folder, state, progress)
            announce(state.done[-1])
    return _result(run, state, tuple(notes))


def _check(rounds: int | None, target_ap: float | None, patience: int | None, training: Mapping[str, Any]) -> None:
    for name, number in (("--rounds", rounds), ("--patience", patience)):
        if number is not None and number < 1:
            raise UsageError("invalid number of rounds", place=name, got=number, expected="1 or more")
    if target_ap is not None and not 0 < target_ap <= 1:
        raise UsageError("invalid AP", place="--target-ap", got=target_ap, expected="above 0, up to 1, such as 0.5")
    known = [name for name in LOOP if name not in _OWN_ARGUMENTS]
    for name in training:
        if name not in known:
            raise unknown_name("training argument", name, known, place="loop")


# ── start and resume ─────────────────────────────────────────────────────────────────────────────────────────────


def _saved_state(folder: RunFolder, *, resume: bool, overwrite: bool) -> LoopState | None:
    """The state to continue from; None if the loop starts: the folder is new, nothing was trained, or `overwrite`.

    Raises:
        UsageError: The run exists and is not to be resumed, or is not a loop's.
    """
    state = None if overwrite else read_state(folder)
    if state is None:
        if folder.check_start(resume=resume, overwrite=overwrite):
            raise UsageError(
                "the run is not a loop's",
                place=folder.path,
                remedy="Continue it with `curate train`, or choose another name.",
            )
        return None
    if not (state.ready and (state.done or has_checkpoint(round_folder(folder, 1)))):
        return None
    if not resume:
        raise folder.already_exists()
    return state


def _start(store: Store, folder: RunFolder, options: LoopState) -> LoopState:
    """Remove what an earlier run left, and write the first files of a loop."""
    check_val(store)
    engine = engine_for(options.model)
    version = store.head()
    images = training_images(store.load(version))
    record, config = _first_record(folder, options, images, version, store.mark)
    check_removable(folder)
    if any(run.has_learnt for run in runs_in(folder)):  # whatever can fail fails before the run is replaced
        for run in runs_in(folder):
            run.refuse_own_weights(config.weights)
        engine.check(images, config)
    write_state(folder, options)  # not ready: other files in the folder do not count from here on
    remove_loop(folder)
    folder.write_new(config, record)
    return write_state(folder, options.replace(ready=True))


def _first_record(
    folder: RunFolder, options: LoopState, images: Dataset, version: int, mark: str | None
) -> tuple[RunRecord, TrainingConfig]:
    """Record and configuration of the run until its first round is finished."""
    values = {"model": options.model, "weights": options.weights, "steps": options.steps, **options.training}
    values.pop("epochs", None)
    config = TrainingConfig.checked(**given(values))
    record = folder.new_record(config, images, version, mark, library_versions())
    return record.model_copy(update={"steps": config.steps * options.rounds}), config


def _completed(options: LoopState, saved: LoopState | None, *, with_rounds: bool) -> LoopState:
    """The options of a loop that begins anew on `resume`: those that are not given stay."""
    if saved is None:
        return options
    names = ("weights", "steps", "target_ap", "patience", "min_side")
    kept = {name: getattr(saved, name) for name in names if getattr(options, name) is None}
    rounds = options.rounds if with_rounds else saved.rounds
    return options.replace(**kept, rounds=rounds, training={**saved.training, **options.training})


def _continue(folder: RunFolder, state: LoopState, options: LoopState, *, with_rounds: bool) -> LoopState:
    """Take over the stopping rules from the new options; a rule that is not given stays.

    Raises:
        UsageError: Another option differs that cannot change.
    """
    for name in ("model", "weights", "min_side"):
        before, now = getattr(state, name), getattr(options, name)
        if now is not None and now != before:
            raise UsageError(
                f"the loop was started with another {name}",
                place=folder.path,
                got=now,
                expected="none" if before is None else before,
                remedy="Leave it out, or choose another --run.",
            )
    changes = {name: getattr(options, name) for name in ("target_ap", "patience")}
    changes["rounds"] = options.rounds if with_rounds else None
    changed = state.replace(**{name: value for name, value in changes.items() if value is not None})
    return state if changed == state else write_state(folder, changed)


def _result(run: str, state: LoopState, notes: tuple[str, ...]) -> LoopResult:
    if state.best is None or state.stopped is None:
        raise RuntimeError("the loop returned before its last round")
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
