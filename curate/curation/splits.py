"""Splitting images into train, val and test: stratified by class, and never a video on both sides.

Each group (the frames of a video, or one image) goes as a whole. Groups are taken largest first; each goes to the
split whose classes lack it most, after Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-label Data"
(2011), with the rarest class deciding; then each is looked at again as long as that helps. Ties are broken by a hash
of seed and group, so that the same input gives the same split on every machine.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.dataset import Dataset
from curate.errors import DataError, UsageError
from curate.formatting import count_of

GroupBy = Literal["video", "source", "none"]
TRAIN, VAL, TEST = "train", "val", "test"
_REVISIONS = 8  # two or three are enough as a rule
_TOLERANCE = 0.02  # a share this far from the wished one is told


@dataclass(frozen=True)
class SplitCounts:
    """What one split holds: labelled images, their boxes, groups, and boxes of each class."""

    images: int
    boxes: int
    groups: int
    classes: dict[str, int]


@dataclass(frozen=True)
class SplitOutcome:
    """A dataset whose labelled images are in splits.

    Attributes:
        dataset: with the splits.
        splits: counts by name, in the order train, val, test.
        notes: where the wished shares could not be had, and why.
    """

    dataset: Dataset
    splits: dict[str, SplitCounts]
    notes: tuple[str, ...]


def assign(
    dataset: Dataset, val: float, test: float = 0.0, *, group_by: GroupBy = "video", seed: int = 0, anew: bool = False
) -> SplitOutcome:
    """Put every labelled image without a split into one.

    Images that are in a split stay there, and so do further frames of their videos.

    Args:
        dataset: is not changed.
        val: wished share of the val split, 0 to 1.
        test: wished share of the test split; val and test together leave something for train.
        group_by: what must stay together: the frames of a "video" (all clips of one are one; an image of no video is
            its own group), all images of a "source", or nothing ("none").
        seed: another seed, another of the equally good splits.
        anew: forget the splits that are there.

    Raises:
        UsageError: shares that do not fit.
        DataError: no image is labelled.
    """
    wishes = _wished_shares(val, test)
    if group_by not in ("video", "source", "none"):
        raise UsageError("unknown grouping", place="--group-by", got=repr(group_by), expected="video, source or none")
    images = (
        dataset.images.assign(split=pd.array([pd.NA] * len(dataset.images), dtype="str")) if anew else dataset.images
    )
    labelled = (images["label_state"] == "labelled").to_numpy(dtype=bool)
    if not labelled.any():
        raise DataError("no image is labelled", place=dataset.root, remedy="Bring labels in with import-voc.")
    keys = _group_keys(images, dataset.videos, group_by)
    groups, codes = np.unique(keys[labelled], return_inverse=True)
    amounts = _amounts(dataset, images["image_id"].to_numpy()[labelled], codes, len(groups))
    fixed = _fixed_splits(images, keys)
    placed = _place_groups(groups, amounts, wishes, {group: fixed[group] for group in groups if group in fixed}, seed)

    free = labelled & images["split"].isna().to_numpy()
    splits = images["split"].to_numpy(dtype=object, copy=True)
    splits[free] = np.array([placed[group] for group in keys[free]], dtype=object)
    result = dataset.replace(images=images.assign(split=pd.array(splits, dtype="str")))
    counts = _count(result, keys)
    notes = _explain(dataset, wishes, counts, free=int(free.sum()), groups=len(groups), group_by=group_by)
    return SplitOutcome(result, counts, tuple(notes))


def _wished_shares(val: float, test: float) -> dict[str, float]:
    for option, share in (("--val", val), ("--test", test)):
        if not 0 <= share < 1:
            raise UsageError("not a share", place=option, got=share, expected="0 or more, less than 1")
    if not 0 < val + test < 1:
        raise UsageError(
            "the shares leave nothing", place="--val, --test", got=val + test, expected="more than 0, less than 1"
        )
    return {name: share for name, share in ((TRAIN, 1 - val - test), (VAL, val), (TEST, test)) if share > 0}


def _group_keys(images: pd.DataFrame, videos: pd.DataFrame, group_by: GroupBy) -> NDArray[np.object_]:
    """The group of each image: what was filmed, so that two clips of one video are one group."""
    own = ("image:" + images["path"]).to_numpy(dtype=object)
    if group_by == "none":
        return own
    column = images["source"]
    if group_by == "video":
        cut_from = videos[videos["origin"].notna()].set_index("video_id")["origin"]
        column = images["video_id"].map(cut_from).astype("str").fillna(images["video_id"])
    return np.where(column.notna(), (group_by + ":" + column.fillna("")).to_numpy(dtype=object), own)


def _amounts(dataset: Dataset, image_ids: NDArray[np.int64], codes: NDArray[np.intp], groups: int) -> NDArray[np.int64]:
    """What each group holds: boxes of every class, images without boxes, images. (groups, classes + 2)"""
    amounts = np.zeros((groups, len(dataset.classes) + 2), dtype=np.int64)
    rows = pd.Index(image_ids).get_indexer(pd.Index(dataset.boxes["image_id"]))
    class_index = {entry.id: place for place, entry in enumerate(dataset.classes)}
    counted = rows >= 0
    columns = dataset.boxes["class_id"].map(class_index).to_numpy()[counted]
    np.add.at(amounts, (codes[rows[counted]], columns.astype(int)), 1)
    empty = ~np.isin(image_ids, dataset.boxes["image_id"].to_numpy())
    amounts[:, -2] = np.bincount(codes[empty], minlength=groups)
    amounts[:, -1] = np.bincount(codes, minlength=groups)
    return amounts


def _fixed_splits(images: pd.DataFrame, keys: NDArray[np.object_]) -> dict[str, str]:
    """Groups with a member in a split already, be it one that is not asked for now: where most of them are."""
    there = images["split"].notna().to_numpy(dtype=bool)
    table = pd.DataFrame({"group": keys[there], "split": images["split"].to_numpy(dtype=object)[there]})
    counts = table.groupby(["group", "split"]).size().reset_index(name="n")
    counts = counts.sort_values(["group", "n", "split"], ascending=[True, False, True])
    return dict(counts.drop_duplicates("group")[["group", "split"]].itertuples(index=False, name=None))


class _Placement:
    """Which split each group is in, and what the splits still want.

    Args:
        amounts: see `_amounts`. (groups, columns)
        shares: wished, one a split. (splits,)
        counted: groups that the shares are of. (groups,)
    """

    def __init__(self, amounts: NDArray[np.int64], shares: NDArray[np.float64], counted: NDArray[np.bool_]) -> None:
        total = amounts[counted].sum(axis=0)
        weights = 1.0 / np.maximum(total, 1)  # a box of a rare class counts for more
        self._amounts = amounts * weights
        self._shares = shares
        self._missing = shares[:, None] * (total * weights)[None, :]  # (splits, columns)
        self.members = np.zeros(len(shares), dtype=int)
        self.places = np.full(len(amounts), -1)

    def put(self, row: int, place: int) -> None:
        """Give a group to a split."""
        self.places[row] = place
        self._missing[place] -= self._amounts[row]
        self.members[place] += 1

    def take(self, row: int) -> None:
        """Take a group out of its split."""
        place = self.places[row]
        self._missing[place] += self._amounts[row]
        self.members[place] -= 1

    def importance(self) -> NDArray[np.float64]:
        """How much each group holds. (groups,)"""
        return self._amounts.sum(axis=1).round(12)

    def gain(self, row: int, place: int) -> float:
        """How much closer a split comes to its share by taking a group: the drop of Σ missing² / share."""
        before, after = self._missing[place], self._missing[place] - self._amounts[row]
        return round(float((before**2 - after**2).sum()) / float(self._shares[place]), 12)


def _place_groups(
    groups: NDArray[np.object_],
    amounts: NDArray[np.int64],
    wishes: Mapping[str, float],
    fixed: Mapping[str, str],
    seed: int,
) -> dict[str, str]:
    """The split of every group."""
    names, shares = list(wishes), np.array(list(wishes.values()))
    ours = np.array([fixed.get(group, names[0]) in names for group in groups], dtype=bool)
    placement = _Placement(amounts, shares, ours)
    for row in np.flatnonzero(ours).tolist():
        if groups[row] in fixed:
            placement.put(row, names.index(fixed[groups[row]]))

    importance = placement.importance()
    ties = [hashlib.sha256(f"{seed}:{group}".encode()).digest() for group in groups]
    free = [row for row in range(len(groups)) if groups[row] not in fixed]
    order = sorted(free, key=lambda row: (-importance[row], ties[row]))
    everywhere = range(len(names))
    for turn, row in enumerate(order):
        hungry = [place for place in everywhere if placement.members[place] == 0]
        choices = hungry if hungry and len(order) - turn <= len(hungry) else everywhere
        gains = {place: placement.gain(row, place) for place in choices}
        placement.put(row, max(gains, key=lambda place: (gains[place], shares[place], -place)))
    for _ in range(_REVISIONS):
        if not _revise(placement, order, everywhere):
            break
    return {**fixed, **{groups[row]: names[placement.places[row]] for row in order}}


def _revise(placement: _Placement, order: Sequence[int], everywhere: Sequence[int]) -> int:
    """Look at each group again, now that all are placed; count those that moved. No split is emptied."""
    moves = 0
    for row in order:
        here = placement.places[row]
        if placement.members[here] == 1:
            continue
        placement.take(row)
        gains = [placement.gain(row, place) for place in everywhere]
        placement.put(row, max(everywhere, key=lambda place: (gains[place], place == here, -place)))
        moves += placement.places[row] != here
    return moves


def _count(dataset: Dataset, keys: NDArray[np.object_]) -> dict[str, SplitCounts]:
    counts = {}
    for name in (TRAIN, VAL, TEST):
        chosen = dataset.select(name)
        if len(chosen.images):
            inside = dataset.images["image_id"].isin(chosen.images["image_id"]).to_numpy()
            counts[name] = SplitCounts(
                len(chosen.images), len(chosen.boxes), len(set(keys[inside])), chosen.class_counts()
            )
    return counts


def _explain(
    dataset: Dataset,
    wishes: Mapping[str, float],
    counts: Mapping[str, SplitCounts],
    *,
    free: int,
    groups: int,
    group_by: GroupBy,
) -> list[str]:
    """Where the shares are not as wished, in sentences; `free` counts the images that were in no split before."""
    totals = dataset.select().class_counts()
    if not free:
        return ["Every labelled image is in a split already; --overwrite splits again."]
    notes = []
    for name, wish in wishes.items():
        found = counts.get(name)
        if found is None:
            notes.append(f"{name} is empty: the images form only {count_of(groups, 'group')} that must stay together.")
            continue
        off = [
            f"{cls} {found.classes[cls] / total:.1%}"
            for cls, total in totals.items()
            if total and abs(found.classes[cls] / total - wish) > max(_TOLERANCE, 0.5 / total)
        ]
        if off:
            together = group_by != "none" and groups < len(dataset.select().images)
            why = f"; images of one {group_by} must stay together ({count_of(groups, 'group')})" if together else ""
            notes.append(f"{name} could not get {wish:.1%} of every class: {', '.join(off)}{why}.")
    return notes
