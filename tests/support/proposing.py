"""Runs without training, and saving a file as LabelImg does."""

from pathlib import Path

import numpy as np
from builders import write_xml
from corner_engine import CornerDetector, CornerEngine, register

from curate.dataset import Dataset
from curate.engines.base import Detections
from curate.formats.voc.xml_parser import VocParser
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder


def write_run(folder, classes=((1, "masked"), (2, "bare")), *, version=None):
    """A finished run of the corner engine, trained on that version of a dataset."""
    run, dataset = RunFolder(folder), Dataset(Path("anywhere"), tuple(classes))
    config = TrainingConfig.checked(model="corner:any", steps=1)
    run.start(config, dataset, dataset_version=version)
    CornerEngine().train(dataset, run, config)
    return Path(folder)


def find(monkeypatch, boxes_xyxy, scores=None, indices=None):
    """Make the corner engine detect the given boxes in every image; default: class 0, score 0.9."""
    register(monkeypatch)
    boxes = np.array(boxes_xyxy, dtype=float).reshape(-1, 4)
    found = Detections(
        boxes,
        np.array(scores if scores is not None else [0.9] * len(boxes), dtype=float),
        np.array(indices if indices is not None else [0] * len(boxes), dtype=np.int64),
    )
    monkeypatch.setattr(CornerDetector, "predict", lambda self, images: [found] * len(images))


def save_in_labelimg(xml_file, objects=None):
    """Rewrite an XML file as LabelImg does: elements that it does not know are lost.

    `objects`, (class, x0, y0, x1, y1) each, replace those in the file.
    """
    said = VocParser().parse(Path(xml_file).read_bytes())
    drawn = [(one.name, *(int(side) for side in one[1:5])) for one in said.objects] if objects is None else objects
    return write_xml(xml_file, said.filename, drawn, size=(said.width, said.height))
