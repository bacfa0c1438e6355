"""`pull-tags`: images tagged in the app become a folder for corrections, or are dropped from the dataset."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from curate.columns import CORNERS
from curate.commands.label import CLASS_FILE, copy_image, folder_names, write_classes
from curate.dataset import Dataset
from curate.errors import UsageError
from curate.fiftyone_app.mongo import database_exists, running_database
from curate.files import write_atomically
from curate.formats.voc.layout import XML_SUFFIX
from curate.formats.voc.writer import TruthBox, truth_xml
from curate.formatting import curate_command
from curate.paths import make_folder, refuse_links
from curate.progress import Progress, silent
from curate.result import Result
from curate.store import Store

RELABEL, DROP = "relabel", "drop"
FOLDER = "relabel"  # in the dataset folder; each pull makes a subfolder


@dataclass(frozen=True)
class PullTagsResult(Result):
    """Tagged images; paths are relative to the dataset.

    Attributes:
        version: Version without the dropped images; None if there are none, or for a dry run.
        dropped: Images that were dropped.
        relabel: Images that were copied for corrections.
        folder: Folder of the latter; None without any.
        command: Command that opens the folder in LabelImg.
    """

    version: int | None
    dropped: tuple[str, ...]
    relabel: tuple[str, ...]
    folder: str | None
    command: tuple[str, ...]


def pull_tags(
    dataset: str | os.PathLike[str], *, keep_tags: bool = False, dry_run: bool = False, progress: Progress = silent
) -> PullTagsResult:
    """Process the tags `relabel` and `drop` of the app of `view`, which may be open.

    Images tagged `relabel` are put into a new folder `DATASET/relabel/1`, with their boxes as XML and the class list;
    `import-voc` imports the corrections. A new version lacks the images tagged `drop`; their files stay, and `undo`
    restores them. `drop` takes precedence over `relabel`. Case and surrounding white space of tags are ignored.

    Args:
        dataset: Dataset folder.
        keep_tags: Keep the tags in the app; by default they are removed.
        dry_run: Only list the tagged images.
        progress: Callback for progress.

    Raises:
        UsageError: No image is tagged.
        MissingError: FiftyOne or its database is missing.
    """
    store = Store(dataset)
    current = store.load()
    refuse_links(store.root, FOLDER)
    if not database_exists():
        raise _no_tags(dataset)
    with running_database() as uri:
        progress("starting FiftyOne", 0, 1)
        from curate.fiftyone_app import dataset as fiftyone_dataset
        from curate.fiftyone_app import registry as fiftyone_registry

        with fiftyone_dataset.connected(uri):
            progress("starting FiftyOne", 1, 1)
            identity = fiftyone_registry.identity_of(store.root, store.mark)
            tags = fiftyone_registry.read_all_tags(identity)
            dropped = _tagged(current, DROP, tags)
            relabel = _tagged(current, RELABEL, tags).drop(dropped.index, errors="ignore").sort_values("path")
            if not len(dropped) and not len(relabel):
                raise _no_tags(dataset)
            if dry_run:
                return _result(dropped, relabel)
            folder = _new_folder(store.root, current) if len(relabel) else None
            notes = _export(current, relabel, folder) if folder is not None else ()
            version = _drop(store, dropped) if len(dropped) else None
            if not keep_tags:
                processed = {tag for own in tags.values() for tag in own if _plain(tag) in (RELABEL, DROP)}
                fiftyone_registry.remove_all_tags(identity, sorted(processed))
    return _result(dropped, relabel, folder, version, notes)


def _tagged(current: Dataset, tag: str, tags: Mapping[int, Sequence[str]]) -> pd.DataFrame:
    ids = [image_id for image_id, own in tags.items() if tag in map(_plain, own)]
    return current.images[current.images["image_id"].isin(ids).to_numpy()]


def _plain(tag: str) -> str:
    return tag.strip().lower()


def _result(
    dropped: pd.DataFrame,
    relabel: pd.DataFrame,
    folder: Path | None = None,
    version: int | None = None,
    notes: tuple[str, ...] = (),
) -> PullTagsResult:
    place = str(folder) if folder is not None else None
    command = ("labelImg", place, f"{place}/{CLASS_FILE}", place) if place is not None else ()
    return PullTagsResult(version, tuple(sorted(dropped["path"])), tuple(relabel["path"]), place, command, notes=notes)


def _new_folder(root: Path, current: Dataset) -> Path:
    """A new subfolder, since a person may still work in the older ones; or that of a pull that was interrupted.

    The class list is written last: a folder without one is not finished.
    """
    parent = make_folder(root, FOLDER)
    newest = max((int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal()), default=0)
    is_unfinished = newest and current.classes and not (parent / str(newest) / CLASS_FILE).exists()
    return make_folder(root, f"{FOLDER}/{newest if is_unfinished else newest + 1}")


def _export(current: Dataset, images: pd.DataFrame, folder: Path) -> tuple[str, ...]:
    """Write the images, their boxes and the class list into the folder.

    Returns:
        Notes.
    """
    names = folder_names(current.images).loc[images.index]
    boxes = current.drawn_boxes
    boxes = boxes[boxes["image_id"].isin(images["image_id"]).to_numpy()]
    rows_of = dict(iter(boxes.groupby("image_id")))
    columns = (images[column].tolist() for column in ("image_id", "path", "width", "height", "verified", "label_state"))
    for name, image_id, path, width, height, verified, state in zip(names.tolist(), *columns, strict=True):
        copy_image(current.image_file(path), folder / name)
        if state in ("labelled", "incomplete"):
            own = _truth_boxes(rows_of.get(image_id, boxes.head(0)), current)
            xml = truth_xml(folder / name, width, height, own, verified=verified)
            xml_file = folder / f"{Path(name).stem}{XML_SUFFIX}"
            if not xml_file.exists():
                write_atomically(xml_file, lambda file, xml=xml: file.write(xml))
    write_classes(folder / CLASS_FILE, current, None)
    return (f"To import the corrections: {curate_command('import-voc', current.root, folder)}.",)


def _truth_boxes(boxes: pd.DataFrame, current: Dataset) -> list[TruthBox]:
    """Boxes with the class names of their annotators, from which an import follows merges and renames."""
    columns = [boxes[column].tolist() for column in (*CORNERS, "pose", "truncated", "difficult", "occluded")]
    written = zip(boxes["class_id"].tolist(), boxes["original_class"].tolist(), strict=True)
    names = [name if current.aliases.get(name) == id_ else current.class_names[id_] for id_, name in written]
    return [TruthBox(*row) for row in zip(names, *columns, strict=True)]


def _drop(store: Store, images: pd.DataFrame) -> int:
    ids, paths = set(images["image_id"]), sorted(images["path"])

    def change(before: Dataset) -> Dataset:
        return before.keep_images(~before.images["image_id"].isin(ids).to_numpy())

    version, _ = store.commit("pull-tags", {"dropped": paths}, change)
    return version


def _no_tags(dataset: object) -> UsageError:
    return UsageError(
        f"no image is tagged {RELABEL} or {DROP}",
        place=dataset,
        remedy="Select images in `curate view` and tag them.",
    )
