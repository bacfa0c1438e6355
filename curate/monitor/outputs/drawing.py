"""Boxes, classes, scores and tracks drawn on frames, and for a while the name of what was fired."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from curate.monitor.detections import NO_TRACK, Seen
from curate.monitor.triggers.event import Event

if TYPE_CHECKING:
    import supervision as sv

_NAMED_S = 3.0  # how long the name of an event is shown
_MOST_NAMES = 4
_PADDING_PX = 3  # around the text of a label
_LETTER_PX = 22  # height of OpenCV's letters at scale 1
_ALERT = (200, 30, 46)
# told apart with and without colour vision (Okabe and Ito, "Color Universal Design"), and light enough for black text
_COLOURS = ("#E69F00", "#56B4E9", "#00C08B", "#F0E442", "#4FA3FF", "#FF7A3D", "#E79AC6")


class Drawer:
    """Draws on frames of one source.

    Args:
        class_names: by class index.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = class_names
        self._shown: list[tuple[float, str]] = []
        self._annotators: tuple[sv.BoxAnnotator, sv.LabelAnnotator | sv.RichLabelAnnotator, int] | None = None

    def draw(self, pixels: NDArray[np.uint8], seen: Seen, events: Sequence[Event] = ()) -> NDArray[np.uint8]:
        """Return a copy of an H×W×3 uint8 RGB frame with everything on it."""
        import supervision as sv

        drawn = np.ascontiguousarray(pixels).copy()
        if len(seen.scores):
            found = sv.Detections(
                xyxy=seen.boxes_xyxy.astype(np.float32), confidence=seen.scores, class_id=seen.class_indices
            )
            boxes, labels, height_px = self._annotators or self._prepare(pixels)
            drawn = boxes.annotate(drawn, found)
            # a label stands on its box, but never above the frame; supervision's own way to place them all takes a
            # tenth of a second where a hundred overlap
            found.xyxy[:, 1] = np.clip(found.xyxy[:, 1], height_px, max(drawn.shape[0] - 1, height_px))
            found.xyxy[:, 0] = np.clip(found.xyxy[:, 0], 0, drawn.shape[1] - 1)
            drawn = labels.annotate(drawn, found, labels=self._labels(seen))
        return self._name_events(drawn, seen.timestamp_s, events)

    def _prepare(
        self, pixels: NDArray[np.uint8]
    ) -> "tuple[sv.BoxAnnotator, sv.LabelAnnotator | sv.RichLabelAnnotator, int]":
        """Lines and text that fit the frame."""
        import supervision as sv

        height, width = pixels.shape[:2]
        thickness = sv.calculate_optimal_line_thickness((width, height))
        scale = sv.calculate_optimal_text_scale((width, height))
        look = {"color": _palette(), "color_lookup": sv.ColorLookup.CLASS}
        boxes = sv.BoxAnnotator(thickness=thickness, **look)
        text = {"text_color": sv.Color.BLACK, "text_padding": _PADDING_PX, **look}
        if all(name.isascii() for name in self._names):  # OpenCV has no other letters
            labels = sv.LabelAnnotator(text_scale=scale, text_thickness=max(thickness // 2, 1), **text)
            height_px = round(_LETTER_PX * scale)
        else:
            labels = sv.RichLabelAnnotator(font_path=str(_font_file()), font_size=_font_px(scale), **text)
            height_px = _font_px(scale)
        self._annotators = boxes, labels, height_px + 2 * _PADDING_PX
        return self._annotators

    def _labels(self, seen: Seen) -> list[str]:
        rows = zip(seen.class_indices.tolist(), seen.scores.tolist(), seen.track_ids.tolist(), strict=True)
        return [
            f"{self._names[index]} {score:.2f}" + (f" #{track}" if track != NO_TRACK else "")
            for index, score, track in rows
        ]

    def _name_events(self, drawn: NDArray[np.uint8], now_s: float, events: Sequence[Event]) -> NDArray[np.uint8]:
        """The newest events in a corner."""
        self._shown += [(now_s, _name(event)) for event in events]
        self._shown = [(since_s, name) for since_s, name in self._shown if now_s - since_s <= _NAMED_S][-_MOST_NAMES:]
        if self._shown:
            _write_lines(drawn, [name for _, name in self._shown])
        return drawn


def _name(event: Event) -> str:
    return event.trigger if event.track_id is None else f"{event.trigger} #{event.track_id}"


def _palette() -> "sv.ColorPalette":
    """The colours for RGB frames: supervision takes frames for BGR."""
    import supervision as sv

    colours = (sv.Color.from_hex(colour) for colour in _COLOURS)
    return sv.ColorPalette([sv.Color(colour.b, colour.g, colour.r) for colour in colours])


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_file()), size_px)


def _write_lines(drawn: NDArray[np.uint8], lines: Sequence[str]) -> None:
    """Write lines of any letters onto the lower left corner of a frame, in place."""
    import supervision as sv

    height, width = drawn.shape[:2]
    size_px = _font_px(1.2 * sv.calculate_optimal_text_scale((width, height)))
    line_px = 2 * size_px
    top = max(height - line_px * len(lines) - size_px // 2, 0)
    strip = Image.fromarray(drawn[top:])
    pen, font = ImageDraw.Draw(strip), _font(size_px)
    for place, line in enumerate(lines):
        left, upper = size_px // 2, place * line_px
        box = (left, upper, left + pen.textlength(line, font=font) + size_px, upper + round(1.7 * size_px))
        pen.rectangle(box, fill=_ALERT)
        pen.text((left + size_px // 2, upper + round(0.2 * size_px)), line, fill="white", font=font)
    drawn[top:] = np.asarray(strip)


def _font_px(scale: float) -> int:
    return max(round(26 * scale), 9)


def _font_file() -> Path:
    """A font with the letters of most languages, which comes with matplotlib."""
    spec = find_spec("matplotlib")
    origin = spec.origin if spec and spec.origin else ""
    return Path(origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
