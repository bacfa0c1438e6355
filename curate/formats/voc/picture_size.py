"""The size that an annotation file gives, beside the size of its picture, and what follows for the boxes.

LabelImg before September 2020 showed pictures as they are stored and ignored EXIF; its size then says that the boxes
are in the stored frame, and they are turned with the picture. Any other disagreement has no single meaning: the picture
may have been resized after it was labelled, or the size may be wrong.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

from curate.formats.voc.objects import VocFile, VocObject
from curate.formatting import count_of, listed
from curate.images import ImageFacts

SizeMismatch = Literal["scale", "keep"]
Relation = Literal["same", "missing", "stored", "either", "other"]

_Frame = tuple[float, float]  # width, height


class Fitted(NamedTuple):
    """The objects of an annotation file, in the frame of the upright picture.

    Attributes:
        relation: How the two sizes are related: the same; "missing": none is given; "stored": that of the stored
            picture, which EXIF turns; "either": EXIF turns the picture and the size does not tell; or other.
        objects: The objects; moved ones have new corners.
        is_clear: Whether the boxes can be trusted.
        moved: How the boxes were moved: "turned", "scaled", or "".
    """

    relation: Relation
    objects: Sequence[VocObject]
    is_clear: bool = True
    moved: Literal["", "turned", "scaled"] = ""


def fit_to_picture(annotation: VocFile, facts: ImageFacts, mismatch: SizeMismatch | None, shift: float) -> Fitted:
    """Compare the sizes, and move the boxes where that is clear.

    Args:
        annotation: The file.
        facts: Of its picture.
        mismatch: What is right where the sizes disagree: "scale": the picture was resized after it was labelled;
            "keep": the boxes fit the picture as it is; None: nobody has said it.
        shift: Pixels by which minima are too large in the file; 1 where pixels are counted from 1.
    """
    objects, upright, stored = annotation.objects, (facts.width, facts.height), facts.stored_size
    if annotation.width == str(upright[0]) and annotation.height == str(upright[1]) and facts.orientation == 1:
        return Fitted("same", objects)
    given = _side(annotation.width), _side(annotation.height)
    if all(side is None or side == own for side, own in zip(given, upright, strict=True)):
        is_stored_too = all(side is None or side == own for side, own in zip(given, stored, strict=True))
        if facts.orientation != 1 and is_stored_too and len(objects) > 0:
            return Fitted("either", objects)
        return Fitted("missing" if None in given else "same", objects)
    if given == stored:
        if mismatch == "keep":
            return Fitted("stored", objects)
        return Fitted("stored", [_move(one, shift, None, facts) for one in objects], moved="turned")
    if mismatch != "scale" or given[0] is None or given[1] is None:
        return Fitted("other", objects, is_clear=mismatch == "keep")
    size = given[0], given[1]
    if size == (upright[1], upright[0]):  # nobody squeezes a picture into its own shape, turned
        return Fitted("other", objects, is_clear=False)
    frame = stored if _has_shape(size, stored) and not _has_shape(size, upright) else upright
    turning = facts if frame != upright else None
    factors = frame[0] / size[0], frame[1] / size[1]
    return Fitted("other", [_move(one, shift, factors, turning) for one in objects], moved="scaled")


def turn_upright(
    corners: tuple[float, float, float, float], orientation: int, stored: _Frame
) -> tuple[float, float, float, float]:
    """Move a box from the stored picture to the upright one (CIPA DC-008, tag 0x0112).

    Args:
        corners: x0, y0, x1, y1, pixel edges.
        orientation: 1 to 8.
        stored: Width and height of the stored picture.
    """
    x0, y0, x1, y1 = corners
    if orientation in (2, 3, 7, 8):
        x0, x1 = stored[0] - x1, stored[0] - x0
    if orientation in (3, 4, 6, 7):
        y0, y1 = stored[1] - y1, stored[1] - y0
    return (y0, x0, y1, x1) if orientation in (5, 6, 7, 8) else (x0, y0, x1, y1)


class SizeNotes:
    """Collects the annotation files whose size contradicts the picture, for the sentences at the end of an import."""

    def __init__(self, mismatch: SizeMismatch | None) -> None:
        self._mismatch = mismatch
        self._files: dict[str, list[str]] = defaultdict(list)  # what happened → files

    def add(self, file: str, fitted: Fitted) -> None:
        """Count a file whose sizes do not agree."""
        if fitted.moved:
            self._files[fitted.moved].append(file)
        elif fitted.relation in ("stored", "other"):
            self._files["kept" if fitted.is_clear else "unclear"].append(file)

    def sentences(self, either: Sequence[str], *, is_doubtful: bool) -> tuple[str, ...]:
        """A sentence for each kind of contradiction.

        Args:
            either: Files whose size does not tell the frame, of pictures that EXIF turns.
            is_doubtful: Whether they are incomplete, because other boxes of the source are in the stored frame.
        """
        reason = "the size in the XML is not that of the picture"
        remedy = (
            "Import again with --size-mismatch scale if pictures were resized after they were labelled, "
            "or with --size-mismatch keep if the boxes fit as they are."
            if self._mismatch is None
            else "These sizes cannot be scaled: correct the XML, or use --size-mismatch keep."
        )
        texts = {
            "unclear": ("", f"incomplete, because {reason}", remedy),
            "scaled": ("The boxes of ", f"scaled: {reason}", ""),
            "kept": ("The boxes of ", f"kept as they are, although {reason}", ""),
            "turned": ("The boxes of ", "turned with the picture: they were drawn on it as it is stored (EXIF)", ""),
        }
        files = self._files if self._mismatch == "keep" else {**self._files, "either": either}
        fact = "EXIF turns the picture, and the size in the XML does not tell whether the boxes turn with it"
        texts["either"] = (
            ("", f"incomplete: {fact}", "Import again with --size-mismatch keep if they do not.")
            if is_doubtful
            else ("The boxes of ", f"kept as they are: {fact}", "")
        )
        return tuple(
            f"{before}{count_of(len(files[kind]), 'image')} {'is' if len(files[kind]) == 1 and not before else 'are'} "
            f"{fact} ({listed(files[kind])}). {remedy}".rstrip()
            for kind, (before, fact, remedy) in texts.items()
            if files.get(kind)
        )


def _side(text: str | None) -> int | None:
    """A side in pixels; None if it is missing, zero (as many tools write) or no whole number."""
    try:
        side = float(text or "")
    except ValueError:
        return None
    return int(side) if 0 < side < math.inf and side == int(side) else None


def _has_shape(size: _Frame, other: _Frame) -> bool:
    """Whether two sizes have the same shape, to the rounding of one pixel."""
    return abs(size[1] - size[0] * other[1] / other[0]) <= 1


def _move(one: VocObject, shift: float, factors: _Frame | None, turning: ImageFacts | None) -> VocObject:
    """Scale and turn an object; a box with a coordinate that is not finite stays as it is."""
    written = one[1:5]
    if not all(map(math.isfinite, written)):
        return one
    x0, x1 = sorted(written[::2])
    y0, y1 = sorted(written[1::2])
    across, down = factors or (1.0, 1.0)
    corners = (x0 - shift) * across, (y0 - shift) * down, x1 * across, y1 * down
    if turning is not None:
        corners = turn_upright(corners, turning.orientation, turning.stored_size)
    return one._replace(x0=corners[0] + shift, y0=corners[1] + shift, x1=corners[2], y1=corners[3])
