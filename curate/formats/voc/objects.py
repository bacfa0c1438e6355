"""The content of an annotation file of LabelImg or Pascal VOC, as both parsers return it."""

from collections.abc import Mapping
from typing import NamedTuple

from curate.columns import Action

PARTS = ("name", "pose", "truncated", "difficult", "occluded", "xmin", "ymin", "xmax", "ymax")
CORNERS = PARTS[5:]
# Elements beside the objects that are not kept, and that nobody misses; the file name and the size are read
HARMLESS = frozenset({"folder", "path", "source", "owner", "segmented"})
FLAGS: Mapping[str | None, bool] = {"0": False, "1": True}


class Fault(NamedTuple):
    """A `curate.formats.incoming.Problem` without its file."""

    line: int | None
    object: int | None
    kind: str
    detail: str
    action: Action


class VocObject(NamedTuple):
    """A box as written: corners in pixels; `number` is its position in the file, from 1."""

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
    """An annotation file; `width` and `height` are the text of `<size>`, None if it is missing.

    `filename`, `folder` and `path` name the image; "" if they are missing.
    """

    filename: str
    filename_line: int | None
    width: str | None
    height: str | None
    size_line: int | None
    verified: bool
    objects: list[VocObject]
    faults: list[Fault]
    folder: str = ""
    path: str = ""
