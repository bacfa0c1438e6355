"""Where an object of an annotation file is: boxes, rotated boxes and polygons, as annotation tools write them.

Understood are corners (LabelImg, VOC, CVAT), a corner or the centre with width and height (KAIST), a centre with an
angle in radians (roLabelImg's `robndbox`), CVAT's attribute `rotation` in degrees, and lists of points (LabelMe,
FAIR1M, DIOR-R, Roboflow). Rotated boxes and polygons give their hull, the axis-aligned box around them.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

Corners = tuple[float, float, float, float]

_BOXES = frozenset({"bndbox", "bndbox2d", "bbox", "bbox2d", "box", "box2d", "boundingbox", "rect", "rectangle"})
_ROTATED = frozenset({"robndbox", "rbox", "obb", "rotatedbox", "rotatedbndbox"})
_POLYGONS = frozenset({"polygon", "points", "quad"})
_POINTS = frozenset({"pt", "point", "vertex"})
_ANGLES = frozenset({"angle", "rotation", "rotate", "theta"})
_NO_AREAS = frozenset(
    {"point", "points", "keypoint", "keypoints", "line", "linestrip", "polyline", "circle", "ellipse"}
)
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
    ("xtl", "ytl", "xbr", "ybr"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
)
_SIZES = (("w", "h"), ("width", "height"))
_ORIGINS = (("x", "y"), ("left", "top"), ("xmin", "ymin"))
_CENTRES = (("cx", "cy"), ("xcenter", "ycenter"), ("centerx", "centery"))
_NAMES = frozenset({"name", "label", "class", "category", "possibleresult"})
_HINTS = _BOXES | _ROTATED | _POLYGONS | _POINTS | {*_CORNERS[0], "keypoints", "landmarks"}
_KEPT = frozenset({"name", "pose", "truncated", "difficult", "occluded"})
_SIDES = frozenset(_CORNERS[0])
_SPECIAL = _KEPT | _BOXES | _ANGLES | {"bndbox", "deleted", "object"}  # their meaning depends on the others
_PLURALS = frozenset(("objects", "annotations", "boxes", "bboxes", "labels", "regions", "shapes", "targets"))
_BOX_NUMBERS = 4
_FEWEST_POINTS = 3
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_SEPARATORS = re.compile(r"[\s,;()\[\]]+")


class UnclearShapeError(Exception):
    """It is not clear where the object is; `kind` and `detail` are those of a `Fault`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


class Shape(NamedTuple):
    """Where an object is.

    Attributes:
        corners: x0, y0, x1, y1 in pixels, as written.
        notation: What was there, if it is not corners in a `<bndbox>`.
        is_hull: Whether the corners are only the box around what was there.
        used: Children of the object that were read.
        unused: Elements inside them that were not.
    """

    corners: Corners
    notation: str = ""
    is_hull: bool = False
    used: tuple[Any, ...] = ()
    unused: tuple[Any, ...] = ()


@lru_cache(maxsize=4096)
def plain_name(tag: str) -> str:
    """The name of an element without namespace, capitals and separators: `<b:Bnd_Box>` is a bndbox."""
    return tag.rpartition("}")[2].lower().replace("_", "").replace("-", "")


def tag_of(element: Any) -> str:
    """The plain name of an element."""
    return plain_name(element.tag)


def shown(element: Any) -> str:
    """An element in a message."""
    return f"<{element.tag.rpartition('}')[2]}>"


def fields_of(element: Any) -> dict[str, str]:
    """The texts of an element's attributes and of its children without children; the first of a name counts."""
    fields = {tag_of(child): child.text or "" for child in reversed(element) if not len(child)}
    return {plain_name(name): text for name, text in element.attrib.items()} | fields


