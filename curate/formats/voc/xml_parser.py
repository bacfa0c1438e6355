"""Parses one annotation file of LabelImg or Pascal VOC.

Formats: the VOC2012 development kit, section 8, and LabelImg's `libs/pascal_voc_io.py`. Document types and entities
are not read, and nothing is fetched.
"""

import codecs
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lxml import etree

from curate.formats.voc.fast_parser import PlainReader
from curate.formats.voc.objects import FLAGS, HARMLESS, PARTS, Fault, VocFile, VocObject
from curate.formats.voc.shapes import (
    UnclearShapeError,
    describes_object,
    fields_of,
    is_number_list,
    plain_name,
    read_shape,
    read_usual,
    shown,
    tag_of,
)

_PROPERTIES = frozenset({"pose", "truncated", "difficult", "occluded", "deleted"})
_HEAD = ("filename", "size", "imagesize")
_VOCABULARY = frozenset({"annotation", "object", "bndbox", *_HEAD, *PARTS})
_NOT_DELETED = frozenset({"", "0", "no", "false"})
_LONGEST_SHOWN = 40
_DECLARED = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)")
_ONE_BYTE = re.compile(rb"iso-8859|latin|windows-12|cp12|us-ascii|ascii|utf-16|utf-32|koi8", re.IGNORECASE)
_THREE_BYTES = "\u0800"  # the first character that takes three bytes in UTF-8
_NOT_UTF8 = "the text is not UTF-8 and declares no other encoding; save it as UTF-8, or declare its encoding"
_LOST_NAME = re.compile(r".*\ufffd.*|\?{2,}", re.DOTALL)
_LINE_BREAK = re.compile(r"[ ]*[\n\r\t]\s*")  # a list of classes has a name a line
_MOST_SHOWN = 3


class UnreadableError(Exception):
    """The file cannot be read; `fault` says why."""

    def __init__(self, kind: str, detail: str, line: int | None = None) -> None:
        super().__init__(detail)
        self.fault = Fault(line, None, kind, detail, "quarantined")


class VocParser:
    """Parses annotation files: plain files by regular expressions, all others element by element."""

    def __init__(self) -> None:
        self._xml, self._utf8_xml = _xml_parser(None), _xml_parser("utf-8")
        self._plain = PlainReader()

    def parse(self, data: bytes) -> VocFile:
        """Parse one file.

        Raises:
            UnreadableError: The file is empty, not XML or cut off, has another root element, or declares a document
                type.
        """
        return self._plain.read(data) or self._parse_elements(data)

    def _parse_elements(self, data: bytes) -> VocFile:
        wrongly_declared = _wrongly_declared(data)
        root = self._parse_root(data, self._utf8_xml if wrongly_declared else self._xml)
        faults: list[Fault] = []
        if wrongly_declared:
            faults.append(Fault(1, None, "other_encoding", f"declares {wrongly_declared}, but is UTF-8", "noted"))
        tags = {element.tag for element in root.iter()}
        names = [tag for tag in tags if plain_name(tag) == "object"]
        elements = [one for one in root.iter(*names) if not _is_container(one)] if names else []
        objects = [
            box
            for number, element in enumerate(elements, start=1)
            if (box := _read_object(element, number, faults)) is not None
        ]
        _note_spelling(root.sourceline, tags, faults)
        _note_others(root, faults, is_nested=any(one.getparent() is not root for one in elements))
        head = {tag_of(child): child for child in reversed(root)}  # the first of a name counts
        size = head.get("size", head.get("imagesize"))  # LabelMe's
        name = head.get("filename")
        if name is None and "source" in head:  # FAIR1M's
            name = next((child for child in head["source"] if tag_of(child) == "filename"), None)
        sides = fields_of(size) if size is not None else {}
        return VocFile(
            filename=_text_of(name),
            filename_line=name.sourceline if name is not None else None,
            width=_side(sides, "width", "ncols"),
            height=_side(sides, "height", "nrows"),
            size_line=size.sourceline if size is not None else None,
            verified=root.get("verified") == "yes",
            objects=objects,
            faults=faults,
            folder=_text_of(head.get("folder")),
            path=_text_of(head.get("path")),
        )

    def _parse_root(self, data: bytes, parser: etree.XMLParser) -> Any:
        try:
            root = etree.fromstring(data, parser)
        except (etree.XMLSyntaxError, ValueError) as error:
            if not data.strip():
                raise UnreadableError("empty_file", "the file is empty") from error
            _refuse_document_type(data, certain=False)  # also if the parser stopped at an entity
            line = error.lineno if isinstance(error, etree.XMLSyntaxError) else None
            reason = _NOT_UTF8 if _is_undeclared(data) else " ".join(str(error).split())
            raise UnreadableError("unreadable_file", reason, line) from error
        if root.getroottree().docinfo.doctype:  # pyright: ignore[reportAttributeAccessIssue] - missing in the stubs
            _refuse_document_type(data, certain=True)
        if tag_of(root) != "annotation":
            detail = f"<{root.tag}>, expected <annotation>, as LabelImg and Pascal VOC write"
            raise UnreadableError("wrong_root", detail, root.sourceline)
        return root


