"""Splits that a source declares: lists of images, such as `ImageSets/Main/val.txt`, and folders, such as `valid/`."""

import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from curate.columns import SPLITS
from curate.errors import DataError
from curate.files import read_list
from curate.formats.incoming import Problem
from curate.formats.listing import base_name, folded, holds
from curate.formats.voc.layout import XML_SUFFIX, VocLayout
from curate.formatting import count_of, listed
from curate.image_header import is_image_name

TRAIN, VAL, TEST = SPLITS
SPLIT_LISTS, _MAIN = "ImageSets", "Main"
_LIST_SUFFIX = ".txt"
_OTHER_LIST_SUFFIXES = frozenset({"", ".csv", ".list", ".lst"})  # of files that are called like a split
_WORDS = {"train": TRAIN, "training": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST, "testing": TEST}
_TRAIN_AND_VAL = "trainval"
_LIST_WORDS = {**_WORDS, _TRAIN_AND_VAL: _TRAIN_AND_VAL}
_MOST_NAMES = 3
_MARK = re.compile(r"\s+(?:-1|0|1)$")  # lists of one class: whether an object of it is in the image
_COPY = re.compile(r"(.+)\.rf\.[0-9A-Za-z]+\.[^.]+$")  # a_jpg.rf.HASH.jpg, Roboflow's name of a copy of a.jpg
_COMMENT = "#"
# what stands beside the split in names of folders: val2017, train_images
_NO_WORDS = frozenset(
    {"", "annotations", "coco", "data", "image", "images", "img", "imgs", "jpegimages", "labels", "set", "voc"}
)
_REMEDY = "--split NAME assigns one to all images"


class _Entry(NamedTuple):
    """A line of a list."""

    number: int
    text: str


