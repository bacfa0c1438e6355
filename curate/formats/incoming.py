"""What a folder of somebody's annotations says, before it joins a dataset: the one result of every reader."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.boxes import Boxes, clip
from curate.columns import CORNERS, PROBLEM_COLUMNS, conform

# action, by kind of problem; what a reader meets is one of these
REPAIRED_KINDS = frozenset({"reversed_corners", "outside_image"})
QUARANTINED_KINDS = frozenset(
    {
        # boxes
        "missing_coordinate",
        "not_finite",
        "no_area",
        "empty_name",
        "unknown_class",
        # whole files
        "unreadable_file",
        "empty_file",
        "wrong_root",
        "declares_dtd",
        "image_missing",
        "image_broken",
        "image_taken",
        "file_name",
    }
)


class Problem(NamedTuple):
    """A fault in a file: where (line and object counted from 1), what, and the value that shows it."""

    file: str
    line: int | None
    object: int | None
    kind: str
    detail: str

    @property
    def action(self) -> str:
        """What becomes of it: repaired, quarantined or noted."""
        if self.kind in REPAIRED_KINDS:
            return "repaired"
        return "quarantined" if self.kind in QUARANTINED_KINDS else "noted"


@dataclass(frozen=True)
class Incoming:
    """Images and boxes as a source describes them.

    Attributes:
        folder: where the annotation files lie, as the caller named it.
        image_folder: where the images lie; the same, unless they lie apart.
        images: one row an image: `file` (POSIX, relative to `image_folder`), `width`, `height`, `sha256`, `split`,
            `video_id`, `label_state`, `verified`, and `annotated`: whether an annotation file of it could be read.
        boxes: one row a box: `image` (row in `images`), `name` (the class as written, trimmed), corners in pixels,
            `difficult`, `truncated`, `occluded`, `crowd`, `pose`, `file`, `line`, `object` (place in the source).
        problems: every fault met, in file order; files are relative to `folder`, images apart whole.
        files: the annotation files that were read, for forgetting older problems of theirs.
        reads: every file and folder that the result depends on, also where it is not there: a pipeline runs the import
            again when one of them changes.
        class_order: class names in the order that the source itself declares, if it does.
    """

    folder: Path
    image_folder: Path
    images: pd.DataFrame
    boxes: pd.DataFrame
    problems: Sequence[Problem]
    files: Sequence[str]
    reads: Sequence[Path] = field(kw_only=True)
    class_order: Sequence[str] = field(default=())


def problem_table(problems: Iterable[Problem], source: str) -> pd.DataFrame:
    """Problems as rows of a dataset's problems table."""
    rows = list(problems)
    values = list(zip(*rows, strict=True)) or [()] * len(Problem._fields)
    columns: dict[str, Any] = dict(zip(Problem._fields, values, strict=True))
    columns["line"], columns["object"] = (pd.array(columns[name], dtype="Int64") for name in ("line", "object"))
    columns |= {"source": source, "action": [row.action for row in rows]}
    return conform(pd.DataFrame(columns, index=range(len(rows))), PROBLEM_COLUMNS)


def mend_boxes(
    boxes: pd.DataFrame, width: NDArray[Any], height: NDArray[Any], *, shift: float = 0.0
) -> tuple[pd.DataFrame, list[Problem]]:
    """Turn boxes as written into boxes that a dataset accepts.

    Reversed corners are exchanged and boxes are clipped at the image (both repaired); what is not finite, or has no
    area after clipping, is taken out (quarantined).

    Args:
        boxes: as in `Incoming.boxes`, corners as written.
        width: of each box's image, in pixels.
        height: likewise.
        shift: pixels to take off the minima, once corners are in order; 1 where a format counts from 1.

    Returns:
        The boxes that remain, with a fresh index, and the problems.
    """
    written: Boxes = boxes[CORNERS].to_numpy(dtype=np.float64)
    finite: NDArray[np.bool_] = np.isfinite(written).all(axis=1)  # pyright: ignore[reportAssignmentType]
    ordered = np.concatenate(
        [np.minimum(written[:, :2], written[:, 2:]), np.maximum(written[:, :2], written[:, 2:])], 1
    )
    shifted = ordered - np.array([shift, shift, 0.0, 0.0])
    mended = clip(np.where(finite[:, None], shifted, 0.0), width, height)
    usable = finite & (mended[:, 2] > mended[:, 0]) & (mended[:, 3] > mended[:, 1])
    reversed_ = usable & (ordered != written).any(axis=1)
    outside = usable & (mended != shifted).any(axis=1)

    problems = []
    files, lines, numbers = (boxes[name].to_numpy() for name in ("file", "line", "object"))
    for kind, rows in (
        ("not_finite", ~finite),
        ("no_area", finite & ~usable),
        ("reversed_corners", reversed_),
        ("outside_image", outside),
    ):
        for row in np.flatnonzero(rows):
            detail = f"{_numbers(written[row])} in an image of {width[row]}×{height[row]}"
            problems.append(Problem(files[row], int(lines[row]), int(numbers[row]), kind, detail))
    kept = boxes.assign(**dict(zip(CORNERS, mended.T, strict=True)))
    return (kept if usable.all() else kept[usable].reset_index(drop=True)), problems


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
