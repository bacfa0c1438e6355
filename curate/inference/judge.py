"""A run, or a file of predictions, judged on a split: what evaluate, report and view begin with."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.curation.splits import TEST, TRAIN, VAL
from curate.dataset import Dataset, Predictions
from curate.errors import DataError, StoreError, UsageError, unknown_name
from curate.evaluation.coco_results import read_results
from curate.evaluation.confusion import Confusion
from curate.evaluation.costs import MistakeSummary
from curate.evaluation.curves import PrecisionRecall, ScoreHistogram, Threshold
from curate.evaluation.judgement import judge
from curate.evaluation.mistakes import Mistakes
from curate.evaluation.scores import ClassScores, RangeScores, SideScores
from curate.evaluation.scores import score as score_predictions
from curate.formatting import count_of
from curate.inference.evaluations import kept_name
from curate.inference.predictions import RunClasses, is_run_of, predict_split
from curate.progress import Progress
from curate.result import Result
from curate.run_folder.folder import RunFolder
from curate.sizes import PinholeView, RangeOfInterest, choose_range, choose_view, sides_to_try
from curate.store import Store


@dataclass(frozen=True)
class OperatingPoint:
    """Where objects count as found: overlap and score at least so much."""

    iou: float
    score: float


@dataclass(frozen=True)
class EvaluateResult(Result):
    """COCO's numbers and the mistakes at the operating point; None where there is no such object.

    Attributes:
        split: "all" where the dataset has no splits.
        truth, detections: boxes of each, of all scores.
        range_of_interest: the numbers within it; `errors` and what follows are then those within it too.
        by_min_side: the numbers of other ranges, from all objects to the largest.
        errors: at the operating point; what each kind costs is told over all scores, of AP50.
        confusion: at the operating point.
        wished_precision: that `thresholds` are for, if one was given.
        thresholds: one entry a class; `precision_recall` and `score_histogram` likewise over all scores.
        report: the page in the run's folder that tells all of this; None where none was written.
        against: another run's evaluation, where one was asked for.
    """

    split: str
    images: int
    truth: int
    detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar_1: float | None
    ar_10: float | None
    ar_100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    classes: tuple[ClassScores, ...]
    range_of_interest: RangeScores | None
    operating_point: OperatingPoint
    errors: MistakeSummary
    by_min_side: tuple[SideScores, ...]
    confusion: Confusion
    wished_precision: float | None
    thresholds: tuple[Threshold, ...]
    precision_recall: PrecisionRecall
    score_histogram: ScoreHistogram
    report: Path | None = None
    against: dict[str, Any] | None = None

    def to_json(self) -> Any:
        """The document, without what was not asked for."""
        document = super().to_json()
        document["thresholds"] = [{"class": entry.pop("class_"), **entry} for entry in document["thresholds"]]
        if self.against is None:
            del document["against"]
        return document


IOU = 0.5
ALL = "all"
_MOST_NAMES = 3  # in a note


@dataclass(frozen=True)
class Terms:
    """What counts.

    Attributes:
        interest: the range of interest.
        camera: to tell the distance of every size.
        score: of the operating point.
        precision: for which thresholds are looked for.
    """

    interest: RangeOfInterest | None = None
    camera: PinholeView | None = None
    score: float = 0.5
    precision: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise UsageError("not a score", place="--score", got=self.score, expected="0 to 1")
        if self.precision is not None and not 0 < self.precision <= 1:
            raise UsageError("not a precision", place="--precision", got=self.precision, expected="over 0, up to 1")

    @classmethod
    def of_options(
        cls,
        *,
        min_side: float | None = None,
        max_distance: float | None = None,
        object_height: float | None = None,
        focal_px: float | None = None,
        score: float = 0.5,
        precision: float | None = None,
    ) -> "Terms":
        """As options of commands say it.

        Raises:
            UsageError: the range is said twice or by half; a score or a precision is none.
        """
        interest = choose_range(min_side, max_distance, object_height, focal_px)
        return cls(interest, choose_view(object_height, focal_px), score, precision)


@dataclass(frozen=True, eq=False)
class Judged:
    """Detections beside the truth, and what came out.

    Attributes:
        split: "all" where the dataset has no splits.
        truth: the labelled images of the split.
        found: detections on them, in the dataset's classes of now.
        result: all numbers; its notes tell what a person should know of them.
        mistakes: at the operating point; `result.errors` counts them.
    """

    split: str
    truth: Dataset
    found: Predictions
    result: EvaluateResult
    mistakes: Mistakes


def judge_detections(split: str, truth: Dataset, found: Predictions, terms: Terms, notes: Sequence[str] = ()) -> Judged:
    """All numbers, and the mistakes that they count."""
    objects = truth.boxes_xyxy[~truth.boxes["crowd"].to_numpy(dtype=bool)]
    sides = sides_to_try(objects, *([terms.interest.min_side_px] if terms.interest else []))
    scores = score_predictions(truth, found, terms.interest, sides)
    scores = replace(scores, by_min_side=_with_distances(scores.by_min_side, terms.camera))
    judgement = judge(truth, found, IOU, terms.score, terms.interest, terms.precision)
    result = EvaluateResult(
        split=split,
        **vars(scores),
        operating_point=OperatingPoint(IOU, terms.score),
        errors=judgement.errors,
        confusion=judgement.confusion,
        wished_precision=terms.precision,
        thresholds=judgement.thresholds,
        precision_recall=judgement.precision_recall,
        score_histogram=judgement.score_histogram,
        notes=tuple(notes),
    )
    return Judged(split, truth, found, result, judgement.mistakes)


def choose_split(dataset: Dataset, split: str) -> tuple[str, Dataset, list[str]]:
    """The split to evaluate, its labelled images, and what to tell about it.

    Raises:
        UsageError: no image is in the split.
        DataError: none that is in it is labelled.
    """
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


def find_with_run(
    folder: RunFolder, split: str, truth: Dataset, store: Store, current: Dataset, progress: Progress
) -> tuple[Predictions, list[str]]:
    """The run's detections as of the classes of now, and what to tell about them."""
    classes = RunClasses.of(folder, store, current)
    made = predict_split(folder, kept_name(folder, store, split), truth, progress)
    translated, dropped = classes.translate(made)
    known = translated.boxes["class_id"].isin([entry.id for entry in current.classes])
    notes = _note_seen(store, folder, truth)
    if dropped:
        notes.append(f"Left out: {count_of(dropped, 'detection')} of classes that were dropped since.")
    if unknown := int((~known).sum()):
        names = ", ".join((*classes.unknown[:_MOST_NAMES], "…")[: len(classes.unknown)])
        notes.append(f"Left out: {count_of(unknown, 'detection')} of classes that the dataset does not have ({names}).")
    return (Predictions(translated.boxes[known]) if unknown else translated), notes


def find_in_file(file: str | os.PathLike[str], truth: Dataset, current: Dataset) -> Predictions:
    """Detections of a COCO results file in the evaluated images; those of images the dataset lacks are refused."""
    found = read_results(Path(file))
    ids = found.boxes["image_id"]
    strange = ids[~ids.isin(current.images["image_id"])]
    if len(strange):
        raise DataError(
            "the predictions are of an image that is not in the dataset",
            place=f"predictions, row {strange.index[0]}",
            got=f"image id {strange.iloc[0]}",
            expected="ids of the images table, as in an export",
        )
    return Predictions(found.boxes[ids.isin(truth.images["image_id"])])


def training_images(dataset: Dataset) -> Dataset:
    """What `train` trains on: the labelled images of the train split; all of them where there are no splits."""
    labelled = dataset.select()
    return labelled.select(TRAIN) if labelled.images["split"].notna().any() else labelled


def _with_distances(entries: tuple[SideScores, ...], camera: PinholeView | None) -> tuple[SideScores, ...]:
    if camera is None:
        return entries
    return tuple(replace(entry, distance_m=camera.distance_m(entry.min_side_px)) for entry in entries)


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
