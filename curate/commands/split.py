"""`split`: assigns train, val and test, stratified by class, with all frames of a video in the same split.

Images that are labelled later join the splits when they are imported, by the rule of the last `split`.
"""

import os
from dataclasses import dataclass
from typing import Any

from curate.columns import SPLITS
from curate.curation.groups import GroupBy
from curate.curation.splits import SplitCounts, SplitOutcome, assign
from curate.dataset import Dataset
from curate.formatting import count_of, curate_command
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


def join_splits(store: Store, dataset: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """Assign labelled images without a split as the last `split` in the history did.

    Args:
        store: Its current version has the history.
        dataset: What follows the current version; is not changed.

    Returns:
        The dataset, and a note if there are such images in a dataset with splits. Without a `split` in the history,
        they stay without one.
    """
    labelled = dataset.select().images
    free = labelled["image_id"][labelled["split"].isna()]
    if not len(free):
        return dataset, ()
    number = count_of(len(free), "labelled image")
    if (rule := _last_rule(store)) is None:
        if len(free) == len(labelled):
            return dataset, ()
        command = curate_command("split", store.root)
        return dataset, (f"{number} in no split. {command} assigns them; the others keep theirs.",)
    joined = assign(dataset, **rule).dataset
    sides = joined.images.loc[joined.images["image_id"].isin(free), "split"].value_counts()
    counts = ", ".join(f"{name} {sides[name]}" for name in SPLITS if name in sides)
    shares = ", ".join(f"{name} {rule[name]:g}" for name in ("val", "test") if rule[name])
    return joined, (f"{number} joined the splits by the rule of the last `split` ({shares}): {counts}.",)


def _last_rule(store: Store) -> dict[str, Any] | None:
    """Arguments for `assign` of the last `split` that led to the current version."""
    history = store.history() if store.exists() else []
    arguments = next((entry.arguments for entry in history if entry.operation == "split"), None)
    if arguments is None:
        return None
    return {name: arguments[name] for name in ("val", "test", "group_by", "seed")}
