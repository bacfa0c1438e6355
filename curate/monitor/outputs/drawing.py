"""Draws boxes with class, score and track on frames, and the names of recent events."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from curate.monitor.detections import NO_TRACK, FrameDetections
from curate.monitor.triggers.event import Event

if TYPE_CHECKING:
    import supervision as sv

_EVENT_SHOWN_S = 3.0
_MAX_EVENTS = 4
_PADDING_PX = 3  # around the text beside a box
_LETTER_HEIGHT_PX = 22  # of OpenCV's font at scale 1
_EVENT_COLOUR = (200, 30, 46)
# distinguishable with colour blindness (Okabe and Ito, "Color Universal Design"), and light enough for black text
_COLOURS = ("#E69F00", "#56B4E9", "#00C08B", "#F0E442", "#4FA3FF", "#FF7A3D", "#E79AC6")


class Drawer:
    """Draws on the frames of one source.

    Args:
        class_names: By class index.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._recent: list[tuple[float, str]] = []
        self._annotators: tuple[sv.BoxAnnotator, sv.LabelAnnotator | sv.RichLabelAnnotator, int] | None = None
        self._prepared_for: tuple[int, ...] = ()  # shape of the frames

    def draw(
        self, pixels: NDArray[np.uint8], detections: FrameDetections, events: Sequence[Event] = ()
    ) -> NDArray[np.uint8]:
        """Return a copy of an H×W×3 uint8 RGB frame with boxes and event names."""
        import supervision as sv

        drawn = np.ascontiguousarray(pixels).copy()
        if len(detections.scores):
            rows = sv.Detections(
                xyxy=detections.boxes_xyxy.astype(np.float32),
                confidence=detections.scores,
                class_id=detections.class_indices,
            )
            if self._annotators is None or self._prepared_for != pixels.shape:
                self._annotators, self._prepared_for = self._prepare(pixels), pixels.shape
            boxes, labels, height_px = self._annotators
            drawn = boxes.annotate(drawn, rows)
            # text stands on top of its box, but within the frame; supervision's own placement takes 0.1 s for a hundred
            # overlapping boxes
            rows.xyxy[:, 1] = np.clip(rows.xyxy[:, 1], height_px, max(drawn.shape[0] - 1, height_px))
            rows.xyxy[:, 0] = np.clip(rows.xyxy[:, 0], 0, drawn.shape[1] - 1)
            drawn = labels.annotate(drawn, rows, labels=self._texts(detections))
        return self._draw_events(drawn, detections.timestamp_s, events)

    def _prepare(
        self, pixels: NDArray[np.uint8]
    ) -> "tuple[sv.BoxAnnotator, sv.LabelAnnotator | sv.RichLabelAnnotator, int]":
        """Choose line width and text size for the frame size."""
        import supervision as sv

        height, width = pixels.shape[:2]
        thickness = sv.calculate_optimal_line_thickness((width, height))
        scale = sv.calculate_optimal_text_scale((width, height))
        look = {"color": _palette(), "color_lookup": sv.ColorLookup.CLASS}
        boxes = sv.BoxAnnotator(thickness=thickness, **look)
        text = {"text_color": sv.Color.BLACK, "text_padding": _PADDING_PX, **look}
        if all(name.isascii() for name in self._class_names):  # OpenCV's font has ASCII only
            labels = sv.LabelAnnotator(text_scale=scale, text_thickness=max(thickness // 2, 1), **text)
            height_px = round(_LETTER_HEIGHT_PX * scale)
        else:
            labels = sv.RichLabelAnnotator(font_path=str(_font_file()), font_size=_font_px(scale), **text)
            height_px = _font_px(scale)
        return boxes, labels, height_px + 2 * _PADDING_PX

    def _texts(self, detections: FrameDetections) -> list[str]:
        columns = detections.class_indices, detections.scores, detections.track_ids
        return [
            f"{self._class_names[index]} {score:.2f}" + (f" #{track}" if track != NO_TRACK else "")
            for index, score, track in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def _draw_events(self, drawn: NDArray[np.uint8], now_s: float, events: Sequence[Event]) -> NDArray[np.uint8]:
        """Write the latest events into a corner."""
        self._recent += [(now_s, _event_text(event)) for event in events]
        self._recent = [(since_s, name) for since_s, name in self._recent if now_s - since_s <= _EVENT_SHOWN_S][
            -_MAX_EVENTS:
        ]
        if self._recent:
            _write_lines(drawn, [name for _, name in self._recent])
        return drawn


def _event_text(event: Event) -> str:
    return event.trigger if event.track_id is None else f"{event.trigger} #{event.track_id}"


def _palette() -> "sv.ColorPalette":
    """The colours with red and blue swapped: supervision expects BGR frames, and gets RGB."""
    import supervision as sv

    colours = (sv.Color.from_hex(colour) for colour in _COLOURS)
    return sv.ColorPalette([sv.Color(colour.b, colour.g, colour.r) for colour in colours])


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_file()), size_px)


def _write_lines(drawn: NDArray[np.uint8], lines: Sequence[str]) -> None:
    """Write lines of text, in any script, into the bottom left corner of a frame, in place."""
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
        pen.rectangle(box, fill=_EVENT_COLOUR)
        pen.text((left + size_px // 2, upper + round(0.2 * size_px)), line, fill="white", font=font)
    drawn[top:] = np.asarray(strip)


def _font_px(scale: float) -> int:
    return max(round(26 * scale), 9)


def _font_file() -> Path:
    """DejaVu Sans, which covers most scripts and comes with matplotlib."""
    spec = find_spec("matplotlib")
    origin = spec.origin if spec and spec.origin else ""
    return Path(origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
