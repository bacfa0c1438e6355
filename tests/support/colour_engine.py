"""An engine that detects red and blue squares, with scores by their saturation."""

import json
from zipfile import is_zipfile

import cv2
import numpy as np

from curate.dataset import ClassEntry
from curate.engines import base
from curate.engines.base import Detections

CLASSES = (ClassEntry(1, "red"), ClassEntry(2, "blue"))
MODEL = "colour:squares"


class ColourDetector:
    """Detects every red or blue patch with sides of 8 pixels or more; `before` is called with each batch."""

    classes = CLASSES
    share = 1.0  # of its scores
    before = staticmethod(lambda images: None)

    def predict(self, images):
        """One result per image, in descending order of score."""
        type(self).before(images)
        return [self._find(image.astype(int)) for image in images]

    def _find(self, image):
        boxes, scores, classes = [], [], []
        for index, channel in enumerate((0, 2)):
            others = [other for other in range(3) if other != channel]
            strength = image[:, :, channel] - image[:, :, others].max(axis=2)
            count, _, stats, _ = cv2.connectedComponentsWithStats((strength > 100).astype(np.uint8))
            for x, y, width, height, _ in stats[1:count].tolist():
                if min(width, height) >= 8:
                    boxes.append([x, y, x + width, y + height])
                    middle = strength[y + height // 4 : y + 3 * height // 4, x + width // 4 : x + 3 * width // 4]
                    scores.append(min(float(np.median(middle)) / 200, 0.99) * self.share)
                    classes.append(index)
        order = np.argsort(scores)[::-1]
        return Detections(
            np.array(boxes, dtype=np.float64).reshape(-1, 4)[order],
            np.array(scores, dtype=np.float64)[order],
            np.array(classes, dtype=np.int64)[order],
        )


class ColourEngine:
    """Loads a detector from any file."""

    def load(self, checkpoint, device="auto"):
        """Any JSON file is a checkpoint."""
        json.loads(checkpoint.read_text())
        return ColourDetector()

    def model_in(self, checkpoint):
        """Its own files do not say; a checkpoint of curate does."""
        if not is_zipfile(checkpoint):
            return None
        from curate.engines.training.checkpoint import read_model_name  # imports torch

        return read_model_name(checkpoint)


def register(monkeypatch):
    """Register `colour:squares` for one test."""
    monkeypatch.setattr(base, "ENGINES", {"colour": base.EngineEntry("colour_engine", "ColourEngine", ())})
    monkeypatch.setattr(ColourDetector, "before", staticmethod(lambda images: None))


def write_weights(folder):
    """Write a weights file for it."""
    file = folder / "weights.json"
    file.write_text("{}")
    return file
