"""What an annotation file of LabelImg or Pascal VOC says, whichever way it was read."""

from collections.abc import Mapping
from typing import NamedTuple

PARTS = ("name", "pose", "truncated", "difficult", "occluded", "xmin", "ymin", "xmax", "ymax")
CORNERS = PARTS[5:]
FLAGS: Mapping[str | None, bool] = {"0": False, "1": True}


class Fault(NamedTuple):
    """Something wrong inside a file; see `curate.formats.incoming.Problem` for the kinds."""

    line: int | None
    object: int | None
    kind: str
    detail: str


class VocObject(NamedTuple):
    """One box as written, corners in pixels; `number` counts the file's objects from 1."""

    name: str
    x0: float
    y0: float
    x1: float
    y1: float
    difficult: bool
    truncated: bool
    occluded: bool
    pose: str | None
    line: int
    number: int


class VocFile(NamedTuple):
    """What an annotation file says; sizes are the text found, None where there is none."""

    filename: str
    filename_line: int | None
    width: str | None
    height: str | None
    size_line: int | None
    verified: bool
    objects: list[VocObject]
    faults: list[Fault]
