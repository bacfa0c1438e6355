"""Predictions in a file of results: which of them are on the evaluated images, in the classes of the dataset."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel

from curate.dataset import Dataset, Predictions
from curate.documents.json_reader import LARGEST_TABLE_BYTES, read_json
from curate.errors import DataError, MissingError, closest, unknown_name
from curate.evaluation.coco_results import ResultRows, read_rows
from curate.formats.coco import read_class_ids
from curate.formatting import count_of
from curate.inference.image_names import IDS, NAMES, ImageIds, ImageNames, read_image_ids
from curate.inference.outputs import IMAGES
from curate.store import Store

_NO_SPLIT, _NO_LABELS = "in no split", "without labels"
_MOST_NAMES = 3  # in a note
_LARGEST_SHARE = 2  # of a box in shares of the size, which may leave its image


def read_predictions(
    file: str | os.PathLike[str],
    truth: Dataset,
    current: Dataset,
    store: Store,
    *,
    image_ids: str | os.PathLike[str] | None = None,
    class_ids: str | os.PathLike[str] | None = None,
) -> tuple[Predictions, list[str]]:
    """Read a COCO results file, and keep the detections on the evaluated images.

    Rows that are not valid, and those of other images and unknown classes, are left out and counted in the notes.

    Args:
        file: The results file.
        truth: The evaluated images.
        current: The whole dataset.
        store: Store of the dataset: classes of earlier versions are followed.
        image_ids: "dataset" or "names" (see `image_names`), or a COCO file that lists the images of the ids.
            Default: the list that `predict` writes beside its results, if it is there; else it is found out.
        class_ids: JSON object, class id in the file → class id of the dataset.

    Returns:
        The detections, and notes.

    Raises:
        MissingError: A file cannot be read.
        DataError: It is not a results file; no row is valid; no detection is on an evaluated image; or names of images
            are not unique.
    """
    rows = read_rows(Path(file))
    listed = _listed_images(rows, image_ids)
    if listed is not None:
        images = listed.find(rows.image_ids, current)
    else:
        reading = None if image_ids is None else str(image_ids)
        images = read_image_ids(rows.image_ids, current, truth, reading)
    if class_ids is not None:
        classes = _follow(read_class_ids(Path(class_ids)), current, store)
    elif listed is not None and (by_name := listed.classes(current)):
        classes = ClassIds(by_name, ())
    else:
        classes = _follow({id_: id_ for id_ in set(rows.class_ids.tolist())}, current, store)
    return _select(rows, images, classes, truth, current)


def images_beside(results: str | os.PathLike[str]) -> Path:
    """The list of images that `predict` writes beside its results."""
    return Path(results).with_name(IMAGES)


@dataclass(frozen=True)
class ClassIds:
    """Class id in the file → class id of the dataset, None for a class that was dropped; and notes."""

    classes: Mapping[int, int | None]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ListedImages:
    """Images and classes of a COCO file.

    Attributes:
        path: The file.
        file_names: Image id → file name.
        categories: Class id → name.
    """

    path: Path
    file_names: Mapping[int | str, str]
    categories: Mapping[int, str]

    def find(self, ids: Iterable[int | str], current: Dataset) -> ImageIds:
        """The images of ids by their file names.

        Raises:
            DataError: A name can mean several images.
        """
        names = ImageNames(current)
        by_text = {str(id_): name for id_, name in self.file_names.items()}  # 7 in one file may be "7" in the other
        images: dict[int | str, int | None] = {}
        for id_ in dict.fromkeys(ids):
            name = self.file_names.get(id_, by_text.get(str(id_)))
            found = names.find(name) if name is not None else []
            if len(found) > 1:
                raise DataError(
                    "the file name does not say which image it is",
                    place=f"{self.path}, image {id_}",
                    got=f"{name!r}, the name of {count_of(len(found), 'image')}",
                    expected="unique names, or names with folders",
                )
            images[id_] = found[0] if found else None
        is_own = all(id_ == image for id_, image in images.items())
        return ImageIds(images, () if is_own else (f"The image ids are those of {self.path}.",))

    def classes(self, current: Dataset) -> dict[int, int | None]:
        """Class id in the file → class id of the dataset, for the classes whose names it knows."""
        known: dict[str, int | None] = {**current.aliases, **{entry.name: entry.id for entry in current.classes}}
        return {id_: known[name] for id_, name in self.categories.items() if name in known}


def _listed_images(rows: ResultRows, image_ids: str | os.PathLike[str] | None) -> ListedImages | None:
    """The list of images that was given, or the one beside results of `predict`; None without one."""
    if image_ids in (IDS, NAMES):
        return None
    if image_ids is not None:
        word = str(image_ids)
        if not Path(word).is_file() and "." not in word and closest(word, (IDS, NAMES)) is not None:
            raise unknown_name("reading", word, (IDS, NAMES, "a COCO file"), place="--image-ids")
        return _read_images(Path(image_ids))
    try:
        beside = _read_images(images_beside(rows.path))
    except (MissingError, DataError):
        return None
    return beside if beside.file_names.keys() >= set(rows.image_ids) else None


class _ListedImage(BaseModel):
    id: int | str
    file_name: str


class _ListedClass(BaseModel):
    id: int
    name: str


class _ImageList(BaseModel):
    """The part of a COCO file that is read."""

    images: list[_ListedImage]
    categories: list[_ListedClass] | None = None


def _read_images(path: Path) -> ListedImages:
    listed = read_json(
        path,
        "list of images",
        _ImageList,
        unreadable=MissingError,
        remedy='A COCO file with "images": [{"id", "file_name"}] is expected.',
        limit=LARGEST_TABLE_BYTES,
    )
    names = {one.id: one.file_name for one in listed.images}
    return ListedImages(path, names, {one.id: one.name for one in listed.categories or ()})


def _follow(meant: Mapping[int, int], current: Dataset, store: Store) -> ClassIds:
    """Replace classes of earlier versions by the class that has their boxes now. Unknown ids are not in the result."""
    known = current.class_names
    gone = set(meant.values()) - known.keys()
    former: dict[int, str] = {}
    for version in store.history() if gone else ():
        former = {entry.id: entry.name for entry in version.classes if entry.id in gone} | former
        if former.keys() >= gone:
            break
    by_name: dict[str, int | None] = {**current.aliases, **{name: id_ for id_, name in known.items()}}
    followed = {id_: by_name[name] for id_, name in former.items() if name in by_name}
    notes = [
        f"Class id {id_} was {former[id_]}, "
        + (f"merged since: its predictions count as {known[now]}." if now in known else "which was dropped since.")
        for id_, now in sorted(followed.items())
    ]
    classes = {theirs: followed.get(ours, ours) for theirs, ours in meant.items() if ours in known or ours in followed}
    return ClassIds(classes, tuple(notes))


def _select(
    rows: ResultRows, images: ImageIds, classes: ClassIds, truth: Dataset, current: Dataset
) -> tuple[Predictions, list[str]]:
    """The rows on the evaluated images in classes of the dataset, and notes on the others."""
    place = f"{rows.path}, entry"
    image_of = np.array([images.images[id_] or 0 for id_ in rows.image_ids], dtype=np.int64)  # ids begin with 1
    classes_in_file, inverse = np.unique(rows.class_ids, return_inverse=True)
    is_known = np.array([id_ in classes.classes for id_ in classes_in_file.tolist()], dtype=bool)[inverse]
    class_of = np.array([classes.classes.get(id_) or 0 for id_ in classes_in_file.tolist()], dtype=np.int64)[inverse]

    faults, first = Counter(rows.faults), rows.first_fault
    if not is_known.all():
        faults["unknown class id"] = int((~is_known).sum())
        row = int(np.flatnonzero(~is_known)[0])
        first = first or _unknown_class(f"{place} {rows.entry[row]}", int(rows.class_ids[row]), current)
    if first is not None and not is_known.any():
        raise DataError(
            f"no row is valid; {first.fact}", place=first.place, got=first.got, expected=first.expected,
            remedy=first.remedy,
        )  # fmt: skip
    inside = np.isin(image_of, truth.images["image_id"].to_numpy())
    if len(inside) and not inside.any():
        raise _none_evaluated(rows, image_of, truth, current)
    notes = [*images.notes, *classes.notes]
    if inside.any() and np.abs(rows.boxes_xyxy[inside]).max() <= _LARGEST_SHARE:
        notes.append(
            f"All boxes lie within {_LARGEST_SHARE:g} pixels of the corner: they look like shares of the image's size. "
            "A COCO results file has pixels."
        )
    if first is not None:
        listed = ", ".join(f"{fact}: {number}" for fact, number in faults.items())
        notes.append(f"Left out: {faults.total()} of {count_of(rows.total, 'prediction')} ({listed}). First: {first}")
    unknown = np.array(rows.image_ids, dtype=object)[image_of == 0]
    if len(unknown):
        number = len(set(unknown.tolist()))
        notes.append(
            f"Left out: {count_of(len(unknown), 'prediction')} of {count_of(number, 'image')} that the dataset does "
            f"not have, such as {unknown[0]!r}."
        )
    outside = image_of[~inside & (image_of > 0)]
    if len(outside):
        notes.append(f"Left out: {_count_by_split(outside, current)}; these are not evaluated.")
    dropped = inside & is_known & (class_of == 0)
    if dropped.any():
        notes.append(f"Left out: {count_of(int(dropped.sum()), 'prediction')} of classes that were dropped since.")
    return rows.as_predictions(image_of, class_of, inside & (class_of > 0)), notes


def _unknown_class(place: str, class_id: int, current: Dataset) -> DataError:
    names = ", ".join(f"{entry.id} {entry.name}" for entry in current.classes[:_MOST_NAMES])
    more = ", …" if len(current.classes) > _MOST_NAMES else ""
    return DataError(
        "unknown class id",
        place=place,
        got=class_id,
        expected=f"one of {names}{more}" if names else "none, since the dataset has no classes",
        remedy="If the file counts classes in another way, map its ids with --class-ids FILE.",
    )


def _none_evaluated(rows: ResultRows, image_of: np.ndarray, truth: Dataset, current: Dataset) -> DataError:
    known = image_of[image_of > 0]
    unknown = len(image_of) - len(known)
    parts = [_count_by_split(known, current)] if len(known) else []
    if unknown:
        parts.append(f"{count_of(unknown, 'prediction')} of images that the dataset does not have")
    return DataError(
        "no prediction is of an evaluated image",
        place=rows.path,
        got="; ".join(parts),
        expected=f"image ids or file names of the {count_of(len(truth.images), 'evaluated image')}",
        remedy="Choose the images with --split, or say what the ids mean with --image-ids.",
    )


def _count_by_split(image_ids: np.ndarray, current: Dataset) -> str:
    """How many predictions there are of how many images in each split."""
    images = current.images.set_index("image_id").loc[image_ids]
    where = ("in " + images["split"].astype("str")).fillna(_NO_SPLIT)
    where = where.where(images["label_state"] == "labelled", _NO_LABELS)
    counts = pd.DataFrame({"where": where, "image": image_ids}).groupby("where")["image"].agg(["size", "nunique"])
    return ", ".join(
        f"{count_of(number, 'prediction')} of {count_of(images, 'image')} {where}"
        for where, number, images in counts.reset_index().itertuples(index=False, name=None)
    )
