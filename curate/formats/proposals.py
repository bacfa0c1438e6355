"""Proposals: boxes that a model found on images that nobody has labelled."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from curate.columns import BOX_FLAGS, CORNERS
from curate.dataset import Dataset, Predictions
from curate.formats.incoming import Incoming
from curate.formats.joining import join, resolve_names

WAITING = ("unlabelled", "proposed")  # label states of images that nobody has labelled


def join_proposals(
    dataset: Dataset, inspected: pd.DataFrame, predictions: Predictions, classes: Mapping[int, str]
) -> Dataset:
    """Replace the proposals of images that nobody has labelled by new predictions.

    Images that have a label or another content by now stay as they are, and so do images that were not inspected.

    Args:
        dataset: Is not changed.
        inspected: Rows of its images table, as they were when the model was run.
        predictions: Boxes inside those images.
        classes: Class id in `predictions` → name. Predicted classes that the dataset lacks are added.
    """
    images = dataset.images
    unchanged = set(zip(inspected["image_id"].tolist(), inspected["sha256"].tolist(), strict=True))
    pairs = zip(images["image_id"].tolist(), images["sha256"].tolist(), strict=True)
    is_same = np.fromiter((pair in unchanged for pair in pairs), dtype=bool, count=len(images))
    waiting = images[is_same & images["label_state"].isin(WAITING).to_numpy()]
    if not len(waiting):
        return dataset
    settled, incoming = resolve_names(dataset, _as_incoming(dataset.root, waiting, predictions, classes))
    return join(settled, incoming, waiting["path"].tolist(), source="", folder="").dataset


def _as_incoming(root: Path, images: pd.DataFrame, predictions: Predictions, classes: Mapping[int, str]) -> Incoming:
    rows = pd.Index(images["image_id"]).get_indexer(pd.Index(predictions.boxes["image_id"]))
    boxes = predictions.boxes[rows >= 0]
    predicted = set(boxes["class_id"].tolist())
    columns = {
        "image": rows[rows >= 0],
        "name": boxes["class_id"].map(classes).astype("object"),
        **{corner: boxes[corner] for corner in CORNERS},
        **dict.fromkeys(BOX_FLAGS, False),
        "pose": None,
        **{"file": "", "line": 0, "object": 0},
    }
    state = {"file": images["path"], "label_state": "proposed", "verified": False, "annotated": True}
    return Incoming(
        folder=root,
        image_folder=root,
        images=images[["width", "height", "sha256"]].assign(**state).reset_index(drop=True),
        boxes=pd.DataFrame(columns, index=boxes.index).reset_index(drop=True),
        problems=(),
        files=(),
        reads=(),  # the boxes come from a model
        class_order=tuple(name for id_, name in classes.items() if id_ in predicted),
    )
