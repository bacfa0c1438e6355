"""The files of a LabelImg folder or a VOC devkit: the XML files, the image and the split of each, the class list."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from curate.columns import SPLITS
from curate.formats.incoming import Action, Problem
from curate.formats.listing import base_name, list_files
from curate.formats.voc.objects import VocFile
from curate.formats.voc.writer import is_proposal
from curate.formats.voc.xml_parser import UnreadableError, VocParser
from curate.image_header import is_image_name
from curate.images import read_bytes
from curate.progress import Progress, silent

_ANNOTATION_FOLDERS = frozenset({"annotations", "labels", "xml", "xmls"})
_IMAGE_FOLDERS = ("images", "JPEGImages", "imgs", "img")
XML_SUFFIX = ".xml"
SPLIT_LISTS = "ImageSets/Main"


@dataclass(frozen=True)
class VocLayout:
    """The files of one source.

    Attributes:
        folder: The source folder.
        xml_files: Annotation files, relative to `folder`, sorted.
        image_folder: The folder of the images; `folder`, unless they are elsewhere.
        image_files: Images, relative to `image_folder`, sorted.
        splits: Image stem → split.
        class_order: The names in `predefined_classes.txt`, if there is one.
        problems: Unusable names, broken links, split lists that contradict one another.
    """

    folder: Path
    xml_files: tuple[str, ...]
    image_folder: Path
    image_files: tuple[str, ...]
    splits: Mapping[str, str]
    class_order: tuple[str, ...]
    problems: tuple[Problem, ...]


def find_layout(folder: Path, images: Path | None = None, leave_out: Path | None = None) -> VocLayout:
    """List the files of a source folder.

    Args:
        folder: XML beside images, `annotations/` and `images/`, or a devkit (`Annotations/`, `JPEGImages/`).
        images: The folder of the images, if they are elsewhere.
        leave_out: A subfolder to skip, such as the dataset's own.

    Raises:
        DataError: A folder does not exist.
    """
    is_devkit = (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir()
    inside = ("Annotations", "JPEGImages") if is_devkit else ("",)
    suffixes = (XML_SUFFIX,)
    files, problems = list_files(folder, inside=inside, leave_out=leave_out, annotation_suffixes=suffixes)
    xml_files = sorted(name for name in files if name.lower().endswith(XML_SUFFIX))
    if images is not None:
        files, more = list_files(images, leave_out=leave_out, annotation_suffixes=suffixes)
        problems += more
    image_files = sorted(name for name in files if is_image_name(name))
    return VocLayout(
        folder=folder,
        xml_files=tuple(xml_files),
        image_folder=images or folder,
        image_files=tuple(image_files),
        splits=_read_splits(folder / SPLIT_LISTS, {_without_suffix(base_name(file)) for file in image_files}, problems),
        class_order=_read_class_order(folder),
        problems=tuple(problems),
    )


class ImageFinder:
    """Finds the image of an annotation file among the files of a layout."""

    def __init__(self, layout: VocLayout) -> None:
        self._files = frozenset(layout.image_files)
        self._by_folder_and_stem = _group(layout.image_files, _without_suffix)
        self._folders_of: dict[str, tuple[str, ...]] = {}
        self._has_image_folder = layout.image_folder != layout.folder

    @cached_property
    def _by_name(self) -> Mapping[str, Sequence[str]]:
        """For images in unusual places only, like `_by_stem`; most sources need neither."""
        return _group(self._files, base_name)

    @cached_property
    def _by_stem(self) -> Mapping[str, Sequence[str]]:
        return _group(self._files, lambda file: _without_suffix(base_name(file)))

    def by_name(self, xml_file: str, name: str) -> str | None:
        """The image that `<filename>` names, in the image folders of the XML's folder, else anywhere if unique."""
        name = name.replace("\\", "/").rpartition("/")[2]
        for folder in self._folders(xml_file.rpartition("/")[0]):
            file = f"{folder}/{name}" if folder else name
            if file in self._files:
                return file
        return _only(self._by_name.get(name, ()))

    def by_stem(self, xml_file: str) -> str | None:
        """The image with the XML's own stem and any image suffix, first by name; else anywhere if unique."""
        folder, _, name = xml_file.rpartition("/")
        stem = _without_suffix(name)
        for place in self._folders(folder):
            if files := self._by_folder_and_stem.get(f"{place}/{stem}" if place else stem):
                return files[0]
        return _only(self._by_stem.get(stem, ()))

    def _folders(self, xml_folder: str) -> tuple[str, ...]:
        """Image folders of an XML folder: the folder itself, its sibling image folders, a separate image folder."""
        if xml_folder not in self._folders_of:
            top = ("",) if self._has_image_folder else ()
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


