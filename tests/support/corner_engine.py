"""An engine that detects the same box in every image, without training; for tests of the code around engines."""

import json
from types import MappingProxyType
from zipfile import is_zipfile

import numpy as np

from curate.dataset import ClassEntry
from curate.engines import base
from curate.engines.base import Detections
from curate.files import failures_at

CORNER = (10.0, 10.0, 30.0, 30.0)  # where `datasets.SMALL` is


class CornerDetector:
    """Detects one box of each class in every image, and counts the images."""

    shown = 0

    def __init__(self, classes, offset_px=0.0):
        self.classes = classes
        self.corners = np.array(CORNER) + np.array((1, 0, 1, 0)) * offset_px

    def predict(self, images):
        """The same detections for every image."""
        type(self).shown += len(images)
        count = len(self.classes)
        boxes = np.tile(self.corners, (count, 1))
        return [Detections(boxes, np.linspace(0.9, 0.6, count), np.arange(count)) for _ in images]


class CornerEngine:
    """Writes checkpoints that hold only the classes, and counts its trainings; `fails` interrupts them.

    `offsets_px` maps names of runs to the offset of their boxes from the corner.
    """

    trainings = 0
    fails = False
    offsets_px = MappingProxyType({})

    def check(self, dataset, config):
        """Every training can start."""

    def train(self, dataset, run, config, progress=None, validate=None):
        """Write a checkpoint at once."""
        type(self).trainings += 1
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        with failures_at(run.last):
            run.last.write_text("half")
        if self.fails:
            raise KeyboardInterrupt
        offset_px = self.offsets_px.get(run.name, 0.0)
        text = json.dumps([offset_px, *(list(entry) for entry in dataset.classes)])
        with failures_at(run.best):
            run.best.write_text(text)
        run.update(steps_done=config.steps, best_step=config.steps)
        return run.best

    def load(self, checkpoint, device="auto"):
        """Read the classes and the offset back."""
        offset_px, *classes = json.loads(checkpoint.read_text())
        return CornerDetector(tuple(ClassEntry(*entry) for entry in classes), offset_px)

    def model_in(self, checkpoint):
        """Its own files do not say; a checkpoint of curate does."""
        if not is_zipfile(checkpoint):
            return None
        from curate.engines.training.checkpoint import read_model_name  # imports torch

        return read_model_name(checkpoint)


def register(monkeypatch):
    """Register `corner:…` for one test, with counters at 0."""
    monkeypatch.setattr(base, "ENGINES", {"corner": base.EngineEntry("corner_engine", "CornerEngine", ())})
    monkeypatch.setattr(CornerDetector, "shown", 0)
    monkeypatch.setattr(CornerEngine, "trainings", 0)
    monkeypatch.setattr(CornerEngine, "fails", False)
    monkeypatch.setattr(CornerEngine, "offsets_px", MappingProxyType({}))
