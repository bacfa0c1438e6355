"""`Incoming`: images, boxes and problems as a reader of an annotation format returns them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.boxes import Boxes, clip
from curate.columns import BOX_COLUMNS, CORNERS, IMAGE_COLUMNS, LANDMARKS, PROBLEM_COLUMNS, SPLITS, Action, conform
from curate.errors import UsageError
from curate.plain_text import clean_name, is_clean

_IMAGE_NEEDS = {"file", "annotated", "width", "height", "sha256", "label_state"}
_IMAGE_KNOWS = {*_IMAGE_NEEDS, *IMAGE_COLUMNS} - {"image_id", "path", "source"}
_BOX_NEEDS = {"image", "name", "file", "line", "object", *CORNERS}
_CONSEQUENCES = {
    "click": "; no object, left out",
    "saved_twice": "; counts once",
    "fraction": "; expected pixels, not fractions of the image",
}
_LARGEST_CLICK_PX = 5  # the longer side of a box without area that was hardly drawn
_BOX_KNOWS = {*_BOX_NEEDS, *BOX_COLUMNS, *LANDMARKS} - {"box_id", "image_id", "class_id", "original_class"}


class Problem(NamedTuple):
    """A fault in a source.

    Attributes:
        file: Where it is; POSIX, relative to the source folder.
        line: Line in the file, from 1; None: the whole file.
        object: Number of the object in the file, from 1; None: no single object.
        kind: Short name, such as "no_area"; scripts count by it.
        detail: The value that shows the fault.
        action: What the import does: "repaired" (the box is changed and kept), "quarantined" (the box, image or file is
            left out) or "noted" (nothing).
    """

    file: str
    line: int | None
    object: int | None
    kind: str
    detail: str
    action: Action


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """Images and boxes of a source. A reader returns it; `curate.formats.ingest` does the rest.

    Columns of `curate.columns` that a source does not have can be left out: they get their defaults, and keep the
    dataset's values for images and boxes that it has already.

    Attributes:
        folder: The source folder, as the caller named it.
        image_folder: The folder of the images; `folder`, unless they are elsewhere.
        images: One row per image: `file` (POSIX, relative to `image_folder`), `annotated` (bool: an annotation of the
            image was read), `width` and `height` in pixels, `sha256`, `label_state`, and more of `IMAGE_COLUMNS`.
        boxes: One row per box: `image` (row in `images`), `name` (the class, without outer white space), corners in
            pixels, `file`, `line` and `object` (place in the source), and more of `BOX_COLUMNS` and `LANDMARKS`.
        problems: All faults but those in `unannotated`; files are relative to `folder`, or begin with `image_folder` if
            that is another.
        files: The annotation files that were read. Their older problems in the dataset are replaced.
        reads: Every file and folder that the result depends on, also if it does not exist: a pipeline reruns the import
            when one of them changes.
        annotation_suffixes: Lower-case suffixes by which an annotation file is known after it was deleted: its older
            problems stay.
        class_order: Class names in the source's own order, if it has one.
        unannotated: A problem for each image without annotation that was left out. They are dropped if the images are
            inside the dataset, which has such images until somebody labels them.
        unannotated_note: A sentence for the person at the terminal that sums up `unannotated`.
        notes: Other sentences for the person at the terminal.

    Raises:
        ValueError: A table lacks a column, or has one that a reader cannot give.
    """

    folder: Path
    image_folder: Path
    images: pd.DataFrame
    boxes: pd.DataFrame
    problems: Sequence[Problem]
    files: Sequence[str]
    reads: Sequence[Path]
    annotation_suffixes: tuple[str, ...] = ()
    class_order: Sequence[str] = ()
    unannotated: Sequence[Problem] = ()
    unannotated_note: str = ""
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        _check_columns("images", self.images, _IMAGE_NEEDS, _IMAGE_KNOWS)
        _check_columns("boxes", self.boxes, _BOX_NEEDS, _BOX_KNOWS)


def _check_columns(table: str, rows: pd.DataFrame, needs: set[str], knows: set[str]) -> None:
    columns = set(rows.columns)
    if missing := needs - columns:
        raise ValueError(f"incoming {table} lack {', '.join(sorted(missing))}")
    if unknown := columns - knows:
        raise ValueError(f"incoming {table} have unknown columns: {', '.join(sorted(unknown))}")


def check_split(split: str | None) -> None:
    """Check the value of `--split`; None is accepted.

    Raises:
        UsageError: The split is unknown.
    """
    if split is not None and split not in SPLITS:
        raise UsageError("unknown split", place="--split", got=repr(split), expected=", ".join(SPLITS))


def in_file_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems sorted by file, line and object."""
    return tuple(sorted(problems, key=lambda one: (one.file, one.line or 0, one.object or 0)))


def problem_table(problems: Sequence[Problem], source: str) -> pd.DataFrame:
    """Problems as rows of a dataset's problems table."""
    values = list(zip(*problems, strict=True)) or [()] * len(Problem._fields)
    columns: dict[str, Any] = dict(zip(Problem._fields, values, strict=True))
    columns["line"], columns["object"] = (pd.array(columns[name], dtype="Int64") for name in ("line", "object"))
    return conform(pd.DataFrame(columns | {"source": source}, index=range(len(problems))), PROBLEM_COLUMNS)


