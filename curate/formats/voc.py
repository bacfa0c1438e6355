"""LabelImg and Pascal VOC XML.

Formats: the VOC2012 development kit, section 8, and LabelImg's `libs/pascal_voc_io.py`. VOC counts pixels from 1 and
includes the last one; LabelImg writes the canvas's own edges, 0 to width (decision 0002).

Nothing aborts: a fault takes out one box or one file, and is listed.
"""

import gc
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from lxml import etree

from curate.errors import DataError
from curate.formats.incoming import Incoming, Problem, mend_boxes
from curate.formats.voc_layout import ImageFinder, VocLayout, find_layout
from curate.images import ImageFacts, read_image_facts
from curate.progress import Progress, silent

Origin = Literal["labelimg", "voc"]

_FLAGS = {"0": False, "1": True, "": False}
_OBJECT_PARTS = frozenset({"name", "pose", "truncated", "difficult", "occluded", "bndbox"})
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_BOX_COLUMNS = ("image", "name", "x0", "y0", "x1", "y1", "difficult", "truncated", "occluded", "pose", "file", "line", "object")
_IMAGE_COLUMNS = ("file", "width", "height", "sha256", "label_state", "verified")
_REPORT_EVERY = 100


def read_voc(
    folder: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    origin: Origin = "labelimg",
    video_from: str | None = None,
    with_unlabelled: bool = False,
    progress: Progress = silent,
) -> Incoming:
    """Read a folder of LabelImg XML or a VOC devkit.

    Sizes come from the images' headers, never from `<size>`.

    Args:
        folder: XML beside images, `annotations/` and `images/`, or `Annotations/`, `JPEGImages/`, `ImageSets/Main/`.
        images: where the images lie, if not in `folder`.
        origin: "labelimg" takes coordinates as they are; "voc" subtracts 1 from the minima (1-based, inclusive).
        video_from: a regular expression; its first group in an image's path is the video that the frame is of.
        with_unlabelled: whether images without XML come in too; else they are only listed.
        progress: told after every hundred files.

    Raises:
        DataError: the folder is not there, or holds neither XML nor (with `with_unlabelled`) images.
    """
    layout = find_layout(Path(folder), Path(images) if images is not None else None)
    if not layout.xml_files and not (with_unlabelled and layout.image_files):
        raise DataError(
            "there is no XML in the folder",
            place=folder,
            expected="LabelImg or Pascal VOC files",
            remedy=None if with_unlabelled else "Images alone come in with --with-unlabelled.",
        )
    reading = _Reading(layout, origin)
    with _no_garbage_collection():
        reading.read_annotations(progress)
        reading.read_rest(with_unlabelled)
    return reading.result(video_from)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Building many small lists makes the collector scan them again and again for nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Reading:
    """The state of one pass over a folder: columns that grow, and the problems met."""

    def __init__(self, layout: VocLayout, origin: Origin) -> None:
        self._layout = layout
        self._shift = 1.0 if origin == "voc" else 0.0
        self._finder = ImageFinder(layout)
        self._parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
        )
        self._boxes: dict[str, list[Any]] = {name: [] for name in _BOX_COLUMNS}
        self._images: dict[str, list[Any]] = {name: [] for name in _IMAGE_COLUMNS}
        self._problems: list[Problem] = list(layout.problems)
        self._taken: dict[str, str] = {}  # image → the XML that describes it

    # ------------------------------------------------------------------ files

    def read_annotations(self, progress: Progress) -> None:
        """Read every XML file, in the order of their names."""
        files, total = self._layout.xml_files, len(self._layout.xml_files)
        own_images = {self._finder.by_stem(file): file for file in files}
        for count, file in enumerate(files):
            if count % _REPORT_EVERY == 0:
                progress("reading XML", count, total)
            self._read_annotation(file, own_images)
        progress("reading XML", total, total)

    def _read_annotation(self, file: str, own_images: dict[str | None, str]) -> None:
        root = self._parse(file)
        name = (root.findtext("filename") or "").strip() if root is not None else ""
        image, mismatch = self._find_image(file, name, own_images)
        if image is None:
            self._note(file, None, None, "image_missing", f"no image {name or 'with the same name'}")
            return
        facts = self._read_image(file, image)
        if facts is None:
            return
        self._taken[image] = file
        if root is None:  # the picture is there, what was drawn on it cannot be read
            self._add_image(image, facts, "incomplete", False)
            return
        if mismatch:
            self._note(file, _line(root, "filename"), None, "filename_mismatch", f"{name!r}, found {image.rpartition('/')[2]}")
        self._compare_size(file, root, facts)
        verified = root.get("verified") == "yes"
        faults_before = len(self._problems)
        self._read_objects(file, root, len(self._images["file"]))
        incomplete = any(problem.action == "quarantined" for problem in self._problems[faults_before:])
        self._add_image(image, facts, "incomplete" if incomplete else "labelled", verified)

    def _parse(self, file: str) -> Any:
        """The root element, or None after listing why there is none."""
        try:
            data = _read_file(self._layout.folder / file)
            if not data.strip():
                return self._note(file, None, None, "empty_file", "the file is empty")
            root = etree.fromstring(data, self._parser)
        except OSError as error:
            return self._note(file, None, None, "unreadable_file", str(error.strerror))
        except (etree.XMLSyntaxError, ValueError) as error:
            line = error.lineno if isinstance(error, etree.XMLSyntaxError) else None
            return self._note(file, line, None, "unreadable_file", _one_line(error))
        if root.getroottree().docinfo.doctype:
            return self._note(file, 1, None, "declares_dtd", "a document type is declared; it is never read")
        if root.tag != "annotation":
            return self._note(file, root.sourceline, None, "wrong_root", f"<{root.tag}>, expected <annotation>")
        return root

    def _find_image(self, file: str, name: str, own_images: dict[str | None, str]) -> tuple[str | None, bool]:
        """The image of an XML file, and whether `<filename>` says otherwise.

        `<filename>` goes first, unless it names a picture that belongs, by its name, to another XML: LabelImg leaves
        the old name in a file that was copied.
        """
        stem = os.path.splitext(file)[0].rpartition("/")[2]
        named = self._finder.by_name(file, name) if name else None
        if named is not None and named not in self._taken and own_images.get(named, file) == file:
            return named, False
        own = self._finder.by_stem(file, os.path.splitext(name)[1].lower())
        if own is not None and own not in self._taken:
            return own, bool(name)
        if named is None and own is None:
            return None, False
        other = self._taken.get(named or own or "") or own_images.get(named, "")
        self._note(file, None, None, "image_taken", f"{(named or own or stem)!r} belongs to {other}")
        return None, False

    def _read_image(self, file: str, image: str) -> ImageFacts | None:
        try:
            return read_image_facts(self._layout.folder / image)
        except DataError as error:
            self._note(file, None, None, "image_broken", f"{image}: {error.fact}")
            return None

    def _add_image(self, image: str, facts: ImageFacts, label_state: str, verified: bool) -> None:
        columns = self._images
        columns["file"].append(image)
        columns["width"].append(facts.width)
        columns["height"].append(facts.height)
        columns["sha256"].append(facts.sha256)
        columns["label_state"].append(label_state)
        columns["verified"].append(verified)

    def read_rest(self, with_unlabelled: bool) -> None:
        """List the images that no XML describes, or take them in as unlabelled."""
        for image in self._layout.image_files:
            if image in self._taken:
                continue
            if not with_unlabelled:
                self._note(image, None, None, "image_without_xml", "left out; --with-unlabelled takes it in")
                continue
            facts = self._read_image(image, image)
            if facts is not None:
                self._add_image(image, facts, "unlabelled", False)

    # ------------------------------------------------------------------ inside a file

    def _compare_size(self, file: str, root: Any, facts: ImageFacts) -> None:
        size = root.find("size")
        written = [(size.findtext(side) or "").strip() for side in ("width", "height")] if size is not None else []
        if written != [str(facts.width), str(facts.height)]:
            said = "×".join(written) if size is not None else "no <size>"
            self._note(file, _line(root, "size"), None, "size_mismatch", f"{said}, the image has {facts.width}×{facts.height}")

    def _read_objects(self, file: str, root: Any, image: int) -> None:
        columns = self._boxes
        for number, element in enumerate(root.iterchildren("object"), start=1):
            line = element.sourceline
            parts, corners = {}, {}
            for part in element:
                tag = part.tag
                if tag not in _OBJECT_PARTS or tag in parts:
                    self._note(file, part.sourceline, number, "element_not_kept", f"<{tag}>")
                elif tag == "bndbox":
                    parts[tag] = ""
                    for side in part:
                        corners[side.tag] = side.text
                else:
                    parts[tag] = part.text or ""
            name = parts.get("name", "")
            trimmed = name.strip()
            if not trimmed:
                self._note(file, line, number, "empty_name", "the class has no name")
                continue
            if trimmed != name:
                self._note(file, line, number, "white_space", f"around {trimmed!r}")
            try:
                x0, y0, x1, y1 = [_number(corners[side]) for side in _CORNERS]
            except (KeyError, TypeError):
                missing = ", ".join(side for side in _CORNERS if corners.get(side) is None)
                self._note(file, line, number, "missing_coordinate", missing)
                continue
            except ValueError as error:
                self._note(file, line, number, "not_finite", str(error))
                continue
            columns["image"].append(image)
            columns["name"].append(trimmed)
            columns["x0"].append(x0 - self._shift)
            columns["y0"].append(y0 - self._shift)
            columns["x1"].append(x1)
            columns["y1"].append(y1)
            for flag, optional in (("difficult", False), ("truncated", False), ("occluded", True)):
                columns[flag].append(self._read_flag(file, line, number, flag, parts.get(flag), optional))
            columns["pose"].append(parts.get("pose") or None)
            columns["file"].append(file)
            columns["line"].append(line)
            columns["object"].append(number)

    def _read_flag(self, file: str, line: int, number: int, flag: str, text: str | None, optional: bool) -> bool:
        value = _FLAGS.get(text) if text is not None else None
        if value is not None and text:
            return value
        if text is None and optional:
            return False
        if text is not None and (value := _FLAGS.get(text.strip())) is not None and text.strip():
            return value
        self._note(file, line, number, "odd_flag", f"<{flag}> is {'missing' if text is None else repr(text)}")
        return (text or "").strip().lower() in ("true", "yes")

    def _note(self, file: str, line: int | None, number: int | None, kind: str, detail: str) -> None:
        self._problems.append(Problem(file, line, number, kind, detail))

    # ------------------------------------------------------------------ result

    def result(self, video_from: str | None) -> Incoming:
        """Everything read so far, mended."""
        images = pd.DataFrame(self._images)
        stems = [os.path.splitext(file)[0].rpartition("/")[2] for file in images["file"]]
        images["split"] = pd.array([self._layout.splits.get(stem) for stem in stems], dtype="str")
        images["video_id"] = pd.array(_videos(images["file"], video_from), dtype="str")
        unlisted = self._layout.splits.keys() - set(stems)
        for stem in sorted(unlisted):
            self._note("ImageSets/Main", None, None, "split_without_image", stem)

        written = pd.DataFrame(self._boxes).assign(crowd=False)
        sizes = images[["width", "height"]].to_numpy().reshape(-1, 2)[written["image"].to_numpy(dtype=int)]
        boxes, problems = mend_boxes(written, sizes[:, 0], sizes[:, 1])
        quarantined = {problem.file for problem in problems if problem.action == "quarantined"}
        if quarantined:
            rows = written.loc[written["file"].isin(quarantined), "image"].unique()
            images.loc[rows, "label_state"] = "incomplete"
        return Incoming(
            folder=self._layout.folder,
            images=images,
            boxes=boxes,
            problems=_in_file_order([*self._problems, *problems]),
            files=self._layout.xml_files,
            class_order=self._layout.class_order,
        )


def _read_file(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        pieces = []
        while piece := os.read(descriptor, 1 << 16):
            pieces.append(piece)
            if len(piece) < 1 << 16:
                break
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def _number(text: str) -> float:
    if "_" in text:  # Python would read 1_0 as ten
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def _line(root: Any, tag: str) -> int | None:
    element = root.find(tag)
    return None if element is None else element.sourceline


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _videos(files: Iterable[str], video_from: str | None) -> list[str | None]:
    if video_from is None:
        return [None for _ in files]
    try:
        pattern = re.compile(video_from)
    except re.error as error:
        raise DataError(f"not a regular expression: {error}", place="--video-from", got=repr(video_from)) from error
    matches = [pattern.search(file) for file in files]
    return [match and (match.group(1) if pattern.groups else match.group()) for match in matches]


def _in_file_order(problems: list[Problem]) -> list[Problem]:
    by_file: defaultdict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_file[problem.file].append(problem)
    return [
        problem
        for file in sorted(by_file)
        for problem in sorted(by_file[file], key=lambda one: (one.line or 0, one.object or 0))
    ]
