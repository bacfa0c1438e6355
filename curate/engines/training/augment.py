"""Sizing and augmentation of training images with their boxes and landmarks, as pure functions on numpy arrays.

Random numbers come from the generator that the caller passes.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from curate.boxes import Boxes, area, clip

_KEEP_VISIBLE_SHARE = 0.35  # a box of which a crop shows less is left out
_MIN_SIDE_PX = 1.5  # at the model's scale; boxes with a shorter side are left out
_FILL = 114  # grey around an image on a larger canvas
_MIRRORED = [1, 0, 2, 4, 3]  # order of the landmarks in a mirror image: left and right are as seen in the picture


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its boxes and, for faces, their landmarks.

    Attributes:
        pixels: H×W×3 uint8 RGB.
        boxes_xyxy: (n, 4) float64, pixel edges in `pixels`.
        class_indices: (n,) int64.
        landmarks: (n, 5, 2) float64, x and y in `pixels` of left eye, right eye, nose, left and right corner of the
            mouth as seen in the picture; NaN where unknown, which is the default. They may lie outside the image.

    Raises:
        ValueError: There are not five landmarks per box.
    """

    pixels: NDArray[np.uint8]
    boxes_xyxy: Boxes
    class_indices: NDArray[np.int64]
    landmarks: NDArray[np.float64] = None  # pyright: ignore[reportAssignmentType]  # set in __post_init__

    def __post_init__(self) -> None:
        shape = (len(self.boxes_xyxy), 5, 2)
        if self.landmarks is None:
            object.__setattr__(self, "landmarks", np.full(shape, np.nan))
        elif self.landmarks.shape != shape:
            raise ValueError(f"landmarks of shape {self.landmarks.shape} for {shape[0]} boxes")

    @property
    def width(self) -> int:
        """In pixels."""
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        """In pixels."""
        return self.pixels.shape[0]


@dataclass(frozen=True)
class Sizing:
    """The size to which images are resized for a model.

    Attributes:
        short_px: Length of the shorter side.
        long_px: Upper limit of the longer side.
        square: Both sides get `short_px`, whatever the aspect ratio.
    """

    short_px: int
    long_px: int
    square: bool = False

    def times(self, factor: float) -> "Sizing":
        """Both lengths multiplied by a factor."""
        return replace(
            self, short_px=max(1, round(self.short_px * factor)), long_px=max(1, round(self.long_px * factor))
        )

    def fitted(self, width: int, height: int, zoom: float = 1.0) -> tuple[int, int]:
        """Width and height for an image of this width and height, times `zoom`; at least 1 pixel each."""
        if self.square:
            side = max(1, round(self.short_px * zoom))
            return side, side
        scale = min(self.short_px / min(width, height), self.long_px / max(width, height)) * zoom
        return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True)
class Augmentation:
    """Random augmentation of training images.

    Attributes:
        zoom_out, zoom_in: Limits of the scale relative to the size at inference.
        window: Side of a training image relative to the size at inference; larger images are cropped. Below 1 a step is
            cheaper, and small objects keep their scale.
        flip: Probability of a mirror image.
        keep_object: Probability that a crop is placed around a random object.
        brightness, contrast: Largest relative change.
    """

    zoom_out: float = 0.8
    zoom_in: float = 1.5
    window: float = 1.0
    flip: float = 0.5
    keep_object: float = 0.7
    brightness: float = 0.25
    contrast: float = 0.25

    def apply(self, sample: Sample, sizing: Sizing, rng: np.random.Generator) -> Sample:
        """An augmented copy of `sample` at the model's size."""
        zoom = float(np.exp(rng.uniform(np.log(self.zoom_out), np.log(self.zoom_in)))) / self.window
        sizing = sizing.times(self.window)
        if zoom > 1:
            result = _window(sample, zoom, self.keep_object, rng)
            result = resize(result, *sizing.fitted(sample.width, sample.height))
        else:
            result = resize(sample, *sizing.fitted(sample.width, sample.height, zoom))
            if sizing.square:
                result = _on_canvas(result, sizing.short_px, rng)
        if rng.random() < self.flip:
            result = flip(result)
        return _vary_light(_without_slivers(result), self.brightness, self.contrast, rng)


