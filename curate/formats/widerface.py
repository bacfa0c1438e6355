"""WIDER FACE in the format that RetinaFace's authors published its landmarks in: `label.txt` beside `images/`.

    # 0--Parade/0_Parade_marchingband_1_849.jpg
    449 330 122 149 488.9 373.6 0 542.0 376.4 0 515.0 412.8 0 485.1 425.8 0 538.3 431.4 0 0.82

A line names an image, the lines below it its faces: left, top, width, height; then, or not, x, y and a flag of each
landmark, −1 throughout where unknown: left eye, right eye, nose, left and right corner of the mouth, as seen in the
picture; then, or not, how well the face can be seen. An image without faces has no such line, or the single line
`0 0 0 0`. A list of names alone, as there is of the test images, says nothing of faces: its images are unlabelled.

What is kept: boxes and landmarks. Nothing aborts: a fault takes out one box or one image, and is listed.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from curate.columns import CORNERS, LANDMARKS
from curate.errors import DataError, UsageError
from curate.files import no_garbage_collection
from curate.formats.incoming import Incoming, Problem, mend_boxes
from curate.formats.voc.layout import find_layout
from curate.images import ImageFacts, read_image_facts
from curate.progress import Progress, silent

LIST_FILE = "label.txt"
_SPLITS = ("train", "val", "test")
_BOX_ALONE, _WITH_LANDMARKS, _WITH_QUALITY = 4, 19, 20  # numbers in a face's line
_REPORT_EVERY = 200
_LONGEST_SHOWN = 60
_FARTHEST_PX = 1e6  # from the picture's corner; a landmark beyond is a slip
_Points = tuple[float, ...]


class _Face(NamedTuple):
    """A face's line; corners and points in pixels, as written. `number` counts the file's faces from 1."""

    line: int
    number: int
    corners: tuple[float, float, float, float]
    points: _Points | None  # None: the line says nothing of landmarks


@dataclass
class _Section:
    """What the list says of one image."""

    name: str
    line: int
    faces: list[_Face] = field(default_factory=list)
    is_incomplete: bool = False  # it has faces that cannot be read

    def settled(self) -> list[_Face]:
        """The faces; the single line `0 0 0 0` is none."""
        is_nothing = len(self.faces) == 1 and not any(self.faces[0].corners)
        return [] if is_nothing else self.faces


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
    """Read a folder with `label.txt` and `images/`. Landmarks are kept as they are, also outside the picture.

    Only images inside the folder are looked at, whatever the list names. There are landmark columns only where the list
    says anything of landmarks.

    Args:
        folder: holds `label.txt`.
        class_name: the class of all boxes.
        images: the folder that the paths in the list begin in. Default: `images` in `folder`, else `folder`.
        split: "train", "val" or "test"; the split of all images.
        leave_out: a folder inside that is not looked at, such as the dataset itself.
        progress: told now and then.

    Raises:
        DataError: a folder or the list is not there.
        UsageError: the class name or the split is none.
    """
    name = class_name.strip()
    if not name:
        raise UsageError("not a class name", place="--class-name", got=repr(class_name), expected="some text")
    if split is not None and split not in _SPLITS:
        raise UsageError("unknown split", place="--split", got=repr(split), expected=", ".join(_SPLITS))
    reading = _Reading(Path(folder), Path(images) if images is not None else None, leave_out)
    reading.read_list()
    reading.read_images(progress)
    return reading.result(name, split)


class _Reading:
    """The state of one pass over a list: rows that grow, and the problems met."""

    def __init__(self, folder: Path, images: Path | None, leave_out: Path | None) -> None:
        self._text = _read_text(folder)
        self._folder = folder
        inside = folder / "images"
        self._image_folder = images if images is not None else (inside if inside.is_dir() else folder)
        layout = find_layout(self._image_folder, None, leave_out)
        self._files = layout.image_files
        self._problems = [one._replace(file=self._place(one.file)) for one in layout.problems]
        self._sections: dict[str, _Section] = {}  # by image
        self._says_landmarks = self._says_faces = False
        self._images: list[tuple[str, ImageFacts, str]] = []
        self._faces: list[tuple[int, _Face]] = []  # each with the row of its image

    def _place(self, image: str) -> str:
        """How problems name an image: relative to the folder, or whole where the images lie apart."""
        return image if self._image_folder == self._folder else f"{self._image_folder}/{image}"

    def read_list(self) -> None:
        """Read the list, and find the image of each section among the files that are there."""
        files = set(self._files)
        for section in self._read_sections():
            # what is not in `files` is not looked for on the disk: a path cannot lead out of the folder
            image = PurePosixPath(section.name.replace("\\", "/")).as_posix()
            if image not in files:
                detail = f"no image {section.name!r}, which has {len(section.faces)} faces"
                self._note(section.line, None, "image_missing", detail)
            elif image in self._sections:
                self._add_to(self._sections[image], section)
            else:
                self._sections[image] = section
        if not self._text.strip():
            self._note(None, None, "empty_file", "it names no image")

    def _add_to(self, first: _Section, again: _Section) -> None:
        """An image that is named again keeps its first faces; others there make it incomplete."""
        known = {(face.corners, face.points) for face in first.settled()}
        others = {(face.corners, face.points) for face in again.settled()} - known
        if others:
            detail = f"{len(others)} faces of {again.name!r} that line {first.line} does not have were left out"
        else:
            detail = f"{again.name!r} is named in line {first.line} already"
        self._note(again.line, None, "image_taken", detail)
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
        self._says_faces = True
        numbers = _numbers(text)
        if numbers is None:
            expected = f"expected {_BOX_ALONE}, {_WITH_LANDMARKS} or {_WITH_QUALITY} numbers"
            self._note(line, number, "missing_coordinate", f"{_shown(text)}, {expected}")
            if section is not None:
                section.is_incomplete = True
            return
        if section is None:
            self._note(line, number, "image_missing", "no image is named above the face")
            return
        left, top, width, height = numbers[:_BOX_ALONE]
        points = _points(numbers[_BOX_ALONE:_WITH_LANDMARKS]) if len(numbers) > _BOX_ALONE else None
        if points is not None:
            self._says_landmarks = True
            if any(abs(value) > _FARTHEST_PX for value in points):  # of NaN nothing is larger
                self._note(line, number, "landmark_not_finite", f"{_shown(text)}, taken as unknown")
                points = tuple(math.nan if abs(value) > _FARTHEST_PX else value for value in points)
        section.faces.append(_Face(line, number, (left, top, left + width, top + height), points))

    def read_images(self, progress: Progress) -> None:
        """Read size and hash of every image that the list names, and list those that it does not name."""
        total = len(self._sections)
        for done, (image, section) in enumerate(self._sections.items()):
            if done % _REPORT_EVERY == 0:
                progress("reading images", done, total)
            try:
                facts = read_image_facts(self._image_folder / image)
            except DataError as error:
                self._note(section.line, None, "image_broken", f"{image}: {error.fact}")
                continue
            self._faces += [(len(self._images), face) for face in section.settled()]
            state = "labelled" if self._says_faces else "unlabelled"
            self._images.append((image, facts, "incomplete" if section.is_incomplete else state))
        progress("reading images", total, total)
        for image in self._files:
            if image not in self._sections:
                detail = f"left out; {LIST_FILE} does not name it"
                self._problems.append(Problem(self._place(image), None, None, "image_not_listed", detail))

    def _note(self, line: int | None, number: int | None, kind: str, detail: str) -> None:
        self._problems.append(Problem(LIST_FILE, line, number, kind, detail))

    def result(self, class_name: str, split: str | None) -> Incoming:
        """Everything read, mended."""
        images = self._image_table(split)
        written = self._box_table(class_name)
        rows = written["image"].to_numpy()
        width, height = images["width"].to_numpy()[rows], images["height"].to_numpy()[rows]
        boxes, problems = mend_boxes(written, width, height)
        gone = {problem.object for problem in problems if problem.action == "quarantined"}
        images.loc[written.loc[written["object"].isin(gone), "image"].unique(), "label_state"] = "incomplete"
        in_order = sorted([*self._problems, *problems], key=lambda one: (one.file, one.line or 0, one.object or 0))
        return Incoming(
            folder=self._folder,
            image_folder=self._image_folder,
            images=images,
            boxes=boxes,
            problems=in_order,
            files=(LIST_FILE,),
            reads=(self._folder, self._image_folder),
            class_order=(class_name,),
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
                "annotated": self._says_faces,  # names alone take no boxes away
            }
        )

    def _box_table(self, class_name: str) -> pd.DataFrame:
        faces = [face for _, face in self._faces]
        corners = np.array([face.corners for face in faces], dtype=np.float64).reshape(-1, 4)
        columns = {
            "image": np.array([row for row, _ in self._faces], dtype=np.int64),
            "name": pd.Series([class_name] * len(faces), dtype="object"),
            **dict(zip(CORNERS, corners.T, strict=True)),
            **dict.fromkeys(("difficult", "truncated", "occluded", "crowd"), False),
            "pose": pd.Series([None] * len(faces), dtype="object"),
            "file": pd.Series([LIST_FILE] * len(faces), dtype="object"),
            "line": np.array([face.line for face in faces], dtype=np.int64),
            "object": np.array([face.number for face in faces], dtype=np.int64),
        }
        if self._says_landmarks:
            unknown = (math.nan,) * len(LANDMARKS)
            points = np.array([face.points or unknown for face in faces], dtype=np.float64).reshape(-1, len(LANDMARKS))
            columns |= dict(zip(LANDMARKS, points.T, strict=True))
        return pd.DataFrame(columns)


def _read_text(folder: Path) -> str:
    """The list, with line ends of one kind."""
    if not folder.is_dir():
        raise DataError("there is no such folder", place=folder, expected=f"a folder with {LIST_FILE}")
    try:
        data = (folder / LIST_FILE).read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"there is no {LIST_FILE} in the folder",
            place=folder,
            expected=f"RetinaFace's format of WIDER FACE: {LIST_FILE} and images",
            remedy="Of a download with train and val, import one folder after the other.",
        ) from None
    except OSError as error:
        raise DataError(f"the list cannot be read: {error.strerror}", place=folder / LIST_FILE) from error
    return data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def _numbers(text: str) -> list[float] | None:
    """The numbers of a face's line; None if it is no such line."""
    words = text.split()
    if len(words) not in (_BOX_ALONE, _WITH_LANDMARKS, _WITH_QUALITY) or "_" in text:  # Python reads 1_0 as ten
        return None
    try:
        return list(map(float, words))
    except ValueError:
        return None


def _points(numbers: Sequence[float]) -> _Points:
    """x0, y0, … x4, y4 of five times x, y, flag; NaN where unknown, and infinite where that is written."""
    points: list[float] = []
    for x, y, flag in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        is_unknown = flag < 0 or (x, y) == (-1, -1)
        known = (x, y) if math.isfinite(x) and math.isfinite(y) else (math.inf, math.inf)
        points += (math.nan, math.nan) if is_unknown else known
    return tuple(points)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")
