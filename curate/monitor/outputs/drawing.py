"""Draws boxes with class, score and track on frames, and the names of recent events."""

from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from curate.boxes import Boxes
from curate.monitor.detections import NO_TRACK, FrameDetections
from curate.monitor.triggers.event import Event

if TYPE_CHECKING:
    import supervision as sv

_EVENT_SHOWN_S = 3.0
_MAX_EVENTS = 4
_PADDING_PX = 3  # around the text beside a box
_EVENT_COLOUR = (200, 30, 46)
# distinguishable with colour blindness (Okabe and Ito, "Color Universal Design"), and light enough for black text
_COLOURS = ("#E69F00", "#56B4E9", "#00C08B", "#F0E442", "#4FA3FF", "#FF7A3D", "#E79AC6")

Pixels = NDArray[np.uint8]


class Drawer:
    """Draws on the frames of one source.

    Args:
        class_names: By class index.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._recent: list[tuple[float, str]] = []

    def draw(self, pixels: Pixels, detections: FrameDetections, events: Sequence[Event] = ()) -> Pixels:
        """Return a copy of an H×W×3 uint8 RGB frame with boxes and event names."""
        import supervision as sv

        drawn = np.ascontiguousarray(pixels).copy()
        height, width = drawn.shape[:2]
        lines = self._event_lines(detections.timestamp_s, events, width, height)
        if len(detections.scores):
            rows = sv.Detections(xyxy=detections.boxes_xyxy.astype(np.float32), class_id=detections.class_indices)
            drawn = _box_annotator(sv.calculate_optimal_line_thickness((width, height))).annotate(drawn, rows)
            self._draw_labels(drawn, detections, [area for area, _ in lines])
        for area, label in lines:
            _paste(drawn, label, *area[:2])
        return drawn

    def _draw_labels(self, drawn: Pixels, detections: FrameDetections, taken: Sequence[Sequence[int]]) -> None:
        """Write class, score and track beside each box, in place."""
        import supervision as sv

        height, width = drawn.shape[:2]
        font_px = _font_px(sv.calculate_optimal_text_scale((width, height)))
        colours = [_COLOURS[index % len(_COLOURS)] for index in detections.class_indices.tolist()]
        labels = [
            _render(text, font_px, "black", colour, _PADDING_PX)
            for text, colour in zip(self._texts(detections), colours, strict=True)
        ]
        # by track, so that labels keep their places from frame to frame
        order = np.lexsort((-detections.scores, detections.track_ids == NO_TRACK, detections.track_ids))
        sizes = [labels[row].shape[1::-1] for row in order]
        places = place_labels(detections.boxes_xyxy[order], sizes, width, height, taken)
        for row, (left, top) in zip(order, places.tolist(), strict=True):
            _paste(drawn, labels[row], left, top)

    def _texts(self, detections: FrameDetections) -> list[str]:
        columns = detections.class_indices, detections.scores, detections.track_ids
        return [
            f"{self._class_names[index]} {score:.2f}" + (f" #{track}" if track != NO_TRACK else "")
            for index, score, track in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def _event_lines(
        self, now_s: float, events: Sequence[Event], width: int, height: int
    ) -> list[tuple[tuple[int, int, int, int], Pixels]]:
        """Place and picture of the names of the latest events, in the bottom left corner."""
        import supervision as sv

        recent = self._recent + [(now_s, _event_text(event)) for event in events]
        self._recent = [(since_s, name) for since_s, name in recent if now_s - since_s <= _EVENT_SHOWN_S][-_MAX_EVENTS:]
        if not self._recent:
            return []
        font_px = _font_px(1.2 * sv.calculate_optimal_text_scale((width, height)))
        labels = [_render(name, font_px, "white", _EVENT_COLOUR, font_px // 3) for _, name in self._recent]
        line_px = labels[0].shape[0] + font_px // 4
        left, top = font_px // 2, max(height - line_px * len(labels) - font_px // 4, 0)
        return [
            ((left, top + line_px * place, left + label.shape[1], top + line_px * place + label.shape[0]), label)
            for place, label in enumerate(labels)
        ]


def place_labels(
    boxes_xyxy: Boxes, sizes: Sequence[tuple[int, int]], width: int, height: int, taken: ArrayLike = ()
) -> NDArray[np.int64]:
    """Choose places for labels, in turn: close to their boxes, within the picture, and not on one another.

    Where no place is free, the label covers as little as possible of others.

    Args:
        boxes_xyxy: (n, 4), the boxes.
        sizes: Width and height of each label.
        width: Picture width in pixels.
        height: Picture height in pixels.
        taken: (m, 4), other areas to keep free.

    Returns:
        (n, 2) left and top of each label.
    """
    others = np.asarray(taken, dtype=np.float64).reshape(-1, 4)
    areas = np.concatenate([others, np.empty((len(sizes), 4))])
    limits = np.array([width, height], dtype=np.float64)
    for count, (box, size) in enumerate(
        zip(np.clip(boxes_xyxy, 0, [*limits, *limits]), sizes, strict=True), len(others)
    ):
        placed = areas[:count]
        columns, rows = _corners_at_box(box, *size)
        area, covered = _choose_area(columns, rows, size, limits, placed)
        if covered:  # next to another label, as close to the box as possible
            stacked = np.concatenate([placed[:, 3], placed[:, 1] - size[1]])
            stacked = stacked[np.argsort(np.abs(stacked - rows[0]), kind="stable")]
            other, other_covered = _choose_area(np.full(len(stacked), columns[0]), stacked, size, limits, placed)
            area = other if other_covered < covered else area
        areas[count] = area
    return areas[len(others) :, :2].astype(np.int64)


def _corners_at_box(
    box: NDArray[np.float64], label_width: int, label_height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left and top of a label at its box: above, below, beside, inside; the best place first. (c,), (c,)"""
    x0, y0, x1, y1 = box.tolist()
    above, right, left = y0 - label_height, x1 - label_width, x0 - label_width
    columns = [x0, right, x0, right, x1, left, x0, x0]
    rows = [above, above, y1, y1, y0, y0, y0, y1 - label_height]
    return np.array(columns), np.array(rows)


