"""The saved views: which mistakes and which images each one shows, and how many that are."""

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
_MOST_VIEWS = 20  # of one sort: a list of a thousand sources helps nobody

# kind of false positive → what a person calls it
_KINDS = {
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
        name: in the app's list.
        about: one sentence.
        colour: of its dot in the list, as #rrggbb.
        images: how many it shows.
        objects: how many boxes it is about; None where it is about images.
        field: label field that it filters; None for none.
        where: attribute of the label → the value it must have; "label" is the class.
        match: field of the image → the values it may have.
        counted: field of the image that must be over 0; those with most come first.
        largest_first: field of patches to sort by, descending.
        grouped_by: field of the image to sort by.
        as_patches: whether each object is shown alone.
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
    """All saved views; with several runs, those of a run bear its name. Empty ones are there too: none is news."""
    # the server shows the last view again where a link names none
    views = [AppView(EVERYTHING, "the whole dataset", OTHER_COLOUR, len(dataset.images))]
    for run in runs:
        prefix = f"{run.name}: " if len(runs) > 1 else ""
        views += _of_mistakes(run, prefix)
    if not runs:
        views += _of_objects(dataset)
    if interest is not None:
        views += _out_of_range(runs[0] if runs else None, dataset, interest)
    return _with_own_links([*views, *_unlabelled(dataset)])


def _with_own_links(views: Sequence[AppView]) -> list[AppView]:
    """Number names that would have one link: FiftyOne leaves out of it all that is no Latin letter or digit."""
    taken: set[str] = set()
    named = []
    for view in views:
        names = (view.name, *(f"{view.name} ({number})" for number in range(2, len(views) + 2)))
        name = next(one for one in names if _in_link(one) not in taken)
        taken.add(_in_link(name))
        named.append(replace(view, name=name))
    return named


def _in_link(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())


def _of_mistakes(run: JudgedRun, prefix: str) -> Iterator[AppView]:
    missed, wrong = run.mistakes.missed, run.mistakes.false_positives
    for size in SIZES:
        rows = missed[missed["size"] == size]
        yield from _with_patches(
            f"{prefix}missed {size}", f"{size} objects that {run.name} did not find", MISSED_COLOUR, rows,
            TRUTH, ((run.field, MISSED), ("size", size)), f"{TRUTH}.area_px",
        )  # fmt: skip
    best_first = f"{run.field}.confidence"
    for size in SIZES:
        rows = wrong[wrong["size"] == size]
        yield from _with_patches(
            f"{prefix}false positives {size}", f"{size} detections of {run.name} that are wrong", FALSE_COLOUR, rows,
            run.field, (("outcome", FALSE_POSITIVE), ("size", size)), best_first,
        )  # fmt: skip
    for kind, words in _KINDS.items():
        rows = wrong[wrong["kind"] == kind]
        yield from _with_patches(
            f"{prefix}{words}", f"false positives of {run.name} of the kind {kind}", FALSE_COLOUR, rows,
            run.field, (("outcome", FALSE_POSITIVE), ("kind", kind)), best_first,
        )  # fmt: skip
    images = run.mistakes.table["image_id"].nunique()
    yield AppView(
        f"{prefix}worst images",
        "most mistakes first",
        MISSED_COLOUR,
        images,
        counted=run.mistakes_field,
    )


def _of_objects(dataset: Dataset) -> Iterator[AppView]:
    """Without a run: what there is, by size and by class."""
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


def _out_of_range(run: JudgedRun | None, dataset: Dataset, interest: RangeOfInterest) -> Iterator[AppView]:
    """Of the evaluated images; without a run, of all."""
    boxes = (run.truth if run else dataset).drawn_boxes
    rows = boxes[~interest.contains(boxes[CORNERS])]
    about = f"objects with a side of less than {interest.min_side_px:g} pixels: they do not count"
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
    """The images that hold such objects, and the objects alone."""
    common = {"images": rows["image_id"].nunique(), "objects": len(rows), "field": field, "where": where}
    yield AppView(name, about, colour, **common)
    yield AppView(name + PATCHES, about, colour, **common, largest_first=largest_first, as_patches=True)


def _unlabelled(dataset: Dataset) -> Iterator[AppView]:
    waiting = dataset.images[dataset.images["label_state"].isin(WAITING)]
    state = ("label_state", tuple(WAITING))
    about = "images that no person has labelled"
    yield AppView("unlabelled", f"{about}, by source", OTHER_COLOUR, len(waiting), match=(state,), grouped_by="source")
    counts = waiting["source"].value_counts()
    for source, images in list(counts.items())[:_MOST_VIEWS] if len(counts) > 1 else []:
        source_is = ("source", (str(source),))
        yield AppView(
            f"unlabelled of {source}", f"{about}, of one source", OTHER_COLOUR, images, match=(state, source_is)
        )
