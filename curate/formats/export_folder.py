"""The folder of an export: what may be replaced there, how an export that was killed is given again, and its images.

An export first lists all its files in `OUT/.unfinished-export.json`, and removes that list when all are written. A
folder with the list is an unfinished export: the same command goes on in it. Files that neither the list nor an earlier
export names are not replaced and not removed.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import orjson

from curate.errors import DataError, StoreError, UsageError
from curate.files import OVERWRITE_REMEDY, is_temporary, read_regular, remove_leftovers, write_atomically
from curate.formatting import count_of
from curate.image_header import read_file_orientation
from curate.images import encode_upright
from curate.media import copy_file, create_file, link_or_copy
from curate.paths import is_inside, make_folder, refuse_links
from curate.progress import Progress

UNFINISHED = ".unfinished-export.json"
_REPORT_EVERY = 200
_NO_ORIGINS: Mapping[str, str] = MappingProxyType({})


class ExportFolder:
    """A folder that is free for an export.

    Args:
        path: The folder; it need not exist.
        earlier: The files of an earlier export in it, relative to it; None if it holds files of other tools.
        overwrite: Whether an earlier export may be replaced.

    Raises:
        UsageError: The folder is not empty and `overwrite` is false, or it is not an export of curate.
    """

    def __init__(self, path: Path, earlier: Collection[str] | None, *, overwrite: bool) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise UsageError("this is a file", place=path, expected="a folder")
        # a list that was being written when the process was killed does not count
        self._is_empty = not path.is_dir() or all(is_temporary(entry.name) for entry in path.iterdir())
        unfinished = self._read_list()
        if not (self._is_empty or overwrite or unfinished):
            raise UsageError("the folder is not empty", place=path, remedy=OVERWRITE_REMEDY)
        if not self._is_empty and earlier is None:
            raise self._not_ours()
        # somebody may have removed all annotation files: then only the images tell whose folder it is
        self._is_unlisted = not (self._is_empty or unfinished or any("/" in name for name in earlier or ()))
        self._earlier = frozenset((*(earlier or ()), *(unfinished or ())))

    @contextmanager
    def writing(self, names: Collection[str], origins: Mapping[str, str] = _NO_ORIGINS) -> Iterator[None]:
        """Write these files in the block, relative to the folder; afterwards, remove other files of earlier exports.

        Args:
            names: The files.
            origins: File → the image of the dataset that it is a copy of.

        Raises:
            UsageError: A file is there that no export wrote; or the folder is not an export of curate.
            StoreError: A folder on the way to a file is a link.
        """
        written = frozenset(names)
        if self._is_unlisted and not self._holds_copies(origins):
            raise self._not_ours()
        self._refuse_strangers(written, origins)
        for folder in sorted({"", *(name.rpartition("/")[0] for name in written | self._earlier)}):
            refuse_links(self.path, folder)
            remove_leftovers(self.path / folder)
        listing = orjson.dumps({"files": sorted(written | self._earlier)}, option=orjson.OPT_INDENT_2)
        write_atomically(self.path / UNFINISHED, lambda file: file.write(listing + b"\n"))
        yield
        for name in sorted(self._earlier - written):
            (self.path / name).unlink(missing_ok=True)
        (self.path / UNFINISHED).unlink(missing_ok=True)

    def _refuse_strangers(self, written: frozenset[str], origins: Mapping[str, str]) -> None:
        """Refuse to replace files that no export lists, except copies: somebody may have removed the list."""
        strangers = () if self._is_empty else sorted(written - self._earlier)
        for name in strangers:
            if os.path.lexists(self.path / name) and not _is_copy(self.path / name, origins.get(name)):
                remedy = "Move it away, or choose another folder."
                raise UsageError("the file is not of an earlier export", place=self.path / name, remedy=remedy)

    def _holds_copies(self, origins: Mapping[str, str]) -> bool:
        """Whether the folder holds copies of images, and no other files but those of the earlier export."""
        files = [file for file in self.path.rglob("*") if file.is_symlink() or not file.is_dir()]
        names = {file.relative_to(self.path).as_posix(): file for file in files}
        others = names.keys() - self._earlier
        return bool(others) and all(_is_copy(names[name], origins.get(name)) for name in others)

    def _not_ours(self) -> UsageError:
        return UsageError("the folder is not an export of curate", place=self.path, remedy="Choose another name.")

    def _read_list(self) -> list[str] | None:
        """The files of an unfinished export; None without one."""
        try:
            names = orjson.loads(read_regular(self.path / UNFINISHED))["files"]
            return names if names and isinstance(names, list) and all(map(is_inside, names)) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def _is_copy(file: Path, origin: str | None) -> bool:
    """Whether a file has the bytes that an export makes of an image."""
    if origin is None or file.is_symlink():
        return False
    try:
        data, own = read_regular(file), read_regular(origin)
        return data == own or data == encode_upright(own)
    except (OSError, ValueError):
        return False


# ── images: copies that other tools may write into, upright for those that know no EXIF ──────────────────────────────


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
