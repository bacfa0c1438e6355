"""`import-voc` and `import-widerface`: annotations that others made into a dataset."""

import os
from collections.abc import Sequence

from curate.errors import UsageError
from curate.files import no_garbage_collection
from curate.formats.ingest import ImportResult, find_allowed_classes, ingest
from curate.formats.voc.reader import Origin, read_voc
from curate.formats.widerface import read_widerface
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
    strict: bool = False,
    progress: Progress = silent,
) -> ImportResult:
    """Import a folder of LabelImg XML, or a VOC devkit; the dataset is created where it is not there.

    Coming back with the same images updates their boxes and keeps everything else about them.

    Args:
        dataset: the dataset folder.
        source: the folder with the XML, and the images unless `images` names their folder.
        images: where the images lie, if apart.
        origin: "labelimg" (coordinates as they are) or "voc" (1-based, inclusive: minima minus 1).
        classes: the allowed names in order; boxes of others are quarantined. Default: the card's, else any.
        card: a card to take the class order from and to check the counts against. Default: the dataset's own.
        video_from: a regular expression whose first group, in an image's path, names its video.
        with_unlabelled: whether images without XML come in as unlabelled.
        accept_proposals: whether XML of `predict` or `label` that nobody has saved since makes its image labelled; else
            it is left out.
        strict: make no version where anything was repaired or quarantined.
        progress: told how far the reading is.

    Returns:
        Counts, and every fault that was met.

    Raises:
        DataError: the folder is not there or holds nothing to import.
        StrictImportError: `strict`, and something needed mending; carries the result.
    """
    if origin not in ("labelimg", "voc"):
        raise UsageError("unknown origin", place="--origin", got=repr(origin), expected="labelimg or voc")
    store = Store(dataset)
    allowed = find_allowed_classes(store, classes, card)
    incoming = read_voc(
        source,
        images=images,
        origin=origin,
        video_from=video_from,
        with_unlabelled=with_unlabelled,
        accept_proposals=accept_proposals,
        leave_out=store.root,
        progress=progress,
    )
    arguments = {
        "source": str(source),
        "images": None if images is None else str(images),
        "origin": origin,
        "classes": allowed.names,
        "video_from": video_from,
        "with_unlabelled": with_unlabelled,
        "accept_proposals": accept_proposals,
    }
    operation = "import-voc", arguments
    return ingest(store, str(dataset), incoming, allowed, operation, strict=strict, progress=progress)


@no_garbage_collection()
def import_widerface(
    dataset: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    class_name: str = "face",
    images: str | os.PathLike[str] | None = None,
    split: str | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> ImportResult:
    """Import WIDER FACE, or faces of your own, in RetinaFace's format; the dataset is created where it is not there.

    Coming back with the same images updates their boxes and landmarks, and keeps everything else about them.

    Args:
        dataset: the dataset folder.
        source: the folder with `label.txt`, and `images/` unless `images` names that folder.
        class_name: the class of all boxes.
        images: the folder that the paths in `label.txt` begin in.
        split: "train", "val" or "test", for images that are in no split yet. Default: none.
        strict: make no version where anything was repaired or quarantined.
        progress: told how far the reading is.

    Returns:
        Counts, and every fault that was met.

    Raises:
        DataError: the folder or its `label.txt` is not there.
        UsageError: the class name or the split is none.
        StrictImportError: `strict`, and something needed mending; carries the result.
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
    return ingest(store, str(dataset), incoming, allowed, operation, strict=strict, progress=progress)
