"""What `predict` writes: COCO results with the list of their images, and XML for LabelImg."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pandas as pd

from curate.dataset import ClassEntry, Predictions
from curate.errors import UsageError
from curate.evaluation.coco_results import write_results
from curate.files import check_output_files, write_atomically
from curate.formats.coco import coco_file_name
from curate.formats.incoming import Problem
from curate.formats.proposals import WAITING
from curate.formats.voc.layout import VocLayout, XmlMatcher
from curate.formats.voc.writer import is_proposal
from curate.inference.inputs import Pictures
from curate.media import source_name
from curate.run_folder.folder import RunFolder

RESULTS, IMAGES = "predictions.json", "images.json"


def results_folder(run: RunFolder, source: Path) -> Path:
    """Where results go unless another place is named: into the run's folder, under the source's name."""
    return run.path / "predicted" / source_name(source)


def check_results(folder: Path, *, overwrite: bool) -> None:
    """Refuse a place for results that is taken.

    Raises:
        UsageError: it is a file, or results lie there and `overwrite` is not set.
    """
    if folder.suffix == ".json" or (folder.exists() and not folder.is_dir()):
        raise UsageError("not a folder", place=folder, expected=f"a folder for {RESULTS} and {IMAGES}")
    check_output_files(folder / RESULTS, folder / IMAGES, overwrite=overwrite)


def write_coco_results(
    folder: Path, found: Predictions, images: pd.DataFrame, classes: Sequence[ClassEntry]
) -> tuple[Path, Path]:
    """Write COCO results, and the images and classes that their ids are of, as a COCO file without annotations.

    A kill leaves no results, or whole ones that belong to the list. Both files are returned.
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
    write_results(found, results)
    return results, listed


@dataclass(frozen=True)
class XmlPlan:
    """Which images get XML, and where.

    Attributes:
        places: image id → XML file.
        image_folders: of these images.
        labelled: images of a dataset that are left out because they have a label.
        saved: images that are left out because a person's XML is there.
        proposed: images that are left out because a proposal is there.
        problems: images whose XML another image has.
    """

    places: dict[int, Path]
    image_folders: frozenset[Path]
    labelled: int
    saved: int
    proposed: int
    problems: tuple[Problem, ...]


def plan_xml(pictures: Pictures, out: Path | None, *, overwrite: bool) -> XmlPlan:
    """Choose the images that get XML: beside them, or in `out` under the same folders.

    XML that a person saved is never replaced; proposals are with `overwrite`. Images of a dataset that have a label get
    none.
    """
    places: dict[int, Path] = {}
    owners: dict[Path, str] = {}
    saved = proposed = 0
    problems = []
    images = pictures.images.images
    xml_of = _xml_of(pictures.layout) if pictures.layout and out is None else {}
    # a folder's images are all "unlabelled"
    waiting = images[images["label_state"].isin(WAITING)]
    root = pictures.images.root
    for image_id, path in zip(waiting["image_id"].tolist(), waiting["path"].tolist(), strict=True):
        name = f"{os.path.splitext(coco_file_name(path) if pictures.store else path)[0]}.xml"
        file = (out or root) / name
        elsewhere = xml_of.get(path)  # as in a devkit, or named by `<filename>`
        found = {file, root / elsewhere} if elsewhere else {file}
        there = [is_proposal(one.read_bytes()) for one in found if one.is_file()]
        if owners.setdefault(file, path) != path:
            problems.append(Problem(path, None, None, "xml_taken", f"{name} is of {owners[file]}", "noted"))
        elif not all(there):
            saved += 1
        elif there and not overwrite:
            proposed += 1
        else:
            places[image_id] = file
    folders = frozenset((root / owners[file]).parent for file in places.values())
    return XmlPlan(places, folders, len(images) - len(waiting), saved, proposed, tuple(problems))


def _xml_of(layout: VocLayout) -> dict[str, str]:
    """Image → the XML that `import-voc` takes for it."""
    return {xml.image: xml.file for xml in XmlMatcher(layout).read()}


def add_class_names(file: Path, names: Sequence[str]) -> None:
    """Complete LabelImg's class list; what is listed already keeps its place."""
    text = file.read_text(encoding="utf-8-sig", errors="replace") if file.exists() else ""
    listed = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
    if not listed.keys() >= set(names):
        lines = "".join(f"{name}\n" for name in dict.fromkeys([*listed, *names]))
        write_atomically(file, lambda out: out.write(lines.encode()))
