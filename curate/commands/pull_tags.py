"""`pull-tags`: what a person tagged in the app comes back, as images to correct and a version without some."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from curate.columns import CORNERS
from curate.commands.label import CLASS_FILE, folder_names, link_image, write_classes
from curate.dataset import Dataset
from curate.errors import UsageError
from curate.fiftyone_app.mongo import database_exists, running_database
from curate.files import write_atomically
from curate.formats.voc.writer import TruthBox, truth_xml
from curate.progress import Progress, silent
from curate.result import Result
from curate.store import Store

RELABEL, DROP = "relabel", "drop"
FOLDER = "relabel"  # in the dataset's folder; each pull has one in it


@dataclass(frozen=True)
class PullTagsResult(Result):
    """What was tagged, and what became of it; paths of images are relative to the dataset.

    Attributes:
        version: without the dropped images; None where there was nothing to drop, or it was only tried.
        dropped: images that are in it no more.
        relabel: images that lie ready to be corrected.
        folder: where they lie; None without any.
        command: how to open the folder in LabelImg.
    """

    version: int | None
    dropped: tuple[str, ...]
    relabel: tuple[str, ...]
    folder: str | None
    command: tuple[str, ...]


def pull_tags(
    dataset: str | os.PathLike[str], *, keep_tags: bool = False, dry_run: bool = False, progress: Progress = silent
) -> PullTagsResult:
    """Take in what was tagged `relabel` or `drop` in the app of `view`, which may be open.

    Images tagged `relabel` lie in a new folder `DATASET/relabel/1` then, with their boxes as XML and the class list;
    `import-voc` of that folder brings them back. A new version is without images tagged `drop`, which wins where both
    are; their files stay, and `undo` brings them back. Capitals and outer white space in tags do not matter.

    Args:
        dataset: the dataset folder.
        keep_tags: else tags go from the app when they have been taken in.
        dry_run: only tell what was tagged.
        progress: told that the app's database is asked, which takes seconds.

    Raises:
        UsageError: nothing is tagged.
        MissingError: FiftyOne or its database is missing.
    """
    store = Store(dataset)
    current = store.load()
    if not database_exists():
        raise _nothing(dataset)
    with running_database() as uri:
        progress("starting FiftyOne", 0, 1)
        from curate.fiftyone_app import dataset as fiftyone_views
        from curate.fiftyone_app import registry as app_datasets

        with fiftyone_views.connected(uri):
            progress("starting FiftyOne", 1, 1)
            facts = app_datasets.facts_of(store.root, store.mark)
            tags = app_datasets.read_all_tags(facts)
            gone = _tagged(current, DROP, tags)
            again = _tagged(current, RELABEL, tags).drop(gone.index, errors="ignore").sort_values("path")
            if not len(gone) and not len(again):
                raise _nothing(dataset)
            if dry_run:
                return _result(gone, again)
            folder = _new_folder(store.root / FOLDER) if len(again) else None
            notes = _lay_out(current, again, folder) if folder is not None else ()
            version = _drop(store, gone) if len(gone) else None
            if not keep_tags:
                taken = {tag for own in tags.values() for tag in own if _plain(tag) in (RELABEL, DROP)}
                app_datasets.remove_all_tags(facts, sorted(taken))
    return _result(gone, again, folder, version, notes)


def _tagged(current: Dataset, tag: str, tags: Mapping[int, Sequence[str]]) -> pd.DataFrame:
    ids = [image_id for image_id, own in tags.items() if tag in map(_plain, own)]
    return current.images[current.images["image_id"].isin(ids).to_numpy()]


def _plain(tag: str) -> str:
    return tag.strip().lower()


def _result(
    gone: pd.DataFrame,
    again: pd.DataFrame,
    folder: Path | None = None,
    version: int | None = None,
    notes: tuple[str, ...] = (),
) -> PullTagsResult:
    place = str(folder) if folder is not None else None
    command = ("labelImg", place, f"{place}/{CLASS_FILE}", place) if place is not None else ()
    return PullTagsResult(version, tuple(sorted(gone["path"])), tuple(again["path"]), place, command, notes=notes)


def _new_folder(parent: Path) -> Path:
    """One a pull: what lies in an older one may have been imported since, or belong to a person."""
    parent.mkdir(exist_ok=True)
    taken = [int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal()]
    folder = parent / str(max(taken, default=0) + 1)
    folder.mkdir()
    return folder


def _lay_out(current: Dataset, images: pd.DataFrame, folder: Path) -> tuple[str, ...]:
    """Put the images, what was drawn in them, and the class list into the folder. What is to be told."""
    names = folder_names(current.images).loc[images.index]
    boxes = current.drawn_boxes
    boxes = boxes[boxes["image_id"].isin(images["image_id"]).to_numpy()]
    rows_of = dict(iter(boxes.groupby("image_id")))
    columns = (images[column].tolist() for column in ("image_id", "path", "width", "height", "verified", "label_state"))
    for name, image_id, path, width, height, verified, state in zip(names.tolist(), *columns, strict=True):
        link_image(current.image_file(path), folder / name)
        if state in ("labelled", "incomplete"):
            own = _truth_boxes(rows_of.get(image_id, boxes.head(0)), current)
            xml = truth_xml(folder / name, width, height, own, verified=verified)
            write_atomically(folder / f"{Path(name).stem}.xml", lambda file, xml=xml: file.write(xml))
    write_classes(folder / CLASS_FILE, current, None)
    command = shlex.join(["curate", "import-voc", str(current.root), str(folder)])
    return (f"When boxes are corrected and saved: {command}",)


def _truth_boxes(boxes: pd.DataFrame, current: Dataset) -> list[TruthBox]:
    """As their annotators wrote them: an import follows merges and renames of names, and nothing is lost."""
    columns = [boxes[column].tolist() for column in (*CORNERS, "pose", "truncated", "difficult", "occluded")]
    written = zip(boxes["class_id"].tolist(), boxes["original_class"].tolist(), strict=True)
    names = [name if current.aliases.get(name) == id_ else current.class_names[id_] for id_, name in written]
    return [TruthBox(*row) for row in zip(names, *columns, strict=True)]


def _drop(store: Store, gone: pd.DataFrame) -> int:
    ids, paths = set(gone["image_id"]), sorted(gone["path"])

    def change(before: Dataset) -> Dataset:
        return before.keep_images(~before.images["image_id"].isin(ids).to_numpy())

    version, _ = store.commit("pull-tags", {"dropped": paths}, change)
    return version


def _nothing(dataset: object) -> UsageError:
    return UsageError(
        f"no image is tagged {RELABEL} or {DROP}",
        place=dataset,
        remedy="Select images in `curate view`, tag them there, and ask again.",
    )
