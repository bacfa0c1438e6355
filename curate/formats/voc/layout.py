"""Where the files of a LabelImg folder or a VOC devkit lie: which XML, which image belongs to it, which split.

Every look-up goes through the list of files that a walk over the folder found, so nothing that an XML says can lead
out of it. Links that someone put into the folder are followed.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from curate.errors import DataError
from curate.formats.incoming import Problem
from curate.images import IMAGE_SUFFIXES

_ANNOTATION_FOLDERS = frozenset({"annotations", "labels", "xml", "xmls"})
_IMAGE_FOLDERS = ("images", "JPEGImages", "imgs", "img")
_IMAGE_SUFFIXES = tuple(IMAGE_SUFFIXES)
SPLIT_LISTS = "ImageSets/Main"
_SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class VocLayout:
    """The files of one source.

    Attributes:
        folder: what was walked.
        xml_files: annotation files, relative to `folder`, sorted.
        image_folder: where the images lie; `folder`, unless they lie apart.
        image_files: images, relative to `image_folder`, sorted.
        splits: image stem → (split, list file that says so).
        class_order: the names in `predefined_classes.txt`, where there is one.
        problems: names that cannot be used, contradicting split lists.
    """

    folder: Path
    xml_files: tuple[str, ...]
    image_folder: Path
    image_files: tuple[str, ...]
    splits: Mapping[str, str]
    class_order: tuple[str, ...]
    problems: tuple[Problem, ...]


def find_layout(folder: Path, images: Path | None = None, leave_out: Path | None = None) -> VocLayout:
    """Walk a source folder.

    Args:
        folder: XML beside images, `annotations/` and `images/`, or a devkit (`Annotations/`, `JPEGImages/`).
        images: a folder that holds the images, where they lie apart.
        leave_out: a folder inside that is not looked at, such as the dataset itself.

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
        for name in _walk(folder, start, leave_out, problems)
    ]
    xml_files = sorted(name for name in found if name.lower().endswith(".xml"))
    pictures = found if images is None else _walk(images, "", leave_out, problems)
    image_files = sorted(name for name in pictures if _is_image(name))
    return VocLayout(
        folder=folder,
        xml_files=tuple(xml_files),
        image_folder=images or folder,
        image_files=tuple(image_files),
        splits=_read_splits(folder / SPLIT_LISTS, {_without_suffix(_base(file)) for file in image_files}, problems),
        class_order=_read_class_order(folder),
        problems=tuple(problems),
    )


class ImageFinder:
    """Finds the image that an annotation file describes, among the files of a layout."""

    def __init__(self, layout: VocLayout) -> None:
        self._files = frozenset(layout.image_files)
        self._by_folder_and_stem = _group(layout.image_files, _without_suffix)
        self._folders_of: dict[str, tuple[str, ...]] = {}
        self._apart = layout.image_folder != layout.folder

    @cached_property
    def _by_name(self) -> Mapping[str, Sequence[str]]:
        """For images in unusual places only, as `_by_stem`; most sources need neither."""
        return _group(self._files, _base)

    @cached_property
    def _by_stem(self) -> Mapping[str, Sequence[str]]:
        return _group(self._files, lambda file: _without_suffix(_base(file)))

    def by_name(self, xml_file: str, name: str) -> str | None:
        """The image that `<filename>` names, in the folders that go with the XML's."""
        name = name.replace("\\", "/").rpartition("/")[2]
        for folder in self._folders(xml_file.rpartition("/")[0]):
            file = f"{folder}/{name}" if folder else name
            if file in self._files:
                return file
        return _only(self._by_name.get(name, ()))

    def by_stem(self, xml_file: str) -> str | None:
        """The image with the XML's own stem and any image suffix, the first by name."""
        folder, _, name = xml_file.rpartition("/")
        stem = _without_suffix(name)
        for place in self._folders(folder):
            if files := self._by_folder_and_stem.get(f"{place}/{stem}" if place else stem):
                return files[0]
        return _only(self._by_stem.get(stem, ()))

    def _folders(self, xml_folder: str) -> tuple[str, ...]:
        """Where images of an XML folder may lie: beside, in the sibling image folder, at the top of a separate one."""
        if xml_folder not in self._folders_of:
            top = ("",) if self._apart else ()
            self._folders_of[xml_folder] = (xml_folder, *_siblings(xml_folder), *top)
        return self._folders_of[xml_folder]


