"""The images that a command looks at: one file, a folder of them, or those of a dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from curate.dataset import Dataset
from curate.errors import DataError
from curate.formats.incoming import Problem
from curate.formats.voc.layout import VocLayout, find_layout
from curate.images import ImageFacts, read_image_facts
from curate.progress import Progress
from curate.store import Store

_REPORT_EVERY = 200
_LOSSES = frozenset({"image_broken", "file_name", "unreadable_file"})  # kinds of problems that hide an image


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images to look at.

    Attributes:
        images: the dataset, or one made of the folder: its ids count the image files from 1, in the order of their
            paths. Files that cannot be read have an id too, but no row.
        store: of the dataset; None for a folder or a file.
        layout: of a folder: its files, XML among them.
        problems: images that cannot be read; files are relative to `images.root`.
    """

    images: Dataset
    store: Store | None = None
    layout: VocLayout | None = None
    problems: tuple[Problem, ...] = ()


def read_pictures(source: Path, progress: Progress) -> Pictures:
    """List the images of a dataset, a folder with all folders in it, or one file.

    Raises:
        DataError: there is no image, or none that can be read.
    """
    if source.is_file():
        return Pictures(_as_dataset(source.parent, {1: (source.name, read_image_facts(source))}))
    if (store := Store(source)).exists():
        current = store.load()
        if not len(current.images):
            raise DataError("there is no image in the dataset", place=source)
        return Pictures(current, store)
    layout = find_layout(source)
    if not layout.image_files:
        raise DataError("there is no image in the folder", place=source)
    problems = [one for one in layout.problems if one.kind in _LOSSES and not one.file.lower().endswith(".xml")]
    readable: dict[int, tuple[str, ImageFacts]] = {}
    for number, file in enumerate(layout.image_files, start=1):
        if number % _REPORT_EVERY == 1:
            progress("reading images", number - 1, len(layout.image_files))
        try:
            readable[number] = file, read_image_facts(source / file)
        except DataError as error:
            problems.append(Problem(file, None, None, "image_broken", error.fact, "quarantined"))
    progress("reading images", len(layout.image_files), len(layout.image_files))
    refuse_none(source, len(readable), problems)
    return Pictures(_as_dataset(source, readable), None, layout, tuple(problems))


def refuse_none(source: Path, readable: int, problems: list[Problem]) -> None:
    """Raise where there are images, and not one of them can be read."""
    if problems and not readable:
        raise DataError(
            "no image can be read", place=source, got=f"{problems[0].detail}: {problems[0].file}", expected="images"
        )


def _as_dataset(folder: Path, images: Mapping[int, tuple[str, ImageFacts]]) -> Dataset:
    table = {
        "image_id": list(images),
        "path": pd.array([file for file, _ in images.values()], dtype="str"),
        "width": [facts.width for _, facts in images.values()],
        "height": [facts.height for _, facts in images.values()],
        "sha256": pd.array([facts.sha256 for _, facts in images.values()], dtype="str"),
    }
    return Dataset(folder, images=pd.DataFrame(table))
