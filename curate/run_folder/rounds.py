"""The state of a loop, in the folder of its run.

    DATASET/runs/NAME/rounds.json               the loop's arguments, and a report of every finished round
                      rounds/01, rounds/02, …   the rounds, each a run of its own
                      run.json, config.yaml, checkpoints/best.pt, …   copies from the best round

A round is finished once `rounds.json`, which is written atomically, has its report; all else can be derived from it.
"""

import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from curate.documents.json_reader import read_json
from curate.files import write_atomically
from curate.paths import refuse_links
from curate.run_folder.folder import RunFolder
from curate.run_folder.names import ROUNDS_FILE, RoundsFormat
from curate.run_folder.written import LOCK, REPLACING, written_files


@dataclass(frozen=True)
class Round:
    """One fine-tune-and-evaluate turn; AP is None without a val split, or without objects of that size in it."""

    round: int
    steps: int
    version: int | None
    ap: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None


@dataclass(frozen=True)
class ClassAp:
    """AP of one class; None if val has no such object."""

    name: str
    ap: float | None


@dataclass(frozen=True)
class RoundScores(Round):
    """A round's training data and its scores on a val split.

    Attributes:
        boxes: Class → number of boxes trained on.
        classes: AP of each class.
        ap_in_range: AP in the range of interest; None without one.
        missed, false_positives: Size → count at the operating point, in the range of interest if there is one.
    """

    boxes: Mapping[str, int]
    classes: tuple[ClassAp, ...]
    ap_in_range: float | None
    missed: Mapping[str, int]
    false_positives: Mapping[str, int]


@dataclass(frozen=True)
class BestSoFar:
    """The round with the highest AP so far, and its AP on the current val split."""

    round: int
    ap: float


@dataclass(frozen=True)
class RoundReport(RoundScores):
    """One finished round, compared with the one before.

    Attributes:
        best_step: Counted within the round.
        evaluated_version: The version whose val split it was evaluated on; it may be newer than the one trained on.
        before: The round before, evaluated on the same val split for comparison; None in the first round.
        best: The best round after this one.
    """

    best_step: int | None
    evaluated_version: int
    before: RoundScores | None
    best: BestSoFar


class LoopState(BaseModel):
    """`rounds.json`.

    Attributes:
        model, weights, steps, training: Arguments of `train`; `weights` are those of the first round.
        rounds, target_ap, patience, min_side: Arguments of `loop`.
        ready: Whether the files of an earlier run have been removed from the folder.
        published: Number of rounds that the run's own files include.
        done: The finished rounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: RoundsFormat = "curate rounds 1"
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
        """Why the loop stopped; None if it continues."""
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
        """The best round; None before the first one is finished."""
        return self.done[-1].best if self.done else None

    @property
    def steps_done(self) -> int:
        """Steps over all rounds."""
        return sum(report.steps for report in self.done)

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint, counted over all rounds."""
        if self.best is None:
            return None
        best = self.done[self.best.round - 1]
        return sum(report.steps for report in self.done[: best.round - 1]) + (best.best_step or best.steps)


def scores_of(report: RoundScores, **changes: Any) -> RoundScores:
    """The scores of a report, with some fields replaced."""
    return RoundScores(**{field.name: getattr(report, field.name) for field in fields(RoundScores)} | changes)


def rounds_file(folder: RunFolder) -> Path:
    """The file of the state."""
    return folder.path / ROUNDS_FILE


def round_folder(folder: RunFolder, number: int) -> RunFolder:
    """The run of a round."""
    return RunFolder(folder.path / "rounds" / f"{number:02d}")


def has_checkpoint(folder: RunFolder) -> bool:
    """Whether a run has a checkpoint."""
    return folder.exists() and folder.has_learnt


def read_state(folder: RunFolder) -> LoopState | None:
    """Read the state of a loop; None if the run does not belong to a loop.

    Raises:
        DataError: It cannot be read.
    """
    file = rounds_file(folder)
    if not file.is_file():
        return None
    return read_json(file, "state of the loop", LoopState)


def write_state(folder: RunFolder, state: LoopState) -> LoopState:
    """Write the state and return it."""
    text = json.dumps(state.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    write_atomically(rounds_file(folder), lambda file: file.write(text.encode()))
    return state


def check_removable(folder: RunFolder) -> None:
    """Check that the files of a run and of its rounds can be removed.

    Raises:
        StoreError: A folder of the run, or of a round, is a link.
    """
    for run in runs_in(folder):
        if run is not folder:
            refuse_links(folder.path, f"rounds/{run.path.name}")
        written_files(run.path)


def remove_loop(folder: RunFolder) -> None:
    """Remove the files of a run and of its rounds, and nothing else; `rounds.json` and `config.yaml` stay.

    Raises:
        StoreError: A folder of the run, or of a round, is a link.
    """
    check_removable(folder)
    for run in runs_in(folder)[1:]:
        remove_round(run)
    _remove_empty(folder.path / "rounds")
    _remove_run(folder, keep=(rounds_file(folder),))


def remove_round(folder: RunFolder) -> None:
    """Remove the files of a round, and nothing else; the round may be incomplete after a kill."""
    _remove_run(folder)
    for leftover in (folder.config_file, folder.path / LOCK, folder.path / REPLACING):
        leftover.unlink(missing_ok=True)
    _remove_empty(folder.path)


def runs_in(folder: RunFolder) -> list[RunFolder]:
    """The run of a loop, then those of its rounds.

    Raises:
        StoreError: The folder of the rounds is a link.
    """
    rounds = folder.path / "rounds"
    refuse_links(folder.path, "rounds")
    names = sorted(path.name for path in rounds.iterdir() if path.is_dir()) if rounds.is_dir() else []
    return [folder, *(RunFolder(rounds / name) for name in names if re.fullmatch(r"\d{2,}", name))]


def _remove_run(folder: RunFolder, keep: Collection[Path] = ()) -> None:
    folder.remove_files(keep)
    _remove_empty(folder.checkpoints)
    _remove_empty(folder.event_files)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # missing or not empty
        os.rmdir(folder)