class DeclaredSplits:
    """The splits that a source declares. A list comes before a folder, and the first list before later ones.

    Attributes:
        problems: Contradictions, lists that are not understood, and listed images that are not there.
        notes: Sentences for the person at the terminal.
    """

    def __init__(self, layout: VocLayout) -> None:
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._listed: dict[str, str] = {}  # image → split
        self._lists_of: dict[str, str] = {}  # image → the list that named it first
        self._absent: list[Problem] = []
        self._in_two_lists: dict[str, str] = {}  # image → the list of another split that names it, too
        for root in _roots(layout):
            self._read_lists(layout, root)
        self._image_folders, odd_image_folders = _folder_splits(layout.image_files)
        self._xml_folders, odd_xml_folders = _folder_splits(layout.xml_files)
        self._by_folder: dict[str, int] = defaultdict(int)
        self._has_any = bool(self._listed or self._image_folders or self._xml_folders)
        if not self._has_any:
            self._note_names(sorted({*odd_image_folders, *odd_xml_folders}), layout.folder.resolve().name)

    def of(self, image: str, xml_file: str) -> str | None:
        """The split of an image, and of its XML file ("" without one)."""
        if not self._has_any:
            return None
        places = {
            self._lists_of.get(image, "the list"): self._listed.get(image),
            "the folder of the image": self._image_folders.get(image.rpartition("/")[0]),
            "the folder of the XML": self._xml_folders.get(xml_file.rpartition("/")[0]) if xml_file else None,
        }
        declared = {place: split for place, split in places.items() if split is not None}
        if len(set(declared.values())) > 1:
            detail = ", ".join(f"{place} says {split}" for place, split in declared.items())
            self.problems.append(Problem(xml_file or image, None, None, "split_conflict", detail, "noted"))
        split = next(iter(declared.values()), None)
        if split is not None and image not in self._listed:
            self._by_folder[split] += 1
        return split

    def finish(self, images: Iterable[str]) -> None:
        """Report listed images that were not read, and how many images have a split by their folder.

        Args:
            images: The images that were read.
        """
        if self._by_folder:
            counts = ", ".join(f"{split} {self._by_folder[split]}" for split in SPLITS if split in self._by_folder)
            self.notes.append(f"Splits by the names of folders: {counts} (--split NAME takes another).")
        if number := len(self._in_two_lists):
            named = count_of(number, "image")
            fact = f"{named} {'is' if number == 1 else 'are'} in lists of two splits"
            self.notes.append(f"{fact} ({listed(self._in_two_lists.values())}); the first counts: train, then val.")
        self.problems += self._absent
        for image in sorted(self._listed.keys() - set(images)):
            name = base_name(image)
            self.problems.append(Problem(self._lists_of[image], None, None, "split_without_image", name, "noted"))

    # ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_lists(self, layout: VocLayout, root: str) -> None:
        files = _list_files(layout.folder, root)
        if not files:
            return
        images = _Names(_images_below(layout, root))
        entries, faults = _read_entries(files)
        if not _is_in_list_folder(files[0], layout.folder / root):  # other texts have such names too
            entries = {file: rows for file, rows in entries.items() if images.are_any_in(rows)}
        chosen, unknown = _choose(list(entries))
        faults |= {file: "its name says no split" for file in unknown if not images.are_all_in(entries[file])}
        for split, file, is_rest in chosen:
            if entries[file] and not images.are_any_in(entries[file]):
                faults[file] = "no line names an image"
            else:
                self._read_list(_relative(file, layout.folder), split, entries[file], images, is_rest=is_rest)
        for file, fact in faults.items():
            where = _relative(file, layout.folder)
            self.problems.append(Problem(where, None, None, "split_list_unknown", fact, "noted"))
        if faults:
            names = ", ".join(_relative(file, layout.folder) for file in list(faults)[:_MOST_NAMES])
            more = f" and {len(faults) - _MOST_NAMES} more" if len(faults) > _MOST_NAMES else ""
            self.notes.append(f"Split lists that were not understood: {names}{more}; {_REMEDY}.")

    def _read_list(self, where: str, split: str, entries: Sequence[_Entry], images: "_Names", *, is_rest: bool) -> None:
        """Give the images of a list its split; with `is_rest`, those that are not in train or val already."""
        for entry in entries:
            found = images.find(entry.text)
            if not found and not entry.text.startswith(_COMMENT):
                name = base_name(entry.text.replace("\\", "/"))
                self._absent.append(Problem(where, entry.number, None, "split_without_image", name, "noted"))
            for image in found:
                if is_rest and self._listed.get(image) in (TRAIN, VAL):
                    continue
                if self._listed.setdefault(image, split) != split:
                    self._in_two_lists[image] = where
                    detail = f"{base_name(image)} is in {self._listed[image]} already"
                    self.problems.append(Problem(where, entry.number, None, "split_conflict", detail, "noted"))
                self._lists_of.setdefault(image, where)

    def _note_names(self, odd: Sequence[str], source: str) -> None:
        """Note folders, or the source itself, that are called like a split."""
        if odd:
            self.notes.append(f"Not taken as a split: the folder {', '.join(odd)}; {_REMEDY}.")
        elif split := _split_of(source):
            self.notes.append(f"The folder is called {source}; --split {split} makes that the split.")


def note_copies(images: Iterable[str]) -> list[str]:
    """A sentence about augmented copies of one picture, as Roboflow names them (`a_jpg.rf.HASH.jpg`)."""
    copies: dict[str, int] = defaultdict(int)
    for image in images:
        if ".rf." in image and (match := _COPY.fullmatch(base_name(image))):
            copies[match[1]] += 1
    repeated = [number for number in copies.values() if number > 1]
    if not repeated:
        return []
    pictures = count_of(len(repeated), "picture")
    copied = f"{sum(repeated)} images are augmented copies of {pictures} (.rf. in their names)"
    return [f"{copied}; `curate split` keeps copies together."]


def _roots(layout: VocLayout) -> list[str]:
    """Folders with split lists, relative to the source: its own, and devkits below it."""
    roots = {""}
    folders = {file.rpartition("/")[0] for file in (*layout.xml_files, *layout.image_files)}
    for folder in folders:
        parts = folder.split("/")
        roots |= {"/".join(parts[:depth]) for depth in range(len(parts))}
    return [root for root in sorted(roots) if root == "" or _subfolder(layout.folder / root, SPLIT_LISTS) is not None]


