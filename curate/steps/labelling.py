"""`label`: the next unlabelled images in one folder, ready for LabelImg; `import-voc` brings back what was drawn."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from curate.card import find_card, read_card
from curate.dataset import Dataset
from curate.errors import DataError, UsageError, unknown_name
from curate.files import write_atomically
from curate.formats.joining import join, resolve_names
from curate.formats.voc import read_voc
from curate.media import link_or_copy
from curate.steps.results import Result
from curate.store import Store

FOLDER = "label"  # what waits for a person
FINISHED = "labelled"  # XML that the dataset has taken in
CLASS_FILE = "predefined_classes.txt"


@dataclass(frozen=True)
class LabelResult(Result):
    """What lies ready.

    Attributes:
        folder: with the images, the class list, and the XML that a person draws.
        images: how many images are in it now.
        added: how many of them are new there.
        waiting: unlabelled images that are not in it.
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
    """Put the next unlabelled images into `DATASET/label`, with `predefined_classes.txt`.

    Images that the dataset holds as labelled by now leave the folder; their XML moves to `DATASET/labelled`. An image
    whose XML says something that the dataset does not know stays.

    Args:
        dataset: the dataset folder.
        source: only images of this source, such as a video's id.
        limit: fill the folder up to so many images.
        classes: names for the class list; default: the dataset's classes, else its card's.

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
    images = current.images.assign(name=_folder_names(current.images))
    unlabelled, names = images[images["label_state"] == "unlabelled"], set(images["name"])
    _put_away(folder, names - set(unlabelled["name"]) - unimported)
    chosen = unlabelled if source is None else unlabelled[unlabelled["source"] == source]
    there = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    new = chosen[~chosen["name"].isin(there)].sort_values("path")
    already = len(there & names)
    added = new.head(max(0, limit - already))
    if not already and not len(added):
        raise DataError("no image waits for a label", place=dataset, remedy="Sample more with `curate sample-frames`.")
    folder.mkdir(exist_ok=True)
    for path, name in zip(added["path"].tolist(), added["name"].tolist(), strict=True):
        _link(current.image_file(path), folder / name)
    listed = _write_classes(folder / CLASS_FILE, _class_names(current, classes))
    return LabelResult(
        folder=str(folder),
        images=already + len(added),
        added=len(added),
        waiting=len(unlabelled) - len(there & set(unlabelled["name"])) - len(added),
        classes=listed,
        command=("labelImg", str(folder), str(folder / CLASS_FILE), str(folder)),
        notes=_notes(dataset, folder, listed, unimported),
    )


def _unimported(current: Dataset, folder: Path) -> set[str]:
    """Images in the folder whose XML would change the dataset: it must not get lost between two rounds."""
    if not folder.is_dir() or not any(folder.glob("*.xml")):
        return set()
    settled, incoming = resolve_names(current, read_voc(folder))
    files = incoming.images["file"].to_numpy(dtype=object)
    joined = join(settled, incoming, [f"{FOLDER}/{file}" for file in files], source=FOLDER, origin=FOLDER)
    return set(files[(joined.is_new | joined.is_changed) & incoming.images["annotated"].to_numpy(dtype=bool)])


def _folder_names(images: pd.DataFrame) -> pd.Series:
    """File names for images side by side in one folder: their own, with the source before it where two are the same."""
    own = images["path"].str.rpartition("/")[2]
    return own.where(~own.duplicated(keep=False), images["path"].str.split("/", n=2).str[2].str.replace("/", "__"))


def _put_away(folder: Path, names: set[str]) -> None:
    """Take out links to images that are labelled by now; their XML is kept elsewhere."""
    finished = folder.parent / FINISHED
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if file.name in names:
            xml = file.with_suffix(".xml")
            if xml.exists():
                finished.mkdir(exist_ok=True)
                os.replace(xml, finished / xml.name)
            file.unlink()


def _link(origin: Path, target: Path) -> None:
    try:
        link_or_copy(origin, str(target))
    except FileExistsError:
        pass
    except FileNotFoundError as error:
        raise DataError("an image of the dataset is gone", place=origin) from error


def _class_names(current: Dataset, classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is not None:
        return tuple(dict.fromkeys([*current.class_names.values(), *classes]))
    if current.classes:
        return tuple(current.class_names.values())
    card = find_card(current.root)
    return tuple(read_card(card).classes) if card else ()


def _write_classes(file: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Write the class list; without names, what is there stays."""
    if names:
        write_atomically(file, lambda out: out.write("".join(f"{name}\n" for name in names).encode()))
        return names
    return tuple(file.read_text(encoding="utf-8-sig").split("\n")[:-1]) if file.exists() else ()


def _notes(dataset: object, folder: Path, classes: tuple[str, ...], unimported: set[str]) -> tuple[str, ...]:
    notes = []
    if unimported:
        count = len(unimported)
        notes.append(f"XML of {count} image{'s' if count > 1 else ''} in the folder is not in the dataset yet.")
    if not classes:
        notes.append("No classes are known yet: name them with --classes a,b, or type them in LabelImg.")
    notes.append(f"When boxes are drawn and saved: curate import-voc {dataset} {folder}")
    return tuple(notes)
