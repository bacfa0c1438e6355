"""One annotation file of LabelImg or Pascal VOC: bytes in, what it says out.

Formats: the VOC2012 development kit, section 8, and LabelImg's `libs/pascal_voc_io.py`. Document types and entities
are never read, nothing is fetched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lxml import etree

_PARTS = ("name", "pose", "truncated", "difficult", "occluded", "xmin", "ymin", "xmax", "ymax")
_CORNERS = _PARTS[5:]
_OPTIONAL = frozenset({"pose", "occluded"})
_FLAGS: Mapping[str | None, bool] = {"0": False, "1": True}
_ABSENT = -1


class Fault(NamedTuple):
    """Something wrong inside a file; see `curate.formats.incoming.Problem` for the kinds."""

    line: int | None
    object: int | None
    kind: str
    detail: str


class UnreadableError(Exception):
    """A file of which nothing can be taken."""

    def __init__(self, kind: str, detail: str, line: int | None = None) -> None:
        super().__init__(detail)
        self.fault = Fault(line, None, kind, detail)


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


@dataclass(frozen=True, slots=True)
class VocFile:
    """What an annotation file says; sizes are the text found, None where there is none."""

    filename: str
    filename_line: int | None
    width: str | None
    height: str | None
    size_line: int | None
    verified: bool
    objects: list[VocObject]
    faults: list[Fault]


class VocParser:
    """Parses annotation files.

    Nearly all files of a folder have one shape: the same elements in the same order in every object. The parser walks
    a file once, compares each object's element names with the shapes it knows, and then takes the texts by position;
    anything else is read element by element. That halves the time of an import.
    """

    def __init__(self) -> None:
        self._xml = etree.XMLParser(
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            remove_comments=True,
            remove_pis=True,
            remove_blank_text=True,
            collect_ids=False,
        )
        self._shapes: dict[tuple[str, ...], tuple[int, ...] | None] = {}

    def parse(self, data: bytes) -> VocFile:
        """Parse one file.

        Raises:
            UnreadableError: empty, not XML, cut off, another root element, or a document type is declared.
        """
        root = self._parse_root(data)
        elements = list(root.iter())
        tags = [element.tag for element in elements]
        starts = [place for place, tag in enumerate(tags) if tag == "object"]
        faults: list[Fault] = []
        size, name = root.find("size"), root.find("filename")
        objects = self._objects_by_shape(elements, tags, starts, faults)
        if objects is None:
            faults.clear()
            objects = [
                found
                for number, element in enumerate(root.iterchildren("object"), start=1)
                if (found := _read_object(element, number, faults)) is not None
            ]
        return VocFile(
            filename=(name.text or "").strip() if name is not None else "",
            filename_line=name.sourceline if name is not None else None,
            width=_text(size, "width"),
            height=_text(size, "height"),
            size_line=size.sourceline if size is not None else None,
            verified=root.get("verified") == "yes",
            objects=objects,
            faults=faults,
        )

    def _parse_root(self, data: bytes) -> Any:
        try:
            root = etree.fromstring(data, self._xml)
        except (etree.XMLSyntaxError, ValueError) as error:
            if not data.strip():
                raise UnreadableError("empty_file", "the file is empty") from error
            line = error.lineno if isinstance(error, etree.XMLSyntaxError) else None
            raise UnreadableError("unreadable_file", " ".join(str(error).split()), line) from error
        if root.getroottree().docinfo.doctype:
            raise UnreadableError("declares_dtd", "a document type is declared; it is never read", 1)
        if root.tag != "annotation":
            raise UnreadableError("wrong_root", f"<{root.tag}>, expected <annotation>", root.sourceline)
        return root

    def _objects_by_shape(
        self, elements: list[Any], tags: list[str], starts: list[int], faults: list[Fault]
    ) -> list[VocObject] | None:
        """Objects taken by position; None if one has a shape that must be read element by element."""
        objects = []
        for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(tags)], strict=True), start=1):
            names = tuple(tags[start:end])
            try:
                shape = self._shapes[names]
            except KeyError:
                shape = self._shapes[names] = _shape(names)
            if shape is None:
                return None
            texts = [elements[start + place].text if place != _ABSENT else None for place in shape]
            found = _make_object(texts, elements[start].sourceline, number, faults)
            if found is not None:
                objects.append(found)
        return objects


def _shape(names: tuple[str, ...]) -> tuple[int, ...] | None:
    """Positions of an object's parts among its element names; None unless each is there once and nothing else is."""
    body = names[1:]
    known = {*_PARTS, "bndbox"}
    if len(set(body)) != len(body) or not set(body) <= known or not known - _OPTIONAL <= set(body):
        return None
    if body.index("bndbox") + 1 != min(body.index(corner) for corner in _CORNERS):
        return None
    return tuple(names.index(part) if part in body else _ABSENT for part in _PARTS)