def describes_object(element: Any) -> bool:
    """Whether an unknown element may be an object: it has coordinates, or a name and four numbers; or may hold some."""
    if tag_of(element) in _PLURALS and (len(element) or (element.text or "").strip()):
        return True
    numbers, is_named = 0, False
    for one in element.iter():
        fields = fields_of(one)
        written = [*fields.values(), one.text or ""]
        names = {tag_of(one), *fields}
        if names & _HINTS or _field_names(fields) or any(map(is_number_list, written)):
            return True
        if any(name.endswith(_CORNERS[0]) for name in names):  # HRSC2016's box_xmin
            return True
        is_named |= tag_of(one) in _NAMES or bool(fields.keys() & _NAMES)
        numbers += sum(len(_NUMBER.findall(text)) for text in fields.values())
    return is_named and numbers >= _BOX_NUMBERS


def is_number_list(text: str | None, *, most_words: int = 1) -> bool:
    """Whether a text is four numbers or more, and at most a word, such as the class of a box."""
    words = [word for word in _SEPARATORS.split(text or "") if word]
    numbers = sum(_NUMBER.fullmatch(word) is not None for word in words)
    return numbers >= _BOX_NUMBERS and len(words) - numbers <= most_words


class UsualObject(NamedTuple):
    """An object with one `<bndbox>` as LabelImg and VOC write it.

    Attributes:
        fields: Texts of its name and flags, by name.
        shape: Its box.
        others: Other children, which are not kept.
    """

    fields: dict[str, str]
    shape: Shape
    others: list[Any]


def read_usual(element: Any) -> UsualObject | None:
    """Read an object that needs no interpretation; None for all others. This is faster, and nearly all objects are."""
    if element.attrib:
        return None
    fields: dict[str, str] = {}
    sides: dict[str, str | None] = {}
    others = []
    for part in element:
        tag = part.tag
        if tag in _KEPT and tag not in fields and not len(part):
            fields[tag] = part.text or ""
        elif tag == "bndbox" and not sides and not part.attrib:
            sides = {side.tag: side.text for side in part}
            if len(part) != len(sides):
                return None
        elif tag == "part" or (not len(part) and not part.attrib and plain_name(tag) == tag and tag not in _SPECIAL):
            others.append(part)
        else:
            return None
    if "name" not in fields or sides.keys() != _SIDES or "_" in "".join(filter(None, sides.values())):
        return None
    try:
        x0, y0, x1, y1 = (float(sides[side] or "") for side in _CORNERS[0])
    except ValueError:
        return None
    return UsualObject(fields, Shape((x0, y0, x1, y1)), others)


def read_shape(element: Any) -> Shape:
    """Find where an object is.

    Args:
        element: `<object>`.

    Raises:
        UnclearShapeError: A coordinate is missing or no number, or it is not clear which area is meant.
    """
    places: list[Any] = []
    for kinds in (_BOXES, _ROTATED, _POLYGONS):  # the first that is there
        places = places or [child for child in element if tag_of(child) in kinds]
    places = places or ([element] if _field_names(fields_of(element)) else [])
    places = places or list(_inner_places(element))
    if not places:
        others = [
            f"{shown(child)}" for child in element if len(child) or child.attrib or tag_of(child) in _HINTS | {"mask"}
        ]
        if others:
            raise UnclearShapeError("unknown_shape", f"no box that is understood, but {', '.join(others)}")
        raise UnclearShapeError("missing_coordinate", ", ".join(_CORNERS[0]))
    turned, turn_name = _turned_by(element)
    shape = _read_place(places[0], turned, turn_name)
    for place in places[1:]:
        if _read_place(place, turned, turn_name).corners != shape.corners:
            raise UnclearShapeError("second_box", f"two {shown(place)} in one object, or two shapes that differ")
    if tag_of(places[0]) in _POLYGONS and fields_of(element).get("type", "").strip().lower() in _NO_AREAS:
        raise UnclearShapeError("unknown_shape", f"<{places[0].tag}> of type {fields_of(element)['type'].strip()!r}")
    if places == [element]:
        names = _field_names(fields_of(element)) or ()
        places = [child for child in element if tag_of(child) in names]
        shape = shape._replace(unused=())
    return shape._replace(used=tuple(places))


