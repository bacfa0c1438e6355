"""`report`: one page that tells all of a run, for a person without curate."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import CurateError, UsageError
from curate.files import check_output_files
from curate.html_report.build import check_place, report_place, write_report
from curate.inference.evaluations import (
    errors_file,
    evaluation_terms,
    kept_name,
    read_evaluation,
    read_terms,
)
from curate.inference.judge import Judged, Terms, choose_split, find_with_run, judge_detections
from curate.progress import Progress, silent
from curate.result import Result
from curate.run_folder.folder import RunFolder
from curate.store import Store

_SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class ReportResult(Result):
    """What was written.

    Attributes:
        run: its name.
        split: "all" where the dataset has no splits.
        report: the page.
        bytes: of the page.
        missed, false_positives: how many there are.
        shown: how many of both the page has in its gallery.
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

    Whatever is not given, of range, camera and score, is that of the run's last evaluation on the split, so that the
    report says what `evaluate` said; `min_side=0` asks for all objects. The numbers that the run keeps stay.

    Args:
        dataset: the dataset folder.
        run: a name in `DATASET/runs`, or a path with a slash.
        split: "train", "val", "test", or "all". A dataset without splits is reported whole.
        min_side, max_distance, object_height, focal_px: the range of interest, see `evaluate`.
        score: from which score on a detection counts; 0.5 where nothing says otherwise.
        against: another run, evaluated before on the same terms, to be shown beside.
        out: the page; by default `report.html` in the run's folder, and `report_SPLIT.html` for other splits.
        overwrite: replace a page at `out`; the one in the run's folder is replaced in any case.
        progress: told how far predicting and pictures are.

    Raises:
        UsageError: no such split or run; the other run was judged on other terms; a file already exists, or none can
            be written.
        DataError: nothing is labelled in the split, or the run's last evaluation cannot be read.
    """
    if out is not None:
        _check_out(Path(out), overwrite=overwrite)
    store, folder = Store(dataset), RunFolder.named(dataset, run)
    version = store.head()
    current = store.load(version)
    asked = split
    split, truth, notes = choose_split(current, asked)
    place = Path(out) if out is not None else report_place(folder, store, asked)
    check_place(place)
    given = {
        "min_side": min_side,
        "max_distance": max_distance,
        "object_height": object_height,
        "focal_px": focal_px,
        "score": score,
    }
    terms = _terms(given, read_terms(folder, kept_name(folder, store, split)))
    kept_terms = evaluation_terms(truth, terms.interest, terms.score)
    other = RunFolder.named(dataset, against) if against is not None else None
    beside = read_evaluation(other, store, split, kept_terms) if other is not None else None
    found, more = find_with_run(folder, split, truth, store, current, progress)
    judged = judge_detections(split, truth, found, terms, (*notes, *more))
    written = write_report(
        judged,
        folder,
        store,
        version,
        place,
        against=beside,
        errors=_errors_of(folder, store, judged, kept_terms),
        progress=progress,
    )
    errors = judged.result.errors
    return ReportResult(
        run=folder.name,
        split=split,
        report=written.path,
        bytes=written.size_bytes,
        missed=sum(errors.missed.values()),
        false_positives=sum(errors.false_positives.values()),
        shown=written.shown,
        notes=(*judged.result.notes, *written.notes),
    )


def _check_out(path: Path, *, overwrite: bool) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError("not a page's name", place=path, got=repr(path.suffix), expected=", ".join(_SUFFIXES))
    check_place(path)
    check_output_files(path, overwrite=overwrite)


def _terms(given: Mapping[str, Any], kept: Mapping[str, Any]) -> Terms:
    """What was asked for, and where nothing was what the run's last evaluation was asked for."""
    wished = {option: value for option, value in given.items() if value is not None}
    for either in (("min_side", "max_distance"), ("object_height", "focal_px")):  # these say one thing together
        if any(option in wished for option in either):
            kept = {option: value for option, value in kept.items() if option not in either}
    return Terms.of_options(**{option: value for option, value in kept.items() if value is not None} | wished)


def _errors_of(folder: RunFolder, store: Store, judged: Judged, terms: Mapping[str, Any]) -> Path | None:
    """The run's list of mistakes, if it is of an evaluation on these terms that found the same."""
    file = errors_file(folder, kept_name(folder, store, judged.split))
    try:
        kept = read_evaluation(folder, store, judged.split, terms)
    except CurateError:
        return None
    now = judged.result.to_json()
    is_same = all(kept[part] == now[part] for part in ("classes", "errors"))  # boxes may have other classes since
    return file if is_same and file.is_file() else None
