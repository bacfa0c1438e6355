"""Images of an export: copies that other tools may write into, upright for those that know no EXIF."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from curate.errors import DataError, StoreError
from curate.files import read_regular
from curate.formatting import count_of
from curate.image_header import read_file_orientation
from curate.images import encode_upright
from curate.media import copy_file, create_file, link_or_copy
from curate.paths import make_folder
from curate.progress import Progress

_REPORT_EVERY = 200


class Orientations(NamedTuple):
    """What became of images with an EXIF orientation: how many were written upright, and how many as they are."""

    upright: int = 0
    kept: int = 0

    def plus(self, other: "Orientations") -> "Orientations":
        return Orientations(self.upright + other.upright, self.kept + other.kept)

    def notes(self) -> list[str]:
        """Sentences for the person at the terminal."""
        notes = []
        if self.upright:
            images = count_of(self.upright, "image")
            notes.append(f"Written upright: {images} with an EXIF orientation (--keep-exif keeps their bytes).")
        if self.kept:
            images = count_of(self.kept, "image")
            notes.append(f"{images} with an EXIF orientation: boxes fit only in tools that turn such images.")
        return notes


class ImageExport(NamedTuple):
    """How images are exported.

    Attributes:
        link: Hard links instead of copies, for images that need not be turned.
        keep_exif: Images with an EXIF orientation keep their bytes.
    """

    link: bool = False
    keep_exif: bool = False

    def write(self, root: Path, folder: Path, names: Sequence[tuple[str, str]], progress: Progress) -> Orientations:
        """Write images into a folder; existing files of the names are replaced, not written into.

        Args:
            root: The dataset folder.
            folder: The folder of the export.
            names: Path of each image in `root`, and in `folder`.
            progress: Callback for progress.

        Raises:
            StoreError: An image file is missing.
            DataError: An image cannot be decoded to turn it.
        """
        made: set[str] = set()
        upright = kept = 0
        for count, (path, name) in enumerate(names):
            if count % _REPORT_EVERY == 0:
                progress("copying images", count, len(names))
            origin, target = f"{root}/{path}", f"{folder}/{name}"  # strings: making Paths takes long
            place = name.rpartition("/")[0]
            if place not in made:
                make_folder(folder, place)
                made.add(place)
            try:
                is_turned = read_file_orientation(origin) != 1
                was_turned = is_turned and not self.keep_exif and _write_upright(origin, target)
            except FileNotFoundError as error:
                remedy = "Import its source again."
                raise StoreError("the image file is missing", place=origin, remedy=remedy) from error
            if not was_turned:
                self._put(origin, target)
            upright += was_turned
            kept += is_turned and not was_turned
        progress("copying images", len(names), len(names))
        return Orientations(upright, kept)

    def _put(self, origin: str, target: str) -> None:
        put = link_or_copy if self.link else copy_file
        try:
            put(origin, target)
        except FileExistsError:
            if self.link and os.path.samefile(origin, target):
                return
            os.unlink(target)  # not overwritten: it may be a hard link
            put(origin, target)


def _write_upright(origin: str, target: str) -> bool:
    """Write a turned image upright; False if nothing here encodes its format."""
    try:
        data = encode_upright(read_regular(origin))
    except ValueError as error:
        raise DataError(f"the image cannot be decoded: {error}", place=origin) from error
    if data is None:
        return False
    try:
        create_file(target, data)
    except FileExistsError:
        os.unlink(target)
        create_file(target, data)
    return True
