"""`label`: the next images to label in one folder, ready for LabelImg; `import-voc` brings back what was drawn."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd

from curate.card import find_card, read_card
from curate.columns import CORNERS
from curate.dataset import Dataset
from curate.errors import DataError, UsageError, unknown_name
from curate.files import write_atomically
from curate.formats.joining import join, resolve_names
from curate.formats.proposals import WAITING
from curate.formats.voc.reader import read_voc
from curate.formats.voc.writer import is_proposal, proposal_xml, write_proposal
from curate.formatting import count_of
from curate.media import IMAGES, link_or_copy
from curate.result import Result
from curate.store import Store

CLASS_FILE = "predefined_classes.txt"


def folder_names(images: pd.DataFrame) -> pd.Series:
    """File names for images of all sources side by side, the same whatever else there is: SOURCE__NAME.

    A frame's name begins with its source already.
    """
    inner = images["path"].str.removeprefix(f"{IMAGES}/").str.replace("/", "__")
    own = images["path"].str.rpartition("/")[2]
    return own.where((images["source"] + "__" + own == inner) & _begins_with_source(images, own), inner)


def link_image(origin: Path, target: Path) -> None:
    """Put an image into the folder, as a second name of the same file where the disk can; one that is there stays.

    Raises:
        DataError: the image is gone.
    """
    try:
        link_or_copy(origin, str(target))
    except FileExistsError:
        pass  # it lies there already
    except FileNotFoundError as error:
        remedy = "Bring the file back, or `curate undo` to before it came."
        raise DataError("an image of the dataset is gone", place=origin, remedy=remedy) from error


def write_classes(file: Path, current: Dataset, classes: Sequence[str] | None) -> tuple[str, ...]:
    """Write the class list: the dataset's classes, else its card's, then those given and those that a person wrote."""
    card = None if current.classes else find_card(current.root)
    known = [*current.class_names.values(), *(read_card(card).classes if card else ())]
    text = file.read_text(encoding="utf-8-sig", errors="replace") if file.exists() else ""
    written = [name.strip() for name in text.splitlines() if name.strip() and name.strip() not in current.aliases]
    names = tuple(dict.fromkeys([*known, *(classes or ()), *written]))
    if names:
        write_atomically(file, lambda out: out.write("".join(f"{name}\n" for name in names).encode()))
    return names


def _begins_with_source(images: pd.DataFrame, names: pd.Series) -> pd.Series:
    pairs = zip(names.tolist(), images["source"].tolist(), strict=True)
    return pd.Series([name.startswith(f"{source}_") for name, source in pairs], index=images.index, dtype=bool)


FOLDER = "label"  # what waits for a person
FINISHED = "labelled"  # what the dataset has taken in


@dataclass(frozen=True)
class LabelResult(Result):
    """What lies ready.

    Attributes:
        folder: with the images, the class list, and the XML that a person draws.
        images: how many images are in it now.
        added: how many of them are new there.
        waiting: images that are not in it and that no person has labelled.
        classes: in the order of the class list.
        command: how to open the folder in LabelImg.
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
    """Put the next images that no person has labelled into `DATASET/label`, with `predefined_classes.txt`.

    What `predict --into-dataset` proposed lies beside its image as XML, to be corrected. Images that the dataset holds
    as labelled by now move to `DATASET/labelled` with their XML, and back when they are not any more, as after an undo.
    An image whose XML is not fully in the dataset stays.

    Args:
        dataset: the dataset folder.
        source: only images of this source, such as a video's id.
        limit: fill the folder up to so many images.
        classes: names for the class list, behind the dataset's (else its card's) and before those it lists already.

    Raises:
        DataError: nothing is left to label.
        UsageError: an unknown source.
    """
    if limit < 1:
        raise UsageError("the value is out of range", place="--limit", got=limit, expected="1 or more")
    store = Store(dataset)
    current = store.load()
    folder = store.root / FOLDER
    if source is not None and source not in set(current.images["source"]):
        raise unknown_name("source", source, sorted(set(current.images["source"])), place=dataset)
    unimported = _unimported(current, folder)
    images = current.images.assign(name=folder_names(current.images))
    waiting = images[images["label_state"].isin(WAITING)]
    _put_away(folder, set(images.loc[images["label_state"] == "labelled", "name"]) - unimported)
    chosen = waiting if source is None else waiting[waiting["source"] == source]
    there = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    already = len(there & set(chosen["name"])) if source is not None else len(there & set(images["name"]))
    added = chosen[~chosen["name"].isin(there)].sort_values("path").head(max(0, limit - already))
    if not already and not len(added):
        raise DataError("no image waits for a label", place=dataset, remedy="Sample more with `curate sample-frames`.")
    folder.mkdir(exist_ok=True)
    for path, name in zip(added["path"].tolist(), added["name"].tolist(), strict=True):
        link_image(current.image_file(path), folder / name)
    brought_back = _bring_back(folder, added["name"].tolist())
    proposals = _lay_proposals(current, folder, waiting[waiting["name"].isin(there | set(added["name"]))])
    listed = write_classes(folder / CLASS_FILE, current, classes)
    return LabelResult(
        folder=str(folder),
        images=already + len(added),
        added=len(added),
        waiting=len(waiting) - len(there & set(waiting["name"])) - len(added),
        classes=listed,
        command=("labelImg", str(folder), str(folder / CLASS_FILE), str(folder)),
        notes=_notes(dataset, folder, listed, unimported | brought_back, proposals),
    )


