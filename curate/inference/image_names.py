"""Which images the `image_id`s of a results file mean: ids of the dataset, file names, or ids of a list of images.

Tools of the YOLO family write the file name without its suffix, as a number where it is one; others write names with
suffix, or paths. A text among the ids shows that none is an id of the dataset. If all are numbers, what more of them
fit decides.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os.path import splitext
from urllib.parse import unquote

import numpy as np

from curate.dataset import Dataset
from curate.errors import DataError
from curate.formats.listing import folded
from curate.formatting import count_of

IDS, NAMES = "dataset", "names"  # readings of image ids; values of --image-ids


@dataclass(frozen=True)
class ImageIds:
    """The images that ids mean.

    Attributes:
        images: Id in the file → `image_id`; None for an image that the dataset does not have.
        notes: How the ids were read, if there was a choice.
    """

    images: Mapping[int | str, int | None]
    notes: tuple[str, ...] = ()


class ImageNames:
    """Finds images by file name: with or without folders and suffix, or by the number that the name is.

    A name that no image has exactly may differ in case and percent-encoding.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._ids = dataset.images["image_id"].tolist()
        self._parts = [_parts(path) for path in dataset.images["path"]]
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        self._by_number: dict[int, list[int]] = defaultdict(list)
        for row, (*_, name) in enumerate(self._parts):
            stem = splitext(name)[0]
            self._by_name[name].append(row)
            self._by_stem[stem].append(row)
            if stem.isascii() and stem.isdigit():
                self._by_number[int(stem)].append(row)

    def find(self, name: int | str) -> list[int]:
        """Ids of the images that a name can mean; several if the folders in it do not tell them apart."""
        if isinstance(name, int):
            return [self._ids[row] for row in self._by_number.get(name, ())]
        *folders, last = _parts(name)
        rows = self._by_name.get(last) or self._by_stem.get(last) or self._by_stem.get(splitext(last)[0])
        if rows is None and last.isascii() and last.isdigit():
            return self.find(int(last))
        if rows is None:
            plain = _plain(last)
            rows = self._by_plain_name.get(plain) or self._by_plain_name.get(splitext(plain)[0], [])
        if len(rows) > 1 and folders:
            shared = [_shared_end(folders, self._parts[row][:-1]) for row in rows]
            rows = [row for row, number in zip(rows, shared, strict=True) if number == max(shared)]
        return [self._ids[row] for row in rows]

    @cached_property
    def _by_plain_name(self) -> Mapping[str, list[int]]:
        """Rows by name and by stem, whatever the case; only names that are not there exactly need it."""
        by_plain: dict[str, list[int]] = defaultdict(list)
        for row, (*_, name) in enumerate(self._parts):
            for known in dict.fromkeys((_plain(name), _plain(splitext(name)[0]))):
                by_plain[known].append(row)
        return dict(by_plain)


def _plain(name: str) -> str:
    return folded(unquote(name) if "%" in name else name)


def _parts(path: str) -> list[str]:
    """Folders and name; with one Unicode form, and with the slashes of POSIX."""
    return unicodedata.normalize("NFC", path).strip().replace("\\", "/").rstrip("/").split("/")


def _shared_end(folders: Sequence[str], others: Sequence[str]) -> int:
    """Number of equal folders, counted from the end."""
    pairs = zip(reversed(folders), reversed(others), strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(folders), len(others)))


def read_image_ids(
    ids: Iterable[int | str], dataset: Dataset, evaluated: Dataset, reading: str | None = None
) -> ImageIds:
    """Find the images of ids.

    Args:
        ids: Of a results file.
        dataset: The whole dataset.
        evaluated: The images that are evaluated: only their names must be unique.
        reading: `IDS` or `NAMES`. None: it is found out.

    Raises:
        DataError: A name can mean several images.
    """
    distinct = list(dict.fromkeys(ids))
    own = set(dataset.images["image_id"].tolist())
    as_ids: dict[int | str, int | None] = {
        id_: number if (number := _as_number(id_)) in own else None for id_ in distinct
    }
    if reading == IDS:
        return ImageIds(as_ids)
    names = ImageNames(dataset)
    found = {id_: names.find(id_) for id_ in distinct}
    as_names = {id_: meant[0] if len(meant) == 1 else None for id_, meant in found.items()}
    notes = []
    if reading is None and None not in map(_as_number, distinct):
        chosen, notes = _choose(as_ids, as_names, evaluated)
        if chosen == IDS:
            return ImageIds(as_ids, tuple(notes))
    elif reading is None:
        notes = ["Some image ids are text, so all are read as file names."]
    _refuse_ambiguous(found, evaluated)
    return ImageIds(as_names, tuple(notes))


def _as_number(id_: int | str) -> int | None:
    """The number that an id is, also as text; None for other text, and for numbers with zeros before them."""
    if isinstance(id_, int):
        return id_
    return int(id_) if id_.isascii() and id_.isdigit() and str(int(id_)) == id_ else None


def _choose(
    as_ids: Mapping[int | str, int | None], as_names: Mapping[int | str, int | None], evaluated: Dataset
) -> tuple[str, list[str]]:
    """What numbers mean: what more of them fit; of equal readings the ids, unless only the names are all evaluated."""
    fit = {reading: _count(images) for reading, images in ((IDS, as_ids), (NAMES, as_names))}
    chosen = NAMES if fit[NAMES] > fit[IDS] else IDS
    if fit[NAMES] == fit[IDS] and as_ids != as_names:
        inside = set(evaluated.images["image_id"].tolist())
        if inside.issuperset(as_names.values()) and not inside.issuperset(as_ids.values()):
            chosen = NAMES
    other = IDS if chosen == NAMES else NAMES
    if as_ids == as_names or (chosen == IDS and fit[NAMES] < len(as_ids) == fit[IDS]):
        return chosen, []
    words = {IDS: "ids of the dataset", NAMES: "file names"}
    return chosen, [
        f"The image ids are read as {words[chosen]}: {fit[chosen]} of {len(as_ids)} are. Read as {words[other]}, "
        f"{fit[other]} would fit; --image-ids {other} reads them so."
    ]


def _count(images: Mapping[int | str, int | None]) -> int:
    return sum(image is not None for image in images.values())


def _refuse_ambiguous(found: Mapping[int | str, Sequence[int]], evaluated: Dataset) -> None:
    """Refuse names that can mean several images, if one of these is evaluated."""
    unclear = {name: images for name, images in found.items() if len(images) > 1}
    inside = np.isin([image for images in unclear.values() for image in images], evaluated.images["image_id"])
    if inside.any():
        name, images = next(iter(unclear.items()))
        raise DataError(
            "the file name does not say which image it is",
            place=f"predictions, image_id {name!r}",
            got=f"{count_of(len(images), 'image')} of that name",
            expected="unique names, or names with folders",
            remedy="List the images of the ids in a COCO file: --image-ids FILE.",
        )
