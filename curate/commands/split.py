"""`split`: assigns train, val and test, stratified by class, with all frames of a video in the same split."""

import os
from dataclasses import dataclass

from curate.curation.groups import GroupBy
from curate.curation.splits import SplitCounts, SplitOutcome, assign
from curate.dataset import Dataset
from curate.result import Result
from curate.store import Store


@dataclass(frozen=True)
class SplitResult(Result):
    """The new version, and the counts of each split."""

    version: int
    splits: dict[str, SplitCounts]


def split(
    dataset: str | os.PathLike[str],
    *,
    val: float = 0.25,
    test: float = 0.0,
    group_by: GroupBy = "video",
    seed: int = 0,
    overwrite: bool = False,
) -> SplitResult:
    """Assign a split to the labelled images that have none; others keep theirs.

    Args:
        dataset: The dataset folder.
        val: Share of every class in val, 0 to 1.
        test: Share of every class in test, 0 to 1.
        group_by: What stays together: "video" (an image without video is a group of its own), "source" or "none".
        seed: Random seed.
        overwrite: Whether to discard existing splits first.

    Raises:
        UsageError: The shares leave nothing for train.
        DataError: No image is labelled.
    """
    outcome: list[SplitOutcome] = []

    def change(before: Dataset) -> Dataset:
        outcome.append(assign(before, val, test, group_by=group_by, seed=seed, overwrite=overwrite))
        return outcome[-1].dataset

    arguments = {"val": val, "test": test, "group_by": group_by, "seed": seed, "overwrite": overwrite}
    store = Store(dataset)
    store.head()
    version, _ = store.commit("split", arguments, change)
    return SplitResult(version=version, splits=outcome[-1].splits, notes=outcome[-1].notes)
