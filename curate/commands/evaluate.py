"""`evaluate`: COCO's scores of a run or a file of predictions, and its mistakes by size, kind and class."""

import os
from dataclasses import replace
from pathlib import Path

from curate.dataset import Dataset
from curate.errors import UsageError, is_disk_full
from curate.evaluation.error_table import check_error_file, list_errors, write_errors
from curate.evaluation.judgement import EvaluateResult, EvaluationOptions, Judgement, judge
from curate.files import check_output_files
from curate.html_report.build import delete_reports, report_path, write_report
from curate.inference.evaluations import (
    errors_file,
    evaluation_name,
    evaluation_terms,
    read_evaluation,
    write_evaluation,
)
from curate.inference.judge import choose_split, predict_with_run
from curate.inference.prediction_files import images_beside, read_predictions
from curate.operating_point import DEFAULT_POINT, MAX_DETECTIONS
from curate.progress import Progress, silent
from curate.run_folder.folder import RunFolder
from curate.store import Store

PLOTS = ("ap_by_min_side.png", "confusion.png", "precision_recall.png", "scores.png", "errors.png")

PathName = str | os.PathLike[str]


def evaluate(
    dataset: PathName,
    *,
    run: str | None = None,
    predictions: PathName | None = None,
    split: str = "val",
    min_side: float | None = None,
    max_distance: float | None = None,
    object_height: float | None = None,
    focal_px: float | None = None,
    score: float = DEFAULT_POINT.score,
    precision: float | None = None,
    max_detections: int = MAX_DETECTIONS,
    ignore_difficult: bool = False,
    image_ids: PathName | None = None,
    class_ids: PathName | None = None,
    against: str | None = None,
    errors: PathName | None = None,
    plots: PathName | None = None,
    report: bool = True,
    overwrite: bool = False,
    progress: Progress = silent,
) -> EvaluateResult:
    """Score a run, or a file of predictions, on the labelled images of a split.

    The predictions of a run are kept in its folder as COCO results, and reused while its weights and the images are
    unchanged. Its scores and mistakes are kept there too, in place of the last ones. The report of the last evaluation
    is deleted, even if no new one is written. Detections of classes that were merged after the training count as the
    surviving class. A run of another dataset is evaluated by class names, and its files for this dataset have names of
    their own.

    Args:
        dataset: Dataset folder.
        run: Name in `DATASET/runs`, or a path with a slash.
        predictions: COCO results file; replaces `run`. See `inference.prediction_files` for its ids.
        split: "train", "val", "test", or "all". A dataset without splits is evaluated as a whole.
        min_side: Range of interest: smallest shorter side in pixels.
        max_distance: Range of interest in metres, in place of `min_side`; needs `object_height` in metres and
            `focal_px`, see `sizes.PinholeView`. Without it, these two only add distances to the result.
        score: Lowest score of a detection that counts, for misses and false positives.
        precision: Find the lowest score at which each class reaches this precision.
        max_detections: Highest number of detections per image and class in AP, AR and curves; COCO's is 100.
        ignore_difficult: Count difficult objects neither as found nor as missed, and no detection of them as false.
        image_ids: What the image ids of `predictions` are: "dataset", "names" (file names), or a COCO file that lists
            their images. Default: `images.json` beside the results, which `predict` writes; else it is found out.
        class_ids: JSON file {class id in `predictions`: class id of the dataset}, such as the one of `export-coco`.
        against: Run to compare with; it must have been evaluated before.
        errors: Write the mistakes, one per row, as .csv or .parquet; see `evaluation.error_table`.
        plots: Folder for the plots of `plots.evaluation`.
        report: Write the report into the folder of the run; there is none for a file of predictions. If it fails, a
            note says so.
        overwrite: Replace existing files of `errors` and `plots`.
        progress: Callback for progress.

    Raises:
        UsageError: Neither or both of `run` and `predictions`; no such split or run; a file already exists.
        DataError: No image of the split is labelled, or predictions do not fit the dataset.
    """
    if (run is None) == (predictions is None):
        raise UsageError("give one of --run and --predictions", place="evaluate")
    options = EvaluationOptions.from_command(
        min_side=min_side,
        max_distance=max_distance,
        object_height=object_height,
        focal_px=focal_px,
        score=score,
        precision=precision,
        max_detections=max_detections,
        ignore_difficult=ignore_difficult,
    )
    if predictions is None and (image_ids is not None or class_ids is not None):
        raise UsageError("--image-ids and --class-ids need --predictions", place="evaluate")
    _check_outputs(errors, plots, overwrite=overwrite)
    store = Store(dataset)
    version = store.head()
    current = store.load(version)
    requested_split = split
    split, truth, notes = choose_split(current, requested_split)
    terms = evaluation_terms(truth, options)
    other = RunFolder.named(dataset, against) if against is not None else None
    comparison = read_evaluation(other, store, split, terms) if other is not None else None
    folder = RunFolder.named(dataset, run) if run is not None else None
    unreadable: tuple[str, ...] = ()
    if folder is not None:
        detections, more, unreadable = predict_with_run(folder, split, truth, store, current, progress)
    else:
        detections, more = read_predictions(
            str(predictions), truth, current, store, image_ids=image_ids, class_ids=class_ids
        )
    judgement = judge(truth, detections, options, split=split, notes=(*notes, *more))
    reads = (images_beside(predictions),) if predictions is not None else ()
    result = replace(judgement.result, against=comparison, reads=reads, unreadable=unreadable)
    if folder is not None:
        _keep(judgement, folder, store, current, terms, options)
    if errors is not None:
        write_errors(list_errors(judgement.mistakes, truth), Path(errors))
    if plots is not None:
        _draw(result, Path(plots))
    if folder is None or not report:
        return result
    try:
        written = write_report(
            judgement,
            folder,
            store,
            version,
            report_path(folder, store, requested_split),
            against=comparison,
            errors=errors_file(folder, evaluation_name(folder, store, split)),
            progress=progress,
        )
    except Exception as error:  # no failure of the report may lose the numbers
        if is_disk_full(error):  # they are kept; with room the same command writes the report
            raise
        return replace(result, notes=(*result.notes, f"The report was not written: {error}"))
    return replace(result, report=written.path, notes=(*result.notes, *written.notes))


