"""How many images a second `view` loads into FiftyOne: five boxes and five detections each, saved views included.

    python benchmarks/load_view.py [--images N]

The images are rows of a table; no file is read while loading. Seconds are of the clock, for a person waits for them;
the database's work counts, the import of FiftyOne does not. The last line is JSON.
"""
# ruff: noqa: T201 - a script that reports to the one who runs it

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from curate.columns import CORNERS
from curate.dataset import Dataset, Predictions
from curate.evaluation.mistakes import find_mistakes
from curate.fiftyone_app.documents import JudgedRun, make_documents
from curate.fiftyone_app.mongo import FOLDER_VARIABLE, running_database
from curate.fiftyone_app.views import list_views

BOXES, SIDE_PX = 5, 640


def main() -> None:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        dataset, predictions = make_up(Path(folder) / "data", images)
        with running_database() as uri:
            from curate.fiftyone_app import dataset as fiftyone_views

            with fiftyone_views.connected(uri):
                print(json.dumps(measure(dataset, predictions)))


def measure(dataset: Dataset, predictions: Predictions) -> dict[str, float]:
    """All figures, printed on the way."""
    from curate.fiftyone_app import dataset as fiftyone_views

    images = len(dataset.images)
    began = time.perf_counter()
    run = JudgedRun("made-up", "run_made_up", dataset, predictions, find_mistakes(dataset, predictions))
    views = list_views(dataset, [run], None)
    matched = time.perf_counter()
    documents = make_documents(dataset, [run], None)
    told: list[tuple[str, float]] = []
    fiftyone_views.build(
        "benchmark", documents, images, [run], has_proposals=False, views=views, facts={},
        progress=lambda task, *_: told.append((task, time.perf_counter())),
    )  # fmt: skip
    ended = time.perf_counter()
    loaded = max(when for task, when in told if task.startswith("loading"))
    print(f"{images} images: matching {matched - began:.1f} s, loading {loaded - matched:.1f} s, "
          f"{len(views)} views {ended - loaded:.1f} s")  # fmt: skip
    return {
        "images": images,
        "images_per_s": round(images / (ended - began), 1),
        "loading_images_per_s": round(images / (loaded - matched), 1),
    }


def make_up(root: Path, images: int) -> tuple[Dataset, Predictions]:
    """Boxes of all sizes at random, and detections of which a third is beside."""
    chance = np.random.default_rng(0)
    count = images * BOXES
    low = chance.uniform(0, SIDE_PX / 2, (count, 2))
    corners = np.concatenate([low, low + chance.uniform(4, SIDE_PX / 2, (count, 2))], axis=1)
    image_ids = np.repeat(np.arange(1, images + 1), BOXES)
    class_ids = chance.integers(1, 3, count)
    table = {
        "image_id": range(1, images + 1),
        "path": pd.array([f"media/images/made/{number:06d}.jpg" for number in range(images)], dtype="str"),
        "width": [SIDE_PX] * images,
        "height": [SIDE_PX] * images,
        "source": ["made"] * images,
        "label_state": ["labelled"] * images,
    }
    boxes = {"image_id": image_ids, "class_id": class_ids, **dict(zip(CORNERS, corners.T, strict=True))}
    dataset = Dataset(
        root, ((1, "a"), (2, "b")), pd.DataFrame(table), pd.DataFrame({"box_id": range(1, count + 1), **boxes})
    )
    beside = np.where(chance.random(count) < 1 / 3, SIDE_PX / 4, 0)[:, None]
    moved = corners + beside
    found = {**boxes, **dict(zip(CORNERS, moved.T, strict=True)), "score": chance.uniform(0.5, 1, count)}
    return dataset, Predictions(pd.DataFrame(found))


if __name__ == "__main__":
    main()
