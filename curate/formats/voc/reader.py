"""A folder of LabelImg or Pascal VOC XML.

VOC counts pixels from 1 and includes the last one; LabelImg writes the canvas's own edges, 0 to width (decision 0002).

Nothing aborts: a fault takes out one box or one file, and is listed.
"""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from curate.errors import DataError, UsageError
from curate.files import no_garbage_collection
from curate.formats.incoming import Incoming, Problem, mend_boxes
from curate.formats.voc.layout import SPLIT_LISTS, VocLayout, XmlMatcher, find_layout
from curate.formats.voc.objects import VocFile, VocObject
from curate.images import ImageFacts, read_image_facts
from curate.progress import Progress, silent

Origin = Literal["labelimg", "voc"]

_IMAGE_COLUMNS = ("file", "width", "height", "sha256", "label_state", "verified")
_OBJECT_COLUMNS = {  # the fields of `VocObject`
    "name": "object",
    **dict.fromkeys(("x0", "y0", "x1", "y1"), "float64"),
    **dict.fromkeys(("difficult", "truncated", "occluded"), "bool"),
    "pose": "object",
    "line": "int64",
    "object": "int64",
}


@no_garbage_collection()
def read_voc(
    folder: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    origin: Origin = "labelimg",
    video_from: str | None = None,
    with_unlabelled: bool = False,
    accept_proposals: bool = False,
    leave_out: Path | None = None,
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
        accept_proposals: whether XML that `predict` or `label` wrote and nobody has saved since counts as a person's;
            else it is listed, and its image is one without XML. Where a person's XML is of the image, that counts.
        leave_out: a folder inside that is not looked at, such as the dataset itself.
        progress: told now and then.

    Raises:
        DataError: the folder is not there, or holds neither XML nor (with `with_unlabelled`) images.
        UsageError: `video_from` is no regular expression.
    """
    video_of = _compile(video_from)
    layout = find_layout(Path(folder), Path(images) if images is not None else None, leave_out)
    if not layout.xml_files and not (with_unlabelled and layout.image_files):
        raise DataError(
            "there is no XML in the folder",
            place=folder,
            expected="LabelImg or Pascal VOC files",
            remedy=None if with_unlabelled else "Images alone come in with --with-unlabelled.",
        )
    reading = _Reading(layout, shift=1.0 if origin == "voc" else 0.0, accept_proposals=accept_proposals)
    reading.read_annotations(progress)
    reading.read_rest(with_unlabelled)
    return reading.result(video_of)


class _Reading:
    """The state of one pass over a folder: rows that grow, and the problems met."""

    def __init__(self, layout: VocLayout, *, shift: float, accept_proposals: bool) -> None:
        self._layout = layout
        self._image_folder = f"{layout.image_folder}/"  # a string, not Path: this runs for every file
        self._apart = layout.image_folder != layout.folder
        self._shift = shift
        self._accept_proposals = accept_proposals
        self._matcher = XmlMatcher(layout)
        self._objects: list[VocObject] = []
        self._owners: list[tuple[str, int]] = []  # of each image: its XML, and how many of the objects are on it
        self._images: list[tuple[Any, ...]] = []
        self._problems: list[Problem] = list(layout.problems)
        self._unread: set[str] = set()  # XML files that cannot be read, whose images are there
        self._proposed: set[str] = set()  # the images of proposals that were left out
        self._taken: set[str] = set()  # images that an XML describes

    def read_annotations(self, progress: Progress) -> None:
        """Read every XML file, what people saved before proposals, each in the order of their names."""
        for xml in self._matcher.read(progress):
            if xml.is_proposal and not self._accept_proposals:
                self._note(
                    xml.file, None, None, "untouched_proposal", "left out; --accept-proposals takes it as labelled"
                )
                self._proposed.add(xml.image)
            else:
                self._taken.add(xml.image)
                self._read_image_of(xml.file, xml.image, xml.annotation)

    def _read_image_of(self, file: str, image: str, annotation: VocFile | None) -> None:
        """Read the image of an XML file, and keep what both say."""
        facts = self._read_image(file, image)
        if facts is None:
            return
        if annotation is None:  # the picture is there, what was drawn on it cannot be read
            self._unread.add(file)
            self._add_image(image, facts, "incomplete", False, file)
            return
        name = annotation.filename
        if name and _base(image) != _base(name.replace("\\", "/")):
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
        self._add_image(image, facts, state, annotation.verified, file, len(annotation.objects))
        self._objects += annotation.objects

    def _read_image(self, file: str, image: str) -> ImageFacts | None:
        try:
            return read_image_facts(self._image_folder + image)
        except DataError as error:
            self._note(file, None, None, "image_broken", f"{image}: {error.fact}")
            return None

    def _add_image(
        self, image: str, facts: ImageFacts, label_state: str, verified: bool, file: str = "", objects: int = 0
    ) -> None:
        self._owners.append((file, objects))
        self._images.append((image, facts.width, facts.height, facts.sha256, label_state, verified))

    def read_rest(self, with_unlabelled: bool) -> None:
        """List the images that no XML describes, or take them in as unlabelled."""
        for image in self._layout.image_files:
            if image in self._taken:
                continue
            name = f"{self._image_folder}{image}" if self._apart else image
            if not with_unlabelled:
                if image in self._proposed:
                    continue
                self._note(name, None, None, "image_without_xml", "left out; --with-unlabelled takes it in")
                continue
            facts = self._read_image(name, image)
            if facts is not None:
                self._add_image(image, facts, "unlabelled", False)

    def _note(self, file: str, line: int | None, number: int | None, kind: str, detail: str) -> None:
        self._problems.append(Problem(file, line, number, kind, detail))

    def result(self, video_of: re.Pattern[str] | None) -> Incoming:
        """Everything read so far, mended."""
        images = self._image_table(video_of)
        written = self._box_table()
        rows = written["image"].to_numpy()
        width, height = images["width"].to_numpy()[rows], images["height"].to_numpy()[rows]
        boxes, problems = mend_boxes(written, width, height, shift=self._shift)
        quarantined = {problem.file for problem in problems if problem.action == "quarantined"}
        if quarantined:
            images.loc[written.loc[written["file"].isin(quarantined), "image"].unique(), "label_state"] = "incomplete"
        return Incoming(
            folder=self._layout.folder,
            image_folder=self._layout.image_folder,
            images=images,
            boxes=boxes,
            problems=_in_file_order([*self._matcher.problems, *self._problems, *problems]),
            files=self._layout.xml_files,
            reads=(self._layout.folder, self._layout.image_folder),
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
                self._note(SPLIT_LISTS, None, None, "split_without_image", stem)
        matches = [video_of.search(file) if video_of else None for file in files]
        videos = [match and match.group(1 if match.re.groups else 0) for match in matches]
        table = pd.DataFrame(dict(zip(_IMAGE_COLUMNS, columns, strict=True)))
        annotated = np.array([file != "" and file not in self._unread for file, _ in self._owners], dtype=bool)
        return table.assign(
            split=pd.array(splits, dtype="str"), video_id=pd.array(videos, dtype="str"), annotated=annotated
        )

    def _box_table(self) -> pd.DataFrame:
        columns = list(zip(*self._objects, strict=True)) or [()] * len(_OBJECT_COLUMNS)
        objects = {
            name: pd.Series(np.array(values, dtype=dtype), dtype=dtype)
            for (name, dtype), values in zip(_OBJECT_COLUMNS.items(), columns, strict=True)
        }
        counts = [count for _, count in self._owners]
        images = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        files = np.array([file for file, _ in self._owners], dtype=object)[images]
        table = pd.DataFrame({"image": images, "file": pd.Series(files, dtype="object"), **objects})
        return table.assign(crowd=False)


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
