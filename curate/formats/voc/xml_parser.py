"""Parses one annotation file of LabelImg or Pascal VOC.

Formats: the VOC2012 development kit, section 8, and LabelImg's `libs/pascal_voc_io.py`. Document types and entities
are not read, and nothing is fetched.
"""

from typing import Any

from lxml import etree

from curate.formats.voc.fast_parser import PlainReader
from curate.formats.voc.objects import CORNERS, FLAGS, PARTS, Fault, VocFile, VocObject


class UnreadableError(Exception):
    """The file cannot be read; `fault` says why."""

    def __init__(self, kind: str, detail: str, line: int | None = None) -> None:
        super().__init__(detail)
        self.fault = Fault(line, None, kind, detail, "quarantined")


class VocParser:
    """Parses annotation files: plain files by regular expressions, all others element by element."""

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
        self._plain = PlainReader()

    def parse(self, data: bytes) -> VocFile:
        """Parse one file.

        Raises:
            UnreadableError: The file is empty, not XML or cut off, has another root element, or declares a document
                type.
        """
        return self._plain.read(data) or self._parse_elements(data)

    def _parse_elements(self, data: bytes) -> VocFile:
        root = self._parse_root(data)
        faults: list[Fault] = []
        size, name = root.find("size"), root.find("filename")
        objects = [
            box
            for number, element in enumerate(root.iterchildren("object"), start=1)
            if (box := _read_object(element, number, faults)) is not None
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
            folder=_text(root, "folder") or "",
            path=_text(root, "path") or "",
        )

    def _parse_root(self, data: bytes) -> Any:
        try:
            root = etree.fromstring(data, self._xml)
        except (etree.XMLSyntaxError, ValueError) as error:
            if not data.strip():
                raise UnreadableError("empty_file", "the file is empty") from error
            _refuse_document_type(data, certain=False)  # also if the parser stopped at an entity
            line = error.lineno if isinstance(error, etree.XMLSyntaxError) else None
            raise UnreadableError("unreadable_file", " ".join(str(error).split()), line) from error
        if root.getroottree().docinfo.doctype:  # pyright: ignore[reportAttributeAccessIssue] - missing in the stubs
            _refuse_document_type(data, certain=True)
        if root.tag != "annotation":
            raise UnreadableError("wrong_root", f"<{root.tag}>, expected <annotation>", root.sourceline)
        return root


def _refuse_document_type(data: bytes, *, certain: bool) -> None:
    start = data.find(b"<!DOCTYPE")
    if certain or start >= 0:
        line = data.count(b"\n", 0, start) + 1 if start >= 0 else None
        raise UnreadableError("declares_dtd", "a document type is declared; it is never read", line)


def _read_object(element: Any, number: int, faults: list[Fault]) -> VocObject | None:
    """Read an object element by element; elements that are not kept become faults."""
    texts: dict[str, str | None] = {}
    for part in element:
        if part.tag == "bndbox" and not texts.keys() & set(CORNERS):
            texts |= {side.tag: side.text for side in part if side.tag in CORNERS}
        elif part.tag in PARTS and part.tag not in CORNERS and part.tag not in texts:
            texts[part.tag] = part.text
        else:
            faults.append(Fault(part.sourceline, number, "element_not_kept", f"<{part.tag}>", "noted"))
    return _make_object([texts.get(part) for part in PARTS], element.sourceline, number, faults)


def _make_object(texts: list[str | None], line: int, number: int, faults: list[Fault]) -> VocObject | None:
    """Make an object from the texts of its `PARTS`; None, and a fault, if it has no name or no corners."""
    written, pose, truncated, difficult, occluded, *corners = texts
    name = (written or "").strip()
    if not name:
        faults.append(Fault(line, number, "empty_name", "the class has no name", "quarantined"))
        return None
    if name != written:
        faults.append(Fault(line, number, "white_space", f"around {name!r}", "noted"))
    try:
        x0, y0, x1, y1 = map(_number, corners)
    except TypeError:
        missing = [side for side, text in zip(CORNERS, corners, strict=True) if not (text or "").strip()]
        faults.append(Fault(line, number, "missing_coordinate", ", ".join(missing), "quarantined"))
        return None
    except ValueError as error:
        faults.append(Fault(line, number, "not_finite", str(error), "quarantined"))
        return None
    flags = FLAGS.get(difficult), FLAGS.get(truncated), FLAGS.get(occluded)
    if None in flags:
        flags = (
            _odd_flag("difficult", difficult, line, number, faults),
            _odd_flag("truncated", truncated, line, number, faults),
            # LabelImg and early VOC years do not write it
            _odd_flag("occluded", occluded, line, number, faults) if occluded is not None else False,
        )
    return VocObject(name, x0, y0, x1, y1, *flags, pose or None, line, number)  # pyright: ignore[reportArgumentType]


def _number(text: str | None) -> float:
    """Parse a coordinate.

    Raises:
        TypeError: The text is missing or empty.
        ValueError: The text is not a number.
    """
    if not text or text.isspace():
        raise TypeError
    if "_" in text:  # Python reads 1_0 as 10
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def _odd_flag(flag: str, text: str | None, line: int, number: int, faults: list[Fault]) -> bool:
    """Parse a flag that is missing or not 0 or 1: true, yes and padded digits are accepted, others are noted."""
    word = (text or "").strip().lower()
    if word not in FLAGS:
        detail = f"<{flag}> is {'missing' if text is None else repr(text)}"
        faults.append(Fault(line, number, "odd_flag", detail, "noted"))
    return word in ("1", "true", "yes")


def _text(parent: Any, tag: str) -> str | None:
    element = parent.find(tag) if parent is not None else None
    return (element.text or "").strip() if element is not None else None
