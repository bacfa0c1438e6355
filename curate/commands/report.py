"""`report`: one HTML page about a run, readable without curate."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import CurateError, UsageError
from curate.evaluation.judgement import EvaluationOptions, Judgement, judge
from curate.files import check_output_files
from curate.html_report.build import check_report_path, report_path, write_report
from curate.inference.evaluations import (
    errors_file,
    evaluation_name,
    evaluation_terms,
    read_evaluation,
    read_options,
)
from curate.inference.judge import choose_split, predict_with_run
from curate.progress import Progress, silent
from curate.result import Result
from curate.run_folder.folder import RunFolder
from curate.store import Store

_SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class ReportResult(Result):
    """The written report.

    Attributes:
        run: Name of the run.
        split: "all" for a dataset without splits.
        report: Path of the page.
        bytes: Size of the page.
        missed, false_positives: Numbers of mistakes.
        shown: Number of mistakes in the gallery.
    """

    run: str
    split: str
    report: Path
    bytes: int
    missed: int
    false_positives: int
    shown: int


def report(
    dataset: str | os.PathLike[str],
    *,
    run: str,
    split: str = "val",
    min_side: float | None = None,
    max_distance: float | None = None,
    object_height: float | None = None,
    focal_px: float | None = None,
    score: float | None = None,
    against: str | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> ReportResult:
    """Write the report of a run: numbers, curves, pictures of the mistakes, settings and data, in one HTML file.

    Range, camera and score default to those of the run's last evaluation on the split; `min_side=0` includes all
    objects. Its `max_detections` and `ignore_difficult` apply too. The evaluation in the run's folder does not change.

    Args:
        dataset: Dataset folder.
        run: Name in `DATASET/runs`, or a path with a slash.
        split: "train", "val", "test", or "all". A dataset without splits is reported as a whole.
        min_side, max_distance, object_height, focal_px: Range of interest, see `evaluate`.
        score: Lowest score of a detection that counts. Default: that of the last evaluation, else 0.5.
        against: Run to compare with; it must have been evaluated on the same terms.
        out: Path of the page. Default: `report.html` in the run's folder, `report_SPLIT.html` for other splits.
        overwrite: Replace an existing file at `out`; the page in the run's folder is always replaced.
        progress: Callback for progress.

    Raises:
        UsageError: No such split or run; the other run was evaluated on other terms; the file already exists or cannot
            be written.
        DataError: No image of the split is labelled, or the last evaluation cannot be read.
    """
    if out is not None:
        _check_out(Path(out), overwrite=overwrite)
    store, folder = Store(dataset), RunFolder.named(dataset, run)
    version = store.head()
    current = store.load(version)
    requested_split = split
    split, truth, notes = choose_split(current, requested_split)
    path = Path(out) if out is not None else report_path(folder, store, requested_split)
    check_report_path(path)
    given = {
        "min_side": min_side,
        "max_distance": max_distance,
        "object_height": object_height,
        "focal_px": focal_px,
        "score": score,
    }
    options = _merge_options(given, read_options(folder, evaluation_name(folder, store, split)))
    terms = evaluation_terms(truth, options)
    other = RunFolder.named(dataset, against) if against is not None else None
    comparison = read_evaluation(other, store, split, terms) if other is not None else None
    detections, more, _ = predict_with_run(folder, split, truth, store, current, progress)
    judgement = judge(truth, detections, options, split=split, notes=(*notes, *more))
    written = write_report(
        judgement,
        folder,
        store,
        version,
        path,
        against=comparison,
        errors=_matching_errors_file(folder, store, judgement, terms),
        progress=progress,
    )
    errors = judgement.result.errors
    return ReportResult(
        run=folder.name,
        split=split,
        report=written.path,
        bytes=written.size_bytes,
        missed=sum(errors.missed.values()),
        false_positives=sum(errors.false_positives.values()),
        shown=written.shown,
        notes=(*judgement.result.notes, *written.notes),
    )


def _check_out(path: Path, *, overwrite: bool) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError("not an HTML file", place=path, got=repr(path.suffix), expected=" or ".join(_SUFFIXES))
    check_report_path(path)
    check_output_files(path, overwrite=overwrite)


def _merge_options(given: Mapping[str, Any], last: Mapping[str, Any]) -> EvaluationOptions:
    """The given options, completed by those of the run's last evaluation."""
    chosen = {option: value for option, value in given.items() if value is not None}
    for together in (("min_side", "max_distance"), ("object_height", "focal_px")):
        if any(option in chosen for option in together):
            last = {option: value for option, value in last.items() if option not in together}
    return EvaluationOptions.from_command(**{**last, **chosen})


def _matching_errors_file(
    folder: RunFolder, store: Store, judgement: Judgement, terms: Mapping[str, Any]
) -> Path | None:
    """The run's table of mistakes, if its evaluation has these terms, and the same mistakes in the same classes."""
    split = judgement.result.split
    try:
        kept = read_evaluation(folder, store, split, terms)
    except CurateError:
        return None
    now = judgement.result.to_json()
    file = errors_file(folder, evaluation_name(folder, store, split))
    is_same = all(kept[part] == now[part] for part in ("classes", "errors"))
    return file if is_same and file.is_file() else None