def _check_outputs(errors: PathName | None, plots: PathName | None, *, overwrite: bool) -> None:
    """Check the files to write before long work.

    Raises:
        UsageError: The suffix of the table is unknown, or a file already exists and may not be replaced.
    """
    files = [Path(plots) / name for name in PLOTS] if plots is not None else []
    if errors is not None:
        check_error_file(Path(errors))
        files.append(Path(errors))
    check_output_files(*files, overwrite=overwrite)


def _keep(
    judgement: Judgement,
    folder: RunFolder,
    store: Store,
    current: Dataset,
    terms: dict[str, object],
    options: EvaluationOptions,
) -> None:
    """Write numbers and mistakes into the folder of the run."""
    name = evaluation_name(folder, store, judgement.result.split)
    document = judgement.result.to_json()
    del document["report"]  # its path changes with the folder
    delete_reports(folder, store, current, judgement.result.split)  # first, so that no report contradicts the numbers
    write_evaluation(folder, name, document, terms, options.camera)
    write_errors(list_errors(judgement.mistakes, judgement.truth), errors_file(folder, name))


def _draw(result: EvaluateResult, folder: Path) -> None:
    from curate.plots import evaluation as plots
    from curate.plots.style import save_plot

    interest, point = result.range_of_interest, result.operating_point
    figures = (
        plots.draw_ap_by_min_side(result.by_min_side, interest.min_side_px if interest else None),
        plots.draw_confusion(result.confusion),
        plots.draw_precision_recall(result.precision_recall, point),
        plots.draw_scores(result.score_histogram, point.score),
        plots.draw_errors(result.errors, point),
    )
    for name, figure in zip(PLOTS, figures, strict=True):
        save_plot(figure, folder / name)
