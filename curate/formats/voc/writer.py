"""Writes XML for LabelImg: boxes to correct, and proposals, which do not count until a person has saved them.

Elements and their order are those of LabelImg's `libs/pascal_voc_io.py`; corners are pixels from 0 to the image's side,
without a shift (decision 0002), rounded for proposals. A proposal has a mark with a hash of the text after it, which
LabelImg does not write: saving the file with any program removes or invalidates the mark (decision 0014).
"""

import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.boxes import Boxes
from curate.columns import CORNERS
from curate.files import write_atomically

_MARK = re.compile(rb"<annotation>curate proposal ([0-9a-f]{16})</annotation>")
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2
_HEAD = """<annotation{verified}>
\t<folder>{folder}</folder>
\t<filename>{filename}</filename>
\t<path>{path}</path>
\t<source>
\t\t<database>Unknown</database>"""
_PROPOSED = """
\t\t<annotation>curate proposal {digest}</annotation>"""
_SIZE = """
\t</source>
\t<size>
\t\t<width>{width}</width>
\t\t<height>{height}</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
"""
_NO_POSE = "Unspecified"
_OCCLUDED = "\n\t\t<occluded>1</occluded>"
_OBJECT = """\t<object>
\t\t<name>{name}</name>
\t\t<pose>{pose}</pose>
\t\t<truncated>{truncated}</truncated>
\t\t<difficult>{difficult}</difficult>{occluded}
\t\t<bndbox>
\t\t\t<xmin>{x0}</xmin>
\t\t\t<ymin>{y0}</ymin>
\t\t\t<xmax>{x1}</xmax>
\t\t\t<ymax>{y1}</ymax>
\t\t</bndbox>
\t</object>
"""


class TruthBox(NamedTuple):
    """A box drawn by a person; corners in pixels. A pose that is not text counts as missing."""

    name: str
    x0: float
    y0: float
    x1: float
    y1: float
    pose: object
    truncated: bool
    difficult: bool
    occluded: bool


def proposal_xml(image_file: Path, width: int, height: int, names: Sequence[str], boxes_xyxy: Boxes) -> bytes:
    """The proposed boxes of an image as an XML file for LabelImg.

    Corners are rounded to whole pixels, at least one apart.

    Args:
        image_file: The image.
        width, height: Size of the upright image, in pixels.
        names: Class of each box. (n,)
        boxes_xyxy: Pixel edges inside the image. (n, 4)
    """
    objects = [
        _OBJECT.format(
            name=_text(name),
            # LabelImg's rule: a box that touches an edge is truncated
            truncated=int(x0 <= 1 or y0 <= 1 or x1 == width or y1 == height),
            pose=_NO_POSE,
            difficult=0,
            occluded="",
            **{"x0": x0, "y0": y0, "x1": x1, "y1": y1},
        )
        for name, (x0, y0, x1, y1) in zip(names, _whole_pixels(boxes_xyxy, width, height).tolist(), strict=True)
    ]
    rest = _rest(width, height, objects)
    return (_head(image_file) + _PROPOSED.format(digest=_digest(rest))).encode() + rest


def truth_xml(image_file: Path, width: int, height: int, boxes: Iterable[TruthBox], *, verified: bool = False) -> bytes:
    """The boxes of an image as LabelImg would have saved them, with unrounded corners.

    Args:
        image_file: The image.
        width, height: Size of the upright image, in pixels.
        boxes: Its boxes.
        verified: LabelImg's mark of a checked image.
    """
    objects = [
        _OBJECT.format(
            name=_text(box.name),
            pose=_text(box.pose if isinstance(box.pose, str) else _NO_POSE),
            truncated=int(box.truncated),
            difficult=int(box.difficult),
            occluded=_OCCLUDED if box.occluded else "",
            **{name: _number(getattr(box, name)) for name in CORNERS},
        )
        for box in boxes
    ]
    return _head(image_file, ' verified="yes"' if verified else "").encode() + _rest(width, height, objects)


def write_proposal(xml_file: Path, xml: bytes) -> bool:
    """Write a proposal atomically, unless the file exists and a person has saved it.

    Returns:
        Whether the file has the proposal now.
    """
    if xml_file.exists():
        existing = xml_file.read_bytes()
        if existing == xml or not is_proposal(existing):
            return existing == xml
    write_atomically(xml_file, lambda file: file.write(xml))
    return True


def is_proposal(data: bytes) -> bool:
    """Whether the bytes of an XML file are a proposal that nobody has saved since it was written."""
    mark = _MARK.search(data)
    return mark is not None and _digest(data[mark.end() :]).encode() == mark[1]


def _head(image_file: Path, verified: str = "") -> str:
    whole = image_file.absolute()
    return _HEAD.format(
        verified=verified, folder=_text(whole.parent.name), filename=_text(whole.name), path=_text(str(whole))
    )


def _rest(width: int, height: int, objects: Sequence[str]) -> bytes:
    return (_SIZE.format(width=width, height=height) + "".join(objects) + "</annotation>\n").encode()


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _digest(rest: bytes) -> str:
    # line ends may change when a file is copied between systems
    return hashlib.sha256(rest.replace(b"\r\n", b"\n")).hexdigest()[:16]


def _whole_pixels(boxes_xyxy: Boxes, width: int, height: int) -> NDArray[np.int64]:
    """Corners as integers, at least one apart. (n, 4)"""
    whole = np.rint(boxes_xyxy).astype(np.int64)
    is_thin = whole[:, 2:] <= whole[:, :2]  # its pixel is the one in which it begins
    low = np.where(is_thin, np.floor(boxes_xyxy[:, :2]).astype(np.int64), whole[:, :2])
    low = np.minimum(low, np.array([width, height]) - 1)
    return np.concatenate([low, np.maximum(whole[:, 2:], low + 1)], axis=1)


def _text(text: str) -> str:
    return html.escape(_NOT_XML.sub("?", text), quote=False)
