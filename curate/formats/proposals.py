"""Proposals in a dataset: boxes that a model found on images that no person has labelled."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from curate.columns import CORNERS
from curate.dataset import Dataset, Predictions
from curate.formats.incoming import Incoming
from curate.formats.joining import join, resolve_names

WAITING = ("unlabelled", "proposed")  # states of images that no person has labelled


def join_proposals(
    dataset: Dataset, looked_at: pd.DataFrame, found: Predictions, classes: Mapping[int, str]
) -> Dataset:
    """Give images that wait for a label what was found on them, in place of what was proposed before.

    Images that have a label by now, or another content, stay as they are; so do those that were not looked at.

    Args:
        dataset: is not changed.
        looked_at: rows of its images table, as it was when they were looked at.
        found: boxes inside those images.
        classes: name of each class id in `found`; the dataset gets those that were found and that it does not have.
    """
    images = dataset.images
    seen = set(zip(looked_at["image_id"].tolist(), looked_at["sha256"].tolist(), strict=True))
    pairs = zip(images["image_id"].tolist(), images["sha256"].tolist(), strict=True)
    is_same = np.fromiter((pair in seen for pair in pairs), dtype=bool, count=len(images))
    waiting = images[is_same & images["label_state"].isin(WAITING).to_numpy()]
    if not len(waiting):
        return dataset
    settled, incoming = resolve_names(dataset, _as_incoming(dataset.root, waiting, found, classes))
    return join(settled, incoming, waiting["path"].tolist(), source="", origin="").dataset


def _as_incoming(root: Path, images: pd.DataFrame, found: Predictions, classes: Mapping[int, str]) -> Incoming:
    """What was found, in the form that joins a dataset."""
    rows = pd.Index(images["image_id"]).get_indexer(pd.Index(found.boxes["image_id"]))
    boxes = found.boxes[rows >= 0]
    there = set(boxes["class_id"].tolist())
    columns = {
        "image": rows[rows >= 0],
        "name": boxes["class_id"].map(classes).astype("object"),
        **{corner: boxes[corner] for corner in CORNERS},
        **dict.fromkeys(("difficult", "truncated", "occluded", "crowd"), False),
        "pose": None,
        **{"file": "", "line": 0, "object": 0},
    }
    state = {"file": images["path"], "label_state": "proposed", "verified": False, "annotated": True}
    return Incoming(
        folder=root,
        image_folder=root,
        images=images[["width", "height", "sha256", "split", "video_id"]].assign(**state).reset_index(drop=True),
        boxes=pd.DataFrame(columns, index=boxes.index).reset_index(drop=True),
        problems=(),
        files=(),
        reads=(),  # the boxes come from a model
        class_order=tuple(name for id_, name in classes.items() if id_ in there),
    )
