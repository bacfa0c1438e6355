"""`import-voc`, `import-widerface`: import existing annotations into a dataset."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from curate.commands.split import join_splits
from curate.curation.groups import find_leak
from curate.dataset import Dataset
from curate.errors import DataError, UsageError
from curate.files import no_garbage_collection
from curate.formats.incoming import Incoming
from curate.formats.ingest import AllowedClasses, ImportResult, find_allowed_classes, ingest
from curate.formats.voc.picture_size import SizeMismatch
from curate.formats.voc.reader import Origin, read_voc
from curate.formats.widerface import read_widerface
from curate.formatting import count_of, curate_command
from curate.progress import Progress, silent
from curate.store import Store


@no_garbage_collection()
def import_voc(
    dataset: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    origin: Origin = "labelimg",
    classes: Sequence[str] | None = None,
    card: str | os.PathLike[str] | None = None,
    video_from: str | None = None,
    with_unlabelled: bool = False,
    accept_proposals: bool = False,
    size_mismatch: SizeMismatch | None = None,
    split: str | None = None,
    link: bool = False,
    strict: bool = False,
    progress: Progress = silent,
) -> ImportResult:
    """Import a folder of LabelImg XML or a VOC devkit; the dataset is created if it does not exist.

    Importing the same images again updates their boxes and keeps everything else about them.

    Args:
        dataset: The dataset folder.
        source: Folder of the XML, and of the images unless `images` is given.
        images: Folder of the images.
        origin: "labelimg" (coordinates as they are) or "voc" (1-based, inclusive: 1 is subtracted from the minima).
        classes: Allowed class names in order; boxes of others are quarantined. Default: those of the card, else all.
        card: Card that gives the class order and the counts to compare with. Default: the dataset's own.
        video_from: Regular expression; its first group in an image's path is the video id.
        with_unlabelled: Whether to import images without XML, as unlabelled.
        accept_proposals: Whether XML of `predict` or `label` that nobody has saved counts as labelled; otherwise it is
            left out.
        size_mismatch: What is right where the size in the XML contradicts the picture: "scale" (the picture was resized
            after it was labelled) or "keep" (the boxes fit as they are). Default: such images are incomplete.
        split: "train", "val" or "test", for images that have no split yet. Default: what lists (`ImageSets/Main`) and
            folders (`train`, `valid`) of the source say.
        link: Whether images become hard links, which take no room: then nobody may write into the source's files.
        strict: Whether to import nothing if a box, image or file would be repaired or quarantined.
        progress: Callback for progress.

    Returns:
        Counts, and all faults.

    Raises:
        DataError: The folder does not exist or has nothing to import, or no XML has an image.
        StrictImportError: `strict`, and something would be repaired or quarantined; carries the result.
    """
    if origin not in ("labelimg", "voc"):
        raise UsageError("unknown origin", place="--origin", got=repr(origin), expected="labelimg or voc")
    if size_mismatch not in (None, "scale", "keep"):
        raise UsageError("unknown choice", place="--size-mismatch", got=repr(size_mismatch), expected="scale or keep")
    store = Store(dataset)
    allowed = find_allowed_classes(store, classes, card)
    incoming = read_voc(
        source,
        images=images,
        origin=origin,
        video_from=video_from,
        with_unlabelled=with_unlabelled,
        accept_proposals=accept_proposals,
        size_mismatch=size_mismatch,
        split=split,
        leave_out=store.root,
        progress=progress,
    )
    _refuse_without_images(incoming)
    arguments = {
        "source": str(source),
        "images": None if images is None else str(images),
        "origin": origin,
        "classes": allowed.names,
        "video_from": video_from,
        "with_unlabelled": with_unlabelled,
        "accept_proposals": accept_proposals,
        "size_mismatch": size_mismatch,
        "split": split,
    }
    operation = "import-voc", arguments
    return _ingest(store, str(dataset), incoming, allowed, operation, link=link, strict=strict, progress=progress)


@no_garbage_collection()
def import_widerface(
    dataset: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    class_name: str = "face",
    images: str | os.PathLike[str] | None = None,
    split: str | None = None,
    link: bool = False,
    strict: bool = False,
    progress: Progress = silent,
) -> ImportResult:
    """Import WIDER FACE, or other faces in RetinaFace's format; the dataset is created if it does not exist.

    Importing the same images again updates their boxes and landmarks, and keeps everything else about them.

    Args:
        dataset: The dataset folder.
        source: Folder with `label.txt`, and `images/` unless `images` is given.
        class_name: Class of all boxes.
        images: Folder that the paths in `label.txt` are relative to.
        split: "train", "val" or "test", for images that have no split yet. Default: none.
        link: Whether images become hard links, which take no room: then nobody may write into the source's files.
        strict: Whether to import nothing if a box, image or file would be repaired or quarantined.
        progress: Callback for progress.

    Returns:
        Counts, and all faults.

    Raises:
        DataError: The folder or its `label.txt` does not exist.
        UsageError: The class name is empty, or the split is unknown.
        StrictImportError: `strict`, and something would be repaired or quarantined; carries the result.
    """
    store = Store(dataset)
    allowed = find_allowed_classes(store)
    incoming = read_widerface(
        source, class_name=class_name, images=images, split=split, leave_out=store.root, progress=progress
    )
    arguments = {
        "source": str(source),
        "class_name": class_name,
        "images": None if images is None else str(images),
        "split": split,
    }
    operation = "import-widerface", arguments
    return _ingest(store, str(dataset), incoming, allowed, operation, link=link, strict=strict, progress=progress)


def _refuse_without_images(incoming: Incoming) -> None:
    """Refuse XML of which none has an image: an empty dataset would look like a successful import."""
    lost = [one for one in incoming.problems if one.action == "quarantined"]
    if len(incoming.images) or not incoming.files or not lost:
        return
    first = lost[0]
    if all(one.kind in ("image_missing", "wrong_root") for one in lost) and any(
        one.kind == "wrong_root" for one in lost
    ):
        first = next(one for one in lost if one.kind == "wrong_root")
        raise DataError(
            f"none of {count_of(len(incoming.files), 'XML file')} is an annotation of LabelImg or Pascal VOC",
            place=incoming.folder,
            got=f"{first.file}: {first.detail}",
            remedy="Export the annotations as Pascal VOC, one file for each image.",
        )
    looked = f"images in {incoming.image_folder} and its subfolders"
    if incoming.unannotated:
        looked += f"; there are {len(incoming.unannotated)} of other names"
    raise DataError(
        f"no image of {count_of(len(incoming.files), 'XML file')} was found, or can be read",
        place=incoming.folder,
        got=f"{first.file}: {first.detail}",
        expected=looked,
        remedy="Name the folder of the images with --images, or correct the names in the XML.",
    )


def _ingest(
    store: Store,
    dataset: str,
    incoming: Incoming,
    allowed: AllowedClasses,
    operation: tuple[str, Mapping[str, Any]],
    *,
    link: bool,
    strict: bool,
    progress: Progress,
) -> ImportResult:
    """As `curate.formats.ingest.ingest`; newly labelled images join the splits, and splits are checked for copies."""

    def complete(joined: Dataset) -> tuple[Dataset, tuple[str, ...]]:
        split, notes = join_splits(store, joined)
        leak = find_leak(split)
        again = f"{curate_command('split', dataset, '--overwrite')} splits again."
        return split, (*notes, *([f"{leak.describe()} {again}"] if leak else ()))

    return ingest(
        store, dataset, incoming, allowed, operation, link=link, strict=strict, progress=progress, complete=complete
    )
