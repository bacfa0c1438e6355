"""`evaluate`: COCO's numbers, what was missed and why, by size, and how far the range of interest could reach."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from curate.dataset import Dataset
from curate.errors import UsageError
from curate.evaluation.error_table import check_error_file, list_errors, write_errors
from curate.evaluation.mistakes import Mistakes
from curate.files import check_output_files
from curate.html_report.build import remove_reports, report_place, write_report
from curate.inference.evaluations import errors_file, evaluation_terms, keep_evaluation, kept_name, read_evaluation
from curate.inference.judge import EvaluateResult, Terms, choose_split, find_in_file, find_with_run, judge_detections
from curate.progress import Progress, silent
from curate.run_folder.folder import RunFolder
from curate.store import Store

PICTURES = ("ap_by_min_side.png", "confusion.png", "precision_recall.png", "scores.png", "errors.png")

Name = str | os.PathLike[str] | None


def check_places(errors: Name, plots: Name, *, overwrite: bool) -> None:
    """Refuse names before the long work: of no known kind, or taken.

    Raises:
        UsageError: the table's suffix is unknown, or a file already exists and may not be replaced.
    """
    files = [Path(plots) / name for name in PICTURES] if plots is not None else []
    if errors is not None:
        check_error_file(Path(errors))
        files.append(Path(errors))
    check_output_files(*files, overwrite=overwrite)


def write_files(
    result: EvaluateResult, truth: Dataset, mistakes: Mistakes, *, errors: Name = None, plots: Name = None
) -> None:
    """Write what has a name, over what is there."""
    if errors is not None:
        write_errors(list_errors(mistakes, truth), Path(errors))
    if plots is not None:
        _draw(result, Path(plots))


def _draw(result: EvaluateResult, folder: Path) -> None:
    from curate.plots import evaluation as plots
    from curate.plots.style import save_plot

    interest = result.range_of_interest
    figures = (
        plots.draw_ap_by_min_side(result.by_min_side, interest.min_side_px if interest else None),
        plots.draw_confusion(result.confusion),
        plots.draw_precision_recall(result.precision_recall),
        plots.draw_scores(result.score_histogram, result.operating_point.score),
        plots.draw_errors(result.errors),
    )
    for name, figure in zip(PICTURES, figures, strict=True):
        save_plot(figure, folder / name)


def evaluate(
    dataset: str | os.PathLike[str],
    *,
    run: str | None = None,
    predictions: str | os.PathLike[str] | None = None,
    split: str = "val",
    min_side: float | None = None,
    max_distance: float | None = None,
    object_height: float | None = None,
    focal_px: float | None = None,
    score: float = 0.5,
    precision: float | None = None,
    against: str | None = None,
    errors: str | os.PathLike[str] | None = None,
    plots: str | os.PathLike[str] | None = None,
    report: bool = True,
    overwrite: bool = False,
    progress: Progress = silent,
) -> EvaluateResult:
    """Score a run, or a file of predictions, on the labelled images of a split.

    A run's predictions are kept in its folder as COCO results, and used again as long as its weights and the images
    are the same. Its numbers and its mistakes are kept beside them, in the place of the last ones; the page about those
    goes, also where none follows. Classes that were merged after the training count as the class that took them. Those
    of a run of another dataset are known by name, and its files here are kept apart from those of its own dataset.

    Args:
        dataset: the dataset folder.
        run: a name in `DATASET/runs`, or a path with a slash.
        predictions: instead of a run, a COCO results file with our image and class ids.
        split: "train", "val", "test", or "all". A dataset without splits is evaluated whole.
        min_side: the range of interest: shorter side of at least so many pixels.
        max_distance: instead, the range in metres; needs `object_height` in metres and `focal_px`, see
            `sizes.PinholeView`. These two without it only tell the distance of every size.
        score: from which score on a detection counts for what was missed and what is a false positive.
        precision: look for the lowest score of each class from which on its detections are so precise.
        against: another run, evaluated before, to be shown beside.
        errors: write the mistakes, one row each, as .csv or .parquet; see `evaluation.error_table`.
        plots: a folder to draw the pictures into that `plots.evaluation` makes.
        report: write a run's report into its folder; of a file of predictions there is none. Where that fails, a note
            says so.
        overwrite: replace such files.
        progress: told how far predicting and report are.

    Raises:
        UsageError: neither or both of `run` and `predictions`; no such split or run; a file already exists.
        DataError: nothing is labelled in the split, or predictions that do not fit the dataset.
    """
    if (run is None) == (predictions is None):
        raise UsageError(
            "it is not said what to evaluate", place="evaluate", expected="--run RUN or --predictions FILE"
        )
    terms = Terms.of_options(
        min_side=min_side,
        max_distance=max_distance,
        object_height=object_height,
        focal_px=focal_px,
        score=score,
        precision=precision,
    )
    check_places(errors, plots, overwrite=overwrite)
    store = Store(dataset)
    version = store.head()
    current = store.load(version)
    asked = split
    split, truth, notes = choose_split(current, asked)
    kept_terms = evaluation_terms(truth, terms.interest, score)
    other = RunFolder.named(dataset, against) if against is not None else None
    beside = read_evaluation(other, store, split, kept_terms) if other is not None else None
    folder = RunFolder.named(dataset, run) if run is not None else None
    if folder is not None:
        found, more = find_with_run(folder, split, truth, store, current, progress)
        notes += more
    else:
        found = find_in_file(str(predictions), truth, current)
    judged = judge_detections(split, truth, found, terms, notes)
    result = replace(judged.result, against=beside)
    if folder is not None:
        name = kept_name(folder, store, split)
        remove_reports(folder, store, current, split)  # first, so that no page ever contradicts the kept numbers
        keep_evaluation(folder, name, _without_report(result.to_json()), kept_terms, terms.camera)
        write_files(result, truth, judged.mistakes, errors=errors_file(folder, name))
    write_files(result, truth, judged.mistakes, errors=errors, plots=plots)
    if folder is None or not report:
        return result
    try:
        place = report_place(folder, store, asked)
        listed = errors_file(folder, kept_name(folder, store, split))
        written = write_report(judged, folder, store, version, place, against=beside, errors=listed, progress=progress)
    except Exception as error:  # whatever it is, the numbers are there and worth more than a page about them
        return replace(result, notes=(*result.notes, f"The report was not written: {error}"))
    return replace(result, report=written.path, notes=(*result.notes, *written.notes))


def _without_report(document: dict[str, Any]) -> dict[str, Any]:
    """What is kept is numbers; where a page about them lies changes with the folder."""
    return {name: value for name, value in document.items() if name != "report"}
