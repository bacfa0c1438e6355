"""Files of `predict`: COCO results with the list of their images, and XML for LabelImg."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pandas as pd

from curate.dataset import ClassEntry, Predictions
from curate.errors import UsageError
from curate.evaluation.coco_results import write_results
from curate.files import check_output_files, read_names, write_atomically
from curate.formats.coco import coco_file_name
from curate.formats.incoming import Problem
from curate.formats.proposals import WAITING
from curate.formats.voc.layout import XML_SUFFIX, VocLayout
from curate.formats.voc.matching import XmlMatcher
from curate.formats.voc.writer import is_proposal
from curate.image_header import is_image_name
from curate.inference.inputs import InputImages
from curate.media import source_name
from curate.paths import refuse_links
from curate.run_folder.folder import RunFolder

RESULTS, IMAGES, DRAWN = "predictions.json", "images.json", "drawn"


def results_folder(run: RunFolder, source: Path) -> Path:
    """Default folder for results: in the run's folder, named after the source; after an image, without its suffix."""
    return run.path / "predicted" / source_name(source.with_suffix("") if source.is_file() else source)


def check_folder_name(folder: Path) -> None:
    """Check that what was given for a new folder is not the name of a JSON file or of a picture.

    Raises:
        UsageError: It is.
    """
    if (folder.suffix == ".json" or is_image_name(folder.name)) and not folder.is_dir():
        raise _not_a_folder(folder)


def check_results(folder: Path, *, overwrite: bool) -> None:
    """Check the folder for results before long work.

    Raises:
        UsageError: It is a file, or has results and `overwrite` is not set.
    """
    if folder.exists() and not folder.is_dir():
        raise _not_a_folder(folder)
    check_output_files(folder / RESULTS, folder / IMAGES, overwrite=overwrite)


def _not_a_folder(folder: Path) -> UsageError:
    return UsageError("not a folder", place=folder, expected=f"a folder for {RESULTS} and {IMAGES}")


def write_coco_results(
    folder: Path, predictions: Predictions, images: pd.DataFrame, classes: Sequence[ClassEntry]
) -> tuple[Path, Path]:
    """Write COCO results, and a COCO file without annotations that lists their images and classes.

    An interruption leaves no results, or complete ones that belong to the list.

    Returns:
        Both files.
    """
    results, listed = folder / RESULTS, folder / IMAGES
    columns = (images[name].tolist() for name in ("image_id", "path", "width", "height"))
    document = {
        "images": [
            {"id": id_, "file_name": path, "width": width, "height": height}
            for id_, path, width, height in zip(*columns, strict=True)
        ],
        "annotations": [],
        "categories": [{"id": entry.id, "name": entry.name} for entry in classes],
    }
    results.unlink(missing_ok=True)
    write_atomically(listed, lambda file: file.write(orjson.dumps(document)))
    try:
        write_results(predictions, results)
    except BaseException:  # such as a full disk: the same command can be given again
        listed.unlink()
        raise
    return results, listed


@dataclass(frozen=True)
class XmlPlan:
    """The images that get XML, and the files.

    Attributes:
        files: Image id → XML file.
        image_folders: Folders of these images.
        labelled: Number of images of a dataset that are left out because they are labelled.
        saved: Number of images that are left out because a person has saved XML for them.
        proposed: Number of images that are left out because they have a proposal.
        problems: Images whose XML file belongs to another image.
    """

    files: dict[int, Path]
    image_folders: frozenset[Path]
    labelled: int
    saved: int
    proposed: int
    problems: tuple[Problem, ...]


def plan_xml(inputs: InputImages, out: Path | None, *, overwrite: bool) -> XmlPlan:
    """Choose the images that get XML, beside them or in `out` with the same subfolders.

    XML that a person saved is never replaced; proposals are replaced with `overwrite`. Labelled images of a dataset get
    no XML.

    Raises:
        StoreError: A folder for XML is a link.
    """
    files: dict[int, Path] = {}
    owners: dict[Path, str] = {}
    saved = proposed = 0
    problems = []
    images = inputs.images.images
    xml_of = _xml_of(inputs.layout) if inputs.layout and out is None else {}
    waiting = images[images["label_state"].isin(WAITING)]  # all images of a folder are "unlabelled"
    root = inputs.images.root
    checked: set[str] = set()
    for image_id, path in zip(waiting["image_id"].tolist(), waiting["path"].tolist(), strict=True):
        name = f"{os.path.splitext(coco_file_name(path) if inputs.store else path)[0]}{XML_SUFFIX}"
        if (folder := name.rpartition("/")[0]) not in checked:
            refuse_links(out or root, folder)
            checked.add(folder)
        file = (out or root) / name
        elsewhere = xml_of.get(path)  # in a devkit, or assigned by `<filename>`
        candidates = {file, root / elsewhere} if elsewhere else {file}
        are_proposals = [is_proposal(one.read_bytes()) for one in candidates if one.is_file()]
        if owners.setdefault(file, path) != path:
            problems.append(Problem(path, None, None, "xml_taken", f"{name} belongs to {owners[file]}", "noted"))
        elif not all(are_proposals):
            saved += 1
        elif are_proposals and not overwrite:
            proposed += 1
        else:
            files[image_id] = file
    folders = frozenset((root / owners[file]).parent for file in files.values())
    return XmlPlan(files, folders, len(images) - len(waiting), saved, proposed, tuple(problems))


def _xml_of(layout: VocLayout) -> dict[str, str]:
    """Image → the XML file that `import-voc` assigns to it."""
    return {xml.image: xml.file for xml in XmlMatcher(layout).read()}


def add_class_names(file: Path, names: Sequence[str]) -> None:
    """Add names to LabelImg's class list; listed names keep their position."""
    listed = read_names(file) if file.exists() else ()
    if not set(listed) >= set(names):
        lines = "".join(f"{name}\n" for name in dict.fromkeys([*listed, *names]))
        write_atomically(file, lambda out: out.write(lines.encode()))
