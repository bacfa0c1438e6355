"""Images that a command reads: one file, a folder of images, or a dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from curate.dataset import Dataset
from curate.errors import DataError
from curate.formats.incoming import Problem
from curate.formats.voc.layout import VocLayout, find_layout
from curate.image_header import is_image_name
from curate.images import ImageFacts, read_image_facts
from curate.progress import Progress
from curate.store import Store

_REPORT_EVERY = 200  # images
_IMAGE_PROBLEMS = frozenset({"image_broken", "file_name", "unreadable_file"})  # kinds that leave an image out


@dataclass(frozen=True, eq=False)
class InputImages:
    """Images to predict on.

    Attributes:
        images: The dataset, or one made of the folder. Ids of a folder count its image files from 1 in the order of
            their paths; unreadable files have an id, but no row.
        store: Store of the dataset; None for a folder or a file.
        layout: Files of the folder, XML included; else None.
        problems: Unreadable images, with files relative to `images.root`.
    """

    images: Dataset
    store: Store | None = None
    layout: VocLayout | None = None
    problems: tuple[Problem, ...] = ()


def read_images(source: Path, progress: Progress) -> InputImages:
    """List the images of a dataset, of a folder with its subfolders, or one image file.

    Raises:
        DataError: There is no image, or none is readable.
    """
    if source.is_file():
        return InputImages(_as_dataset(source.parent, {1: (source.name, read_image_facts(source))}))
    if (store := Store(source)).exists():
        current = store.load()
        if not len(current.images):
            raise DataError("the dataset has no image", place=source)
        return InputImages(current, store)
    layout = find_layout(source)
    if not layout.image_files:
        raise DataError("the folder has no image", place=source)
    problems = [one for one in layout.problems if one.kind in _IMAGE_PROBLEMS and is_image_name(one.file)]
    readable: dict[int, tuple[str, ImageFacts]] = {}
    for number, file in enumerate(layout.image_files, start=1):
        if number % _REPORT_EVERY == 1:
            progress("reading images", number - 1, len(layout.image_files))
        try:
            readable[number] = file, read_image_facts(source / file)
        except DataError as error:
            problems.append(Problem(file, None, None, "image_broken", error.fact, "quarantined"))
    progress("reading images", len(layout.image_files), len(layout.image_files))
    require_readable(source, len(readable), problems)
    return InputImages(_as_dataset(source, readable), None, layout, tuple(problems))


def require_readable(source: Path, readable: int, problems: list[Problem]) -> None:
    """Raise if there are images, but none is readable.

    Raises:
        DataError: Names the first unreadable image.
    """
    if problems and not readable:
        raise DataError(
            "no image is readable", place=source, got=f"{problems[0].detail}: {problems[0].file}", expected="images"
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
