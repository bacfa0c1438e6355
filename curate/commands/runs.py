"""`runs`: the runs of a dataset, with their data and AP."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from curate.curation.splits import VAL
from curate.documents.json_reader import read_json
from curate.errors import CurateError, DataError
from curate.files import check_output_files
from curate.inference.evaluations import evaluation_file, evaluation_name, truth_mark
from curate.result import Result
from curate.run_folder.folder import RunFolder
from curate.run_folder.rounds import LoopState, Round, read_state, rounds_file
from curate.sizes import SIZES
from curate.store import Store

if TYPE_CHECKING:
    from curate.plots.runs import ApCurve

_APS = ("ap", *(f"ap_{size}" for size in SIZES))


@dataclass(frozen=True)
class Evaluation:
    """AP on val after some steps of a training."""

    step: int
    ap: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None


@dataclass(frozen=True)
class RunRow:
    """One run; everything but its name is None if its record cannot be read.

    Attributes:
        version, images, boxes: Training data; of a loop, that of its best round.
        steps, steps_done, best_step: Over all rounds.
        ap, ap_small, ap_medium, ap_large: Of the best checkpoint on val; None if it was trained after the evaluation.
        val: Mark of the evaluated images and boxes; AP of runs with different marks is not comparable.
        seconds: Time of the training.
        rounds: Rounds of a loop; a training has one.
        evaluations: Evaluations during a training; empty for a loop.
        problem: Why the run cannot be read.
    """

    run: str
    model: str | None = None
    version: int | None = None
    images: int | None = None
    boxes: int | None = None
    steps: int | None = None
    steps_done: int | None = None
    best_step: int | None = None
    ap: float | None = None
    ap_small: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None
    val: str | None = None
    seconds: float | None = None
    rounds: tuple[Round, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class RunsResult(Result):
    """The runs in `DATASET/runs`, by name."""

    runs: tuple[RunRow, ...]


def runs(
    dataset: str | os.PathLike[str], *, plot: str | os.PathLike[str] | None = None, overwrite: bool = False
) -> RunsResult:
    """List the runs of a dataset, with their training data and AP by size.

    The numbers are those that `train`, `loop` and `evaluate` wrote into the folders of the runs. Unreadable runs are
    listed with the problem.

    Args:
        dataset: Dataset folder.
        plot: Plot of AP by size over rounds and steps (PNG, SVG or PDF, by suffix).
        overwrite: Replace an existing plot.

    Raises:
        StoreError: The folder has no dataset.
        UsageError: The plot already exists.
        DataError: No run was evaluated, so there is nothing to plot.
    """
    check_output_files(plot, overwrite=overwrite)
    store = Store(dataset)
    store.head()
    folders = [RunFolder(path) for path in sorted((Path(dataset) / "runs").glob("*")) if path.is_dir()]
    rows = tuple(_read_row(folder, store) for folder in folders if _is_begun(folder))
    if plot is not None:
        _draw(rows, plot, dataset)
    return RunsResult(runs=rows, notes=_notes(rows))


def _is_begun(folder: RunFolder) -> bool:
    """Whether the folder has files of a run."""
    marks = (folder.record_file, folder.config_file, rounds_file(folder), folder.checkpoints)
    return any(mark.exists() for mark in marks)


def _read_row(folder: RunFolder, store: Store) -> RunRow:
    """Read a run as far as possible."""
    known: dict[str, Any] = {"run": folder.path.name}
    try:
        record = folder.read_record()
        names = ("model", "images", "boxes", "steps", "steps_done", "best_step", "seconds")
        known |= {name: getattr(record, name) for name in names} | {"version": record.dataset_version}
        known |= _read_evaluation(folder, store) or {"ap": record.ap}
        state = read_state(folder)
        known["rounds"] = _rounds_of(state) if state else _only_round(known)
        known["evaluations"] = () if state else _read_evaluations(folder)
    except (CurateError, OSError, ValueError, KeyError, TypeError) as error:
        # the first of many errors is enough
        known["problem"] = " ".join(str(error).split()).partition(" [type=")[0] or type(error).__name__
    return RunRow(**known)


def _rounds_of(state: LoopState) -> tuple[Round, ...]:
    names = [field.name for field in fields(Round)]
    return tuple(Round(**{name: getattr(report, name) for name in names}) for report in state.done)


def _only_round(known: dict[str, Any]) -> tuple[Round, ...]:
    if not known["steps_done"]:
        return ()
    return (Round(1, known["steps_done"], known["version"], **{name: known.get(name) for name in _APS}),)


class _Evaluated(BaseModel):
    """The part of an evaluation that the table shows."""

    ap: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    terms: dict[str, Any]


def _read_evaluation(folder: RunFolder, store: Store) -> dict[str, Any] | None:
    """AP on val by size, all None if the run was trained after the evaluation; None without an evaluation."""
    file = evaluation_file(folder, evaluation_name(folder, store, VAL))
    if not file.is_file():
        return None
    if folder.best.is_file() and file.stat().st_mtime_ns < folder.best.stat().st_mtime_ns:
        return dict.fromkeys(_APS)
    evaluation = read_json(file, "evaluation", _Evaluated)
    return evaluation.model_dump(include={*_APS}) | {"val": truth_mark(evaluation.terms)}


def _read_evaluations(folder: RunFolder) -> tuple[Evaluation, ...]:
    """Evaluations among the lines of the metrics."""
    lines = [line for line in folder.read_metrics() if "ap" in line]
    return tuple(Evaluation(line["step"], *(line.get(name) for name in _APS)) for line in lines)


def _notes(rows: Sequence[RunRow]) -> tuple[str, ...]:
    marks = {row.val for row in rows if row.val is not None}
    if len(marks) < 2:
        return ()
    return (
        "Not all runs were evaluated on the same images and boxes, so their AP is not comparable; "
        "evaluate them again with `curate evaluate`.",
    )


def _draw(rows: Sequence[RunRow], plot: str | os.PathLike[str], dataset: str | os.PathLike[str]) -> None:
    from curate.plots.runs import draw_runs
    from curate.plots.style import save_plot

    curves = [curve for row in rows if (curve := _curve(row)) is not None]
    if not curves:
        raise DataError("no run was evaluated on val yet", place=dataset, remedy="Evaluate one: `curate evaluate`.")
    save_plot(draw_runs(curves), plot)


def _curve(row: RunRow) -> "ApCurve | None":
    """Curve over rounds if there are several, else over steps if there were evaluations during the training."""
    from curate.plots.runs import ApCurve

    unit = "step" if len(row.rounds) < 2 and len(row.evaluations) > 1 else "round"
    evaluated = [one for one in (row.evaluations if unit == "step" else row.rounds) if one.ap is not None]
    if not evaluated:
        return None
    at = [one.step if isinstance(one, Evaluation) else one.round for one in evaluated]
    aps = {name: [getattr(one, key) for one in evaluated] for name, key in zip(("all", *SIZES), _APS, strict=True)}
    return ApCurve(row.run, unit, at, aps)
