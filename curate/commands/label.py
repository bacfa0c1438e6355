"""`label`: puts the next images to label into a folder for LabelImg; `import-voc` imports the boxes drawn there."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from curate.card import read_card
from curate.columns import CORNERS
from curate.dataset import Dataset
from curate.errors import DataError, UsageError, unknown_name
from curate.files import read_names, write_atomically
from curate.formats.joining import join, resolve_names
from curate.formats.listing import folded
from curate.formats.proposals import WAITING
from curate.formats.voc.layout import XML_SUFFIX
from curate.formats.voc.reader import read_voc
from curate.formats.voc.writer import is_proposal, proposal_xml, write_proposal
from curate.formatting import count_of, curate_command
from curate.media import IMAGES, copy_file
from curate.paths import refuse_links
from curate.plain_text import check_name
from curate.result import Result
from curate.store import Store
from curate.versions import find_card

CLASS_FILE = "predefined_classes.txt"
# LabelImg's Save (Ctrl+S) is grey until a box changes
SAVE_UNCHANGED = "Where all boxes are right, or there is no object, press Space (Verify Image), which saves the image."


def folder_names(images: pd.DataFrame) -> pd.Series:
    """File names SOURCE__NAME for images of all sources in one folder, each with a stem of its own.

    LabelImg names its XML by the stem: of `a.jpg` and `a.png` the older image keeps its name, and the other one becomes
    `a_png.png`. Frames keep their names, which begin with the source already.
    """
    inner = images["path"].str.removeprefix(f"{IMAGES}/").str.replace("/", "__")
    own = images["path"].str.rpartition("/")[2]
    names = own.where((images["source"] + "__" + own == inner) & _begins_with_source(images, own), inner)
    stems = pd.Series([folded(PurePath(name).stem) for name in names], index=names.index)
    oldest_first = images["image_id"].sort_values().index
    taken = set(stems)
    for row in oldest_first[stems[oldest_first].duplicated()]:
        names[row], stem = _other_name(names[row], taken)
        taken.add(stem)
    return names


def _other_name(name: str, taken: Collection[str]) -> tuple[str, str]:
    """A name whose stem is not taken, and that stem without case: `a_png.png`, `a_png_2.png`, …"""
    stem, suffix = os.path.splitext(name)
    first = f"{stem}_{suffix.removeprefix('.')}"
    found = next(one for one in chain([first], (f"{first}_{n}" for n in count(2))) if folded(one) not in taken)
    return f"{found}{suffix}", folded(found)


def copy_image(origin: Path, target: Path) -> None:
    """Copy an image into the folder, where people and their programs write; an existing file stays.

    Raises:
        DataError: The image file is missing.
    """
    try:
        copy_file(origin, str(target))
    except FileExistsError:
        pass
    except FileNotFoundError as error:
        remedy = "Restore the file, or `curate undo` to a version without it."
        raise DataError("the image file is missing", place=origin, remedy=remedy) from error


def write_classes(file: Path, current: Dataset, classes: Sequence[str] | None) -> tuple[str, ...]:
    """Write the class list: the dataset's classes (else its card's), then `classes`, then names a person has added.

    Returns:
        The names in the list.
    """
    card = None if current.classes else find_card(current.root)
    known = [*current.class_names.values(), *(read_card(card).classes if card else ())]
    written = [name for name in read_names(file) if name not in current.aliases] if file.exists() else []
    names = tuple(dict.fromkeys([*known, *(classes or ()), *written]))
    if names:
        write_atomically(file, lambda out: out.write("".join(f"{name}\n" for name in names).encode()))
    return names


def _begins_with_source(images: pd.DataFrame, names: pd.Series) -> pd.Series:
    pairs = zip(names.tolist(), images["source"].tolist(), strict=True)
    return pd.Series([name.startswith(f"{source}_") for name, source in pairs], index=images.index, dtype=bool)


FOLDER = "label"  # images to label
FINISHED = "labelled"  # images whose labels are in the dataset


@dataclass(frozen=True)
class LabelResult(Result):
    """The folder to label.

    Attributes:
        folder: The folder of images, class list and XML.
        images: Number of images in it.
        added: Number of images that were added to it.
        waiting: Number of other images that nobody has labelled.
        classes: Names in the class list.
        command: Command that opens the folder in LabelImg.
    """

    folder: str
    images: int
    added: int
    waiting: int
    classes: tuple[str, ...]
    command: tuple[str, ...]


def label(
    dataset: str | os.PathLike[str],
    *,
    source: str | None = None,
    limit: int = 50,
    classes: Sequence[str] | None = None,
) -> LabelResult:
    """Put the next images to label into `DATASET/label`, with `predefined_classes.txt`.

    Proposals of `predict --into-dataset` are written as XML beside their images, to be corrected. Images that the
    dataset has as labelled by now move to `DATASET/labelled` with their XML, and back if it no longer does, as after an
    undo. Images whose XML is not completely in the dataset stay.

    Args:
        dataset: The dataset folder.
        source: Only images of this source, such as a video's id.
        limit: Maximum number of images in the folder.
        classes: Names for the class list, after the dataset's classes (else its card's).

    Raises:
        DataError: There are no images to label.
        UsageError: Unknown source, or one of `classes` has an invisible character.
    """
    if limit < 1:
        raise UsageError("out of range", place="--limit", got=limit, expected="1 or more")
    for name in classes or ():
        check_name(name, "--classes", "class")
    store = Store(dataset)
    current = store.load()
    folder = store.root / FOLDER
    refuse_links(store.root, FOLDER)
    refuse_links(store.root, FINISHED)
    if source is not None and source not in set(current.images["source"]):
        raise unknown_name("source", source, sorted(set(current.images["source"])), place=dataset)
    unimported = _unimported(current, folder)
    images = current.images.assign(name=folder_names(current.images))
    waiting = images[images["label_state"].isin(WAITING)]
    _put_away(folder, set(images.loc[images["label_state"] == "labelled", "name"]) - unimported)
    chosen = waiting if source is None else waiting[waiting["source"] == source]
    present = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    kept = len(present & set(chosen["name"])) if source is not None else len(present & set(images["name"]))
    added = chosen[~chosen["name"].isin(present)].sort_values("path").head(max(0, limit - kept))
    if not kept and not len(added):
        looked_at = len(images) if source is None else int((images["source"] == source).sum())
        got = f"{count_of(looked_at, 'image')}, none unlabelled" if looked_at else "no image"
        remedy = "Add some with `curate sample-frames`, or with `curate import-voc --with-unlabelled`."
        raise DataError("no images to label", place=dataset, got=got, remedy=remedy)
    folder.mkdir(exist_ok=True)
    for path, name in zip(added["path"].tolist(), added["name"].tolist(), strict=True):
        copy_image(current.image_file(path), folder / name)
    restored = _restore_xml(folder, added["name"].tolist())
    proposals = _write_proposals(current, folder, waiting[waiting["name"].isin(present | set(added["name"]))])
    listed = write_classes(folder / CLASS_FILE, current, classes)
    return LabelResult(
        folder=str(folder),
        images=kept + len(added),
        added=len(added),
        waiting=len(waiting) - len(present & set(waiting["name"])) - len(added),
        classes=listed,
        command=("labelImg", str(folder), str(folder / CLASS_FILE), str(folder)),
        notes=_notes(dataset, folder, listed, unimported | restored, proposals),
    )


def _unimported(current: Dataset, folder: Path) -> set[str]:
    """Names of images in the folder whose XML would change the dataset or has faults."""
    if not folder.is_dir() or not any(folder.glob(f"*{XML_SUFFIX}")):
        return set()
    settled, incoming = resolve_names(current, read_voc(folder))
    files = incoming.images["file"].to_numpy(dtype=object)
    joined = join(settled, incoming, [f"{FOLDER}/{file}" for file in files], source=FOLDER, folder=FOLDER)
    incomplete = (incoming.images["label_state"] == "incomplete").to_numpy(dtype=bool)
    return set(files[joined.is_new | joined.is_changed | incomplete])


def _put_away(folder: Path, names: set[str]) -> None:
    """Move labelled images and their XML out of the folder; an older XML of the name is kept as `NAME.xml.1`."""
    finished = folder.parent / FINISHED
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if file.name in names:
            finished.mkdir(exist_ok=True)
            xml = finished / f"{file.stem}{XML_SUFFIX}"
            if file.with_suffix(XML_SUFFIX).exists():
                _put_xml_away(file.with_suffix(XML_SUFFIX), xml)
            os.replace(file, finished / file.name)
            file.unlink(missing_ok=True)  # a rename onto another name of the same file leaves both


def _put_xml_away(xml: Path, target: Path) -> None:
    if target.exists() and is_proposal(xml.read_bytes()):  # nobody has saved it
        xml.unlink()
        return
    if target.exists():
        os.replace(target, next(one for one in map(f"{target}.{{}}".format, count(1)) if not os.path.exists(one)))
    os.replace(xml, target)


def _restore_xml(folder: Path, names: Sequence[str]) -> set[str]:
    """Move the XML of images that are to be labelled again back. Returns the names of those images."""
    restored = set()
    for name in names:
        away, xml = folder.parent / FINISHED / name, folder / f"{Path(name).stem}{XML_SUFFIX}"
        away.unlink(missing_ok=True)
        if away.with_suffix(XML_SUFFIX).exists() and not xml.exists():
            os.replace(away.with_suffix(XML_SUFFIX), xml)
            restored.add(name)
    return restored


def _write_proposals(current: Dataset, folder: Path, images: pd.DataFrame) -> int:
    """Write proposals beside their images, except where a person has saved XML. Returns the number of proposals."""
    proposed = images[images["label_state"] == "proposed"].sort_values("path")
    if not len(proposed):
        return 0
    boxes = current.boxes[current.boxes["image_id"].isin(proposed["image_id"]).to_numpy()]
    rows_of = boxes.groupby("image_id").indices
    names, corners = boxes["class_id"].map(current.class_names).to_numpy(dtype=object), boxes[CORNERS].to_numpy()
    written: set[Path] = set()
    columns = (proposed[column].tolist() for column in ("image_id", "name", "width", "height"))
    for image_id, name, width, height in zip(*columns, strict=True):
        xml_file = folder / f"{Path(name).stem}{XML_SUFFIX}"
        rows = rows_of.get(image_id, np.empty(0, dtype=np.int64))
        xml = proposal_xml(folder / name, width, height, names[rows].tolist(), corners[rows])
        if xml_file not in written and write_proposal(xml_file, xml):
            written.add(xml_file)
    return len(written)


def _notes(
    dataset: object, folder: Path, classes: tuple[str, ...], unimported: set[str], proposals: int
) -> tuple[str, ...]:
    notes = []
    if proposals:
        images = count_of(proposals, "image")
        notes.append(f"Proposed boxes on {images}; only saved ones are imported. {SAVE_UNCHANGED}")
    if unimported:
        notes.append(f"Not imported yet, or changed since: XML of {count_of(len(unimported), 'image')} in the folder.")
    if not classes:
        notes.append("The dataset has no classes yet: give them with --classes a,b, or type them in LabelImg.")
    command = curate_command("import-voc", dataset, folder)
    notes.append(f"After drawing and saving boxes, run: {command}")
    return tuple(notes)
