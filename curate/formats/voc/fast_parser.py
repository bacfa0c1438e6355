"""Parses plain annotation files, as LabelImg and the VOC kit usually write them, by regular expressions.

This is many times faster than an XML library, and an import spends most of its time here. The expressions describe
whole files strictly: nested elements only, no attributes, comments, entities or document types, every object with each
part once and nothing else, every value as expected. All other files go to `curate.formats.voc.xml_parser`, which also
reports the faults.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import NamedTuple

from curate.formats.voc.objects import CORNERS, FLAGS, HARMLESS, PARTS, VocFile, VocObject

_OPTIONAL = frozenset({"pose", "occluded"})
_SPACE = r"[ \t\n]*+"
_TEXT = r"[^<>&\x00-\x08\x0b-\x1f\ufffd-\uffff]*+"  # XML 1.0, production 2; not escaped, not lost (fffd)
_INNER = "database|annotation|image|flickrid|name"  # of source and owner
_HEAD = re.compile(
    rf"""(?:<\?xml[ ]version="1\.0"(?:[ ]encoding="(?:utf|UTF)-8")?[ ]?\?>)?{_SPACE}
    <annotation(?:[ ]verified="(?P<verified>\w*+)")?>{_SPACE}
    (?:
        (?:
            <filename>(?P<filename>{_TEXT})</filename>
            | (?P<size><size>){_SPACE}<width>(?P<width>{_TEXT})</width>{_SPACE}<height>(?P<height>{_TEXT})</height>
              {_SPACE}(?:<depth>{_TEXT}</depth>{_SPACE})?</size>
            | <folder>(?P<folder>{_TEXT})</folder>
            | <path>(?P<path>{_TEXT})</path>
            | <(?P<outer>{"|".join(sorted(HARMLESS - {"folder", "path"}))})>
              (?:{_TEXT}|{_SPACE}(?:<(?P<inner>{_INNER})>{_TEXT}</(?P=inner)>{_SPACE})*)</(?P=outer)>
        ){_SPACE}
    )*""",
    re.ASCII | re.VERBOSE,
)
_TAG = re.compile(r"<(\w+)/?>")
_to_float = lru_cache(1 << 16)(float)  # the same whole numbers recur; a look-up is cheaper than parsing


class PlainReader:
    """Reads plain files. Use one per folder: it caches an expression for each order of elements."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, ...], _Shape | None] = {}
        self._latest: _Shape | None = None

    def read(self, data: bytes) -> VocFile | None:
        """Parse a file; None if it is not plain."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None
        if "\r" in text:
            text = text.replace("\r\n", "\n")
        head = _HEAD.match(text)
        if head is None or not _has_each_once(text, head.end()):
            return None
        objects = self._read_objects(text, head.end())
        if objects is None:
            return None
        verified, filename, folder, path = head.group("verified", "filename", "folder", "path")
        width, height = head.group("width", "height")
        return VocFile(
            filename=filename.strip() if filename else "",
            filename_line=_line(text, head.start("filename")),
            width=width.strip() if width is not None else None,
            height=height.strip() if height is not None else None,
            size_line=_line(text, head.start("size")),
            verified=verified == "yes",
            objects=objects,
            faults=[],
            folder=folder.strip() if folder else "",
            path=path.strip() if path else "",
        )

    def _read_objects(self, text: str, start: int) -> list[VocObject] | None:
        """Parse the objects, which must fill the text from `start` to the end of the root; None if they do not."""
        shape = self._latest
        matches = shape.expression.findall(text, start) if shape else []
        if len(matches) != text.count("<object>", start):
            shape = self._latest = self._find_shape(text, start)
            matches = shape.expression.findall(text, start) if shape else []
        written = list(zip(*matches, strict=True)) if matches else [()] * (len(PARTS) + 1)
        end = start + sum(map(len, written[0]))
        if text[end:].rstrip(" \t\n") != "</annotation>":  # something else between or after the objects
            return None
        if shape is None or not matches:
            return []
        lines = accumulate((whole.count("\n") for whole in written[0]), initial=text.count("\n", 0, start) + 1)
        nothing = ("",) * len(matches)
        return _make_objects([written[place] if place else nothing for place in shape.places], list(lines)[:-1])

    def _find_shape(self, text: str, start: int) -> "_Shape | None":
        """The element order of the first object."""
        names = tuple(_TAG.findall(text, start, max(text.find("</object>", start), start)))
        if names not in self._shapes:
            self._shapes[names] = _shape_of(names)
        return self._shapes[names]


class _Shape(NamedTuple):
    """An order of an object's elements.

    Attributes:
        expression: Matches an object and the white space after it; the groups are the whole object and each part.
        places: Position of each of `PARTS` among the groups; None: absent.
    """

    expression: re.Pattern[str]
    places: tuple[int | None, ...]


def _shape_of(names: tuple[str, ...]) -> _Shape | None:
    """The shape for these element names; None unless each part occurs once and nothing else does."""
    known = {"object", "bndbox", *PARTS}
    if len(set(names)) != len(names) or not known - _OPTIONAL <= set(names) <= known:
        return None
    box = names.index("bndbox")
    before, inside, after = names[1:box], names[box + 1 : box + 5], names[box + 5 :]
    if names[0] != "object" or set(inside) != set(CORNERS):
        return None
    corners = "".join(map(_element, inside))
    body = [*map(_element, before), f"<bndbox>{_SPACE}{corners}</bndbox>{_SPACE}", *map(_element, after)]
    groups = [None, *before, *inside, *after]  # the first is the whole
    return _Shape(
        re.compile(f"(<object>{_SPACE}{''.join(body)}</object>{_SPACE})"),
        tuple(groups.index(part) if part in groups else None for part in PARTS),
    )


def _element(name: str) -> str:
    return f"<{name}(?:>({_TEXT})</{name}>|/>){_SPACE}"


def _make_objects(columns: Sequence[Sequence[str]], lines: Sequence[int]) -> list[VocObject] | None:
    """Make objects from columns with the texts of their `PARTS`; None if a value is not as expected."""
    names, poses, truncated, difficult, occluded, *corners = columns
    if not all(name and name == name.strip() for name in names) or any(pose.isspace() for pose in poses):
        return None
    whole = "".join(names)
    if "?" in whole or "\n" in whole or "\t" in whole:  # perhaps a lost name, or a line break in one
        return None
    if "_" in "".join(chain(*corners)):  # Python reads 1_0 as 10
        return None
    try:
        sides = [map(_to_float, side) for side in corners]
        flags = [[FLAGS[text] for text in column] for column in (difficult, truncated)]
        hidden = [text != "" and FLAGS[text] for text in occluded]
        views = [pose or None for pose in poses]
        rows = zip(names, *sides, *flags, hidden, views, lines, range(1, len(lines) + 1), strict=True)
        return list(map(VocObject._make, rows))
    except (ValueError, KeyError):
        return None


def _has_each_once(text: str, end: int) -> bool:
    """Whether no element of the head occurs twice. Written out: it runs for every file."""
    return (
        text.count("<filename>", 0, end) < 2
        and text.count("<folder>", 0, end) < 2
        and text.count("<path>", 0, end) < 2
        and text.count("<size>", 0, end) < 2
    )


def _line(text: str, position: int) -> int | None:
    return text.count("\n", 0, position) + 1 if position >= 0 else None