def mend_boxes(
    boxes: pd.DataFrame, width: NDArray[Any], height: NDArray[Any], *, shift: float = 0.0
) -> tuple[pd.DataFrame, list[Problem]]:
    """Turn boxes as written into boxes that a dataset accepts.

    Reversed corners are swapped and boxes are clipped to the image (both repaired). A box without width or height, as a
    click leaves it, is no object, and a box that is there twice counts once: both are left out (noted). Boxes with a
    coordinate that is not finite, or wholly outside the image, are lost (quarantined), and so are boxes in fractions of
    the image, and those without area that cannot be clicks (see `_find_clicks`).

    Args:
        boxes: As in `Incoming.boxes`, corners as written.
        width: Width of each box's image, in pixels. (n,)
        height: Height of each box's image, in pixels. (n,)
        shift: Pixels to subtract from the minima once corners are in order; 1 for formats that count from 1.

    Returns:
        The boxes that remain, with a new index, and the problems.
    """
    written: Boxes = boxes[CORNERS].to_numpy(dtype=np.float64)
    finite: NDArray[np.bool_] = np.isfinite(written).all(axis=1)  # pyright: ignore[reportAssignmentType]
    ordered = np.concatenate(
        [np.minimum(written[:, :2], written[:, 2:]), np.maximum(written[:, :2], written[:, 2:])], 1
    )
    shifted = ordered - np.array([shift, shift, 0.0, 0.0])
    mended = clip(np.where(finite[:, None], shifted, 0.0), width, height)
    usable = finite & (mended[:, 2] > mended[:, 0]) & (mended[:, 3] > mended[:, 1])
    flat = finite & ((shifted[:, 2] <= shifted[:, 0]) | (shifted[:, 3] <= shifted[:, 1]))
    click = _find_clicks(boxes["image"].to_numpy(dtype=np.int64), written, flat, usable)
    fraction = (
        usable & (written >= 0).all(axis=1) & (written <= 1).all(axis=1) & (written != np.floor(written)).any(axis=1)
    )
    again = _find_repeated(boxes, mended, usable)
    names, unclear, nameless = _clean_names(boxes["name"])
    kept = usable & ~again & ~fraction & ~nameless
    reversed_ = kept & (ordered != written).any(axis=1)
    outside = kept & (mended != shifted).any(axis=1)

    problems = []
    files, lines, numbers = (boxes[name].to_numpy() for name in ("file", "line", "object"))
    faults: tuple[tuple[str, Action, NDArray[np.bool_]], ...] = (
        ("not_finite", "quarantined", ~finite),
        ("no_area", "quarantined", flat & ~click),
        ("not_in_image", "quarantined", finite & ~usable & ~flat),
        ("fraction", "quarantined", fraction & ~again),
        ("click", "noted", click),
        ("saved_twice", "noted", again),
        ("reversed_corners", "repaired", reversed_),
        ("outside_image", "repaired", outside),
        ("class_name", "repaired", unclear & kept),
        ("class_name", "quarantined", nameless),
    )
    for kind, action, rows in faults:
        for row in np.flatnonzero(rows):
            if kind == "class_name":
                detail = f"invisible characters in the class name {boxes['name'].iloc[row]!r}"
                problems.append(Problem(files[row], int(lines[row]), int(numbers[row]), kind, detail, action))
                continue
            detail = f"{_numbers(written[row])} in an image of {width[row]}×{height[row]}{_CONSEQUENCES.get(kind, '')}"
            problems.append(Problem(files[row], int(lines[row]), int(numbers[row]), kind, detail, action))
    table = boxes.assign(**dict(zip(CORNERS, mended.T, strict=True)), name=names)
    return (table if kept.all() else table[kept].reset_index(drop=True)), problems


def _clean_names(names: pd.Series) -> tuple[pd.Series, NDArray[np.bool_], NDArray[np.bool_]]:
    """Names without invisible characters; which of them had any, and of which nothing is left. (n,), (n,), (n,)"""
    cleaned = {name: clean_name(name) for name in names.unique() if not is_clean(name)}
    if not cleaned:
        nowhere = np.zeros(len(names), dtype=bool)
        return names, nowhere, nowhere
    changed = names.isin(cleaned.keys()).to_numpy()
    replaced = names.map(lambda name: cleaned.get(name, name)).astype(names.dtype)
    return replaced, changed, (replaced == "").to_numpy()


def _find_clicks(
    images: NDArray[np.int64], written: Boxes, flat: NDArray[np.bool_], usable: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which boxes without area are clicks that were not meant, and no objects that were lost. (n,)

    Coordinates that a tool has lost are 0, or the same throughout, or leave lines that are as long as objects. So small
    ones are clicks where each is in another place; others if the image has no fewer other boxes, and not at 0, 0 alone.
    """
    if not flat.any():
        return flat
    is_small = flat & (np.abs(written[:, 2:] - written[:, :2]) <= _LARGEST_CLICK_PX).all(axis=1)
    places = pd.DataFrame(written[is_small]).assign(image=images[is_small])
    lone = np.zeros(len(images), dtype=bool)
    lone[is_small] = ~places.duplicated(keep=False).to_numpy() & (written[is_small] != 0).any(axis=1)
    others = np.bincount(images[usable], minlength=int(images.max()) + 1)[images]
    equal = np.bincount(images[flat & ~lone], minlength=int(images.max()) + 1)[images]
    is_somewhere = (written != 0).any(axis=1) | (others > 0)
    return lone | (flat & (equal <= np.maximum(others, 1)) & is_somewhere)


def _find_repeated(boxes: pd.DataFrame, corners: Boxes, usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which boxes have the class and the corners of an earlier one in their image. (n,)"""
    again = np.zeros(len(boxes), dtype=bool)
    table = pd.DataFrame(corners[usable], columns=CORNERS).assign(image=boxes["image"].to_numpy()[usable])
    if table.duplicated().any():  # rare; comparing names is slow
        again[usable] = table.assign(name=boxes["name"].to_numpy(dtype=object)[usable]).duplicated().to_numpy()
    return again


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
