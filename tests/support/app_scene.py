"""A dataset with a run that makes mistakes of every kind and size, and processes of the app."""

import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import cv2
import numpy as np
import pandas as pd
import pytest
from sample_datasets import LARGE, MEDIUM, SMALL, build_dataset, save

from curate.dataset import Predictions
from curate.evaluation.coco_results import write_results
from curate.fiftyone_app.mongo import FOLDER_VARIABLE, find_mongod
from curate.inference.predictions import _fingerprint
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.store import Store

needs_mongod = pytest.mark.skipif(find_mongod() is None, reason="there is no mongod")

MAIN = "from curate.cli import main; main()"
MASK, BARE = 1, 2
IMAGES = [
    [("with_mask", LARGE)],  # 1, train
    [("with_mask", SMALL)],  # 2, missed
    [("with_mask", SMALL)],  # 3, missed, and something small where nothing is
    [("with_mask", MEDIUM)],  # 4, missed
    [("with_mask", LARGE)],  # 5, found twice
    [("without_mask", MEDIUM)],  # 6, taken for masked
    [("without_mask", LARGE)],  # 7, found too badly
    [],  # 8
    [],  # 9 to 11, not labelled
    [],
    [],
]
SPLITS = ["train", *["val"] * 7, None, None, None]
SOURCES = [*["faces"] * 9, "street", "street"]
STATES = [*["labelled"] * 8, *["unlabelled"] * 3]
DETECTIONS = [
    (3, MASK, (100, 100, 120, 120), 0.7),
    (5, MASK, LARGE, 0.9),
    (5, MASK, (22, 20, 180, 180), 0.8),
    (6, MASK, MEDIUM, 0.75),
    (7, BARE, (20, 20, 180, 84), 0.65),
    (2, MASK, SMALL, 0.2),  # below the operating point
]
MISSED = {"small": 2, "medium": 2, "large": 1}
FALSE_POSITIVES = {"small": 1, "medium": 1, "large": 2}


def save_scene(root, *, runs=("first",)):
    """Save the dataset with its images, and runs with `DETECTIONS`."""
    dataset = build_dataset(
        root,
        IMAGES,
        split=pd.array(SPLITS, dtype="str"),
        source=pd.array(SOURCES, dtype="str"),
        label_state=pd.array(STATES, dtype="str"),
        sha256=pd.array([_content_hash(number) for number in range(len(IMAGES))], dtype="str"),
    )
    save(dataset, pictures=True)
    for run in runs:
        keep_run(root, run)
    return root


def _content_hash(number):
    """SHA-256 of the image file that `sample_datasets.save` draws."""
    _, png = cv2.imencode(".png", np.full((200, 200, 3), number, np.uint8))
    return hashlib.sha256(png).hexdigest()


def keep_run(root, name, detections=DETECTIONS):
    """Save a run with kept detections on the val split, which needs no engine."""
    store = Store(root)
    truth = store.load().select("val")
    folder = RunFolder.named(root, name)
    config = TrainingConfig(model="nobody:none", steps=1)
    folder.start(config, truth, dataset_version=store.head(), dataset_mark=store.mark)
    folder.checkpoints.mkdir(exist_ok=True)
    folder.best.write_text(name)
    rows = [(image_id, class_id, *map(float, box), score) for image_id, class_id, box, score in detections]
    table = pd.DataFrame(rows, columns=["image_id", "class_id", "x0", "y0", "x1", "y1", "score"])
    write_results(Predictions(table), folder.predictions_file("val"))
    (folder.path / "predictions_val.sha256").write_text(_fingerprint(folder.best, truth))
    return folder


@contextmanager
def open_view(root, *arguments, database, ends_by=signal.SIGINT, **environment):
    """Run `curate view` in a process; yields its JSON document and the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "view", str(root), "--json", "--no-browser", *map(str, arguments)],
        env=os.environ | {FOLDER_VARIABLE: str(database)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Ctrl-C may be ignored where the tests run, and what starts there would ignore it too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield _read_document(process), process
    finally:
        if process.poll() is None:
            process.send_signal(ends_by)
        try:
            process.communicate(timeout=30)
        finally:
            process.kill()


def _read_document(process, seconds=120):
    """Read the JSON document that is printed when the app can be opened."""
    text, until = b"", time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        if select.select([process.stdout], [], [], 0.2)[0]:
            text += os.read(process.stdout.fileno(), 1 << 16)
            if text.endswith(b"\n}\n"):
                return json.loads(text)
    process.kill()
    raise AssertionError(f"no document: {text.decode()} {process.communicate()[1]}")


def processes_of(folder):
    """Command lines of running processes that contain a folder."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and not re.search(r"\bps\b", line)]


def await_gone(folder, seconds=15):
    """Wait until no process of the database runs; returns those that still do."""
    until = time.monotonic() + seconds
    while processes_of(folder) and time.monotonic() < until:
        time.sleep(0.05)
    return processes_of(folder)
