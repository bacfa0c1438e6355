"""Finds the image of each XML file: by `<filename>`, by the file's own name, by `<path>`; to the letter first."""

import html
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

from curate.files import read_regular
from curate.formats.incoming import Action, Problem
from curate.formats.listing import base_name, folded
from curate.formats.voc.layout import XML_SUFFIX, VocLayout
from curate.formats.voc.objects import VocFile
from curate.formats.voc.writer import is_proposal
from curate.formats.voc.xml_parser import UnreadableError, VocParser
from curate.formatting import listed
from curate.image_header import is_image_name, looks_like_image
from curate.progress import Progress, silent

_ANNOTATION_FOLDERS = frozenset({"annotations", "labels", "xml", "xmls"})
_IMAGE_FOLDERS = ("images", "JPEGImages", "imgs", "img")
_BATCH = 100  # files parsed in a row; alternating with hashing images costs a fifth more, because of processor caches


def same_name(one: str, other: str) -> bool:
    """Whether two file names differ by case, Unicode spelling or encoding for the web alone."""
    return one == other or _plain(one) == _plain(other)


class ImageFinder:
    """Finds the image of an annotation file among the files of a layout."""

    def __init__(self, layout: VocLayout) -> None:
        self._layout = layout
        self._files = frozenset(layout.image_files)
        self._by_folder_and_stem = _group(layout.image_files, _without_suffix)
        self._folders_of: dict[str, tuple[str, ...]] = {}
        self._has_image_folder = layout.image_folder != layout.folder

    # For images in unusual places or with unusual names only; most sources need none of these.

    @cached_property
    def _by_name(self) -> Mapping[str, Sequence[str]]:
        return _group(self._files, base_name)

    @cached_property
    def _by_stem(self) -> Mapping[str, Sequence[str]]:
        return _group(self._files, lambda file: _without_suffix(base_name(file)))

    @cached_property
    def _by_plain_name(self) -> Mapping[str, Sequence[str]]:
        return _group(self._files, lambda file: _plain(base_name(file)))

    @cached_property
    def _by_plain_stem(self) -> Mapping[str, Sequence[str]]:
        return _group(self._files, lambda file: _without_suffix(_plain(base_name(file))))

    @cached_property
    def _by_first_part(self) -> Mapping[str, Sequence[str]]:
        return _group(self._files, lambda file: _plain(base_name(file)).partition(".")[0])

    @cached_property
    def _others(self) -> Mapping[str, Sequence[str]]:
        return _group(self._layout.other_files, lambda file: _plain(base_name(file)))

    @cached_property
    def _others_by_stem(self) -> Mapping[str, Sequence[str]]:
        return _group(self._layout.other_files, lambda file: _without_suffix(_plain(base_name(file))))

    def by_name(self, xml_file: str, annotation: VocFile) -> str | None:
        """The image that `<filename>` names, in the image folders of the XML's folder, else anywhere if unique.

        Of several elsewhere, the one counts that `<path>` or `<folder>` names.
        """
        name = _base(annotation.filename)
        for folder in self._folders(xml_file.rpartition("/")[0]):
            file = f"{folder}/{name}" if folder else name
            if file in self._files:
                return file
        if files := self._by_name.get(name):
            return _choose(files, annotation)
        return self._by_spelling(xml_file, name, annotation)

    def by_stem(self, xml_file: str) -> str | None:
        """The image with the XML's own stem and any image suffix, first by name; else anywhere if unique."""
        folder, _, name = xml_file.rpartition("/")
        stem = _without_suffix(name)
        for place in self._folders(folder):
            if files := self._by_folder_and_stem.get(f"{place}/{stem}" if place else stem):
                return files[0]
        return _only(self._by_stem.get(stem, ()))

    def guesses(self, xml_file: str, annotation: VocFile | None) -> Iterator[str]:
        """Images that an XML file may be of, the likeliest first, where neither name is one to the letter.

        `<path>`; `<filename>` with another suffix or without; the XML's own name with a suffix in it (`a.xml.xml`,
        `3_jpg.xml`); both names cut at the first dot; files without an image's suffix that are images.
        """
        stem = _without_suffix(base_name(xml_file))
        while stem.lower().endswith(XML_SUFFIX):
            stem = _without_suffix(stem)
        names = [_base(annotation.path), _base(annotation.filename)] if annotation else []
        names = [name for name in names if name]
        named_by_stem = [stem, *_suffixes_in(stem)]
        stems = [_without_suffix(name) if is_image_name(name) else name for name in (*names, stem)]
        for name in (*names, *named_by_stem):
            if found := self._by_spelling(xml_file, name, annotation):
                yield found
        for groups, keys in (
            (self._by_plain_stem, stems),
            (self._by_first_part, [key for key in stems if not any(map(is_image_name, names))]),
            (self._others, names),
            (self._others_by_stem, stems),
        ):
            for key in keys:
                found = self._near(xml_file, groups.get(_plain(key), ()), annotation)
                if found is not None and (groups is not self._others_by_stem or self._is_image(found)):
                    yield found

    def _by_spelling(self, xml_file: str, name: str, annotation: VocFile | None) -> str | None:
        return self._near(xml_file, self._by_plain_name.get(_plain(name), ()), annotation)

    def _near(self, xml_file: str, files: Sequence[str], annotation: VocFile | None) -> str | None:
        """The only file, or the only one in the image folders of the XML's folder, or the one that the XML names.

        Else the one whose folders are like those of the XML: `ann/1/a.xml`, `img/1/a.jpg`.
        """
        if len(files) < 2:
            return _only(files)
        folders = self._folders(xml_file.rpartition("/")[0])
        beside = _only([file for file in files if file.rpartition("/")[0] in folders])
        return beside or _choose(files, annotation) or _only(_most(files, lambda file: _shared(file, xml_file)))

    def namesakes(self, xml_file: str, annotation: VocFile | None) -> Sequence[str]:
        """Images that an XML file may be of if none can be chosen: those of its `<filename>`, else of its own name."""
        name = _base(annotation.filename) if annotation else ""
        stem = _without_suffix(base_name(xml_file))
        return self._by_plain_name.get(_plain(name), ()) or self._by_plain_stem.get(_plain(stem), ())

    def _is_image(self, file: str) -> bool:
        try:
            return looks_like_image(read_regular(self._layout.image_folder / file))
        except OSError:
            return False

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