def _xml_parser(encoding: str | None) -> etree.XMLParser:
    return etree.XMLParser(
        encoding=encoding,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
        remove_blank_text=True,
        collect_ids=False,
    )


def _wrongly_declared(data: bytes) -> str | None:
    """The encoding that UTF-8 text declares in its place, as some tools write it; None if the declaration is right.

    Bytes of another encoding are hardly ever UTF-8 by chance; pairs of bytes in Chinese encodings can be.
    """
    declared = _DECLARED.match(data)
    if declared is None or declared[1].lower() == b"utf-8" or data.isascii():
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    is_certain = _ONE_BYTE.match(declared[1]) is not None or max(text) >= _THREE_BYTES
    return declared[1].decode() if is_certain else None


def _is_undeclared(data: bytes) -> bool:
    """Whether a text is not UTF-8 and declares nothing else."""
    declared = _DECLARED.match(data)
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or (declared and declared[1].lower() != b"utf-8"):
        return False
    try:
        return "\0" in data.decode()  # UTF-16 without its mark
    except UnicodeDecodeError:
        return data.lstrip()[:1] == b"<"


def _refuse_document_type(data: bytes, *, certain: bool) -> None:
    start = data.find(b"<!DOCTYPE")
    if certain or start >= 0:
        line = data.count(b"\n", 0, start) + 1 if start >= 0 else None
        raise UnreadableError("declares_dtd", "a document type is declared; it is never read", line)


def _read_object(element: Any, number: int, faults: list[Fault]) -> VocObject | None:
    """Read an object element by element; what is not kept becomes a fault."""
    line = element.sourceline
    usual = read_usual(element)
    fields = usual.fields if usual else fields_of(element)
    if usual is None and fields.get("deleted", "0").strip().lower() not in _NOT_DELETED:
        faults.append(Fault(line, number, "deleted_object", "marked as deleted, left out", "noted"))
        return None
    used: list[Any] = []
    name = _read_name(element, fields, number, faults, used, is_usual=usual is not None)
    shape = usual.shape if usual else None
    try:
        shape = shape or read_shape(element)
    except UnclearShapeError as error:
        if name is not None:
            faults.append(Fault(line, number, error.kind, error.detail, "quarantined"))
    if name is None or shape is None:
        return None
    others = usual.others if usual else _find_others(element, [*used, *shape.used])
    faults += [Fault(one.sourceline, number, "element_not_kept", shown(one), "noted") for one in others]
    faults += [Fault(one.sourceline, number, "element_not_kept", shown(one), "noted") for one in shape.unused]
    if shape.notation:
        kind, action = ("hull", "repaired") if shape.is_hull else ("other_notation", "noted")
        corners = ", ".join(f"{corner:.6g}" for corner in shape.corners)
        verb = "the box around it is" if shape.is_hull else "read as"
        faults.append(Fault(line, number, kind, f"{shape.notation}; {verb} {corners}", action))
    truncated, difficult, occluded = (fields.get(flag) for flag in ("truncated", "difficult", "occluded"))
    flags = FLAGS.get(difficult), FLAGS.get(truncated), FLAGS.get(occluded)
    if None in flags:
        flags = (
            _odd_flag("difficult", difficult, line, number, faults),
            _odd_flag("truncated", truncated, line, number, faults),
            # LabelImg and early VOC years do not write it
            _odd_flag("occluded", occluded, line, number, faults) if occluded is not None else False,
        )
    return VocObject(name, *shape.corners, *flags, fields.get("pose") or None, line, number)  # pyright: ignore[reportArgumentType]


def _find_others(element: Any, used: Sequence[Any]) -> list[Any]:
    """The children of an object that were not read, and are no objects themselves."""
    seen, others = set(), []
    for part in element:
        if part in used or (tag_of(part) in _PROPERTIES and tag_of(part) not in seen):
            seen.add(tag_of(part))
        elif not _holds_objects(part):
            others.append(part)
    return others


