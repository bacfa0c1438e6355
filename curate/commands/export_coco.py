"""`export-coco`: files that other tools load unchanged, checked by evaluating them against themselves."""

import os
from dataclasses import dataclass
from pathlib import Path

from curate.dataset import Dataset
from curate.errors import DataError, StoreError, UsageError
from curate.evaluation.scores import self_check_ap
from curate.files import OVERWRITE_REMEDY, no_garbage_collection
from curate.formats.coco import coco_file_name, listed_images, write_coco
from curate.formatting import count_of
from curate.media import link_or_copy
from curate.progress import Progress, silent
from curate.result import Result
from curate.store import Store

_TOLERANCE = 1e-9
_REPORT_EVERY = 200
ALL = "all"


@dataclass(frozen=True)
class ExportResult(Result):
    """Where the export lies.

    Attributes:
        out: its folder.
        files: annotation file of each split; "all" where there are no splits.
        images, boxes: how many went in.
        self_check_ap: AP of the truth evaluated against itself; None without boxes.
    """

    out: str
    files: dict[str, str]
    images: int
    boxes: int
    self_check_ap: float | None


@no_garbage_collection()
def export_coco(
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> ExportResult:
    """Write `OUT/images` and `OUT/annotations/instances_{train,val,test}.json` of the labelled images.

    Class, image and box ids are the dataset's own. The same dataset gives the same bytes.

    Args:
        dataset: the dataset folder.
        out: a folder that is not there or empty.
        overwrite: replace an export that is there.
        progress: told how far the linking of images is.

    Raises:
        UsageError: `out` holds something and `overwrite` is not set.
        DataError: nothing is labelled; or a file, read back, does not score AP 1 against itself.
    """
    store, target = Store(dataset), Path(out)
    current = store.load()
    labelled = current.select()
    if not len(labelled.images):
        raise DataError("no image is labelled", place=dataset, remedy="Label some and bring them in with import-voc.")
    earlier = _check_place(target, overwrite)

    names = [name for name in ("train", "val", "test") if (labelled.images["split"] == name).any()]
    parts = {name: labelled.select(name) for name in names} or {ALL: labelled}
    notes = _note_left_out(current, labelled, parts)
    files = {name: target / "annotations" / f"instances_{name}.json" for name in parts}
    for name, part in parts.items():
        _link_images(part, target / "images", progress)
        write_coco(part, files[name])
    worst = _check(files)
    _remove_leftovers(target, earlier, parts, files)
    return ExportResult(
        out=str(out),
        files={name: str(file) for name, file in files.items()},
        images=sum(len(part.images) for part in parts.values()),
        boxes=sum(len(part.boxes) for part in parts.values()),
        self_check_ap=worst,
        notes=tuple(notes),
    )


def _check_place(target: Path, overwrite: bool) -> set[str]:
    """Refuse to write into what is not ours.

    Returns:
        The images, relative to `OUT/images`, of the export that is there.
    """
    if target.exists() and not target.is_dir():
        raise UsageError("the place is taken by a file", place=target)
    if not target.is_dir() or not any(target.iterdir()):
        return set()
    if not overwrite:
        raise UsageError("the folder is not empty", place=target, remedy=OVERWRITE_REMEDY)
    files = list((target / "annotations").glob("instances_*.json"))
    listed = [listed_images(file) for file in files]
    if not files or None in listed or (target / "images").is_symlink():
        raise UsageError("the folder holds no export of curate to replace", place=target, remedy="Choose another.")
    return {name for names in listed for name in names or ()}


def _remove_leftovers(target: Path, earlier: set[str], parts: dict[str, Dataset], files: dict[str, Path]) -> None:
    """Take away what the export that was there before had and this one has not."""
    for old in (target / "annotations").glob("instances_*.json"):
        if old not in files.values():
            old.unlink()
    kept = {coco_file_name(path) for part in parts.values() for path in part.images["path"].tolist()}
    for name in earlier - kept:
        (target / "images" / name).unlink(missing_ok=True)


def _note_left_out(current: Dataset, labelled: Dataset, parts: dict[str, Dataset]) -> list[str]:
    notes = []
    if others := len(current.images) - len(labelled.images):
        notes.append(f"Left out: {count_of(others, 'image')} without complete labels.")
    if unsplit := len(labelled.images) - sum(len(part.images) for part in parts.values()):
        notes.append(f"Left out: {count_of(unsplit, 'labelled image')} in no split; `curate split` assigns one.")
    return notes


def _link_images(part: Dataset, folder: Path, progress: Progress) -> None:
    """Link the images of a part into the export; copy where the disk does not allow links."""
    made: set[str] = set()
    root, out = os.fspath(part.root), os.fspath(folder)  # strings: making paths costs more than the links themselves
    paths = part.images["path"].tolist()
    for count, path in enumerate(paths):
        if count % _REPORT_EVERY == 0:
            progress("linking images", count, len(paths))
        origin, target = f"{root}/{path}", f"{out}/{coco_file_name(path)}"
        place = target.rpartition("/")[0]
        if place not in made:
            os.makedirs(place, exist_ok=True)
            made.add(place)
        try:
            _link(origin, target)
        except FileNotFoundError as error:
            raise StoreError(
                "an image of the dataset is gone", place=origin, remedy="Import its source again."
            ) from error
    progress("linking images", len(paths), len(paths))


def _link(origin: str, target: str) -> None:
    try:
        link_or_copy(origin, target)
    except FileExistsError:
        if not os.path.samefile(origin, target):
            os.unlink(target)  # never written into: the old file may have other names
            link_or_copy(origin, target)


def _check(files: dict[str, Path]) -> float | None:
    """Read every file back and evaluate its truth against itself; the lowest AP."""
    found = {name: self_check_ap(file) for name, file in files.items()}
    for name, ap in found.items():
        if ap is not None and abs(ap - 1.0) > _TOLERANCE:
            raise DataError(
                "the exported truth does not match itself", place=files[name], got=f"AP {ap}", expected="AP 1"
            )
    return min((ap for ap in found.values() if ap is not None), default=None)
