"""`stats`: counts class balance, box sizes and imbalance."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from curate.curation.incomplete import note_incomplete
from curate.curation.stats import Balance, ClassBalance, count, count_by
from curate.files import check_output_files, write_atomically
from curate.plain_text import csv_cell
from curate.result import Result, as_json
from curate.sizes import RangeOfInterest
from curate.store import Store


@dataclass(frozen=True)
class StatsResult(Result):
    """The fields of `Balance`, the version, and with `by` a `Balance` per group."""

    version: int
    images: int
    images_without_boxes: int
    unlabelled: int
    boxes: int
    imbalance: float | None
    classes: tuple[ClassBalance, ...]
    groups: dict[str, Balance] | None = None

    def to_json(self) -> Any:
        """The JSON document; `groups` only with `by`."""
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
        dataset: The dataset folder.
        by: Also count each split or source.
        min_side: Range of interest: count boxes whose shorter side has at least this many pixels.
        plot: File for a plot of class balance and box sizes (PNG, SVG or PDF, by suffix).
        csv: File for a table with a row per class (and group).
        overwrite: Whether `plot` and `csv` may replace existing files.

    Returns:
        The counts.

    Raises:
        StoreError: The folder has no dataset.
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
    return StatsResult(version=version, **vars(balance), groups=groups, notes=note_incomplete(current))


def _write_csv(path: str | os.PathLike[str], balances: dict[str, Balance]) -> None:
    import pandas as pd

    rows: Sequence[dict[str, Any]] = [
        {"group": group} | as_json(entry) for group, balance in balances.items() for entry in balance.classes
    ]
    text = pd.DataFrame(rows).map(csv_cell).to_csv(index=False)
    write_atomically(Path(path), lambda file: file.write(text.encode()))
