"""An engine that learns nothing: it finds the same box in every image. For tests of what surrounds engines."""

import json

import numpy as np

from curate.dataset import ClassEntry
from curate.engines import base
from curate.engines.base import Detections

CORNER = (10.0, 10.0, 30.0, 30.0)  # where `datasets.SMALL` is


class CornerDetector:
    """Finds one box of every class in every image, and counts the images it was shown."""

    shown = 0

    def __init__(self, classes):
        self.classes = classes

    def predict(self, images):
        """The same answer for every image."""
        type(self).shown += len(images)
        count = len(self.classes)
        boxes = np.tile(np.array([CORNER]), (count, 1))
        return [Detections(boxes, np.linspace(0.9, 0.6, count), np.arange(count)) for _ in images]


class CornerEngine:
    """Writes checkpoints that hold only the classes, and counts its trainings; `fails` stops it half way."""

    trainings = 0
    fails = False

    def train(self, dataset, run, config, progress=None, validate=None):
        """Write a checkpoint at once."""
        type(self).trainings += 1
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        run.last.write_text("half")
        if self.fails:
            raise KeyboardInterrupt
        run.best.write_text(json.dumps([list(entry) for entry in dataset.classes]))
        run.update(steps_done=config.steps, best_step=config.steps)
        return run.best

    def load(self, checkpoint, device="auto"):
        """Read the classes back."""
        return CornerDetector(tuple(ClassEntry(*entry) for entry in json.loads(checkpoint.read_text())))


def register(monkeypatch):
    """Make `corner:…` a model, for one test, with counters at 0."""
    monkeypatch.setattr(base, "ENGINES", {"corner": ("corner_engine", "CornerEngine")})
    monkeypatch.setattr(CornerDetector, "shown", 0)
    monkeypatch.setattr(CornerEngine, "trainings", 0)
    monkeypatch.setattr(CornerEngine, "fails", False)
