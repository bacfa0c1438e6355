"""Why images of a dataset do not count: what commands say that take labelled images only."""

from collections import Counter

from curate.columns import LABEL_STATES, causes_of_incomplete
from curate.dataset import Dataset
from curate.errors import DataError
from curate.formatting import count_of, listed


def note_incomplete(dataset: Dataset, split: str | None = None) -> tuple[str, ...]:
    """A sentence on the incomplete images of a split (None: all), if there are any: how many boxes wait, and why."""
    left_out = dataset.select(split, ("incomplete",))
    if not len(left_out.images):
        return ()
    images, boxes = count_of(len(left_out.images), "incomplete image"), count_of(len(left_out.boxes), "box")
    return (f"Left out: {images} with {boxes}. {_explain(dataset)}",)


def nothing_labelled(dataset: Dataset) -> DataError:
    """The error for a dataset, or a part of one, in which no image is labelled."""
    states = Counter(dataset.images["label_state"].tolist())
    counts = ", ".join(f"{states[state]} {state}" for state in LABEL_STATES if states[state])
    return DataError(
        "no image is labelled",
        place=dataset.root,
        got=counts or None,
        remedy=_explain(dataset) if states["incomplete"] else "Label images and import them with import-voc.",
    )


def _explain(dataset: Dataset) -> str:
    faults = dataset.problems[(dataset.problems["action"] == "quarantined").to_numpy(dtype=bool)]
    columns = faults["file"].tolist(), faults["kind"].tolist(), faults["object"].notna().tolist()
    shown = listed(f"{file}: {kind}" for file, kind in causes_of_incomplete(zip(*columns, strict=True)))
    return f"Their annotations have faults{f' ({shown})' if shown else ''}: correct them and import again."
