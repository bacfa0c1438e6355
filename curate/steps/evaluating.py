"""`evaluate`: COCO's numbers, what was missed and why, by size, and how far the range of interest could reach."""

import os
from dataclasses import replace
from pathlib import Path

from curate.curation.splits import TEST, TRAIN, VAL
from curate.dataset import Dataset, Predictions
from curate.engines.runs import RunFolder
from curate.errors import DataError, StoreError, UsageError, unknown_name
from curate.evaluation.judging import judge
from curate.evaluation.mistakes import Mistakes
from curate.evaluation.results import read_results
from curate.evaluation.scores import SideScores
from curate.evaluation.scores import score as score_predictions
from curate.progress import Progress, silent
from curate.sizes import PinholeView, RangeOfInterest, choose_range, choose_view, sides_to_try
from curate.steps.evaluation_files import check_places, write_files
from curate.steps.evaluation_result import EvaluateResult, OperatingPoint
from curate.steps.kept_evaluations import errors_file, evaluation_terms, keep_evaluation, kept_name, read_evaluation
from curate.steps.run_classes import RunClasses, is_run_of
from curate.steps.run_predictions import predict_split
from curate.store import Store

IOU = 0.5
ALL = "all"
_MOST_NAMES = 3  # in a note


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
    overwrite: bool = False,
    progress: Progress = silent,
) -> EvaluateResult:
    """Score a run, or a file of predictions, on the labelled images of a split.

    A run's predictions are kept in its folder as COCO results, and used again as long as its weights and the images
    are the same. Its numbers and its mistakes are kept beside them. Classes that were merged after the training count
    as the class that took them. Those of a run of another dataset are known by name, and its files here are kept apart
    from those of its own dataset.

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
        plots: a folder to draw the pictures into that `browse.evaluation_plots` makes.
        overwrite: replace such files.
        progress: told how far the predicting is.

    Raises:
        UsageError: neither or both of `run` and `predictions`; no such split or run; a file is there already.
        DataError: nothing is labelled in the split, or predictions that do not fit the dataset.
    """
    if (run is None) == (predictions is None):
        raise UsageError(
            "it is not said what to evaluate", place="evaluate", expected="--run RUN or --predictions FILE"
        )
    _check_shares(score, precision)
    interest = choose_range(min_side, max_distance, object_height, focal_px)
    view = choose_view(object_height, focal_px)
    check_places(errors, plots, overwrite=overwrite)
    store = Store(dataset)
    current = store.load()
    split, truth, notes = _choose_split(current, split)
    terms = evaluation_terms(truth, interest, score)
    other = RunFolder.named(dataset, against) if against is not None else None
    beside = read_evaluation(other, store, split, terms) if other is not None else None
    folder = RunFolder.named(dataset, run) if run is not None else None
    if folder is not None:
        found, more = _of_run(folder, split, truth, store, current, progress)
        notes += more
    else:
        found = _of_images(read_results(Path(str(predictions))), current, truth)
    result, mistakes = _judge(split, truth, found, interest, view, score, precision)
    result = replace(result, against=beside, notes=tuple(notes))
    if folder is not None:
        name = kept_name(folder, store, split)
        keep_evaluation(folder, name, result.to_json(), terms)
        write_files(result, truth, mistakes, errors=errors_file(folder, name))
    write_files(result, truth, mistakes, errors=errors, plots=plots)
    return result


def _judge(
    split: str,
    truth: Dataset,
    found: Predictions,
    interest: RangeOfInterest | None,
    view: PinholeView | None,
    score: float,
    precision: float | None,
) -> tuple[EvaluateResult, Mistakes]:
    """All numbers, and the mistakes that they count."""
    objects = truth.boxes_xyxy[~truth.boxes["crowd"].to_numpy(dtype=bool)]
    sides = sides_to_try(objects, *([interest.min_side_px] if interest else []))
    scores = score_predictions(truth, found, interest, sides)
    scores = replace(scores, by_min_side=_with_distances(scores.by_min_side, view))
    judgement = judge(truth, found, IOU, score, interest, precision)
    result = EvaluateResult(
        split=split,
        **vars(scores),
        operating_point=OperatingPoint(IOU, score),
        errors=judgement.errors,
        confusion=judgement.confusion,
        wished_precision=precision,
        thresholds=judgement.thresholds,
        precision_recall=judgement.precision_recall,
        score_histogram=judgement.score_histogram,
    )
    return result, judgement.mistakes