def _inner_places(element: Any) -> Iterator[Any]:
    """Shapes below the children of an object, as in LabelMe's `<segm>`; not those of its parts or of other objects."""
    for child in element:
        if tag_of(child) in ("part", "object", "attributes"):
            continue
        for inner in child:
            if tag_of(inner) in _BOXES | _ROTATED | _POLYGONS:
                yield inner
        yield from _inner_places(child)


def _turned_by(element: Any) -> tuple[float, str]:
    """The rotation that an object has beside its shape, in degrees, and where it is written; 0 and "" if it has none.

    Only CVAT's is known to be in degrees about the centre: `<attribute><name>rotation</name><value>30</value>`.
    """
    for attribute in element.iter():
        if tag_of(attribute) == "attribute":
            fields = fields_of(attribute)
            if plain_name(fields.get("name", "").strip()) in _ANGLES:
                return _angle(fields.get("value", ""), "rotation"), ""
    fields = fields_of(element)
    angles = ((_angle(fields[name], name), name) for name in sorted(_ANGLES & fields.keys()))
    return next((one for one in angles if one[0]), (0.0, ""))


def _read_place(place: Any, turned: float, turn_name: str) -> Shape:
    """Read one box, rotated box or polygon.

    Args:
        place: The element.
        turned: Rotation that is written beside it, in degrees.
        turn_name: The element that has it, if its unit is not known.
    """
    fields = fields_of(place)
    if written := _twice(place):
        raise UnclearShapeError("second_box", f"two different {written} in {shown(place)}")
    names = _field_names(fields)
    if names is None and (points := _read_points(place, fields)):
        if turned:
            raise UnclearShapeError("rotated_box", f"{shown(place)} beside a rotation of {turned:g}")
        return _hull(points, f"{shown(place)} of {len(points)} points")
    if names is None:
        _refuse(place, fields)
    missing = [name for name in names if not fields.get(name, "").strip()]
    if missing:
        raise UnclearShapeError("missing_coordinate", ", ".join(missing))
    first, second, third, fourth = (_number(fields[name], name) for name in names)
    is_centred = names[:2] in _CENTRES
    if names[2:] in _SIZES:
        left, top = (first - third / 2, second - fourth / 2) if is_centred else (first, second)
        corners = (left, top, left + third, top + fourth)
    else:
        corners = (first, second, third, fourth)
    angle = next((angle for name in sorted(_ANGLES & fields.keys()) if (angle := _angle(fields[name], name))), 0.0)
    if not angle and not turned:
        is_usual = names == _CORNERS[0] and tag_of(place) == "bndbox"
        unused = tuple(child for child in place if tag_of(child) not in _ANGLES | set(names))
        return Shape(corners, "" if is_usual else f"{shown(place)} of {', '.join(names)}", unused=unused)
    if angle and not turned and is_centred and tag_of(place) in _ROTATED and abs(angle) <= math.tau:
        return _turn(corners, shown(place), angle)
    if turned and not turn_name and not angle:
        return _turn(corners, shown(place), math.radians(turned))
    fact = f"{shown(place)} with a rotation of {angle or turned:g}, whose meaning is not known"
    raise UnclearShapeError("rotated_box", fact)


def _turn(corners: Corners, what: str, radians: float) -> Shape:
    """The hull of a box that is turned about its centre."""
    x0, y0, x1, y1 = corners
    width, height, middle_x, middle_y = abs(x1 - x0), abs(y1 - y0), (x0 + x1) / 2, (y0 + y1) / 2
    cosine, sine = abs(math.cos(radians)), abs(math.sin(radians))
    half_x, half_y = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    hull = (middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y)
    notation = f"{what} of {width:g}×{height:g} px, rotated by {math.degrees(radians):.3g}°"
    return Shape(hull, notation, is_hull=True)


