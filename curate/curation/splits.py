"""Splits images into train, val and test: stratified by class, with all frames of a video in the same split.

Each group (the frames of a video, or one image; see `curate.curation.groups`) is assigned as a whole. Groups are
assigned in order of size, each to the split that lacks its classes most, after Sechidis, Tsoumakas and Vlahavas, "On
the Stratification of Multi-label Data" (2011), with more weight on rare classes; then groups are moved as long as that
brings splits closer to their shares. Ties are broken by a hash of seed and group: the same input gives the same split
on every machine.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.columns import SPLITS
from curate.curation.groups import GroupBy, find_leak, group_keys
from curate.curation.incomplete import note_incomplete, nothing_labelled
from curate.dataset import Dataset
from curate.errors import UsageError
from curate.formatting import count_of, percent

TRAIN, VAL, TEST = SPLITS
_REVISIONS = 8  # usually two or three are enough
_TOLERANCE = 0.02  # larger deviations from the requested share are reported


@dataclass(frozen=True)
class SplitCounts:
    """Counts of a split: labelled images, their boxes, groups, and boxes per class."""

    images: int
    boxes: int
    groups: int
    classes: dict[str, int]


@dataclass(frozen=True)
class SplitOutcome:
    """A dataset whose labelled images are in splits.

    Attributes:
        dataset: The dataset.
        splits: Counts by name, in the order train, val, test.
        notes: Deviations from the requested shares, and their causes.
    """

    dataset: Dataset
    splits: dict[str, SplitCounts]
    notes: tuple[str, ...]


def assign(
    dataset: Dataset,
    val: float,
    test: float = 0.0,
    *,
    group_by: GroupBy = "video",
    seed: int = 0,
    overwrite: bool = False,
) -> SplitOutcome:
    """Assign a split to every labelled image that has none.

    Images that have a split keep it, and new frames of their videos get the same one.

    Args:
        dataset: Is not changed.
        val: Share of val, 0 to 1.
        test: Share of test; val + test is less than 1.
        group_by: What stays together: "video" (its frames, with all clips of one recording; an image without video is a
            group of its own), "source" (all its images) or "none". Pictures with equal content always do.
        seed: Random seed; chooses between equally good splits.
        overwrite: Whether to discard existing splits first.

    Raises:
        UsageError: The shares are out of range.
        DataError: No image is labelled.
    """
    shares = _shares(val, test)
    if group_by not in ("video", "source", "none"):
        raise UsageError("unknown grouping", place="--group-by", got=repr(group_by), expected="video, source or none")
    if overwrite:
        dataset = dataset.replace(
            images=dataset.images.assign(split=pd.array([pd.NA] * len(dataset.images), dtype="str"))
        )
    images = dataset.images
    labelled = (images["label_state"] == "labelled").to_numpy(dtype=bool)
    if not labelled.any():
        raise nothing_labelled(dataset)
    keys = group_keys(dataset, group_by)
    groups, codes = np.unique(keys[labelled], return_inverse=True)
    amounts = _amounts(dataset, images["image_id"].to_numpy()[labelled], codes, len(groups))
    fixed = _fixed_splits(images, keys)
    placed = _place_groups(groups, amounts, shares, {group: fixed[group] for group in groups if group in fixed}, seed)

    free = labelled & images["split"].isna().to_numpy()
    splits = images["split"].to_numpy(dtype=object, copy=True)
    splits[free] = np.array([placed[group] for group in keys[free]], dtype=object)
    result = dataset.replace(images=images.assign(split=pd.array(splits, dtype="str")))
    counts = _count(result, keys)
    notes = _explain(dataset, shares, counts, free=int(free.sum()), groups=len(groups), group_by=group_by)
    notes += note_incomplete(dataset)
    if leak := find_leak(result):
        notes.append(f"{leak.describe()} --overwrite splits again.")
    return SplitOutcome(result, counts, tuple(notes))


def _shares(val: float, test: float) -> dict[str, float]:
    for option, share in (("--val", val), ("--test", test)):
        if not 0 <= share < 1:
            raise UsageError("share is out of range", place=option, got=share, expected="0 or more, less than 1")
    if not 0 < val + test < 1:
        raise UsageError(
            "sum of the shares is out of range",
            place="--val, --test",
            got=val + test,
            expected="more than 0, less than 1",
        )
    return {name: share for name, share in ((TRAIN, 1 - val - test), (VAL, val), (TEST, test)) if share > 0}


def _amounts(dataset: Dataset, image_ids: NDArray[np.int64], codes: NDArray[np.intp], groups: int) -> NDArray[np.int64]:
    """Counts of each group: boxes per class, images without boxes, images. (groups, classes + 2)"""
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
    """Group → split, for groups with images in a split, also one that is not requested; the most frequent split."""
    is_split = images["split"].notna().to_numpy(dtype=bool)
    table = pd.DataFrame({"group": keys[is_split], "split": images["split"].to_numpy(dtype=object)[is_split]})
    counts = table.groupby(["group", "split"]).size().reset_index(name="n")
    counts = counts.sort_values(["group", "n", "split"], ascending=[True, False, True])
    return dict(counts.drop_duplicates("group")[["group", "split"]].itertuples(index=False, name=None))


class _Placement:
    """The split of each group, and what each split still lacks.

    Args:
        amounts: See `_amounts`. (groups, columns)
        shares: Requested share per split. (splits,)
        counted: Whether a group counts towards the shares. (groups,)
    """

    def __init__(self, amounts: NDArray[np.int64], shares: NDArray[np.float64], counted: NDArray[np.bool_]) -> None:
        total = amounts[counted].sum(axis=0)
        weights = 1.0 / np.maximum(total, 1)  # a box of a rare class has more weight
        self._amounts = amounts * weights
        self._shares = shares
        self._missing = shares[:, None] * (total * weights)[None, :]  # (splits, columns)
        self.members = np.zeros(len(shares), dtype=int)
        self.places = np.full(len(amounts), -1)

    def put(self, row: int, place: int) -> None:
        """Assign a group to a split."""
        self.places[row] = place
        self._missing[place] -= self._amounts[row]
        self.members[place] += 1

    def take(self, row: int) -> None:
        """Remove a group from its split."""
        place = self.places[row]
        self._missing[place] += self._amounts[row]
        self.members[place] -= 1

    def importance(self) -> NDArray[np.float64]:
        """Weighted size of each group. (groups,)"""
        return self._amounts.sum(axis=1).round(12)

    def gain(self, row: int, place: int) -> float:
        """Decrease of Σ missing² / share if a split gets a group."""
        before, after = self._missing[place], self._missing[place] - self._amounts[row]
        return round(float((before**2 - after**2).sum()) / float(self._shares[place]), 12)


def _place_groups(
    groups: NDArray[np.object_],
    amounts: NDArray[np.int64],
    share_of: Mapping[str, float],
    fixed: Mapping[str, str],
    seed: int,
) -> dict[str, str]:
    """The split of every group."""
    names, shares = list(share_of), np.array(list(share_of.values()))
    counted = np.array([fixed.get(group, names[0]) in names for group in groups], dtype=bool)
    placement = _Placement(amounts, shares, counted)
    for row in np.flatnonzero(counted).tolist():
        if groups[row] in fixed:
            placement.put(row, names.index(fixed[groups[row]]))

    importance = placement.importance()
    ties = [hashlib.sha256(f"{seed}:{group}".encode()).digest() for group in groups]
    free = [row for row in range(len(groups)) if groups[row] not in fixed]
    order = sorted(free, key=lambda row: (-importance[row], ties[row]))
    splits = range(len(names))
    for turn, row in enumerate(order):
        empty = [place for place in splits if placement.members[place] == 0]
        choices = empty if empty and len(order) - turn <= len(empty) else splits
        gains = {place: placement.gain(row, place) for place in choices}
        placement.put(row, max(gains, key=lambda place: (gains[place], shares[place], -place)))
    for _ in range(_REVISIONS):
        if not _revise(placement, order, splits):
            break
    return {**fixed, **{groups[row]: names[placement.places[row]] for row in order}}


def _revise(placement: _Placement, order: Sequence[int], splits: Sequence[int]) -> int:
    """Move each group to the split with the largest gain, without emptying a split. Returns the number of moves."""
    moves = 0
    for row in order:
        here = placement.places[row]
        if placement.members[here] == 1:
            continue
        placement.take(row)
        gains = [placement.gain(row, place) for place in splits]
        placement.put(row, max(splits, key=lambda place: (gains[place], place == here, -place)))
        moves += placement.places[row] != here
    return moves


def _count(dataset: Dataset, keys: NDArray[np.object_]) -> dict[str, SplitCounts]:
    counts = {}
    for name in SPLITS:
        chosen = dataset.select(name)
        if len(chosen.images):
            inside = dataset.images["image_id"].isin(chosen.images["image_id"]).to_numpy()
            counts[name] = SplitCounts(
                len(chosen.images), len(chosen.boxes), len(set(keys[inside])), chosen.class_counts()
            )
    return counts


def _explain(
    dataset: Dataset,
    shares: Mapping[str, float],
    counts: Mapping[str, SplitCounts],
    *,
    free: int,
    groups: int,
    group_by: GroupBy,
) -> list[str]:
    """Sentences about deviations from the requested shares.

    Args:
        dataset: Before splitting.
        shares: Split → requested share.
        counts: Split → counts.
        free: Number of labelled images that had no split.
        groups: Number of groups.
        group_by: As in `assign`.
    """
    totals = dataset.select().class_counts()
    if not free:
        return ["Every labelled image has a split already; --overwrite splits again."]
    notes = []
    for name, share in shares.items():
        split = counts.get(name)
        if split is None:
            notes.append(f"{name} is empty: the images form only {count_of(groups, 'group')} that must stay together.")
            continue
        off = [
            f"{cls} {percent(split.classes[cls] / total)}"
            for cls, total in totals.items()
            if total and abs(split.classes[cls] / total - share) > max(_TOLERANCE, 0.5 / total)
        ]
        if off:
            together = group_by != "none" and groups < len(dataset.select().images)
            why = f"; images of one {group_by} must stay together ({count_of(groups, 'group')})" if together else ""
            notes.append(f"{name} could not get {percent(share)} of every class: {', '.join(off)}{why}.")
    return notes
