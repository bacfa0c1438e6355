"""Where the files of a LabelImg folder or a VOC devkit lie: which XML, which image belongs to it, which split.

Every look-up goes through the list of files that a walk over the folder found, so nothing that an XML says can lead
out of it. Links that someone put into the folder are followed.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from curate.errors import DataError
from curate.formats.incoming import Problem
from curate.images import IMAGE_SUFFIXES

_ANNOTATION_FOLDERS = frozenset({"annotations", "labels", "xml", "xmls"})
_IMAGE_FOLDERS = ("images", "JPEGImages", "imgs", "img")
_SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class VocLayout:
    """The files of one source.

    Attributes:
        folder: what was walked.
        xml_files: annotation files, relative to `folder`, sorted.
        image_files: images, relative to `folder` (absolute under a separate image folder), sorted.
        splits: image stem → (split, list file that says so).
        class_order: the names in `predefined_classes.txt`, where there is one.
        problems: names that cannot be used, contradicting split lists.
    """

    folder: Path
    xml_files: tuple[str, ...]
    image_files: tuple[str, ...]
    splits: Mapping[str, str]
    class_order: tuple[str, ...]
    problems: tuple[Problem, ...]


def find_layout(folder: Path, images: Path | None = None) -> VocLayout:
    """Walk a source folder.

    Args:
        folder: XML beside images, `annotations/` and `images/`, or a devkit (`Annotations/`, `JPEGImages/`).
        images: a folder that holds the images, where they lie apart.

    Raises:
        DataError: a folder is not there.
    """
    for needed in (folder, images):
        if needed is not None and not needed.is_dir():
            raise DataError("there is no such folder", place=needed)
    problems: list[Problem] = []
    is_devkit = (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir()
    found = [
        name
        for start in (("Annotations", "JPEGImages") if is_devkit else ("",))
        for name in _walk(folder, start, problems)
    ]
    xml_files = sorted(name for name in found if name.lower().endswith(".xml"))
    if images is None:
        image_files = sorted(name for name in found if _is_image(name))
    else:
        place = images.resolve()
        image_files = sorted((place / name).as_posix() for name in _walk(place, "", problems) if _is_image(name))
    splits = _read_splits(folder / "ImageSets" / "Main", problems)
    return VocLayout(folder, tuple(xml_files), tuple(image_files), splits, _read_class_order(folder), tuple(problems))


class ImageFinder:
    """Finds the image that an annotation file describes, among the files of a layout."""

    def __init__(self, layout: VocLayout) -> None:
        self._files = frozenset(layout.image_files)
        self._by_folder_and_stem: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for file in layout.image_files:
            folder, _, name = file.rpartition("/")
            stem = os.path.splitext(name)[0]
            self._by_folder_and_stem[folder, stem].append(file)
            self._by_name[name].append(file)
            self._by_stem[stem].append(file)
        self._folders_of: dict[str, tuple[str, ...]] = {}
        self._image_roots = tuple(sorted({file.rpartition("/")[0] for file in layout.image_files}))

    def by_name(self, xml_file: str, name: str) -> str | None:
        """The image that `<filename>` names, in the folders that go with the XML's."""
        name = name.replace("\\", "/").rpartition("/")[2]
        for folder in self._folders(xml_file.rpartition("/")[0]):
            file = f"{folder}/{name}" if folder else name
            if file in self._files:
                return file
        return _only(self._by_name.get(name, ()))

    def by_stem(self, xml_file: str, preferred_suffix: str = "") -> str | None:
        """The image with the XML's own stem and any image suffix."""
        folder, _, name = xml_file.rpartition("/")
        stem = os.path.splitext(name)[0]
        for place in self._folders(folder):
            if files := self._by_folder_and_stem.get((place, stem)):
                return min(files, key=lambda file: (not file.lower().endswith(preferred_suffix), file))
        return _only(self._by_stem.get(stem, ()))

    def _folders(self, xml_folder: str) -> tuple[str, ...]:
        """Where images of an XML folder may lie: beside, in the sibling image folder, in a separate one."""
        if xml_folder not in self._folders_of:
            self._folders_of[xml_folder] = (xml_folder, *_siblings(xml_folder), *_matching(xml_folder, self._image_roots))
        return self._folders_of[xml_folder]


def _siblings(xml_folder: str) -> Iterator[str]:
    """`a/annotations/b` → `a/images/b`, `a/JPEGImages/b`, …"""
    parts = PurePosixPath(xml_folder).parts
    for depth, part in enumerate(parts):
        if part.lower() in _ANNOTATION_FOLDERS:
            for replacement in (*_IMAGE_FOLDERS, ""):
                yield "/".join([*parts[:depth], *([replacement] if replacement else []), *parts[depth + 1 :]])


def _matching(xml_folder: str, image_roots: tuple[str, ...]) -> Iterator[str]:
    """Separate (absolute) image folders that end like the XML's folder, then the separate folder itself."""
    separate = [root for root in image_roots if root.startswith("/")]
    tail = "/".join(part for part in PurePosixPath(xml_folder).parts if part.lower() not in _ANNOTATION_FOLDERS)
    yield from (root for root in separate if tail and root.endswith("/" + tail))
    yield from separate[:1]


def _only(files: list[str] | tuple[str, ...]) -> str | None:
    return files[0] if len(files) == 1 else None


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _walk(folder: Path, start: str, problems: list[Problem]) -> Iterator[str]:
    """Regular files below `folder/start`, relative to `folder`; hidden ones are not looked at."""
    seen: set[tuple[int, int]] = set()
    waiting = [start]
    while waiting:
        inner = waiting.pop()
        place = folder / inner
        status = place.stat()
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{inner}/{entry.name}" if inner else entry.name
                try:
                    name.encode()
                except UnicodeEncodeError:
                    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
                    problems.append(Problem(shown, None, None, "file_name", "the name is not UTF-8"))
                    continue
                if entry.is_dir():
                    waiting.append(name)
                elif entry.is_file():
                    yield name


def _read_splits(folder: Path, problems: list[Problem]) -> dict[str, str]:
    """`ImageSets/Main/{train,val,test}.txt`: stem → split. `trainval.txt` counts as train where neither part is there."""
    lists = {split: folder / f"{split}.txt" for split in _SPLIT_NAMES}
    if not lists["train"].is_file() and not lists["val"].is_file():
        lists["train"] = folder / "trainval.txt"
    splits: dict[str, str] = {}
    for split, file in lists.items():
        if not file.is_file():
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            stem = line.split()[0] if line.split() else ""
            if not stem:
                continue
            if splits.setdefault(stem, split) != split:
                where = f"ImageSets/Main/{file.name}"
                problems.append(Problem(where, number, None, "split_conflict", f"{stem} is in {splits[stem]} already"))
    return splits


def _read_class_order(folder: Path) -> tuple[str, ...]:
    for file in (folder / "predefined_classes.txt", folder / "data" / "predefined_classes.txt"):
        if file.is_file():
            names = (line.strip() for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines())
            return tuple(dict.fromkeys(name for name in names if name))
    return ()