def _hull(points: Sequence[tuple[float, float]], what: str) -> Shape:
    xs, ys = zip(*points, strict=True)
    corners = (min(xs), min(ys), max(xs), max(ys))
    is_box = set(points) == {(x, y) for x in corners[::2] for y in corners[1::2]}
    return Shape(corners, what, is_hull=not is_box)


def _field_names(fields: Mapping[str, str]) -> tuple[str, ...] | None:
    """The four fields that make a box, in the order of a known notation; None if there are none.

    A notation of which a part is missing counts where it is that of VOC: the fault then names what is missing.
    """
    known = fields.keys()
    if known & set(_CORNERS[0][2:]):
        return _CORNERS[0]
    is_polygon = len([name for name in known if re.fullmatch(r"x\d+", name)]) >= _FEWEST_POINTS
    for names in _CORNERS[1:]:
        if set(names) <= known and not is_polygon:
            return names
    for place in (*_CENTRES, *_ORIGINS):
        for size in _SIZES:
            if {*place, *size} <= known:
                return (*place, *size)
    return _CORNERS[0] if known & set(_CORNERS[0]) else None


def _read_points(place: Any, fields: Mapping[str, str]) -> list[tuple[float, float]]:
    """The points of a polygon: children with x and y, fields x1, y1, x2, …, or a text; empty if there are too few."""
    children = [child for child in place.iter() if tag_of(child) in _POINTS and child is not place]
    if children:
        pairs = [_read_point(child) for child in children]
    elif names := [name for name in fields if name[0:1] == "x" and f"y{name[1:]}" in fields]:
        pairs = [(_number(fields[name], name), _number(fields[f"y{name[1:]}"], f"y{name[1:]}")) for name in names]
    else:
        texts = (fields.get("points"), place.text)
        text = next((text for text in texts if text and is_number_list(text, most_words=0)), "")
        numbers = list(map(float, _NUMBER.findall(text)))
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True)) if len(numbers) % 2 == 0 else []
    return pairs if len(pairs) >= _FEWEST_POINTS else []


def _read_point(point: Any) -> tuple[float, float]:
    fields = fields_of(point)
    if {"x", "y"} <= fields.keys():
        return _number(fields["x"], "x"), _number(fields["y"], "y")
    words = re.split(r"[\s,;]+", (point.text or "").strip())
    if len(words) != 2:
        raise UnclearShapeError("missing_coordinate", f"{shown(point)} is {point.text!r}")
    return _number(words[0], "x"), _number(words[1], "y")


def _refuse(place: Any, fields: Mapping[str, str]) -> NoReturn:
    """Raise for a shape that is not understood; the message names what was there."""
    within = [*dict.fromkeys(child.tag for child in place), *place.attrib] or list(fields)
    text = (place.text or "").strip()
    if not within and not text:
        raise UnclearShapeError("missing_coordinate", ", ".join(_CORNERS[0]))
    there = f" of {', '.join(map(str, within))}" if within else f" {text[:40]!r}"
    raise UnclearShapeError("unknown_shape", f"{shown(place)}{there}")


def _twice(place: Any) -> str | None:
    """The name of a coordinate that a shape has twice with different values."""
    seen: dict[str, str | None] = {}
    for child in place:
        name = tag_of(child)
        if name not in _POINTS and not len(child) and seen.setdefault(name, child.text) != child.text:
            return shown(child)
    return None


def _angle(text: str, name: str) -> float:
    """Parse a rotation; 0 if it is empty."""
    return _number(text, name) if text.strip() else 0.0


def _number(text: str | None, name: str) -> float:
    """Parse a coordinate.

    Raises:
        UnclearShapeError: The text is empty or not a number.
    """
    if not text or text.isspace():
        raise UnclearShapeError("missing_coordinate", name)
    try:
        if "_" in text:  # Python reads 1_0 as 10
            raise ValueError
        return float(text)
    except ValueError:
        raise UnclearShapeError("not_finite", f"{text!r} is not a number") from None
