"""Detector and classifier combined into one detector.

The score of a detection is the detector's score times the probability of the class: P(object) · P(class | object). It
is low if either stage is unsure, as the score of a detector with classes of its own is, so that thresholds, precision
and recall mean the same for both.

Each box becomes detections of its most probable classes, not of one only, as with other detectors: COCO's AP ranks the
detections of each class separately, so that a second guess at a low rank costs nothing and finds objects that the first
guess missed. Above a score of 0.5 a box has one class, because the probabilities of its classes sum to 1.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import nms

from curate.boxes import Boxes, area, clip
from curate.dataset import ClassEntry
from curate.engines.base import Detections, Detector, check_images
from curate.engines.two_stage.crops import crop_square, squares_around
from curate.engines.two_stage.settings import TwoStageSettings

_CROPS_AT_ONCE = 64  # through the classifier


class TwoStageDetector:
    """The boxes of one detector with the classes of a classifier; see `Detector`.

    Args:
        first: Finds the boxes; its classes are ignored.
        classifier: (b, 3, s, s) in 0..1 → (b, classes) probabilities, on `device` and in evaluation mode.
        settings: How both stages work together.
        crop_px: Side of the crops.
        classes: Of the classifier, in its order.
        device: Of the classifier.
    """

    def __init__(
        self,
        first: Detector,
        classifier: nn.Module,
        settings: TwoStageSettings,
        crop_px: int,
        classes: tuple[ClassEntry, ...],
        device: torch.device,
    ) -> None:
        self.first = first
        self._classifier, self._settings, self._crop_px = classifier, settings, crop_px
        self._classes, self._device = classes, device

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """In the order of `Detections.class_indices`."""
        return self._classes

    def with_first(self, first: Detector) -> "TwoStageDetector":
        """A copy with another first stage."""
        return TwoStageDetector(first, self._classifier, self._settings, self._crop_px, self._classes, self._device)

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """See `Detector.predict`. The crops of all images go through the classifier together.

        Raises:
            DataError: An element is not an H×W×3 uint8 array; the message names its index.
        """
        if not images:
            return []
        check_images(images)
        objects = [
            self._objects(answer, pixels) for answer, pixels in zip(self.first.predict(images), images, strict=True)
        ]
        crops = [
            crop_square(pixels, square, self._crop_px)
            for (boxes, _), pixels in zip(objects, images, strict=True)
            for square in squares_around(clip(boxes, pixels.shape[1], pixels.shape[0]), self._settings.margin)
        ]
        probabilities = self._classify(crops)  # (all boxes, classes)
        ends = np.cumsum([len(boxes) for boxes, _ in objects])
        return [
            self._detections(boxes, scores, own)
            for (boxes, scores), own in zip(objects, np.split(probabilities, ends[:-1]), strict=True)
        ]

    def _objects(self, answer: Detections, pixels: NDArray[np.uint8]) -> tuple[Boxes, NDArray[np.float64]]:
        """The detector's boxes (n, 4) to classify, each once whatever its classes, and their scores (n,)."""
        boxes, scores = answer.boxes_xyxy, answer.scores
        visible = area(clip(boxes, pixels.shape[1], pixels.shape[0])) > 0  # False for NaN
        kept = visible & np.isfinite(boxes).all(axis=1) & (scores >= self._settings.score)
        boxes, scores = boxes[kept], scores[kept]
        best = nms(torch.from_numpy(boxes), torch.from_numpy(scores), self._settings.merge_iou).numpy()
        return boxes[best], scores[best]

    def _classify(self, crops: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        parts = [np.empty((0, len(self._classes)))]
        with torch.inference_mode():
            for start in range(0, len(crops), _CROPS_AT_ONCE):
                part = torch.from_numpy(np.stack(crops[start : start + _CROPS_AT_ONCE]).transpose(0, 3, 1, 2))
                answer: Tensor = self._classifier(part.to(self._device).float() / 255)
                parts.append(answer.double().cpu().numpy())
        return np.concatenate(parts)

    def _detections(self, boxes: Boxes, scores: NDArray[np.float64], probabilities: NDArray[np.float64]) -> Detections:
        count = min(self._settings.classes_per_box, len(self._classes))
        likely = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]  # (n, count)
        products = (scores[:, None] * np.take_along_axis(probabilities, likely, axis=1)).ravel()
        order = np.argsort(-products, kind="stable")
        order = order[products[order] >= self._settings.score]
        return Detections(np.repeat(boxes, count, axis=0)[order], products[order], likely.ravel()[order])


class CachedDetector:
    """Runs a detector once per image: while the second stage is trained, the first one does not change."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._cache: dict[bytes, Detections] = {}

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """The detector's classes."""
        return self._detector.classes

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """See `Detector.predict`."""
        digests = [_digest(pixels) for pixels in images]
        new = {digest: pixels for digest, pixels in zip(digests, images, strict=True) if digest not in self._cache}
        if new:
            self._cache.update(zip(new, self._detector.predict(list(new.values())), strict=True))
        return [self._cache[digest] for digest in digests]


def _digest(pixels: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(pixels.tobytes(), salt=repr(pixels.shape).encode()[:16], digest_size=16).digest()
