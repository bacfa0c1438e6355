"""Reads WIDER FACE in the format in which RetinaFace's authors published landmarks: `label.txt` beside `images/`.

    # 0--Parade/0_Parade_marchingband_1_849.jpg
    449 330 122 149 488.9 373.6 0 542.0 376.4 0 515.0 412.8 0 485.1 425.8 0 538.3 431.4 0 0.82

A line names an image; the lines after it are its faces: left, top, width, height; optionally x, y and a flag of each
landmark (left eye, right eye, nose, left and right corner of the mouth, as seen in the image; −1 throughout where
unknown); optionally how well the face is visible. An image without faces has no such line, or only `0 0 0 0`. A list of
names only, as WIDER FACE has for its test images, has no annotations: the images are unlabelled.

Boxes and landmarks are kept. A fault costs one box or one image and becomes a problem; reading goes on.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from curate.columns import BOX_FLAGS, CORNERS, LANDMARKS, Action
from curate.errors import DataError, UsageError
from curate.files import no_garbage_collection, read_regular, suggest_file
from curate.formats.incoming import Incoming, Problem, check_split, mend_boxes
from curate.formats.listing import list_files
from curate.formatting import count_of
from curate.image_header import is_image_name
from curate.images import ImageFacts, read_image_facts
from curate.plain_text import check_name
from curate.progress import Progress, silent

LIST_FILE = "label.txt"
_BOX_ALONE, _WITH_LANDMARKS, _WITH_QUALITY = 4, 19, 20  # numbers in a face's line
_REPORT_EVERY = 200
_LONGEST_SHOWN = 60
_LARGEST_LIST = 1 << 28  # bytes
_FARTHEST_PX = 1e6  # from the image's corner; a landmark farther away is an error
_Points = tuple[float, ...]


class _Face(NamedTuple):
    """A face as written: corners and points in pixels; `number` is its position in the file, from 1."""

    line: int
    number: int
    corners: tuple[float, float, float, float]
    points: _Points | None  # None: the line has no landmarks


@dataclass
class _Section:
    """An image in the list, with its faces."""

    name: str
    line: int
    faces: list[_Face] = field(default_factory=list)
    is_incomplete: bool = False  # some faces cannot be read

    @property
    def real_faces(self) -> list[_Face]:
        """The faces without the placeholder `0 0 0 0`."""
        is_placeholder = len(self.faces) == 1 and not any(self.faces[0].corners)
        return [] if is_placeholder else self.faces


@no_garbage_collection()
def read_widerface(
    folder: str | os.PathLike[str],
    *,
    class_name: str = "face",
    images: str | os.PathLike[str] | None = None,
    split: str | None = None,
    leave_out: Path | None = None,
    progress: Progress = silent,
) -> Incoming:
    """Read a folder with `label.txt` and `images/`. Landmarks are kept as they are, also outside the image.

    Only images inside the folder are read, whatever the list names. The result has landmark columns only if the list
    has landmarks.

    Args:
        folder: Contains `label.txt`.
        class_name: Class of all boxes.
        images: Folder that the paths in the list are relative to. Default: `images` in `folder`, else `folder`.
        split: "train", "val" or "test"; the split of all images.
        leave_out: A subfolder to skip, such as the dataset's own.
        progress: Callback for progress.

    Raises:
        DataError: A folder or the list does not exist.
        UsageError: The class name is empty or has an invisible character, or the split is unknown.
    """
    name = class_name.strip()
    if not name:
        raise UsageError("not a class name", place="--class-name", got=repr(class_name), expected="some text")
    check_name(name, "--class-name", "class")
    check_split(split)
    reading = _Reading(Path(folder), Path(images) if images is not None else None, leave_out)
    reading.read_list()
    reading.read_images(progress)
    return reading.result(name, split)


class _Reading:
    """The state of one pass over a list: the rows and problems so far."""

    def __init__(self, folder: Path, images: Path | None, leave_out: Path | None) -> None:
        self._text = _read_text(folder)
        self._folder = folder
        inside = folder / "images"
        self._image_folder = images if images is not None else (inside if inside.is_dir() else folder)
        files, problems = list_files(self._image_folder, leave_out=leave_out)
        self._files = sorted(file for file in files if is_image_name(file))
        self._problems = [one._replace(file=self._place(one.file)) for one in problems]
        self._unannotated: list[Problem] = []
        self._sections: dict[str, _Section] = {}  # by image
        self._has_landmarks = self._has_faces = False
        self._images: list[tuple[str, ImageFacts, str]] = []
        self._faces: list[tuple[int, _Face]] = []  # each with the row of its image

    def _place(self, image: str) -> str:
        """An image's file name in problems: relative to the folder, or whole if the images are in another folder."""
        return image if self._image_folder == self._folder else f"{self._image_folder}/{image}"

    def read_list(self) -> None:
        """Read the list, and find the image of each section among the files of the folder."""
        files = set(self._files)
        for section in self._read_sections():
            # only `files` is searched, not the disk: a path cannot lead out of the folder
            image = PurePosixPath(section.name.replace("\\", "/")).as_posix()
            if image not in files:
                detail = f"no image {section.name!r}, which has {len(section.faces)} faces"
                self._report(section.line, None, "image_missing", detail)
            elif image in self._sections:
                self._add_to(self._sections[image], section)
            else:
                self._sections[image] = section
        if not self._text.strip():
            self._report(None, None, "empty_file", "it names no image")

    def _add_to(self, first: _Section, again: _Section) -> None:
        """Keep the first faces of an image that is named again; other faces make it incomplete."""
        known = {(face.corners, face.points) for face in first.real_faces}
        others = {(face.corners, face.points) for face in again.real_faces} - known
        if others:
            detail = f"{len(others)} faces of {again.name!r} that line {first.line} does not have were left out"
        else:
            detail = f"{again.name!r} is named in line {first.line} already"
        self._report(again.line, None, "image_taken", detail)
        first.is_incomplete |= again.is_incomplete or bool(others)

    def _read_sections(self) -> Iterator[_Section]:
        section: _Section | None = None
        number = 0
        for line, text in enumerate(self._text.split("\n"), start=1):
            text = text.strip()
            if text.startswith("#"):
                if section is not None:
                    yield section
                section = _Section(text[1:].strip(), line)
            elif text:
                number += 1
                self._read_face(section, text, line, number)
        if section is not None:
            yield section

    def _read_face(self, section: _Section | None, text: str, line: int, number: int) -> None:
        self._has_faces = True
        numbers = _numbers(text)
        if numbers is None:
            expected = f"expected {_BOX_ALONE}, {_WITH_LANDMARKS} or {_WITH_QUALITY} numbers"
            self._report(line, number, "missing_coordinate", f"{_shown(text)}, {expected}")
            if section is not None:
                section.is_incomplete = True
            return
        if section is None:
            self._report(line, number, "image_missing", "no image is named above the face")
            return
        left, top, width, height = numbers[:_BOX_ALONE]
        points = _points(numbers[_BOX_ALONE:_WITH_LANDMARKS]) if len(numbers) > _BOX_ALONE else None
        if points is not None:
            self._has_landmarks = True
            if any(abs(value) > _FARTHEST_PX for value in points):  # false for NaN, which means unknown
                self._report(line, number, "landmark_not_finite", f"{_shown(text)}, taken as unknown", "noted")
                points = tuple(math.nan if abs(value) > _FARTHEST_PX else value for value in points)
        section.faces.append(_Face(line, number, (left, top, left + width, top + height), points))

    def read_images(self, progress: Progress) -> None:
        """Read size and hash of every image in the list, and report the images that are not in it."""
        total = len(self._sections)
        for done, (image, section) in enumerate(self._sections.items()):
            if done % _REPORT_EVERY == 0:
                progress("reading images", done, total)
            try:
                facts = read_image_facts(self._image_folder / image)
            except DataError as error:
                self._report(section.line, None, "image_broken", f"{image}: {error.fact}")
                continue
            self._faces += [(len(self._images), face) for face in section.real_faces]
            state = "labelled" if self._has_faces else "unlabelled"
            self._images.append((image, facts, "incomplete" if section.is_incomplete else state))
        progress("reading images", total, total)
        for image in self._files:
            if image not in self._sections:
                detail = f"left out; {LIST_FILE} does not name it"
                self._unannotated.append(Problem(self._place(image), None, None, "image_not_listed", detail, "noted"))

    def _report(
        self, line: int | None, number: int | None, kind: str, detail: str, action: Action = "quarantined"
    ) -> None:
        self._problems.append(Problem(LIST_FILE, line, number, kind, detail, action))

    def result(self, class_name: str, split: str | None) -> Incoming:
        """The rows read, with mended boxes, and all problems."""
        images = self._image_table(split)
        written = self._box_table(class_name)
        rows = written["image"].to_numpy()
        width, height = images["width"].to_numpy()[rows], images["height"].to_numpy()[rows]
        boxes, problems = mend_boxes(written, width, height)
        quarantined = {problem.object for problem in problems if problem.action == "quarantined"}
        images.loc[written.loc[written["object"].isin(quarantined), "image"].unique(), "label_state"] = "incomplete"
        return Incoming(
            folder=self._folder,
            image_folder=self._image_folder,
            images=images,
            boxes=boxes,
            problems=(*self._problems, *problems),
            files=(LIST_FILE,),
            reads=(self._folder, self._image_folder),
            class_order=(class_name,),
            unannotated=self._unannotated,
            unannotated_note=_note_unannotated(len(self._unannotated)),
        )

    def _image_table(self, split: str | None) -> pd.DataFrame:
        files, facts, states = zip(*self._images, strict=True) if self._images else ((), (), ())
        return pd.DataFrame(
            {
                "file": pd.Series(files, dtype="object"),
                "width": np.array([one.width for one in facts], dtype=np.int64),
                "height": np.array([one.height for one in facts], dtype=np.int64),
                "sha256": pd.Series([one.sha256 for one in facts], dtype="object"),
                "label_state": pd.Series(states, dtype="object"),
                "verified": False,
                "split": pd.array([split] * len(files), dtype="str"),
                "video_id": pd.array([None] * len(files), dtype="str"),
                "annotated": self._has_faces,  # a list of names only leaves the dataset's boxes as they are
            }
        )

    def _box_table(self, class_name: str) -> pd.DataFrame:
        faces = [face for _, face in self._faces]
        corners = np.array([face.corners for face in faces], dtype=np.float64).reshape(-1, 4)
        columns = {
            "image": np.array([row for row, _ in self._faces], dtype=np.int64),
            "name": pd.Series([class_name] * len(faces), dtype="object"),
            **dict(zip(CORNERS, corners.T, strict=True)),
            **dict.fromkeys(BOX_FLAGS, False),
            "pose": pd.Series([None] * len(faces), dtype="object"),
            "file": pd.Series([LIST_FILE] * len(faces), dtype="object"),
            "line": np.array([face.line for face in faces], dtype=np.int64),
            "object": np.array([face.number for face in faces], dtype=np.int64),
        }
        if self._has_landmarks:
            unknown = (math.nan,) * len(LANDMARKS)
            points = np.array([face.points or unknown for face in faces], dtype=np.float64).reshape(-1, len(LANDMARKS))
            columns |= dict(zip(LANDMARKS, points.T, strict=True))
        return pd.DataFrame(columns)


