"""Groups of images that must stay in one split: frames of a video, images of a source, pictures with equal content."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.dataset import Dataset
from curate.formatting import count_of

GroupBy = Literal["video", "source", "none"]
_COPY = re.compile(r"\.rf\.[0-9A-Za-z]+(\.[^./]+)$")  # Roboflow's augmented copies: a_jpg.rf.HASH.jpg, all of a.jpg
_MOST_PATHS = 2  # in a sentence


def group_keys(dataset: Dataset, group_by: GroupBy) -> NDArray[np.object_]:
    """The group of each image.

    Augmented copies of one picture, as Roboflow names them, are in one group.
    Pictures with equal content are in one group, whatever their names, videos and sources: groups that share a picture
    are one, with the key of the first of them by name.

    Args:
        dataset: The dataset.
        group_by: What else stays together; see `curate.curation.splits.assign`.

    Returns:
        A key per row of `images`. (n,)
    """
    images = dataset.images
    keys = _own_keys(images, dataset.videos, group_by)
    repeated = np.flatnonzero(_is_repeated(images))
    if not len(repeated):
        return keys
    joined = _join(keys[repeated], images["sha256"].to_numpy(dtype=object)[repeated])
    return np.array([joined.get(key, key) for key in keys], dtype=object)


@dataclass(frozen=True)
class Leak:
    """Pictures with equal content in more than one split.

    Attributes:
        images: Paths of the pictures, sorted; those of equal content are neighbours.
        pictures: Number of different contents.
        boxes: Boxes on those of `images` that are not in train.
    """

    images: tuple[str, ...]
    pictures: int
    boxes: int

    def describe(self) -> str:
        """A sentence without the remedy."""
        named = " = ".join(self.images[:_MOST_PATHS])
        return (
            f"{count_of(self.pictures, 'picture')} occur{'s' if self.pictures == 1 else ''} in more than one split, "
            f"with {count_of(self.boxes, 'box')} outside train ({named}{', …' if self.pictures > 1 else ''}): "
            "scores there are too high."
        )


def find_leak(dataset: Dataset) -> Leak | None:
    """Find labelled pictures with equal content in more than one split; None if there are none."""
    images = dataset.select().images
    images = images[images["split"].notna() & (images["sha256"] != "")]
    sides = images.groupby("sha256")["split"].nunique()
    leaked = images[images["sha256"].isin(sides.index[sides > 1])].sort_values(["sha256", "path"])
    if not len(leaked):
        return None
    first = leaked.groupby("sha256")["path"].transform("min")
    leaked = leaked.assign(first=first).sort_values(["first", "path"])
    outside = leaked["image_id"][leaked["split"] != "train"]
    boxes = int(dataset.boxes["image_id"].isin(outside).sum())
    return Leak(tuple(leaked["path"]), int(leaked["sha256"].nunique()), boxes)


def _own_keys(images: pd.DataFrame, videos: pd.DataFrame, group_by: GroupBy) -> NDArray[np.object_]:
    """The group of each image by video, source or name. (n,)"""
    own = ("image:" + images["path"].str.replace(_COPY, r"\1", regex=True)).to_numpy(dtype=object)
    if group_by == "none":
        return own
    column = images["source"]
    if group_by == "video":
        origins = videos[videos["origin"].notna()].set_index("video_id")["origin"]
        column = images["video_id"].map(origins).astype("str").fillna(images["video_id"])
    return np.where(column.notna(), (group_by + ":" + column.fillna("")).to_numpy(dtype=object), own)


def _is_repeated(images: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether the content of each image occurs more than once. (n,)"""
    content = images["sha256"]
    return (content.duplicated(keep=False) & (content != "")).to_numpy(dtype=bool)


def _join(keys: NDArray[np.object_], contents: NDArray[np.object_]) -> dict[str, str]:
    """Key → first key of all that are connected by equal contents (disjoint sets)."""
    parents: dict[str, str] = {key: key for key in keys}

    def root(key: str) -> str:
        while parents[key] != key:
            parents[key] = key = parents[parents[key]]
        return key

    for one, other in _pairs(keys, contents):
        first, second = sorted((root(one), root(other)))
        parents[second] = first
    return {key: root(key) for key in parents}


def _pairs(keys: NDArray[np.object_], contents: NDArray[np.object_]) -> Iterator[tuple[str, str]]:
    """Keys with equal content; each with the first one that has it."""
    first: dict[str, str] = {}
    for key, content in zip(keys, contents, strict=True):
        yield first.setdefault(content, key), key