def _read_object(element: Any, number: int, faults: list[Fault]) -> VocObject | None:
    """An object of unusual shape, element by element; what cannot be kept is listed."""
    texts: dict[str, str | None] = {}
    for part in element:
        if part.tag == "bndbox" and not texts.keys() & set(_CORNERS):
            texts |= {side.tag: side.text for side in part if side.tag in _CORNERS}
        elif part.tag in _PARTS and part.tag not in _CORNERS and part.tag not in texts:
            texts[part.tag] = part.text or ""
        else:
            faults.append(Fault(part.sourceline, number, "element_not_kept", f"<{part.tag}>"))
    return _make_object([texts.get(part) for part in _PARTS], element.sourceline, number, faults)


def _make_object(texts: list[str | None], line: int, number: int, faults: list[Fault]) -> VocObject | None:
    """An object from the texts of its `_PARTS`; None, and a fault, where it has no name or no corners."""
    written, pose, truncated, difficult, occluded, *corners = texts
    name = (written or "").strip()
    if not name:
        faults.append(Fault(line, number, "empty_name", "the class has no name"))
        return None
    if name != written:
        faults.append(Fault(line, number, "white_space", f"around {name!r}"))
    try:
        x0, y0, x1, y1 = map(_number, corners)
    except TypeError:
        missing = [side for side, text in zip(_CORNERS, corners, strict=True) if not text]
        faults.append(Fault(line, number, "missing_coordinate", ", ".join(missing)))
        return None
    except ValueError as error:
        faults.append(Fault(line, number, "not_finite", str(error)))
        return None
    flags = _FLAGS.get(difficult), _FLAGS.get(truncated), _FLAGS.get(occluded)
    if None in flags:
        flags = (
            _odd_flag("difficult", difficult, line, number, faults),
            _odd_flag("truncated", truncated, line, number, faults),
            # not of VOC's first years, nor of LabelImg
            _odd_flag("occluded", occluded, line, number, faults) if occluded is not None else False,
        )
    return VocObject(name, x0, y0, x1, y1, *flags, pose or None, line, number)  # pyright: ignore[reportArgumentType]


def _number(text: str | None) -> float:
    """A coordinate.

    Raises:
        TypeError: there is none.
        ValueError: it is no number.
    """
    if not text:
        raise TypeError
    if "_" in text:  # Python would read 1_0 as ten
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def _odd_flag(flag: str, text: str | None, line: int, number: int, faults: list[Fault]) -> bool:
    """A flag that may be missing or neither 0 nor 1: listed, and taken for what it seems to mean."""
    word = (text or "").strip().lower()
    if word not in _FLAGS:
        faults.append(Fault(line, number, "odd_flag", f"<{flag}> is {'missing' if text is None else repr(text)}"))
    return word in ("1", "true", "yes")


def _text(parent: Any, tag: str) -> str | None:
    element = parent.find(tag) if parent is not None else None
    return (element.text or "").strip() if element is not None else None