def _choose_area(
    columns: NDArray[np.float64],
    rows: NDArray[np.float64],
    size: tuple[int, int],
    limits: NDArray[np.float64],
    placed: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """The first of the places that cover least of other labels, moved into the picture, and what it covers in px²."""
    corners = np.clip(np.stack([columns, rows], axis=1), 0, np.maximum(limits - size, 0)).round()
    areas = np.concatenate([corners, corners + size], axis=1)  # (c, 4)
    sides = np.minimum(areas[:, None, 2:], placed[:, 2:]) - np.maximum(areas[:, None, :2], placed[:, :2])
    covered = np.maximum(sides, 0).prod(axis=2).sum(axis=1)
    best = int(np.argmin(covered))
    return areas[best], float(covered[best])


def _event_text(event: Event) -> str:
    return event.trigger if event.track_id is None else f"{event.trigger} #{event.track_id}"


@cache
def _box_annotator(thickness: int) -> "sv.BoxAnnotator":
    """With red and blue swapped: supervision expects BGR frames, and gets RGB."""
    import supervision as sv

    colours = (sv.Color.from_hex(colour) for colour in _COLOURS)
    palette = sv.ColorPalette([sv.Color(colour.b, colour.g, colour.r) for colour in colours])
    return sv.BoxAnnotator(thickness=thickness, color=palette, color_lookup=sv.ColorLookup.CLASS)


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_file()), size_px)


@lru_cache(maxsize=256)
def _render(text: str, font_px: int, colour: str, background: str | tuple[int, int, int], padding_px: int) -> Pixels:
    """A line of text in any script, as a picture. H×W×3"""
    font = _font(font_px)
    ascent, descent = font.getmetrics()
    size = round(font.getlength(text)) + 2 * padding_px, ascent + descent + 2 * padding_px
    picture = Image.new("RGB", size, background)
    ImageDraw.Draw(picture).text((padding_px, padding_px), text, fill=colour, font=font)
    return np.asarray(picture)


def _paste(drawn: Pixels, label: Pixels, left: int, top: int) -> None:
    """Copy a picture into a frame, in place; what lies outside is cut off."""
    part = drawn[top : top + label.shape[0], left : left + label.shape[1]]
    part[:] = label[: part.shape[0], : part.shape[1]]


def _font_px(scale: float) -> int:
    return max(round(26 * scale), 9)


def _font_file() -> Path:
    """DejaVu Sans, which covers most scripts and comes with matplotlib."""
    spec = find_spec("matplotlib")
    origin = spec.origin if spec and spec.origin else ""
    return Path(origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