def _list_files(folder: Path, root: str) -> list[Path]:
    """The lists of a folder, sorted: those in `ImageSets/Main`, else in `ImageSets`.

    Else those that are called like a split: in another folder of `ImageSets`, at the top of a source where no image has
    their name, or in another folder there, such as `splits`.
    """
    sets = _subfolder(folder / root, SPLIT_LISTS)
    main = _subfolder(sets, _MAIN) if sets is not None else None
    for place in (main, sets):
        if place is not None and (files := [file for file in _files_in(place) if _is_list(file)]):
            return files
    inner = [_split_files(_files_in(place)) for place in _subfolders(sets)] if sets is not None else []
    if root != "":
        return next(filter(None, inner), [])
    tops = [file for file in _split_files(_files_in(folder)) if not _has_image_beside(file)]
    others = (_probe_lists(place) for place in _subfolders(folder))
    return next(filter(None, [*inner, tops]), []) or next(filter(None, others), [])


def _is_in_list_folder(file: Path, root: Path) -> bool:
    names = [part.lower() for part in file.relative_to(root).parts[:-1]]
    return names in ([SPLIT_LISTS.lower()], [SPLIT_LISTS.lower(), _MAIN.lower()])


def _subfolder(folder: Path, name: str) -> Path | None:
    """A subfolder by its name, in capitals or not."""
    if os.path.isdir(folder / name):
        return folder / name
    return next((one for one in _subfolders(folder) if one.name.lower() == name.lower()), None)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in _entries(folder) if holds(entry.is_dir))


def _files_in(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in _entries(folder) if _may_be_list(entry.name) and holds(entry.is_file))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:  # reported when the files were listed
        return []


