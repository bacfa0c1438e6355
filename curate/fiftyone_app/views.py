"""Saved views: the mistakes and images that each one shows, and their number. Names are stable: scripts use them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from curate.boxes import area
from curate.columns import CORNERS
from curate.dataset import Dataset
from curate.fiftyone_app.documents import FALSE_POSITIVE, IGNORED, MISSED, TRUTH, JudgedRun
from curate.formats.proposals import WAITING
from curate.sizes import SIZES, RangeOfInterest, size_index

MISSED_COLOUR, FALSE_COLOUR, FOUND_COLOUR, RIGHT_COLOUR, IGNORED_COLOUR = (
    "#e02b35",
    "#f28500",
    "#1fa34a",
    "#7bc96f",
    "#9aa0a6",
)
OTHER_COLOUR = "#4c78a8"
EVERYTHING = "all images"
PATCHES = " patches"
_MOST_VIEWS = 20  # classes or sources with a view of their own

# kind of false positive → name of its view
_KIND_VIEWS = {
    "class": "confused classes",
    "duplicate": "duplicates",
    "localisation": "poor boxes",
    "both": "confused classes and poor boxes",
    "background": "nothing there",
}


@dataclass(frozen=True)
class AppView:
    """One saved view.

    Attributes:
        name: Name in the app's list.
        about: Description.
        colour: Colour of its dot in the list, as #rrggbb.
        images: Number of images.
        objects: Number of boxes; None for a view of images.
        field: Label field that it filters, if any.
        where: Attributes of a label and their required values; "label" is the class.
        match: Fields of an image and their allowed values.
        counted: Field of an image that must be over 0, and by which images are sorted, largest first.
        largest_first: Field by which patches are sorted, largest first.
        grouped_by: Field by which images are sorted.
        as_patches: Whether each object is shown by itself.
    """

    name: str
    about: str
    colour: str
    images: int
    objects: int | None = None
    field: str | None = None
    where: tuple[tuple[str, str | bool], ...] = ()
    match: tuple[tuple[str, tuple[str, ...]], ...] = ()
    counted: str | None = None
    largest_first: str | None = None
    grouped_by: str | None = None
    as_patches: bool = False


def list_views(dataset: Dataset, runs: Sequence[JudgedRun], interest: RangeOfInterest | None) -> list[AppView]:
    """List all saved views, including empty ones; with several runs, names begin with the run."""
    # a view of all images, because the server repeats the last view for a link without one
    views = [AppView(EVERYTHING, "all images of the dataset", OTHER_COLOUR, len(dataset.images))]
    for run in runs:
        prefix = f"{run.name}: " if len(runs) > 1 else ""
        views += _mistake_views(run, prefix)
    if not runs:
        views += _object_views(dataset)
    if interest is not None:
        views += _out_of_range_views(runs[0] if runs else None, dataset, interest)
    return _with_unique_links([*views, *_unlabelled_views(dataset)])


def _with_unique_links(views: Sequence[AppView]) -> list[AppView]:
    """Number names with the same link, for which FiftyOne drops everything but Latin letters and digits."""
    taken: set[str] = set()
    named = []
    for view in views:
        names = (view.name, *(f"{view.name} ({number})" for number in range(2, len(views) + 2)))
        name = next(one for one in names if _link_name(one) not in taken)
        taken.add(_link_name(name))
        named.append(replace(view, name=name))
    return named


def _link_name(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())


def _mistake_views(run: JudgedRun, prefix: str) -> Iterator[AppView]:
    missed, wrong = run.mistakes.missed, run.mistakes.false_positives
    for size in SIZES:
        rows = missed[missed["size"] == size]
        yield from _with_patches(
            f"{prefix}missed {size}", f"{size} objects that {run.name} missed", MISSED_COLOUR, rows,
            TRUTH, ((run.field, MISSED), ("size", size)), f"{TRUTH}.area_px",
        )  # fmt: skip
    best_first = f"{run.field}.confidence"
    for size in SIZES:
        rows = wrong[wrong["size"] == size]
        yield from _with_patches(
            f"{prefix}false positives {size}", f"{size} false positives of {run.name}", FALSE_COLOUR, rows,
            run.field, (("outcome", FALSE_POSITIVE), ("size", size)), best_first,
        )  # fmt: skip
    for kind, words in _KIND_VIEWS.items():
        rows = wrong[wrong["kind"] == kind]
        yield from _with_patches(
            f"{prefix}{words}", f"false positives of {run.name} of the kind {kind}", FALSE_COLOUR, rows,
            run.field, (("outcome", FALSE_POSITIVE), ("kind", kind)), best_first,
        )  # fmt: skip
    images = run.mistakes.table["image_id"].nunique()
    yield AppView(
        f"{prefix}worst images",
        "images with most mistakes first",
        MISSED_COLOUR,
        images,
        counted=run.mistakes_field,
    )


def _object_views(dataset: Dataset) -> Iterator[AppView]:
    """Objects by size and class, for a dataset without a run."""
    boxes = dataset.drawn_boxes
    sizes = size_index(area(boxes[CORNERS]))
    for index, size in enumerate(SIZES):
        rows = boxes[sizes == index]
        yield from _with_patches(size, f"{size} objects", OTHER_COLOUR, rows, TRUTH, (("size", size),), None)
    for entry in dataset.classes[:_MOST_VIEWS]:
        rows = boxes[(boxes["class_id"] == entry.id).to_numpy()]
        where = (("label", entry.name),)
        yield from _with_patches(
            f"class {entry.name}", f"objects of the class {entry.name}", OTHER_COLOUR, rows, TRUTH, where, None
        )


def _out_of_range_views(run: JudgedRun | None, dataset: Dataset, interest: RangeOfInterest) -> Iterator[AppView]:
    """Objects out of range, of the evaluated images; without a run, of all images."""
    boxes = (run.truth if run else dataset).drawn_boxes
    rows = boxes[~interest.contains(boxes[CORNERS])]
    about = f"objects with a shorter side of less than {interest.min_side_px:g} pixels, which do not count"
    where = (*([(run.field, IGNORED)] if run else []), ("in_range", False))
    yield from _with_patches("out of the range of interest", about, OTHER_COLOUR, rows, TRUTH, where, None)


def _with_patches(
    name: str,
    about: str,
    colour: str,
    rows: pd.DataFrame,
    field: str,
    where: tuple[tuple[str, str | bool], ...],
    largest_first: str | None,
) -> Iterator[AppView]:
    """One view of the images with such objects, and one of the objects."""
    common = {"images": rows["image_id"].nunique(), "objects": len(rows), "field": field, "where": where}
    yield AppView(name, about, colour, **common)
    yield AppView(name + PATCHES, about, colour, **common, largest_first=largest_first, as_patches=True)


def _unlabelled_views(dataset: Dataset) -> Iterator[AppView]:
    waiting = dataset.images[dataset.images["label_state"].isin(WAITING)]
    is_waiting = ("label_state", tuple(WAITING))
    about = "images that no person has labelled"
    yield AppView(
        "unlabelled", f"{about}, by source", OTHER_COLOUR, len(waiting), match=(is_waiting,), grouped_by="source"
    )
    counts = waiting["source"].value_counts()
    for source, images in list(counts.items())[:_MOST_VIEWS] if len(counts) > 1 else []:
        is_source = ("source", (str(source),))
        yield AppView(
            f"unlabelled of {source}", f"{about}, of one source", OTHER_COLOUR, images, match=(is_waiting, is_source)
        )