def _read_name(
    element: Any, fields: Mapping[str, str], number: int, faults: list[Fault], used: list[Any], *, is_usual: bool
) -> str | None:
    """The class of an object; None, and a fault, if it has none or several. What is read is added to `used`."""
    texts = [fields["name"]] if is_usual else _name_texts(element, fields, used)
    distinct = list(dict.fromkeys(_LINE_BREAK.sub(" ", text.strip()) for text in texts))
    if not any(distinct):
        faults.append(Fault(element.sourceline, number, "empty_name", "the class has no name", "quarantined"))
        return None
    if len(distinct) > 1:
        detail = ", ".join(map(repr, distinct))
        faults.append(Fault(element.sourceline, number, "second_name", detail, "quarantined"))
        return None
    (name,) = distinct
    if _LOST_NAME.fullmatch(name):
        detail = f"{name!r}: its characters were lost when it was saved in another encoding"
        faults.append(Fault(element.sourceline, number, "lost_name", detail, "quarantined"))
        return None
    if name != texts[0]:
        place = "around" if name == texts[0].strip() else "line breaks in"
        faults.append(Fault(element.sourceline, number, "white_space", f"{place} {name!r}", "noted"))
    return name


def _name_texts(element: Any, fields: Mapping[str, str], used: list[Any]) -> list[str]:
    """The class names of an object, in `<name>`, else in FAIR1M's possible results, else under another name."""
    names = [child for child in element if tag_of(child) == "name"]
    guesses = [child for child in element.iter() if tag_of(child) == "possibleresult"]
    if names:
        used += names
        return [child.text or "" for child in names]
    if guesses:
        used += guesses
        return [fields_of(child).get("name", "") for child in guesses]
    key = next((key for key in ("name", "label", "class", "category") if key in fields), None)
    used += [child for child in element if tag_of(child) == key]
    return [fields[key]] if key is not None else []


def _note_others(parent: Any, faults: list[Fault], *, is_nested: bool) -> None:
    """Report what is in the root, or in an element around objects, and is no object.

    What may be an object under a name that is not known counts as lost; the rest is noted.

    Args:
        parent: The element.
        faults: Is extended.
        is_nested: Whether objects of the file are inside other elements than the root.
    """
    known = set(_HEAD) if parent.getparent() is None else set()
    for text, line in [(parent.text, parent.sourceline), *((child.tail, child.sourceline) for child in parent)]:
        if text and not text.isspace():
            _add_other(faults, line, repr(text.strip()[:_LONGEST_SHOWN]), is_object=is_number_list(text))
    for child in parent:
        tag = tag_of(child)
        if tag in known:
            known.discard(tag)
        elif tag != "object" or is_nested:
            if is_nested and _holds_objects(child):
                detail = f"the objects in {shown(child)} were read like others"
                faults.append(Fault(child.sourceline, None, "nested_object", detail, "noted"))
                if tag != "object":
                    _note_others(child, faults, is_nested=True)
            elif tag != "object" and tag not in HARMLESS:
                _add_other(faults, child.sourceline, shown(child), is_object=describes_object(child))


def _add_other(faults: list[Fault], line: int, what: str, *, is_object: bool) -> None:
    if is_object:
        faults.append(
            Fault(line, None, "unknown_element", f"{what} may be an object, expected <object>", "quarantined")
        )
    else:
        faults.append(Fault(line, None, "element_not_kept", what, "noted"))


def _note_spelling(line: int, tags: set[str], faults: list[Fault]) -> None:
    """Note names in capitals or of a namespace that were read like those of VOC."""
    odd = sorted(tag for tag in tags if plain_name(tag) != tag and plain_name(tag) in _VOCABULARY)
    if odd:
        detail = ", ".join(f"<{tag}>" for tag in odd[:_MOST_SHOWN]) + (", …" if len(odd) > _MOST_SHOWN else "")
        faults.append(Fault(line, None, "other_spelling", detail, "noted"))


def _is_container(element: Any) -> bool:
    """Whether an `<object>` has objects inside, and is none itself."""
    return not any(tag_of(child) in ("name", "bndbox") for child in element) and _holds_objects(element)


def _holds_objects(element: Any) -> bool:
    return any(tag_of(one) == "object" for one in element.iterdescendants())


def _odd_flag(flag: str, text: str | None, line: int, number: int, faults: list[Fault]) -> bool:
    """Parse a flag that is missing or not 0 or 1: true, yes and padded digits are accepted, others are noted."""
    word = (text or "").strip().lower()
    if word not in FLAGS:
        detail = f"<{flag}> is {'missing' if text is None else repr(text)}"
        faults.append(Fault(line, number, "odd_flag", detail, "noted"))
    return word in ("1", "true", "yes")


def _text_of(element: Any) -> str:
    return (element.text or "").strip() if element is not None else ""


def _side(fields: Mapping[str, str], *names: str) -> str | None:
    return next((fields[name].strip() for name in names if name in fields), None)