def _choose(files: Sequence[str], annotation: VocFile | None) -> str | None:
    """The only file; else the one with most folders of `<filename>` or `<path>`, or in `<folder>`; None if several."""
    if len(files) < 2 or annotation is None:
        return _only(files)
    named = annotation.filename.replace("\\", "/")
    path = _plain(named if "/" in named else annotation.path.replace("\\", "/")).split("/")[-2::-1]
    folder = _plain(_base(annotation.folder))

    def likeness(file: str) -> tuple[int, bool]:
        parts = _plain(file).split("/")[-2::-1]
        shared = next((depth for depth, pair in enumerate(zip(parts, path, strict=False)) if pair[0] != pair[1]), None)
        return min(len(parts), len(path)) if shared is None else shared, bool(parts) and parts[0] == folder

    return _only(_most(files, likeness))


def _most(files: Sequence[str], key: Callable[[str], Any]) -> Sequence[str]:
    best = max(map(key, files))
    return [file for file in files if key(file) == best]


def _shared(one: str, other: str) -> int:
    """How many names of folders two files share."""
    return len(set(_plain(one).split("/")[:-1]) & set(_plain(other).split("/")[:-1]))


def _base(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _plain(name: str) -> str:
    """A name without its case, Unicode spelling, and what the web makes of it: `%20` or `+` for a space, `&amp;`."""
    name = html.unescape(name) if "&" in name else name
    name = unquote(name) if "%" in name else name
    return folded(name.replace("+", " "))


def _suffixes_in(stem: str) -> Iterator[str]:
    """`3_jpg` → `3.jpg`: some tools write the suffix of an image as a part of its name."""
    for mark in ("_", "-", " "):
        start, found, suffix = stem.rpartition(mark)
        if found and is_image_name(f"x.{suffix}"):
            yield f"{start}.{suffix}"


def _without_suffix(file: str) -> str:
    """As `os.path.splitext`, and faster: names here do not begin with a dot."""
    start, dot, _ = file.rpartition(".")
    return start if dot else file


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
        others: Files with the name of an image that another file describes; filled by `read`.
    """

    def __init__(self, layout: VocLayout) -> None:
        self.problems: list[Problem] = []
        self.others: list[MatchedXml] = []
        self._files = layout.xml_files
        self._folder = f"{layout.folder}/"  # a string: joining a Path for every file is slow
        self._finder = ImageFinder(layout)
        self._parser = VocParser()
        self._own_images = {file: self._finder.by_stem(file) for file in layout.xml_files}
        self._owners = {image: file for file, image in self._own_images.items() if image is not None}
        self._is_proposal: dict[str, bool] = {}  # of the files looked at so far
        self._taken: dict[str, str] = {}  # image → the XML that describes it

    def read(self, progress: Progress = silent) -> Iterator[MatchedXml]:
        """Yield the files that have an image, sorted by name; those that name it vaguely, and proposals, come last."""
        total = len(self._files)
        proposals: list[tuple[str, VocFile | None]] = []
        vague: list[tuple[str, VocFile | None]] = []
        for start in range(0, total, _BATCH):
            progress("reading XML", start, total)
            for file, annotation in [(file, self._parse(file)) for file in self._files[start : start + _BATCH]]:
                if self._is_proposal[file]:
                    proposals.append((file, annotation))
                elif (image := self._find_image(file, annotation)) is not None:
                    yield MatchedXml(file, image, annotation, is_proposal=False)
                else:
                    vague.append((file, annotation))
        for file, annotation in vague:
            if (image := self._guess_image(file, annotation)) is not None:
                yield MatchedXml(file, image, annotation, is_proposal=False)
        for file, annotation in proposals:
            if (image := self._find_image(file, annotation) or self._guess_image(file, annotation)) is not None:
                yield MatchedXml(file, image, annotation, is_proposal=True)
        progress("reading XML", total, total)

    def _parse(self, file: str) -> VocFile | None:
        """Parse a file; None, and a problem, if it cannot be read."""
        self._is_proposal[file] = False
        try:
            data = read_regular(self._folder + file)
            self._is_proposal[file] = is_proposal(data)
            return self._parser.parse(data)
        except UnreadableError as error:
            self.problems.append(Problem(file, *error.fault))
        except OSError as error:
            self._report(file, "unreadable_file", str(error.strerror))
        return None

    def _find_image(self, file: str, annotation: VocFile | None) -> str | None:
        """The image that an XML file names, if no other file has it.

        `<filename>` comes first, unless another XML has the name of that image: LabelImg leaves the old name in a file
        that was copied.
        """
        named = self._finder.by_name(file, annotation) if annotation and annotation.filename else None
        own = self._own_images[file]
        if named is not None and named not in self._taken and self._may_take(file, named):
            image = named
        elif own is not None and own not in self._taken:
            image = own
        else:
            return None
        self._taken[image] = file
        return image

    def _guess_image(self, file: str, annotation: VocFile | None) -> str | None:
        """The image that an XML file is likely to be of; None, and a problem, if there is none."""
        found = self._finder.by_name(file, annotation) if annotation and annotation.filename else None
        found = found or self._own_images[file]
        if found is None:
            for image in self._finder.guesses(file, annotation):
                found = found or image
                if image not in self._taken and self._may_take(file, image):
                    self._taken[image] = file
                    return image
        own = self._own_images[file]
        if own is not None and own in self._taken and not self._is_proposal[file]:
            self.others.append(MatchedXml(file, own, annotation, is_proposal=False))
        else:
            self._report_loss(file, annotation, found)
        return None

    def _may_take(self, file: str, image: str) -> bool:
        owner = self._owners.get(image, file)
        return owner == file or (not self._is_proposal[file] and self._look_ahead(owner))

    def _look_ahead(self, file: str) -> bool:
        """Whether a file is a proposal; a file that comes later is read for it if another file names its image."""
        if file not in self._is_proposal:
            try:
                self._is_proposal[file] = is_proposal(read_regular(self._folder + file))
            except OSError:
                self._is_proposal[file] = False
        return self._is_proposal[file]

    def _report_loss(self, file: str, annotation: VocFile | None, image: str | None) -> None:
        name = annotation.filename if annotation else ""
        if image is None and (several := self._finder.namesakes(file, annotation)):
            shown = f"{len(several)} images have this name ({listed(sorted(several))})"
            self._report(file, "image_unclear", f"{shown}, and neither <folder> nor <path> says which")
            return
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