def _read_text(folder: Path) -> str:
    """The text of the list, with line ends as \\n."""
    if not folder.is_dir():
        expected = f"a folder with {LIST_FILE}"
        raise DataError("there is no such folder", place=folder, expected=expected, remedy=suggest_file(folder))
    try:
        data = read_regular(folder / LIST_FILE, _LARGEST_LIST)
    except FileNotFoundError:
        raise DataError(
            f"the folder has no {LIST_FILE}",
            place=folder,
            expected=f"RetinaFace's format of WIDER FACE: {LIST_FILE} and images",
            remedy="If a download has folders train and val, import each by itself.",
        ) from None
    except OSError as error:
        raise DataError(f"the list cannot be read: {error.strerror}", place=folder / LIST_FILE) from error
    return data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def _numbers(text: str) -> list[float] | None:
    """The numbers in a face's line; None if the line is malformed."""
    words = text.split()
    if len(words) not in (_BOX_ALONE, _WITH_LANDMARKS, _WITH_QUALITY) or "_" in text:  # Python reads 1_0 as 10
        return None
    try:
        return list(map(float, words))
    except ValueError:
        return None


def _points(numbers: Sequence[float]) -> _Points:
    """x0, y0, … x4, y4 from five times x, y, flag; NaN where unknown, inf where not finite."""
    points: list[float] = []
    for x, y, flag in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        is_unknown = flag < 0 or (x, y) == (-1, -1)
        known = (x, y) if math.isfinite(x) and math.isfinite(y) else (math.inf, math.inf)
        points += (math.nan, math.nan) if is_unknown else known
    return tuple(points)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")


def _note_unannotated(images: int) -> str:
    return f"Left out: {count_of(images, 'image')} not in {LIST_FILE}."