def _siblings(xml_folder: str) -> Iterator[str]:
    """`a/annotations/b` → `a/images/b`, `a/JPEGImages/b`, …"""
    parts = PurePosixPath(xml_folder).parts
    for depth, part in enumerate(parts):
        if part.lower() in _ANNOTATION_FOLDERS:
            for replacement in (*_IMAGE_FOLDERS, ""):
                yield "/".join([*parts[:depth], *([replacement] if replacement else []), *parts[depth + 1 :]])


def _group(files: Iterable[str], key: Callable[[str], str]) -> Mapping[str, Sequence[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for file in files:
        groups[key(file)].append(file)
    return groups


def _only(files: Sequence[str]) -> str | None:
    return files[0] if len(files) == 1 else None


def _base(file: str) -> str:
    return file.rpartition("/")[2]


def _without_suffix(file: str) -> str:
    """The files here all have a suffix, and none begins with a dot: quicker than `os.path.splitext`."""
    return file.rpartition(".")[0]


def _is_image(name: str) -> bool:
    return name.lower().endswith(_IMAGE_SUFFIXES)


def _walk(folder: Path, start: str, leave_out: Path | None, problems: list[Problem]) -> Iterator[str]:
    """Regular files below `folder/start`, relative to `folder`; hidden ones are not looked at."""
    seen = {_identity(leave_out)} - {_identity(folder)} if leave_out is not None and leave_out.exists() else set()
    waiting = [start]
    while waiting:
        inner = waiting.pop()
        try:
            entries = sorted(os.scandir(folder / inner), key=lambda entry: entry.name)
            identity = _identity(folder / inner)
        except OSError as error:
            problems.append(Problem(inner, None, None, "unreadable_file", f"the folder: {error.strerror}"))
            continue
        if identity in seen:  # a link that leads back up
            continue
        seen.add(identity)
        for entry in entries:
            name = f"{inner}/{entry.name}" if inner else entry.name
            if entry.name.startswith("."):
                continue
            if fault := _fault_of_name(name):
                shown = os.fsencode(name).decode("utf-8", "backslashreplace")
                problems.append(Problem(shown, None, None, "file_name", fault))
            elif _is(entry.is_dir):
                waiting.append(name)
            elif _is(entry.is_file):
                yield name
            elif name.lower().endswith((".xml", *_IMAGE_SUFFIXES)):
                kind = "image_broken" if _is_image(name) else "unreadable_file"
                problems.append(Problem(name, None, None, kind, "not a file, or a link to nothing"))


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link that leads to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _fault_of_name(name: str) -> str | None:
    """Why a file of this name cannot be in a dataset, whose paths are portable text."""
    if "\\" in name:
        return "a backslash in the name"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    return None


def _read_splits(folder: Path, stems: Collection[str], problems: list[Problem]) -> dict[str, str]:
    """Stem → split, from `{train,val,test}.txt`. `trainval.txt` counts as train where neither part is there."""
    lists = {split: folder / f"{split}.txt" for split in _SPLIT_NAMES}
    if not lists["train"].is_file() and not lists["val"].is_file():
        lists["train"] = folder / "trainval.txt"
    splits: dict[str, str] = {}
    for split, file in lists.items():
        if not file.is_file():
            continue
        lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        for number, line in enumerate(map(str.strip, lines), start=1):
            if not line:
                continue
            stem = line if line in stems else line.split()[0]  # a class's own lists add 1 or -1 behind the stem
            if splits.setdefault(stem, split) != split:
                where = f"{SPLIT_LISTS}/{file.name}"
                problems.append(Problem(where, number, None, "split_conflict", f"{stem} is in {splits[stem]} already"))
    return splits


def _read_class_order(folder: Path) -> tuple[str, ...]:
    for file in (folder / "predefined_classes.txt", folder / "data" / "predefined_classes.txt"):
        if file.is_file():
            names = (line.strip() for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines())
            return tuple(dict.fromkeys(name for name in names if name))
    return ()