def _may_be_list(name: str) -> bool:
    """Decided by the name: a folder may have many images."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix == _LIST_SUFFIX or suffix in _OTHER_LIST_SUFFIXES


def _is_list(file: Path) -> bool:
    return file.suffix.lower() == _LIST_SUFFIX or file.stem.lower() in _LIST_WORDS


def _split_files(files: Iterable[Path]) -> list[Path]:
    return [file for file in files if file.stem.lower() in _LIST_WORDS]


def _probe_lists(folder: Path) -> list[Path]:
    """The lists in a folder that may have many other files."""
    return [file for word in _LIST_WORDS if os.path.isfile(file := folder / f"{word}{_LIST_SUFFIX}")]


def _has_image_beside(file: Path) -> bool:
    return any(map(is_image_name, map(str, file.parent.glob(f"{glob.escape(file.stem)}.*"))))


def _images_below(layout: VocLayout, root: str) -> Sequence[str]:
    if root == "" or layout.image_folder != layout.folder:
        return layout.image_files
    return [image for image in layout.image_files if image.startswith(f"{root}/")] or layout.image_files


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _read_entries(files: Iterable[Path]) -> tuple[dict[Path, list[_Entry]], dict[Path, str]]:
    """The lines of each list that are not empty, and why other files cannot be read."""
    entries, faults = {}, {}
    for file in files:
        try:
            lines = map(str.strip, read_list(file))
            entries[file] = [_Entry(number, line) for number, line in enumerate(lines, start=1) if line]
        except DataError as error:
            faults[file] = error.fact
    return entries, faults


def _choose(files: Sequence[Path]) -> tuple[list[tuple[str, Path, bool]], list[Path]]:
    """The lists to read, each with its split and whether only the rest of it has that split; and the other lists.

    Lists of one class (`cat_val.txt`) count where there is none for all. Where train or val is missing, it is what
    `trainval` has beside the other; where both are, train.
    """
    general: dict[str, list[Path]] = defaultdict(list)
    of_classes: dict[str, list[Path]] = defaultdict(list)
    unknown = []
    names = {file.stem.lower() for file in files}
    for file in files:
        name = file.stem.lower()
        if name == "train_val" and "train_train" not in names:  # else a list of the class train
            name = _TRAIN_AND_VAL
        words = [word for word in re.split(r"[^a-z]+", name) if word in _LIST_WORDS]
        if name in _LIST_WORDS:
            general[_LIST_WORDS[name]].append(file)
        elif words and (len(set(words)) == 1 or name.endswith(words[-1])):  # a class may be called train
            of_classes[_LIST_WORDS[words[-1]]].append(file)
        else:
            unknown.append(file)
    chosen = {split: general[split] or of_classes[split] for split in SPLITS}
    lists = [(split, file, False) for split, own in chosen.items() for file in own]
    if missing := [split for split in (TRAIN, VAL) if not chosen[split]]:
        both = general[_TRAIN_AND_VAL] or of_classes[_TRAIN_AND_VAL]
        lists += [(missing[0], file, True) for file in both]
    return lists, unknown


class _Names:
    """Finds the images that a line of a list names: by path, by name, by either without suffix."""

    def __init__(self, images: Sequence[str]) -> None:
        self._number = len(images)
        self._images: dict[str, list[str]] = defaultdict(list)
        for image in images:
            for tail in _tails(folded(image)):
                self._images[tail].append(image)
                self._images[tail.rpartition(".")[0]].append(image)

    def find(self, line: str) -> Sequence[str]:
        for text in (line, _MARK.sub("", line), line.strip("\"'"), re.split(r"[\s,;]", line)[0]):
            for tail in _tails(folded(text.replace("\\", "/"))):
                if found := self._images.get(tail):
                    return found
                has_suffix = is_image_name(tail) or tail.endswith(XML_SUFFIX)
                if has_suffix and (found := self._images.get(tail.rpartition(".")[0])):
                    return found
        return ()

    def are_any_in(self, entries: Sequence[_Entry]) -> bool:
        return any(self.find(entry.text) for entry in entries)

    def are_all_in(self, entries: Sequence[_Entry]) -> bool:
        """Whether a list names every image: then it declares no split."""
        return len({image for entry in entries for image in self.find(entry.text)}) == self._number


def _tails(path: str) -> Iterator[str]:
    """`a/b/c` → `a/b/c`, `b/c`, `c`."""
    while path:
        yield path
        path = path.partition("/")[2]


# ── folders ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _folder_splits(files: Iterable[str]) -> tuple[Mapping[str, str], list[str]]:
    """Splits by folder names.

    Folders are splits if two side by side have names of different splits, or if all files there are in `train`: a
    single folder `test`, or `train` beside `car` and `bus`, may mean something else.

    Returns:
        Folder → split, and folders that are called like a split but do not count.
    """
    folders = sorted({file.rpartition("/")[0] for file in files})
    named: dict[str, tuple[str, str]] = {}  # folder → the folder above its part that names a split, and that part
    for folder in folders:
        parts = folder.split("/")
        depth = next((depth for depth, part in enumerate(parts) if _split_of(part) is not None), None)
        if depth is not None:
            named[folder] = "/".join(parts[:depth]), parts[depth]
    splits_in: dict[str, set[str]] = defaultdict(set)
    for above, part in named.values():
        splits_in[above].add(_split_of(part) or "")
    all_named = {above for above in splits_in if all(one in named for one in folders if _is_in(one, above))}
    accepted = {
        above for above, splits in splits_in.items() if len(splits) > 1 or (splits == {TRAIN} and above in all_named)
    }
    found = {folder: _split_of(part) or "" for folder, (above, part) in named.items() if above in accepted}
    odd = [f"{above}/{part}".lstrip("/") for above, part in named.values() if above not in accepted]
    return found, odd


@cache
def _split_of(name: str) -> str | None:
    """The split that a folder's name says: `Valid`, `val2017`, `train_images`."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word not in _NO_WORDS]
    return _WORDS.get(words[0]) if len(words) == 1 else None


def _is_in(folder: str, above: str) -> bool:
    return above == "" or folder == above or folder.startswith(f"{above}/")