def flip(sample: Sample) -> Sample:
    """The mirror image, left and right exchanged."""
    boxes = sample.boxes_xyxy
    mirrored = np.stack([sample.width - boxes[:, 2], boxes[:, 1], sample.width - boxes[:, 0], boxes[:, 3]], axis=1)
    points = sample.landmarks[:, _MIRRORED] * [-1.0, 1.0] + [sample.width, 0.0]
    pixels = np.ascontiguousarray(sample.pixels[:, ::-1])
    return replace(sample, pixels=pixels, boxes_xyxy=mirrored, landmarks=points)


def crop(sample: Sample, left: int, top: int, width: int, height: int) -> Sample:
    """Crop to a window; boxes are cut at its edges and left out if too little of them is visible.

    Landmarks outside the window are kept, with coordinates outside it.
    """
    pixels = sample.pixels[top : top + height, left : left + width]
    moved = sample.boxes_xyxy - np.array([left, top, left, top], dtype=np.float64)
    cut = clip(moved, pixels.shape[1], pixels.shape[0])
    kept = area(cut) >= _KEEP_VISIBLE_SHARE * area(moved)
    return Sample(pixels, cut[kept], sample.class_indices[kept], sample.landmarks[kept] - np.array([left, top]))


def resize(sample: Sample, width: int, height: int) -> Sample:
    """Resize the image with its boxes and landmarks."""
    scale = np.array([width / sample.width, height / sample.height])
    return replace(
        sample,
        pixels=resize_pixels(sample.pixels, width, height),
        boxes_xyxy=sample.boxes_xyxy * np.tile(scale, 2),
        landmarks=sample.landmarks * scale,
    )


def resize_pixels(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """H×W×3 → height×width×3; shrinking averages areas, which prevents aliasing of small objects."""
    import cv2

    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = width < pixels.shape[1] or height < pixels.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=method), dtype=np.uint8)


def _window(sample: Sample, zoom: float, keep_object: float, rng: np.random.Generator) -> Sample:
    """A crop of 1/zoom of each side; with probability `keep_object` it contains a random object."""
    width, height = max(1, round(sample.width / zoom)), max(1, round(sample.height / zoom))
    lows, highs = np.zeros(2), np.array([sample.width - width, sample.height - height], dtype=np.float64)
    if len(sample.boxes_xyxy) and rng.random() < keep_object:
        x0, y0, x1, y1 = sample.boxes_xyxy[rng.integers(len(sample.boxes_xyxy))]
        around_low = np.clip([x1 - width, y1 - height], 0, highs)
        around_high = np.clip([x0, y0], 0, highs)
        lows, highs = np.minimum(around_low, around_high), np.maximum(around_low, around_high)
    left, top = np.floor(rng.uniform(lows, highs + 1e-9)).astype(int)
    return crop(sample, int(left), int(top), width, height)


def _on_canvas(sample: Sample, side_px: int, rng: np.random.Generator) -> Sample:
    """The image at a random position on a grey square."""
    left, top = int(rng.integers(side_px - sample.width + 1)), int(rng.integers(side_px - sample.height + 1))
    canvas = np.full((side_px, side_px, 3), _FILL, dtype=np.uint8)
    canvas[top : top + sample.height, left : left + sample.width] = sample.pixels
    offset = np.array([left, top], dtype=np.float64)
    boxes = sample.boxes_xyxy + np.tile(offset, 2)
    return replace(sample, pixels=canvas, boxes_xyxy=boxes, landmarks=sample.landmarks + offset)


def _without_slivers(sample: Sample) -> Sample:
    """Clip the boxes to the image and leave out those that are too thin."""
    boxes = clip(sample.boxes_xyxy, sample.width, sample.height)
    sides = boxes[:, 2:] - boxes[:, :2]  # (n, 2)
    kept = (sides >= _MIN_SIDE_PX).all(axis=1)
    return replace(
        sample,
        boxes_xyxy=boxes[kept],
        class_indices=sample.class_indices[kept],
        landmarks=sample.landmarks[kept],
    )


def _vary_light(sample: Sample, brightness: float, contrast: float, rng: np.random.Generator) -> Sample:
    gain, offset = rng.uniform(1 - contrast, 1 + contrast), rng.uniform(-brightness, brightness) * 128
    levels = np.clip((np.arange(256) - 128) * gain + 128 + offset, 0, 255).astype(np.uint8)
    return replace(sample, pixels=levels[sample.pixels])
