"""A folder of images for LabelImg: names, the images themselves, and the class list."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from curate.card import find_card, read_card
from curate.dataset import Dataset
from curate.errors import DataError
from curate.files import write_atomically
from curate.media import IMAGES, link_or_copy

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
