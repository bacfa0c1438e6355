"""What a loop keeps of its rounds, in the folder of its run.

    DATASET/runs/NAME/rounds.json               what was asked, and a report of every finished round
                      rounds/01, rounds/02, …   the rounds, each a run like any other
                      run.json, config.yaml, checkpoints/best.pt, …   those of the best round

A finished round is in `rounds.json` at once, whole or not at all; all else can be made again from there.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from curate.errors import DataError
from curate.files import TEMPORARY, write_atomically
from curate.run_folder.folder import RunFolder

FORMAT = "curate rounds 1"


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
class ClassAp:
    """AP of one class; None where val holds no such object."""

    name: str
    ap: float | None


@dataclass(frozen=True)
class Standing(Round):
    """What a round was trained on, and how it does on a val split.

    Attributes:
        boxes: class → boxes trained on.
        classes: AP of each class.
        ap_in_range: AP in the range of interest; None where none was asked for.
        missed, false_positives: size → how many, at the operating point, in the range of interest if there is one.
    """

    boxes: Mapping[str, int]
    classes: tuple[ClassAp, ...]
    ap_in_range: float | None
    missed: Mapping[str, int]
    false_positives: Mapping[str, int]


@dataclass(frozen=True)
class BestSoFar:
    """The round with the highest AP up to now, and that AP on the present val split."""

    round: int
    ap: float


@dataclass(frozen=True)
class RoundReport(Standing):
    """One finished round, beside the one before.

    Attributes:
        best_step: of the round's own steps.
        evaluated_version: the version whose val split it was judged on; labels may have come while it was trained.
        before: the round before, judged on that same val split, so that the two compare; None in the first round.
        best: after this round.
    """

    best_step: int | None
    evaluated_version: int
    before: Standing | None
    best: BestSoFar


class LoopState(BaseModel):
    """`rounds.json`.

    Attributes:
        model, weights, steps, training: what `train` is given; weights are those of the first round.
        rounds, target_ap, patience, min_side: when to stop and what to look at.
        ready: whether the folder holds nothing of an earlier run any more.
        published: how many rounds the run's own files tell of.
        done: the finished rounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["curate rounds 1"] = FORMAT
    model: str
    weights: str | None
    steps: int | None
    training: Mapping[str, Any]
    rounds: int
    target_ap: float | None
    patience: int | None
    min_side: float | None
    ready: bool = False
    published: int = 0
    done: tuple[RoundReport, ...] = ()

    def replace(self, **changes: Any) -> "LoopState":
        """A copy with some attributes replaced."""
        return self.model_copy(update=changes)

    @property
    def stopped(self) -> Literal["target_ap", "patience", "rounds"] | None:
        """Why no further round is needed; None where one is."""
        if not self.done:
            return None
        last = self.done[-1]
        if self.target_ap is not None and last.best.ap >= self.target_ap:
            return "target_ap"
        if self.patience is not None and last.round - last.best.round >= self.patience:
            return "patience"
        return "rounds" if last.round >= self.rounds else None

    @property
    def best(self) -> BestSoFar | None:
        """The best round; None before the first is finished."""
        return self.done[-1].best if self.done else None

    @property
    def steps_done(self) -> int:
        """Over all rounds."""
        return sum(report.steps for report in self.done)

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint, counted over all rounds."""
        if self.best is None:
            return None
        best = self.done[self.best.round - 1]
        return sum(report.steps for report in self.done[: best.round - 1]) + (best.best_step or best.steps)


def standing_of(report: Standing, **changes: Any) -> Standing:
    """Only the standing of a report, some numbers replaced."""
    return Standing(**{field.name: getattr(report, field.name) for field in fields(Standing)} | changes)


def rounds_file(folder: RunFolder) -> Path:
    """Where the state is kept."""
    return folder.path / "rounds.json"


def round_folder(folder: RunFolder, number: int) -> RunFolder:
    """The run that a round is."""
    return RunFolder(folder.path / "rounds" / f"{number:02d}")


def has_learnt(folder: RunFolder) -> bool:
    """Whether a run has a checkpoint."""
    return folder.exists() and (folder.last.is_file() or folder.best.is_file())


def read_state(folder: RunFolder) -> LoopState | None:
    """The state of a loop; None where the run is not a loop's.

    Raises:
        DataError: it cannot be read.
    """
    file = rounds_file(folder)
    if not file.is_file():
        return None
    try:
        return LoopState.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'top'}: {first['msg']}"
        raise DataError(f"the rounds of the loop cannot be read: {reason}", place=file, expected=FORMAT) from error


def keep_state(folder: RunFolder, state: LoopState) -> LoopState:
    """Write the state, and return it."""
    text = json.dumps(state.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    write_atomically(rounds_file(folder), lambda file: file.write(text.encode()))
    return state


def clear(folder: RunFolder) -> None:
    """Remove a run and the rounds in it, but nothing that they did not write; `rounds.json` stays."""
    for path in sorted(folder.path.glob("rounds/[0-9][0-9]*")):
        clear_round(RunFolder(path))
    with suppress(OSError):
        os.rmdir(folder.path / "rounds")
    _clear_run(folder)


def clear_round(folder: RunFolder) -> None:
    """Remove a round, also one of which a kill left half a beginning; what is not its own stays."""
    _clear_run(folder)
    (folder.path / ".lock").unlink(missing_ok=True)
    with suppress(OSError):
        os.rmdir(folder.path)


def _clear_run(folder: RunFolder) -> None:
    for pattern in (f"*{TEMPORARY}", f"checkpoints/*{TEMPORARY}", "errors_*.csv"):
        for leftover in folder.path.glob(pattern):
            leftover.unlink()
    if folder.exists() or folder.config_file.is_file():
        folder.remove_files()
    for inner in (folder.checkpoints, folder.event_files):
        with suppress(OSError):  # it is not there, or holds something else
            os.rmdir(inner)
