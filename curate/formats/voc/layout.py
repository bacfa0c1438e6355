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
from typing import NamedTuple

from curate.errors import DataError
from curate.formats.incoming import Problem
from curate.formats.voc.objects import VocFile
from curate.formats.voc.writer import is_proposal
from curate.formats.voc.xml_parser import UnreadableError, VocParser
from curate.images import IMAGE_SUFFIXES, read_bytes
from curate.progress import Progress, silent

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


_BATCH = 100  # files parsed in a row: parsing and hashing in turns costs a fifth more, by the processor's cache


class MatchedXml(NamedTuple):
    """An annotation file and its image; `annotation` is None where the file cannot be read."""

    file: str
    image: str
    annotation: VocFile | None
    is_proposal: bool


class XmlMatcher:
    """Reads the annotation files of a layout, once.

    Attributes:
        problems: files that cannot be read, or that have no image; they grow while `read` goes on.
    """

    def __init__(self, layout: VocLayout) -> None:
        self.problems: list[Problem] = []
        self._files = layout.xml_files
        self._folder = f"{layout.folder}/"  # a string, not Path: this runs for every file
        self._finder = ImageFinder(layout)
        self._parser = VocParser()
        self._own_images = {file: self._finder.by_stem(file) for file in layout.xml_files}
        self._owners = {image: file for file, image in self._own_images.items() if image is not None}
        self._is_proposal: dict[str, bool] = {}  # of the files looked at so far
        self._taken: dict[str, str] = {}  # image → the XML that describes it

    def read(self, progress: Progress = silent) -> Iterator[MatchedXml]:
        """The files that have an image, in the order of their names; proposals come last."""
        total = len(self._files)
        proposals: list[tuple[str, VocFile | None]] = []
        for start in range(0, total, _BATCH):
            progress("reading XML", start, total)
            for file, annotation in [(file, self._parse(file)) for file in self._files[start : start + _BATCH]]:
                if self._is_proposal[file]:
                    proposals.append((file, annotation))
                elif (image := self._find_image(file, annotation)) is not None:
                    yield MatchedXml(file, image, annotation, is_proposal=False)
        for file, annotation in proposals:
            if (image := self._find_image(file, annotation)) is not None:
                yield MatchedXml(file, image, annotation, is_proposal=True)
        progress("reading XML", total, total)

    def _parse(self, file: str) -> VocFile | None:
        """What a file says, or None after listing why it cannot be read."""
        self._is_proposal[file] = False
        try:
            data = read_bytes(self._folder + file)
            self._is_proposal[file] = is_proposal(data)
            return self._parser.parse(data)
        except UnreadableError as error:
            self.problems.append(Problem(file, *error.fault))
        except OSError as error:
            self._note(file, "unreadable_file", str(error.strerror))
        return None

    def _find_image(self, file: str, annotation: VocFile | None) -> str | None:
        """The image of an XML file, or None after listing why there is none.

        `<filename>` goes first, unless it names a picture that belongs, by its name, to another XML: LabelImg leaves
        the old name in a file that was copied.
        """
        name = annotation.filename if annotation else ""
        named = self._finder.by_name(file, name) if name else None
        own = self._own_images[file]
        if named is not None and named not in self._taken and self._may_take(file, named):
            image = named
        elif own is not None and own not in self._taken:
            image = own
        else:
            self._note_loss(file, name, named or own)
            return None
        self._taken[image] = file
        return image

    def _may_take(self, file: str, image: str) -> bool:
        owner = self._owners.get(image, file)
        return owner == file or (not self._is_proposal[file] and self._look_ahead(owner))

    def _look_ahead(self, file: str) -> bool:
        """Whether a file is a proposal; only one that comes later, and whose image another names, is read for it."""
        if file not in self._is_proposal:
            try:
                self._is_proposal[file] = is_proposal(read_bytes(self._folder + file))
            except OSError:
                self._is_proposal[file] = False
        return self._is_proposal[file]

    def _note_loss(self, file: str, name: str, image: str | None) -> None:
        if image is None:
            self._note(file, "image_missing", f"no image {name!r}" if name else "no image of the same name")
            return
        fact = f"{image!r} belongs to {self._taken.get(image) or self._owners.get(image, '')}"
        if self._is_proposal[file]:
            self._note(file, "proposal_overruled", f"left out; {fact}")
        else:
            self._note(file, "image_taken", fact)

    def _note(self, file: str, kind: str, detail: str) -> None:
        self.problems.append(Problem(file, None, None, kind, detail))
