"""`export-coco`: writes COCO files, and checks them by evaluating them against themselves."""

import os
from dataclasses import dataclass
from pathlib import Path

from curate.columns import SPLITS
from curate.curation.incomplete import note_incomplete, nothing_labelled
from curate.dataset import Dataset
from curate.errors import DataError
from curate.evaluation.scores import self_check_ap
from curate.files import no_garbage_collection
from curate.formats.coco import (
    CLASS_IDS_FILE,
    IMAGE_FOLDER,
    annotation_file,
    exported_files,
    image_file,
    write_class_ids,
    write_coco,
)
from curate.formats.coco import contiguous_ids as number_from_one
from curate.formats.export_folder import ExportFolder, ImageExport, Orientations
from curate.formats.proposals import WAITING
from curate.formatting import count_of
from curate.progress import Progress, silent
from curate.result import Result
from curate.store import Store

_TOLERANCE = 1e-9
ALL = "all"


@dataclass(frozen=True)
class ExportResult(Result):
    """The result of `export_coco`.

    Attributes:
        out: The folder of the export.
        image_folder: The folder of the copies.
        files: Split → annotation file; "all" if there are no splits.
        class_ids: File with the dataset's id of each exported class id; None if they are the same.
        images, boxes: Exported images and boxes.
        self_check_ap: AP of the exported truth against itself; None without boxes.
    """

    out: str
    image_folder: str
    files: dict[str, str]
    class_ids: str | None
    images: int
    boxes: int
    self_check_ap: float | None


@no_garbage_collection()
def export_coco(
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    link: bool = False,
    keep_exif: bool = False,
    contiguous_ids: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> ExportResult:
    """Export the labelled images to `OUT/images` and `OUT/annotations/instances_{train,val,test}.json`.

    Class, image and box ids are the dataset's. The same dataset gives the same bytes. Images are copies; those with an
    EXIF orientation are encoded anew, upright, since many readers of COCO files do not turn images. An export that was
    interrupted is given again in the same way, with or without `overwrite`.

    Args:
        dataset: The dataset folder.
        out: A new or empty folder, or an unfinished export.
        link: Hard links instead of copies of images that need not be turned: then nobody may write into them.
        keep_exif: Images with an EXIF orientation keep their bytes.
        contiguous_ids: Number the classes from 1 without gaps, and write the dataset's ids to `OUT/class_ids.json`.
        overwrite: Whether to replace an earlier export.
        progress: Callback for progress.

    Raises:
        UsageError: `out` is not empty and `overwrite` is false, or it is not an export of curate.
        StoreError: A folder in `out` is a link.
        DataError: No image is labelled, or a file read back does not have AP 1 against itself.
    """
    store, target = Store(dataset), Path(out)
    current = store.load()
    labelled = current.select()
    if not len(labelled.images):
        raise nothing_labelled(current)
    folder = ExportFolder(target, exported_files(target), overwrite=overwrite)

    names = [name for name in SPLITS if (labelled.images["split"] == name).any()]
    parts = {name: labelled.select(name) for name in names} or {ALL: labelled}
    notes = _note_left_out(current, labelled, parts)
    files = {name: target / annotation_file(name) for name in parts}
    images = {name: [(path, image_file(path)) for path in part.images["path"].tolist()] for name, part in parts.items()}
    ids = _contiguous(current) if contiguous_ids else None
    origins = {copy: f"{current.root}/{path}" for pairs in images.values() for path, copy in pairs}
    written = [*map(annotation_file, parts), *origins, *([CLASS_IDS_FILE] if ids is not None else ())]
    orientations, pictures = Orientations(), ImageExport(link=link, keep_exif=keep_exif)
    with folder.writing(written, origins):
        for name, part in parts.items():
            orientations = orientations.plus(pictures.write(part.root, target, images[name], progress))
            write_coco(part, files[name], ids)
        worst = _check(files)
        if ids is not None:
            write_class_ids(target / CLASS_IDS_FILE, ids)
    notes += [*orientations.notes(), *(_note_gaps(current) if ids is None else ())]
    return ExportResult(
        out=str(out),
        image_folder=str(target / IMAGE_FOLDER),
        files={name: str(file) for name, file in files.items()},
        class_ids=None if ids is None else str(target / CLASS_IDS_FILE),
        images=sum(len(part.images) for part in parts.values()),
        boxes=sum(len(part.boxes) for part in parts.values()),
        self_check_ap=worst,
        notes=tuple(notes),
    )


def _note_left_out(current: Dataset, labelled: Dataset, parts: dict[str, Dataset]) -> list[str]:
    notes = [*note_incomplete(current)]
    if others := int(current.images["label_state"].isin(WAITING).sum()):
        notes.append(f"Left out: {count_of(others, 'image')} that nobody has labelled.")
    if unsplit := len(labelled.images) - sum(len(part.images) for part in parts.values()):
        notes.append(f"Left out: {count_of(unsplit, 'labelled image')} in no split; `curate split` assigns one.")
    return notes


def _contiguous(current: Dataset) -> dict[int, int]:
    return number_from_one(entry.id for entry in current.classes)


def _note_gaps(current: Dataset) -> list[str]:
    ids = _contiguous(current)
    if all(exported == own for exported, own in ids.items()):
        return []
    highest = max(ids.values())
    return [
        f"Class ids have gaps: {len(ids)} classes, ids up to {highest}. Tools that number classes from 1 confuse them; "
        "--contiguous-ids closes the gaps."
    ]


def _check(files: dict[str, Path]) -> float | None:
    """Read every file back and evaluate its truth against itself. Returns the lowest AP."""
    ap_of = {name: self_check_ap(file) for name, file in files.items()}
    for name, ap in ap_of.items():
        if ap is not None and abs(ap - 1.0) > _TOLERANCE:
            raise DataError(
                "the exported truth does not match itself", place=files[name], got=f"AP {ap}", expected="AP 1"
            )
    return min((ap for ap in ap_of.values() if ap is not None), default=None)
