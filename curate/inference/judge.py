"""A run on a split: which images are evaluated, and the detections on them."""

from curate.curation.groups import find_leak
from curate.curation.incomplete import note_incomplete, nothing_labelled
from curate.curation.splits import TEST, TRAIN, VAL
from curate.dataset import Dataset, Predictions
from curate.errors import StoreError, unknown_name
from curate.formatting import count_of, curate_command
from curate.inference.evaluations import evaluation_name
from curate.inference.predictions import RunClasses, is_run_of, predict_split
from curate.progress import Progress
from curate.run_folder.folder import RunFolder
from curate.store import Store

ALL = "all"
_MOST_NAMES = 3  # in a note


def choose_split(dataset: Dataset, split: str) -> tuple[str, Dataset, list[str]]:
    """Select the labelled images of a split.

    Returns:
        Name of the split, which is "all" for a dataset without splits; its labelled images; notes.

    Raises:
        UsageError: No image is in the split.
        DataError: No image of the split is labelled.
    """
    labelled = dataset.select()
    names = sorted(labelled.images["split"].dropna().unique())
    notes = []
    if not names and split in (TRAIN, VAL, TEST):
        notes.append("The dataset has no splits: all labelled images are evaluated, including those of the training.")
        split = ALL
    if split != ALL and split not in names and not (dataset.images["split"] == split).any():
        raise unknown_name("split", split, [*names, ALL], place=dataset.root)
    truth = labelled if split == ALL else dataset.select(split)
    if not len(truth.images):
        raise nothing_labelled(dataset if split == ALL else dataset.select(split, None))
    return split, truth, [*notes, *note_incomplete(dataset, None if split == ALL else split)]


def predict_with_run(
    folder: RunFolder, split: str, truth: Dataset, store: Store, current: Dataset, progress: Progress
) -> tuple[Predictions, list[str], tuple[str, ...]]:
    """Detections of a run on a split, in the current classes of the dataset.

    Args:
        folder: Folder of the run.
        split: From `choose_split`.
        truth: Images of the split.
        store: Store of the dataset.
        current: Current version of the dataset.
        progress: Callback for progress.

    Returns:
        The detections, notes, and the paths of images that could not be decoded.

    Raises:
        UsageError: The run has no checkpoint.
    """
    classes = RunClasses.of(folder, store, current)
    own, unreadable = predict_split(folder, evaluation_name(folder, store, split), truth, progress)
    predictions, dropped = classes.translate(own)
    notes = _note_trained_images(store, folder, truth)
    if dropped:
        notes.append(f"Left out: {count_of(dropped, 'detection')} of classes that were dropped since.")
    known = predictions.boxes["class_id"].isin([entry.id for entry in current.classes])
    if unknown := int((~known).sum()):
        names = ", ".join((*classes.unknown[:_MOST_NAMES], "…")[: len(classes.unknown)])
        notes.append(f"Left out: {count_of(unknown, 'detection')} of classes that the dataset does not have ({names}).")
    return (Predictions(predictions.boxes[known]) if unknown else predictions), notes, unreadable


def training_images(dataset: Dataset) -> Dataset:
    """The images that `train` uses: labelled ones of the train split; all labelled ones of a dataset without splits."""
    labelled = dataset.select()
    return labelled.select(TRAIN) if labelled.images["split"].notna().any() else labelled


def training_notes(dataset: Dataset) -> list[str]:
    """Notes on a dataset that are due before a training, not hours later: what is not held out, or left out."""
    labelled = dataset.select().images
    in_no_split = int(labelled["split"].isna().sum())
    command = curate_command("split", dataset.root)
    notes = [*note_incomplete(dataset)]
    if in_no_split == len(labelled):
        return [
            *notes,
            f"There are no splits: all labelled images are trained on, none are held out. {command} assigns them.",
        ]
    if in_no_split:
        left = f"{count_of(in_no_split, 'labelled image')} in no split: not trained on, and not evaluated."
        notes.append(f"{left} {command} assigns a split to them; the others keep theirs.")
    if not (labelled["split"] == VAL).any():
        notes.append("There are no images in val: the training is not evaluated.")
    if leak := find_leak(dataset):
        notes.append(f"{leak.describe()} {curate_command('split', dataset.root, '--overwrite')} splits again.")
    return notes


def _note_trained_images(store: Store, folder: RunFolder, truth: Dataset) -> list[str]:
    """A warning if the run was trained on evaluated images, or on images with equal content."""
    version = folder.read_record().dataset_version
    if version is None or not is_run_of(folder, store):
        return []
    try:
        trained = training_images(store.load(version)).images
    except StoreError:  # the version no longer exists
        return []
    images = truth.images
    same = images["image_id"].isin(trained["image_id"])
    equal = ~same & images["sha256"].isin(trained["sha256"]) & (images["sha256"] != "")
    notes = []
    if count := int(same.sum()):
        notes.append(f"{count} of the {len(images)} evaluated images were trained on.")
    if count := int(equal.sum()):
        boxes = int(truth.boxes["image_id"].isin(images["image_id"][equal]).sum())
        notes.append(
            f"{count} of the {len(images)} evaluated images, with {count_of(boxes, 'box')}, have the same content as "
            "training images: the scores are too high. `curate split --overwrite` splits again; then train again."
        )
    return notes
