"""Colours and files of plots, and the plot of `stats`. Figures need no display and no global state."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from curate.boxes import area
from curate.curation.stats import Balance
from curate.errors import UsageError
from curate.files import write_atomically
from curate.plain_text import shown
from curate.sizes import LARGE_FROM_PX2, MEDIUM_FROM_PX2, SIZES

SIZE_COLOURS = {"small": "#d1495b", "medium": "#edae49", "large": "#2e8b6f"}
_SUFFIXES = (".png", ".svg", ".pdf")
INK = "#333333"


def draw_balance(balance: Balance, boxes_xyxy: NDArray[np.float64]) -> Figure:
    """Boxes by class and size, and a histogram of box sizes with COCO's bounds.

    Args:
        balance: The counts.
        boxes_xyxy: The counted boxes, in pixels. (n, 4)
    """
    figure = Figure(figsize=(11, max(3.2, 1.6 + 0.45 * len(balance.classes))), layout="constrained")
    by_class, by_size = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _draw_classes(by_class, balance)
    _draw_sizes(by_size, boxes_xyxy)
    return figure


def save_plot(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; equal figures give equal bytes.

    Raises:
        UsageError: The suffix is not .png, .svg or .pdf.
    """
    target = Path(path)
    if target.suffix.lower() not in _SUFFIXES:
        raise UsageError("not a plot file", place=path, got=repr(target.suffix), expected=", ".join(_SUFFIXES))
    no_dates = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    # ids in SVG are random otherwise; a class may be called $a$, which is no formula
    with rc_context({"svg.hashsalt": "curate", "text.parse_math": False}):
        suffix = target.suffix.lower()
        write_atomically(
            target, lambda file: figure.savefig(file, format=suffix[1:], dpi=150, metadata=no_dates[suffix])
        )


def _draw_classes(axes, balance: Balance) -> None:
    rows = np.arange(len(balance.classes))
    left = np.zeros(len(rows))
    for size in SIZES:
        counts = np.array([getattr(entry, size) for entry in balance.classes])
        axes.barh(rows, counts, left=left, color=SIZE_COLOURS[size], label=size)
        left += counts
    names = [shown(entry.name) for entry in balance.classes]
    axes.set_yticks(rows, names, parse_math=False)  # a name can have dollar signs
    for row, entry in enumerate(balance.classes):
        share = "" if entry.share is None else f"  {entry.share:.1%}"
        axes.annotate(f" {entry.boxes}{share}", (left[row], row), va="center", color=INK)
    axes.set_xlim(0, max(left.max(initial=1), 1) * 1.25)
    axes.invert_yaxis()
    axes.set_xlabel("boxes")
    axes.set_title(f"{balance.boxes} boxes in {balance.images} images", loc="left")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_sizes(axes, boxes_xyxy: NDArray[np.float64]) -> None:
    sides = np.sqrt(area(boxes_xyxy))
    low, high = (sides.min(), sides.max()) if len(sides) else (1.0, 100.0)
    edges = np.geomspace(max(low, 1.0), max(high, 2.0) * 1.001, 41)
    bounds = (0.0, MEDIUM_FROM_PX2**0.5, LARGE_FROM_PX2**0.5, np.inf)
    parts = [sides[(sides >= start) & (sides < stop)] for start, stop in pairwise(bounds)]
    axes.hist(parts, bins=edges, stacked=True, color=[SIZE_COLOURS[size] for size in SIZES])
    for bound in bounds[1:3]:
        axes.axvline(bound, color=INK, linestyle=":", linewidth=1)
    axes.set_xscale("log")
    ticks = [
        tick for tick in (1, 2, 4, 8, 16, 32, 96, 192, 384, 768, 1536) if edges[0] / 1.5 <= tick <= edges[-1] * 1.5
    ]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("√area in pixels")
    axes.set_ylabel("boxes")
    axes.set_title("box sizes; dotted: 32 and 96 pixels", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
