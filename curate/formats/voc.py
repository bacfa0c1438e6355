"""A folder of LabelImg or Pascal VOC XML.

VOC counts pixels from 1 and includes the last one; LabelImg writes the canvas's own edges, 0 to width (decision 0002).

Nothing aborts: a fault takes out one box or one file, and is listed.
"""

import gc
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from curate.errors import DataError, UsageError
from curate.formats.incoming import Incoming, Problem, mend_boxes
from curate.formats.voc_file import UnreadableError, VocFile, VocParser
from curate.formats.voc_layout import ImageFinder, VocLayout, find_layout
from curate.images import ImageFacts, read_bytes, read_image_facts
from curate.progress import Progress, silent

Origin = Literal["labelimg", "voc"]

_IMAGE_COLUMNS = ("file", "width", "height", "sha256", "label_state", "verified")
_BOX_COLUMNS = {
    "image": "int64",
    "file": "object",
    "name": "object",
    **dict.fromkeys(("x0", "y0", "x1", "y1"), "float64"),
    **dict.fromkeys(("difficult", "truncated", "occluded"), "bool"),
    "pose": "object",
    "line": "int64",
    "object": "int64",
}
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
        UsageError: `video_from` is no regular expression.
    """
    video_of = _compile(video_from)
    layout = find_layout(Path(folder), Path(images) if images is not None else None)
    if not layout.xml_files and not (with_unlabelled and layout.image_files):
        raise DataError(
            "there is no XML in the folder",
            place=folder,
            expected="LabelImg or Pascal VOC files",
            remedy=None if with_unlabelled else "Images alone come in with --with-unlabelled.",
        )
    reading = _Reading(layout, shift=1.0 if origin == "voc" else 0.0)
    with _no_garbage_collection():
        reading.read_annotations(progress)
        reading.read_rest(with_unlabelled)
        return reading.result(video_of)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Building many small tuples makes the collector scan them again and again for nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Reading:
    """The state of one pass over a folder: rows that grow, and the problems met."""

    def __init__(self, layout: VocLayout, *, shift: float) -> None:
        self._layout = layout
        self._folder = f"{layout.folder}/"  # strings, not Path: this runs for every file
        self._shift = shift
        self._finder = ImageFinder(layout)
        self._parser = VocParser()
        self._boxes: list[tuple[Any, ...]] = []
        self._images: list[tuple[Any, ...]] = []
        self._problems: list[Problem] = list(layout.problems)
        self._taken: dict[str, str] = {}  # image → the XML that describes it

    def read_annotations(self, progress: Progress) -> None:
        """Read every XML file, in the order of their names."""
        files, total = self._layout.xml_files, len(self._layout.xml_files)
        own_images = {file: self._finder.by_stem(file) for file in files}
        owners = {image: file for file, image in own_images.items() if image is not None}
        for count, file in enumerate(files):
            if count % _REPORT_EVERY == 0:
                progress("reading XML", count, total)
            self._read_annotation(file, own_images[file], owners)
        progress("reading XML", total, total)

    def _read_annotation(self, file: str, own_image: str | None, owners: Mapping[str, str]) -> None:
        annotation = self._parse(file)
        name = annotation.filename if annotation else ""
        image = self._find_image(file, name, own_image, owners)
        facts = self._read_image(file, image) if image is not None else None
        if image is None or facts is None:
            return
        self._taken[image] = file
        if annotation is None:  # the picture is there, what was drawn on it cannot be read
            self._add_image(image, facts, "incomplete", False)
            return
        if name and not image.endswith(_base(name.replace("\\", "/"))):
            self._note(file, annotation.filename_line, None, "filename_mismatch", f"{name!r}, found {_base(image)!r}")
        if annotation.width != str(facts.width) or annotation.height != str(facts.height):
            said = f"{annotation.width}×{annotation.height}" if annotation.size_line else "no <size>"
            detail = f"{said}, the image has {facts.width}×{facts.height}"
            self._note(file, annotation.size_line, None, "size_mismatch", detail)
        state = "labelled"
        for fault in annotation.faults:
            problem = Problem(file, *fault)
            self._problems.append(problem)
            if problem.action == "quarantined":
                state = "incomplete"
        row = len(self._images)
        self._add_image(image, facts, state, annotation.verified)
        self._boxes += [(row, file, *one) for one in annotation.objects]

    def _parse(self, file: str) -> VocFile | None:
        """What a file says, or None after listing why it cannot be read."""
        try:
            return self._parser.parse(read_bytes(self._folder + file))
        except UnreadableError as error:
            self._problems.append(Problem(file, *error.fault))
        except OSError as error:
            self._note(file, None, None, "unreadable_file", str(error.strerror))
        return None

    def _find_image(self, file: str, name: str, own: str | None, owners: Mapping[str, str]) -> str | None:
        """The image of an XML file, or None after listing why there is none.

        `<filename>` goes first, unless it names a picture that belongs, by its name, to another XML: LabelImg leaves
        the old name in a file that was copied.
        """
        named = self._finder.by_name(file, name) if name else None
        if named is not None and named not in self._taken and owners.get(named, file) == file:
            return named
        if own is not None and own not in self._taken:
            return own
        if named is None and own is None:
            self._note(file, None, None, "image_missing", f"no image {name!r}" if name else "no image of the same name")
        else:
            image = named or own or ""
            other = self._taken.get(image) or owners.get(image, "")
            self._note(file, None, None, "image_taken", f"{image!r} belongs to {other}")
        return None

    def _read_image(self, file: str, image: str) -> ImageFacts | None:
        try:
            return read_image_facts(image if image[0] == "/" else self._folder + image)
        except DataError as error:
            self._note(file, None, None, "image_broken", f"{image}: {error.fact}")
            return None

    def _add_image(self, image: str, facts: ImageFacts, label_state: str, verified: bool) -> None:
        self._images.append((image, facts.width, facts.height, facts.sha256, label_state, verified))

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

    def _note(self, file: str, line: int | None, number: int | None, kind: str, detail: str) -> None:
        self._problems.append(Problem(file, line, number, kind, detail))

    def result(self, video_of: re.Pattern[str] | None) -> Incoming:
        """Everything read so far, mended."""
        images = self._image_table(video_of)
        written = self._box_table()
        rows = written["image"].to_numpy()
        boxes, problems = mend_boxes(written, images["width"].to_numpy()[rows], images["height"].to_numpy()[rows])
        quarantined = {problem.file for problem in problems if problem.action == "quarantined"}
        if quarantined:
            images.loc[written.loc[written["file"].isin(quarantined), "image"].unique(), "label_state"] = "incomplete"
        return Incoming(
            folder=self._layout.folder,
            images=images,
            boxes=boxes,
            problems=_in_file_order([*self._problems, *problems]),
            files=self._layout.xml_files,
            class_order=self._layout.class_order,
        )

    def _image_table(self, video_of: re.Pattern[str] | None) -> pd.DataFrame:
        columns = list(zip(*self._images, strict=True)) or [()] * len(_IMAGE_COLUMNS)
        files: Sequence[str] = columns[0]
        splits: Sequence[str | None] = [None] * len(files)
        if self._layout.splits:
            stems = [os.path.splitext(_base(file))[0] for file in files]
            splits = [self._layout.splits.get(stem) for stem in stems]
            for stem in sorted(self._layout.splits.keys() - set(stems)):
                self._note("ImageSets/Main", None, None, "split_without_image", stem)
        matches = [video_of.search(file) if video_of else None for file in files]
        videos = [match and match.group(1 if match.re.groups else 0) for match in matches]
        table = pd.DataFrame(dict(zip(_IMAGE_COLUMNS, columns, strict=True)))
        return table.assign(split=pd.array(splits, dtype="str"), video_id=pd.array(videos, dtype="str"))

    def _box_table(self) -> pd.DataFrame:
        columns = list(zip(*self._boxes, strict=True)) or [()] * len(_BOX_COLUMNS)
        table = pd.DataFrame(
            {
                name: pd.Series(values, dtype=dtype)
                for (name, dtype), values in zip(_BOX_COLUMNS.items(), columns, strict=True)
            }
        )
        return table.assign(crowd=False, x0=table["x0"] - self._shift, y0=table["y0"] - self._shift)


def _base(file: str) -> str:
    return file.rpartition("/")[2]


def _compile(video_from: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(video_from) if video_from is not None else None
    except re.error as error:
        raise UsageError(f"not a regular expression: {error}", place="--video-from", got=repr(video_from)) from error


def _in_file_order(problems: list[Problem]) -> list[Problem]:
    by_file: defaultdict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_file[problem.file].append(problem)
    for group in by_file.values():
        if len(group) > 1:
            group.sort(key=lambda one: (one.line or 0, one.object or 0))
    return [problem for file in sorted(by_file) for problem in by_file[file]]
