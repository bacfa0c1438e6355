"""Reads a folder of LabelImg or Pascal VOC XML.

VOC counts pixels from 1 and includes the last one; LabelImg writes the canvas's edges, 0 to width (decision 0002).
A fault costs one box or one file and becomes a problem; reading goes on.
"""

import os
import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from curate.columns import Action
from curate.errors import DataError, UsageError
from curate.files import no_garbage_collection
from curate.formats.incoming import Incoming, Problem, check_split, mend_boxes
from curate.formats.listing import base_name
from curate.formats.voc.layout import XML_SUFFIX, VocLayout, find_layout
from curate.formats.voc.matching import XmlMatcher, same_name
from curate.formats.voc.objects import VocFile, VocObject
from curate.formats.voc.picture_size import Fitted, SizeMismatch, SizeNotes, fit_to_picture
from curate.formats.voc.splits import DeclaredSplits, note_copies
from curate.formatting import count_of
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
    size_mismatch: SizeMismatch | None = None,
    split: str | None = None,
    leave_out: Path | None = None,
    progress: Progress = silent,
) -> Incoming:
    """Read a folder of LabelImg XML or a VOC devkit.

    Image sizes come from the images' headers. An image whose `<size>` contradicts them is incomplete, unless it is that
    of the stored picture, which EXIF turns: its boxes are turned, too.

    Args:
        folder: XML beside images, `annotations/` and `images/`, or `Annotations/`, `JPEGImages/`, `ImageSets/Main/`.
        images: Folder of the images, if they are not in `folder`.
        origin: "labelimg" reads coordinates as they are; "voc" subtracts 1 from the minima (1-based, inclusive).
        video_from: Regular expression; its first group in an image's path is the video id of the frame.
        with_unlabelled: Whether to read images without XML; otherwise they are only reported.
        accept_proposals: Whether XML written by `predict` or `label` that nobody has saved since counts as labelled;
            otherwise it is reported, and its image counts as one without XML. XML saved by a person comes first.
        size_mismatch: What is right where `<size>` contradicts the picture: "scale" (it was resized after it was
            labelled) or "keep" (the boxes fit as they are).
        split: "train", "val" or "test"; the split of all images. Default: what lists and folders of the source say.
        leave_out: A subfolder to skip, such as the dataset's own.
        progress: Callback for progress.

    Raises:
        DataError: The folder does not exist, or has neither XML nor (with `with_unlabelled`) images.
        UsageError: `video_from` is not a regular expression, or the split is unknown.
    """
    video_of = _compile(video_from)
    check_split(split)
    layout = find_layout(Path(folder), Path(images) if images is not None else None, leave_out)
    if not layout.xml_files and not (with_unlabelled and layout.image_files):
        raise DataError(
            "the folder has no XML",
            place=folder,
            expected="LabelImg or Pascal VOC files",
            remedy=None if with_unlabelled else "To import images alone, use --with-unlabelled.",
        )
    shift = 1.0 if origin == "voc" else 0.0
    reading = _Reading(layout, shift=shift, accept_proposals=accept_proposals, size_mismatch=size_mismatch)
    reading.read_annotations(progress)
    reading.read_rest(with_unlabelled)
    return reading.result(video_of, split)


