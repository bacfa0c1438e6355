"""`stats`: class balance, box sizes, imbalance."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from curate.curation.stats import Balance, ClassBalance, count, count_by
from curate.files import check_output_files
from curate.result import Result, as_json
from curate.sizes import RangeOfInterest
from curate.store import Store


@dataclass(frozen=True)
class StatsResult(Result):
    """The keys of `Balance`, the version counted, and with `by` the same for each group."""

    version: int
    images: int
    images_without_boxes: int
    unlabelled: int
    boxes: int
    imbalance: float | None
    classes: tuple[ClassBalance, ...]
    groups: dict[str, Balance] | None = None

    def to_json(self) -> Any:
        """The document, without what was not asked for."""
        document = super().to_json()
        if self.groups is None:
            del document["groups"]
        return document


def stats(
    dataset: str | os.PathLike[str],
    *,
    by: Literal["split", "source"] | None = None,
    min_side: float | None = None,
    plot: str | os.PathLike[str] | None = None,
    csv: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> StatsResult:
    """Count classes and box sizes in the labelled images of a dataset.

    Args:
        dataset: the dataset folder.
        by: also count each split or source.
        min_side: count only boxes in the range of interest: shorter side at least so many pixels.
        plot: write class balance and box sizes as a picture (PNG, SVG or PDF, by suffix).
        csv: write the table, one row a class (and group).
        overwrite: replace such a picture or table.

    Raises:
        StoreError: there is no dataset in the folder.
        UsageError: An output file already exists.
    """
    check_output_files(plot, csv, overwrite=overwrite)
    store = Store(dataset)
    version = store.head()
    current = store.load(version)
    interest = RangeOfInterest(min_side) if min_side is not None else None
    balance = count(current, interest)
    groups = count_by(current, by, interest) if by is not None else None
    if plot is not None:
        from curate.plots.style import draw_balance, save_plot

        labelled = current.select()
        boxes = labelled.boxes_xyxy[interest.contains(labelled.boxes_xyxy)] if interest else labelled.boxes_xyxy
        save_plot(draw_balance(balance, boxes), plot)
    if csv is not None:
        _write_csv(csv, {"all": balance} | (groups or {}))
    return StatsResult(version=version, **vars(balance), groups=groups)


def _write_csv(path: str | os.PathLike[str], balances: dict[str, Balance]) -> None:
    import pandas as pd

    rows: Sequence[dict[str, Any]] = [
        {"group": group} | as_json(entry) for group, balance in balances.items() for entry in balance.classes
    ]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)
