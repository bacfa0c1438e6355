"""`split`: train, val and test, stratified by class, a video never on both sides."""

import os
from dataclasses import dataclass

from curate.curation.splits import GroupBy, SplitCounts, SplitOutcome, assign
from curate.dataset import Dataset
from curate.result import Result
from curate.store import Store


@dataclass(frozen=True)
class SplitResult(Result):
    """The version, and what each split holds."""

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
    """Put the labelled images that are in no split into one; those that are in one stay there.

    Args:
        dataset: the dataset folder.
        val: wished share of every class in val.
        test: wished share of every class in test.
        group_by: what must stay on one side: "video" (an image of no video by itself), "source", or "none".
        seed: another seed, another split.
        overwrite: forget the splits that are there and split all anew.

    Raises:
        UsageError: shares that leave nothing for train.
    """
    outcome: list[SplitOutcome] = []

    def change(before: Dataset) -> Dataset:
        outcome.append(assign(before, val, test, group_by=group_by, seed=seed, anew=overwrite))
        return outcome[-1].dataset

    arguments = {"val": val, "test": test, "group_by": group_by, "seed": seed, "overwrite": overwrite}
    store = Store(dataset)
    store.head()
    version, _ = store.commit("split", arguments, change)
    return SplitResult(version=version, splits=outcome[-1].splits, notes=outcome[-1].notes)