def _without_suffix(file: str) -> str:
    """As `os.path.splitext`, and faster: the files here all have a suffix, and none begins with a dot."""
    return file.rpartition(".")[0]


def _read_splits(folder: Path, stems: Collection[str], problems: list[Problem]) -> dict[str, str]:
    """Stem → split, from `{train,val,test}.txt`. `trainval.txt` counts as train if train and val do not exist."""
    lists = {split: folder / f"{split}.txt" for split in SPLITS}
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
            stem = line if line in stems else line.split()[0]  # lists of one class have 1 or -1 after the stem
            if splits.setdefault(stem, split) != split:
                where, detail = f"{SPLIT_LISTS}/{file.name}", f"{stem} is in {splits[stem]} already"
                problems.append(Problem(where, number, None, "split_conflict", detail, "noted"))
    return splits


def _read_class_order(folder: Path) -> tuple[str, ...]:
    for file in (folder / "predefined_classes.txt", folder / "data" / "predefined_classes.txt"):
        if file.is_file():
            names = (line.strip() for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines())
            return tuple(dict.fromkeys(name for name in names if name))
    return ()


_BATCH = 100  # files parsed in a row; alternating with hashing images costs a fifth more, because of processor caches


class MatchedXml(NamedTuple):
    """An annotation file and its image; `annotation` is None if the file cannot be read."""

    file: str
    image: str
    annotation: VocFile | None
    is_proposal: bool


class XmlMatcher:
    """Reads the annotation files of a layout and finds the image of each. Can be used once.

    Attributes:
        problems: Files that cannot be read or have no image; filled by `read`.
    """

    def __init__(self, layout: VocLayout) -> None:
        self.problems: list[Problem] = []
        self._files = layout.xml_files
        self._folder = f"{layout.folder}/"  # a string: joining a Path for every file is slow
        self._finder = ImageFinder(layout)
        self._parser = VocParser()
        self._own_images = {file: self._finder.by_stem(file) for file in layout.xml_files}
        self._owners = {image: file for file, image in self._own_images.items() if image is not None}
        self._is_proposal: dict[str, bool] = {}  # of the files looked at so far
        self._taken: dict[str, str] = {}  # image → the XML that describes it

    def read(self, progress: Progress = silent) -> Iterator[MatchedXml]:
        """Yield the files that have an image, sorted by name; proposals come last."""
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
        """Parse a file; None, and a problem, if it cannot be read."""
        self._is_proposal[file] = False
        try:
            data = read_bytes(self._folder + file)
            self._is_proposal[file] = is_proposal(data)
            return self._parser.parse(data)
        except UnreadableError as error:
            self.problems.append(Problem(file, *error.fault))
        except OSError as error:
            self._report(file, "unreadable_file", str(error.strerror))
        return None

    def _find_image(self, file: str, annotation: VocFile | None) -> str | None:
        """The image of an XML file; None, and a problem, if there is none.

        `<filename>` comes first, unless another XML has the name of that image: LabelImg leaves the old name in a file
        that was copied.
        """
        name = annotation.filename if annotation else ""
        named = self._finder.by_name(file, name) if name else None
        own = self._own_images[file]
        if named is not None and named not in self._taken and self._may_take(file, named):
            image = named
        elif own is not None and own not in self._taken:
            image = own
        else:
            self._report_loss(file, name, named or own)
            return None
        self._taken[image] = file
        return image

    def _may_take(self, file: str, image: str) -> bool:
        owner = self._owners.get(image, file)
        return owner == file or (not self._is_proposal[file] and self._look_ahead(owner))

    def _look_ahead(self, file: str) -> bool:
        """Whether a file is a proposal; a file that comes later is read for it if another file names its image."""
        if file not in self._is_proposal:
            try:
                self._is_proposal[file] = is_proposal(read_bytes(self._folder + file))
            except OSError:
                self._is_proposal[file] = False
        return self._is_proposal[file]

    def _report_loss(self, file: str, name: str, image: str | None) -> None:
        if image is None:
            self._report(file, "image_missing", f"no image {name!r}" if name else "no image of the same name")
            return
        fact = f"{image!r} belongs to {self._taken.get(image) or self._owners.get(image, '')}"
        if self._is_proposal[file]:
            self._report(file, "proposal_overruled", f"left out; {fact}", "noted")
        else:
            self._report(file, "image_taken", fact)

    def _report(self, file: str, kind: str, detail: str, action: Action = "quarantined") -> None:
        self.problems.append(Problem(file, None, None, kind, detail, action))
