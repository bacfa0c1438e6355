"""Splits that a source declares: lists of images, such as `ImageSets/Main/val.txt`, and folders, such as `valid/`."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from curate.columns import SPLITS
from curate.errors import DataError
from curate.files import read_list
from curate.formats.incoming import Problem
from curate.formats.listing import base_name, folded
from curate.formats.voc.layout import XML_SUFFIX, VocLayout
from curate.formatting import count_of
from curate.image_header import is_image_name

TRAIN, VAL, TEST = SPLITS
SPLIT_LISTS = "ImageSets"
_LIST_FOLDERS = (f"{SPLIT_LISTS}/Main", SPLIT_LISTS)
_WORDS = {"train": TRAIN, "training": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST, "testing": TEST}
_TRAIN_AND_VAL = "trainval"
_LIST_WORDS = {**_WORDS, _TRAIN_AND_VAL: _TRAIN_AND_VAL}
_MOST_NAMES = 3
_MARK = re.compile(r"\s+(?:-1|0|1)$")  # lists of one class: whether an object of it is in the image
_COPY = re.compile(r"(.+)\.rf\.[0-9A-Za-z]+\.[^.]+$")  # a_jpg.rf.HASH.jpg, Roboflow's name of a copy of a.jpg
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
        if files[0].parent == layout.folder:  # beside the images, other texts have such names too
            entries = {file: rows for file, rows in entries.items() if images.are_any_in(rows)}
        chosen, unknown = _choose(list(entries))
        faults |= {file: "its name says no split" for file in unknown if not images.are_all_in(entries[file])}
        for split, file in chosen:
            if entries[file] and not images.are_any_in(entries[file]):
                faults[file] = "no line names an image"
            else:
                self._read_list(_relative(file, layout.folder), split, entries[file], images)
        for file, fact in faults.items():
            where = _relative(file, layout.folder)
            self.problems.append(Problem(where, None, None, "split_list_unknown", fact, "noted"))
        if faults:
            names = ", ".join(_relative(file, layout.folder) for file in list(faults)[:_MOST_NAMES])
            more = f" and {len(faults) - _MOST_NAMES} more" if len(faults) > _MOST_NAMES else ""
            self.notes.append(f"Split lists that were not understood: {names}{more}; {_REMEDY}.")

    def _read_list(self, where: str, split: str, entries: Sequence[_Entry], images: "_Names") -> None:
        for entry in entries:
            found = images.find(entry.text)
            if not found:
                name = base_name(entry.text.replace("\\", "/"))
                self._absent.append(Problem(where, entry.number, None, "split_without_image", name, "noted"))
            for image in found:
                if self._listed.setdefault(image, split) != split:
                    detail = f"{base_name(image)} is in {self._listed[image]} already"
                    self.problems.append(Problem(where, entry.number, None, "split_conflict", detail, "noted"))
                self._lists_of.setdefault(image, where)

    def _note_names(self, odd: Sequence[str], source: str) -> None:
        """Note folders, or the source itself, that are called like a split."""
        if odd:
            self.notes.append(f"Not taken as a split: the folder {', '.join(odd)}; {_REMEDY}.")
        elif split := _WORDS.get(source.lower()):
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
    return [root for root in sorted(roots) if root == "" or (layout.folder / root / SPLIT_LISTS).is_dir()]


def _list_files(folder: Path, root: str) -> list[Path]:
    """The lists of a folder, sorted; at the top of a source those with the name of a split that no image has."""
    for name in _LIST_FOLDERS:
        if files := sorted((folder / root / name).glob("*.txt")):
            return files
    if root != "":
        return []
    tops = (file for file in folder.glob("*.txt") if file.stem.lower() in _LIST_WORDS)
    return sorted(file for file in tops if not any(map(is_image_name, map(str, folder.glob(f"{file.stem}.*")))))


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


def _choose(files: Sequence[Path]) -> tuple[list[tuple[str, Path]], list[Path]]:
    """The lists to read, each with its split, and those whose names say no split.

    Lists of one class (`cat_val.txt`) count where there is none for all, `trainval` where train and val are missing.
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
    if not chosen[TRAIN] and not chosen[VAL]:
        chosen[TRAIN] = general[_TRAIN_AND_VAL] or of_classes[_TRAIN_AND_VAL]
    return [(split, file) for split, own in chosen.items() for file in own], unknown


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
        for text in (line, _MARK.sub("", line), line.split()[0]):
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
        depth = next((depth for depth, part in enumerate(parts) if part.lower() in _WORDS), None)
        if depth is not None:
            named[folder] = "/".join(parts[:depth]), parts[depth]
    splits_in: dict[str, set[str]] = defaultdict(set)
    for above, part in named.values():
        splits_in[above].add(_WORDS[part.lower()])
    all_named = {above for above in splits_in if all(one in named for one in folders if _is_in(one, above))}
    accepted = {
        above for above, splits in splits_in.items() if len(splits) > 1 or (splits == {TRAIN} and above in all_named)
    }
    found = {folder: _WORDS[part.lower()] for folder, (above, part) in named.items() if above in accepted}
    odd = [f"{above}/{part}".lstrip("/") for above, part in named.values() if above not in accepted]
    return found, odd


def _is_in(folder: str, above: str) -> bool:
    return above == "" or folder == above or folder.startswith(f"{above}/")