def _unimported(current: Dataset, folder: Path) -> set[str]:
    """Images in the folder whose XML would change the dataset, or cannot be taken in as it is: they stay there."""
    if not folder.is_dir() or not any(folder.glob("*.xml")):
        return set()
    settled, incoming = resolve_names(current, read_voc(folder))
    files = incoming.images["file"].to_numpy(dtype=object)
    joined = join(settled, incoming, [f"{FOLDER}/{file}" for file in files], source=FOLDER, origin=FOLDER)
    incomplete = (incoming.images["label_state"] == "incomplete").to_numpy(dtype=bool)
    return set(files[joined.is_new | joined.is_changed | incomplete])


def _put_away(folder: Path, names: set[str]) -> None:
    """Move what is labelled by now elsewhere, image and XML; an older XML of the name is kept as `NAME.xml.1`."""
    finished = folder.parent / FINISHED
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if file.name in names:
            finished.mkdir(exist_ok=True)
            xml = finished / f"{file.stem}.xml"
            if file.with_suffix(".xml").exists():
                _put_xml_away(file.with_suffix(".xml"), xml)
            os.replace(file, finished / file.name)
            file.unlink(missing_ok=True)  # two names of one file are left both by a rename


def _put_xml_away(xml: Path, target: Path) -> None:
    if target.exists() and is_proposal(xml.read_bytes()):  # labelled elsewhere; this here is nobody's
        xml.unlink()
        return
    if target.exists():
        os.replace(target, next(one for one in map(f"{target}.{{}}".format, count(1)) if not os.path.exists(one)))
    os.replace(xml, target)


def _bring_back(folder: Path, names: Sequence[str]) -> set[str]:
    """Move XML that was put away to images that wait again. Their names."""
    found = set()
    for name in names:
        away, xml = folder.parent / FINISHED / name, folder / f"{Path(name).stem}.xml"
        away.unlink(missing_ok=True)
        if away.with_suffix(".xml").exists() and not xml.exists():
            os.replace(away.with_suffix(".xml"), xml)
            found.add(name)
    return found


def _lay_proposals(current: Dataset, folder: Path, images: pd.DataFrame) -> int:
    """Write what was proposed beside its images; XML that a person saved stays. How many proposals are there now."""
    proposed = images[images["label_state"] == "proposed"].sort_values("path")
    if not len(proposed):
        return 0
    boxes = current.boxes[current.boxes["image_id"].isin(proposed["image_id"]).to_numpy()]
    rows_of = boxes.groupby("image_id").indices
    names, corners = boxes["class_id"].map(current.class_names).to_numpy(dtype=object), boxes[CORNERS].to_numpy()
    laid: set[Path] = set()
    columns = (proposed[column].tolist() for column in ("image_id", "name", "width", "height"))
    for image_id, name, width, height in zip(*columns, strict=True):
        xml_file = folder / f"{Path(name).stem}.xml"
        rows = rows_of.get(image_id, np.empty(0, dtype=np.int64))
        xml = proposal_xml(folder / name, width, height, names[rows].tolist(), corners[rows])
        if xml_file not in laid and write_proposal(xml_file, xml):
            laid.add(xml_file)
    return len(laid)


def _notes(
    dataset: object, folder: Path, classes: tuple[str, ...], unimported: set[str], proposals: int
) -> tuple[str, ...]:
    notes = []
    if proposals:
        images = count_of(proposals, "image")
        notes.append(f"Proposed boxes on {images}. Save correct ones too (Ctrl+S): only saved boxes are imported.")
    if unimported:
        notes.append(f"Not imported yet, or changed since: XML of {count_of(len(unimported), 'image')} in the folder.")
    if not classes:
        notes.append("No classes are known yet: name them with --classes a,b, or type them in LabelImg.")
    command = shlex.join(["curate", "import-voc", str(dataset), str(folder)])
    notes.append(f"When boxes are drawn and saved: {command}")
    return tuple(notes)
