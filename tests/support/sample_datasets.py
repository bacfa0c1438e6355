"""Builders of `Dataset` values and dataset folders, without annotation files."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from curate.boxes import xyxy_to_xywh
from curate.columns import CORNERS
from curate.dataset import Dataset
from curate.store import Store

CLASSES = ("with_mask", "without_mask", "badly_masked")
SMALL, MEDIUM, LARGE = (10, 10, 30, 30), (10, 10, 60, 60), (20, 20, 180, 180)  # 20², 50² and 160² pixels


def build_dataset(root="faces", images=(), classes=CLASSES, side_px=200, **columns):
    """A dataset of square labelled images `001.png`, `002.png`, …

    Args:
        images: one list an image, of (class name, (x0, y0, x1, y1)).
        columns: further columns of the images table, such as `split` or `video_id`.
    """
    count = len(images)
    ids = {name: number for number, name in enumerate(classes, 1)}
    rows = [(number, name, *box) for number, boxes in enumerate(images, 1) for name, box in boxes]
    table = {
        "image_id": range(1, count + 1),
        "path": pd.array([f"media/images/faces/{number:03d}.png" for number in range(1, count + 1)], dtype="str"),
        "width": [side_px] * count,
        "height": [side_px] * count,
        "source": ["faces"] * count,
        "label_state": ["labelled"] * count,
        "sha256": [hashlib.sha256(str(number).encode()).hexdigest() for number in range(1, count + 1)],
    }
    return Dataset(
        Path(root),
        tuple((id_, name) for name, id_ in ids.items()),
        pd.DataFrame(table | columns),
        pd.DataFrame(
            {
                "box_id": range(1, len(rows) + 1),
                "image_id": [row[0] for row in rows],
                "class_id": [ids[row[1]] for row in rows],
                **{corner: [float(row[2 + place]) for row in rows] for place, corner in enumerate(CORNERS)},
                "original_class": pd.array([row[1] for row in rows], dtype="str"),
            }
        ),
    )


def face_dataset(root="faces", **columns):
    """Eight images: 7 with_mask, 3 without_mask, 1 badly_masked of all sizes; the last image has no box."""
    images = [
        [("with_mask", SMALL), ("without_mask", LARGE)],
        [("with_mask", MEDIUM), ("with_mask", LARGE)],
        [("badly_masked", SMALL)],
        [("with_mask", LARGE)],
        [("without_mask", MEDIUM), ("with_mask", SMALL)],
        [("without_mask", SMALL)],
        [("with_mask", MEDIUM), ("with_mask", SMALL)],
        [],
    ]
    return build_dataset(root, images, **columns)


def many_images(count=400, videos=None, seed=0, **columns):
    """Images with 1 to 6 boxes in the proportions 79 : 18 : 3; every tenth has none."""
    random = np.random.default_rng(seed)
    names = ("with_mask", "without_mask", "badly_masked")
    images = [
        [(names[pick], MEDIUM) for pick in random.choice(3, random.integers(1, 7), p=[0.79, 0.18, 0.03])]
        if number % 10
        else []
        for number in range(count)
    ]
    if videos:
        columns["video_id"] = pd.array([f"video {number % videos}" for number in range(count)], dtype="str")
    return build_dataset(images=images, **columns)


def video_rows(ids, **columns):
    """Rows of a videos table: one per id, with a file of that name."""
    paths = pd.array([f"media/videos/{name}.mp4" for name in ids], dtype="str")
    return pd.DataFrame({"video_id": pd.array(ids, dtype="str"), "path": paths, "width": 64, "height": 48} | columns)


def save(dataset, *, pictures=False):
    """Commit a dataset as the first version of its folder; `pictures` also writes its image files."""
    for number, path in enumerate(dataset.images["path"] if pictures else ()):
        file = dataset.image_file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        row = dataset.images.iloc[number]
        cv2.imwrite(str(file), np.full((row["height"], row["width"], 3), number, np.uint8))
    Store(dataset.root).commit("build", {}, lambda before: dataset.replace(next_ids=before.next_ids))
    return dataset.root


def set_column(root, name, values):
    """Commit other values for a column of the images table."""
    Store(root).commit("set", {name: list(values)}, lambda now: now.replace(images=now.images.assign(**{name: values})))


def results_of(dataset, *, score=0.9):
    """A dataset's own boxes as COCO results."""
    boxes = dataset.boxes
    return [
        {"image_id": image_id, "category_id": class_id, "bbox": bbox, "score": score}
        for image_id, class_id, bbox in zip(
            boxes["image_id"].tolist(),
            boxes["class_id"].tolist(),
            xyxy_to_xywh(dataset.boxes_xyxy).tolist(),
            strict=True,
        )
    ]


def write_json(path, document):
    """Write a JSON file and return its path."""
    path.write_text(json.dumps(document))
    return path


def write_text(path, text):
    """Write a text file and return its path."""
    path.write_text(text)
    return path


def run_curate(*arguments, folder=None, **environment):
    """Run the command line in a new process; returns stdout, stderr and returncode."""
    return subprocess.run(
        [sys.executable, "-c", "from curate.cli import main; main()", *map(str, arguments)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