class _Reading:
    """The state of one pass over a folder: the rows and problems so far."""

    def __init__(
        self, layout: VocLayout, *, shift: float, accept_proposals: bool, size_mismatch: SizeMismatch | None
    ) -> None:
        self._layout = layout
        self._image_folder = f"{layout.image_folder}/"  # a string: joining a Path for every file is slow
        self._has_image_folder = layout.image_folder != layout.folder
        self._shift = shift
        self._accept_proposals = accept_proposals
        self._size_mismatch: SizeMismatch | None = size_mismatch
        self._size_notes = SizeNotes(size_mismatch)
        self._either: list[tuple[int, Problem]] = []  # images that EXIF turns, where the XML's size does not tell
        self._has_turned = False
        self._moved: dict[str, list[VocObject]] = {}  # XML file → its objects as written, where they were moved
        self._matcher = XmlMatcher(layout)
        self._objects: list[VocObject] = []
        self._owners: list[tuple[str, int]] = []  # of each image: its XML, and its number of objects
        self._images: list[tuple[Any, ...]] = []
        self._problems: list[Problem] = list(layout.problems)
        self._unannotated: list[Problem] = []
        self._split_notes: list[str] = []
        self._unread: set[str] = set()  # XML files that cannot be read, but have an image
        self._proposed: set[str] = set()  # images of proposals that were left out
        self._taken: set[str] = set()  # images with XML

    def read_annotations(self, progress: Progress) -> None:
        """Read every XML file, sorted by name: first those saved by a person, then proposals."""
        for xml in self._matcher.read(progress):
            if xml.is_proposal and not self._accept_proposals:
                detail = "left out; --accept-proposals takes it as labelled"
                self._report(xml.file, None, "untouched_proposal", detail)
                self._proposed.add(xml.image)
            else:
                self._taken.add(xml.image)
                self._read_image_of(xml.file, xml.image, xml.annotation)
        self._compare_others()

    def _compare_others(self) -> None:
        """Report XML of images that other XML describes; an image is incomplete if that lacks an object of theirs."""
        if not self._matcher.others:
            return
        row_of = {image[0]: row for row, image in enumerate(self._images)}
        ends = list(accumulate(count for _, count in self._owners))
        for xml in self._matcher.others:
            row = row_of.get(xml.image)
            if row is None:  # the image is broken
                continue
            owner, count = self._owners[row]
            objects = self._moved.get(owner, self._objects[ends[row] - count : ends[row]])
            known = {one[:5] for one in objects}  # class and corners
            lost = sum(one[:5] not in known for one in xml.annotation.objects) if xml.annotation else 0
            detail = f"{xml.image!r} is described by {owner}" + (
                f", which lacks {count_of(lost, 'object')}" if lost else ""
            )
            self._report(xml.file, None, "image_taken", detail, "quarantined" if lost else "noted")
            if lost:
                self._images[row] = (*self._images[row][:4], "incomplete", *self._images[row][5:])

    def _read_image_of(self, file: str, image: str, annotation: VocFile | None) -> None:
        """Read the image of an XML file, and add rows for the image and its objects."""
        facts = self._read_image(file, image)
        if facts is None:
            return
        if annotation is None:
            self._unread.add(file)
            self._add_image(image, facts, "incomplete", False, file)
            return
        name = annotation.filename
        if name and not same_name(base_name(image), base_name(name.replace("\\", "/"))):
            detail = f"{name!r}, found {base_name(image)!r}"
            self._report(file, annotation.filename_line, "filename_mismatch", detail)
        fitted = self._fit_to_picture(file, annotation, facts)
        state = "labelled" if fitted.is_clear else "incomplete"
        for fault in annotation.faults:
            problem = Problem(file, *fault)
            self._problems.append(problem)
            if problem.action == "quarantined":
                state = "incomplete"
        self._add_image(image, facts, state, annotation.verified, file, len(fitted.objects))
        self._objects += fitted.objects

    def _fit_to_picture(self, file: str, annotation: VocFile, facts: ImageFacts) -> Fitted:
        """Compare the size in an XML file with its picture, and report what differs."""
        fitted = fit_to_picture(annotation, facts, self._size_mismatch, self._shift)
        if fitted.relation == "same":
            return fitted
        line = annotation.size_line
        written = f"{annotation.width}×{annotation.height}" if line else "no <size>"
        if fitted.relation == "missing":
            self._report(file, line, "size_missing", f"{written}; nothing to compare with")
            return fitted
        detail = f"{written}, the image has {facts.width}×{facts.height}"
        if fitted.relation == "either":
            detail = (
                f"EXIF turns the image ({facts.orientation}); {written} does not tell whether the boxes turn with it"
            )
            self._either.append((len(self._images), Problem(file, line, None, "frame_unclear", detail, "noted")))
            return fitted
        self._size_notes.add(file, fitted)
        if fitted.moved:
            self._moved[file] = annotation.objects
            self._has_turned |= fitted.moved == "turned"
            for before, after in zip(annotation.objects, fitted.objects, strict=True):
                moved = f"{_corners(before)} → {_corners(after)}; {detail}"
                self._problems.append(Problem(file, before.line, before.number, fitted.moved, moved, "repaired"))
        else:
            self._report(file, line, "size_mismatch", detail, "noted" if fitted.is_clear else "quarantined")
        return fitted

    def _read_image(self, file: str, image: str) -> ImageFacts | None:
        try:
            facts = read_image_facts(self._image_folder + image)
        except DataError as error:
            self._report(file, None, "image_broken", f"{image}: {error.fact}", "quarantined")
            return None
        if facts.oddity:
            self._report(file, None, "image_end", f"{image}: {facts.oddity}")
        return facts

    def _add_image(
        self, image: str, facts: ImageFacts, label_state: str, verified: bool, file: str = "", objects: int = 0
    ) -> None:
        self._owners.append((file, objects))
        self._images.append((image, facts.width, facts.height, facts.sha256, label_state, verified))

    def read_rest(self, with_unlabelled: bool) -> None:
        """Read the images without XML as unlabelled, or report them."""
        for image in self._layout.image_files:
            if image in self._taken:
                continue
            name = f"{self._image_folder}{image}" if self._has_image_folder else image
            if with_unlabelled:
                facts = self._read_image(name, image)
                if facts is not None:
                    self._add_image(image, facts, "unlabelled", False)
            elif image not in self._proposed:
                detail = "left out; --with-unlabelled takes it in"
                self._unannotated.append(Problem(name, None, None, "image_without_xml", detail, "noted"))

    def _report(self, file: str, line: int | None, kind: str, detail: str, action: Action = "noted") -> None:
        self._problems.append(Problem(file, line, None, kind, detail, action))

    def result(self, video_of: re.Pattern[str] | None, split: str | None) -> Incoming:
        """The rows read, with mended boxes, and all problems."""
        images = self._image_table(video_of, split)
        is_doubtful = self._settle_either(images)
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
            problems=(*self._matcher.problems, *self._problems, *problems),
            files=self._layout.xml_files,
            reads=(self._layout.folder, self._layout.image_folder),
            annotation_suffixes=(XML_SUFFIX,),
            class_order=self._layout.class_order,
            unannotated=self._unannotated,
            unannotated_note=_note_unannotated(len(self._unannotated)),
            notes=(
                *_note_proposals(sum(one.kind == "untouched_proposal" for one in self._problems)),
                *self._size_notes.sentences([one.file for _, one in self._either], is_doubtful=is_doubtful),
                *self._split_notes,
            ),
        )

    def _settle_either(self, images: pd.DataFrame) -> bool:
        """Report images whose boxes may be in the stored frame. Returns whether they are incomplete, as others' are."""
        is_doubtful = self._has_turned and self._size_mismatch != "keep"
        action: Action = "quarantined" if is_doubtful else "noted"
        self._problems += [problem._replace(action=action) for _, problem in self._either]
        if is_doubtful and self._either:
            images.loc[[row for row, _ in self._either], "label_state"] = "incomplete"
        return is_doubtful

    def _splits(self, files: Sequence[str], split: str | None) -> Sequence[str | None]:
        """The split of each image: `split`, else what the source declares."""
        self._split_notes += note_copies(files)
        if split is not None:
            return [split] * len(files)
        declared = DeclaredSplits(self._layout)
        splits = [declared.of(file, xml_file) for file, (xml_file, _) in zip(files, self._owners, strict=True)]
        declared.finish(files)
        self._problems += declared.problems
        self._split_notes += declared.notes
        return splits

    def _image_table(self, video_of: re.Pattern[str] | None, split: str | None) -> pd.DataFrame:
        columns = list(zip(*self._images, strict=True)) or [()] * len(_IMAGE_COLUMNS)
        files: Sequence[str] = columns[0]
        splits = self._splits(files, split)
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


def _compile(video_from: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(video_from) if video_from is not None else None
    except re.error as error:
        raise UsageError(f"not a regular expression: {error}", place="--video-from", got=repr(video_from)) from error


def _corners(one: VocObject) -> str:
    return ", ".join(f"{corner:g}" for corner in one[1:5])


def _note_unannotated(images: int) -> str:
    return f"Left out: {count_of(images, 'image')} without XML (--with-unlabelled imports them)."


def _note_proposals(files: int) -> tuple[str, ...]:
    if not files:
        return ()
    number = count_of(files, "XML file")
    return (f"Left out: {number} of proposals that nobody has saved (--accept-proposals imports them as labelled).",)
