"""Detector and classifier as one detector.

The score of a detection is the detector's score times the class's probability: that there is an object, and that it is
of this class if there is one. So it falls where either stage is unsure, as the score of a detector with classes of its
own does, and thresholds, precision and recall mean the same for both.

A box is told under its most probable classes, not under one only, as other detectors do it: COCO's AP ranks the
detections of each class apart, so that a second guess far down costs nothing and finds what the first one missed.
Above a score of 0.5 there is one class a box all the same, since the probabilities of its classes sum to 1.
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
from curate.engines.two_stage.crops import cut, squares_around
from curate.engines.two_stage.settings import TwoStage

_TOGETHER = 64  # crops that go through the classifier at once


class TwoStageDetector:
    """The boxes of one detector, the classes of a classifier; see `Detector`.

    Args:
        first: finds the boxes; its classes do not matter.
        classifier: (b, 3, s, s) in 0..1 → (b, classes) probabilities, on `device` and in evaluation mode.
        settings: how both work together.
        crop_px: side of the crops.
        classes: of the classifier, in its order.
        device: where it computes.
    """

    def __init__(
        self,
        first: Detector,
        classifier: nn.Module,
        settings: TwoStage,
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
        """The same with another first stage."""
        return TwoStageDetector(first, self._classifier, self._settings, self._crop_px, self._classes, self._device)

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Find objects; see `Detector.predict`. The crops of all images go through the classifier together.

        Raises:
            DataError: something that is no H×W×3 uint8 array; the message names its index.
        """
        if not images:
            return []
        check_images(images)
        found = [
            self._objects(answer, pixels) for answer, pixels in zip(self.first.predict(images), images, strict=True)
        ]
        crops = [
            cut(pixels, square, self._crop_px)
            for (boxes, _), pixels in zip(found, images, strict=True)
            for square in squares_around(clip(boxes, pixels.shape[1], pixels.shape[0]), self._settings.margin)
        ]
        probabilities = self._classify(crops)  # (all boxes, classes)
        ends = np.cumsum([len(boxes) for boxes, _ in found])
        return [
            self._detections(boxes, scores, own)
            for (boxes, scores), own in zip(found, np.split(probabilities, ends[:-1]), strict=True)
        ]

    def _objects(self, answer: Detections, pixels: NDArray[np.uint8]) -> tuple[Boxes, NDArray[np.float64]]:
        """The detector's boxes (n, 4) that count, each once, whatever classes it gave them, and their scores (n,)."""
        boxes, scores = answer.boxes_xyxy, answer.scores
        visible = area(clip(boxes, pixels.shape[1], pixels.shape[0])) > 0  # what is no number is not, either
        taken = visible & np.isfinite(boxes).all(axis=1) & (scores >= self._settings.score)
        boxes, scores = boxes[taken], scores[taken]
        kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), self._settings.merge_iou).numpy()
        return boxes[kept], scores[kept]

    def _classify(self, crops: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        parts = [np.empty((0, len(self._classes)))]
        with torch.inference_mode():
            for start in range(0, len(crops), _TOGETHER):
                part = torch.from_numpy(np.stack(crops[start : start + _TOGETHER]).transpose(0, 3, 1, 2))
                answer: Tensor = self._classifier(part.to(self._device).float() / 255)
                parts.append(answer.double().cpu().numpy())
        return np.concatenate(parts)

    def _detections(self, boxes: Boxes, scores: NDArray[np.float64], probabilities: NDArray[np.float64]) -> Detections:
        told = min(self._settings.classes_per_box, len(self._classes))
        likely = np.argsort(-probabilities, axis=1, kind="stable")[:, :told]  # (n, told)
        products = (scores[:, None] * np.take_along_axis(probabilities, likely, axis=1)).ravel()
        order = np.argsort(-products, kind="stable")
        order = order[products[order] >= self._settings.score]
        return Detections(np.repeat(boxes, told, axis=0)[order], products[order], likely.ravel()[order])


class RememberedBoxes:
    """A detector that looks at each image once: during a training of the second stage the first one stays as it is."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._known: dict[bytes, Detections] = {}

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """Those of the detector."""
        return self._detector.classes

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """See `Detector.predict`."""
        marks = [_mark(pixels) for pixels in images]
        new = {mark: pixels for mark, pixels in zip(marks, images, strict=True) if mark not in self._known}
        if new:
            self._known.update(zip(new, self._detector.predict(list(new.values())), strict=True))
        return [self._known[mark] for mark in marks]


def _mark(pixels: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(pixels.tobytes(), salt=repr(pixels.shape).encode()[:16], digest_size=16).digest()