def _check_shares(score: float, precision: float | None) -> None:
    if not 0 <= score <= 1:
        raise UsageError("not a score", place="--score", got=score, expected="0 to 1")
    if precision is not None and not 0 < precision <= 1:
        raise UsageError("not a precision", place="--precision", got=precision, expected="over 0, up to 1")


def _with_distances(entries: tuple[SideScores, ...], view: PinholeView | None) -> tuple[SideScores, ...]:
    if view is None:
        return entries
    return tuple(replace(entry, distance_m=view.distance_m(entry.min_side_px)) for entry in entries)


def _choose_split(dataset: Dataset, split: str) -> tuple[str, Dataset, list[str]]:
    """The split to evaluate, its labelled images, and what to tell about it."""
    labelled = dataset.select()
    names = sorted(labelled.images["split"].dropna().unique())
    notes = []
    if not names and split in (TRAIN, VAL, TEST):
        notes.append("There are no splits: all labelled images are evaluated, also those that were trained on.")
        split = ALL
    if split != ALL and split not in names:
        raise unknown_name("split", split, [*names, ALL], place=dataset.root)
    truth = labelled if split == ALL else dataset.select(split)
    if not len(truth.images):
        raise DataError(
            "no image is labelled", place=dataset.root, remedy="Label some and bring them in with import-voc."
        )
    return split, truth, notes


def _of_run(
    folder: RunFolder, split: str, truth: Dataset, store: Store, current: Dataset, progress: Progress
) -> tuple[Predictions, list[str]]:
    """The run's detections as of the classes of now, and what to tell about them."""
    classes = RunClasses.of(folder, store, current)
    made = predict_split(folder, kept_name(folder, store, split), truth, progress)
    translated, dropped = classes.translate(made)
    known = translated.boxes["class_id"].isin([entry.id for entry in current.classes])
    notes = _note_seen(store, folder, truth)
    if dropped:
        notes.append(f"{dropped} detections are of classes that were dropped since; they were left out.")
    if unknown := int((~known).sum()):
        names = ", ".join((*classes.unknown[:_MOST_NAMES], "…")[: len(classes.unknown)])
        notes.append(f"{unknown} detections are of classes the dataset does not have ({names}); they were left out.")
    return (Predictions(translated.boxes[known]) if unknown else translated), notes


def _note_seen(store: Store, folder: RunFolder, truth: Dataset) -> list[str]:
    """A warning where the run was trained on images that are evaluated now."""
    version = folder.read_record().dataset_version
    if version is None or not is_run_of(folder, store):
        return []
    try:
        trained = training_images(store.load(version)).images["image_id"]
    except StoreError:  # the version is gone
        return []
    seen = int(truth.images["image_id"].isin(trained).sum())
    return [f"{seen} of the {len(truth.images)} evaluated images were trained on."] if seen else []


def training_images(dataset: Dataset) -> Dataset:
    """What `train` trains on: the labelled images of the train split; all of them where there are no splits."""
    labelled = dataset.select()
    return labelled.select(TRAIN) if labelled.images["split"].notna().any() else labelled


def _of_images(found: Predictions, dataset: Dataset, truth: Dataset) -> Predictions:
    """Only the detections in the evaluated images; those of images that the dataset does not have are refused."""
    ids = found.boxes["image_id"]
    strange = ids[~ids.isin(dataset.images["image_id"])]
    if len(strange):
        raise DataError(
            "the predictions are of an image that is not in the dataset",
            place=f"predictions, row {strange.index[0]}",
            got=f"image id {strange.iloc[0]}",
            expected="ids of the images table, as in an export",
        )
    return Predictions(found.boxes[ids.isin(truth.images["image_id"])])
