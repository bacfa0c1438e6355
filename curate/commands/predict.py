"""`predict`: a run's boxes for images, as COCO results, as XML for LabelImg, or as proposals in a dataset."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from curate.columns import CORNERS
from curate.commands.label import CLASS_FILE
from curate.dataset import Predictions
from curate.errors import UsageError
from curate.formats.proposals import WAITING, join_proposals
from curate.formats.voc.writer import proposal_xml, write_proposal
from curate.formatting import count_of
from curate.inference.inputs import read_pictures
from curate.inference.outputs import (
    XmlPlan,
    add_class_names,
    check_results,
    plan_xml,
    results_folder,
    write_coco_results,
)
from curate.inference.predictor import Predictor, clip_to_images
from curate.progress import Progress, silent
from curate.result import Result
from curate.run_folder.folder import RunFolder
from curate.store import Store

Form = Literal["coco", "voc"]

_SURE = 0.5  # the lowest score of a proposal: each wrong one costs a person time


@dataclass(frozen=True)
class PredictResult(Result):
    """What a run found.

    Attributes:
        run: its folder.
        images: that were looked at.
        boxes: that were kept.
        out: the folder of `predictions.json` and `images.json`, the folder of the XML, or the dataset.
        form: "coco" or "voc"; None where the boxes went into the dataset.
        version: the dataset's, where they did.
        problems: images that were left out, with `file` as the caller can open it.
    """

    run: str
    images: int
    boxes: int
    out: str
    form: str | None
    version: int | None
    problems: tuple[dict[str, Any], ...]


def predict(
    run: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    form: Form | None = None,
    score: float | None = None,
    into_dataset: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = silent,
) -> PredictResult:
    """Find objects with a trained run.

    "coco" writes `predictions.json` (COCO results) and `images.json` (the images and classes that its ids are of). A
    dataset's images have its own ids, a folder's count from 1 in the order of their paths.

    "voc" writes an XML for each image, to be corrected in LabelImg and imported. XML that a person saved is never
    replaced, and of a dataset only images that no person has labelled get one. `into_dataset` keeps the boxes of these
    in the dataset instead, as proposals: never trained on or counted, until XML that a person saved replaces them.

    Args:
        run: the run's folder, such as `masks/runs/first`.
        source: an image, a folder of images (with all folders in it), or a dataset folder.
        out: the folder to write to. Default: for "coco" `RUN/predicted/NAME`, after the source; for "voc" beside the
            images, or for a dataset none.
        form: "coco" (default) or "voc".
        score: the lowest score to keep. Default: for "coco" all that the model gives, which AP needs; else 0.5.
        into_dataset: keep the boxes in the dataset `source`; no file is written.
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1".
        overwrite: replace earlier results, and proposed XML that nobody has saved.
        progress: told how many images were looked at.

    Raises:
        UsageError: arguments that do not fit one another; no run; results that are there already.
        DataError: there is no image, or none that can be read.
        StoreError: `into_dataset`, and `source` is no dataset.
        MissingError: the run's library, or the device, is not there.
    """
    _check_arguments(form, score, out, into_dataset=into_dataset)
    folder, place = RunFolder(run), Path(source)
    folder.read_record()
    if not folder.best.is_file():
        raise UsageError("the run has no checkpoint yet", place=run, remedy="Train it, or go on with --resume.")
    target = Path(out) if out is not None else None
    results = target or results_folder(folder, place)
    if into_dataset:
        Store(place).head()
    elif form == "voc":
        _check_xml_place(place, target)
    else:
        check_results(results, overwrite=overwrite)
    predictor = Predictor(folder, read_pictures(place, progress), device, progress)
    if into_dataset:
        return _propose(predictor, Store(place), _SURE if score is None else score)
    if form == "voc":
        return _write_xml(predictor, target, _SURE if score is None else score, overwrite=overwrite)
    return _write_results(predictor, results, score or 0.0)


def _check_arguments(
    form: Form | None, score: float | None, out: str | os.PathLike[str] | None, *, into_dataset: bool
) -> None:
    if form not in (None, "coco", "voc"):
        raise UsageError("unknown form", place="--as", got=repr(form), expected="coco or voc")
    if score is not None and not 0 <= score <= 1:
        raise UsageError("not a score", place="--score", got=score, expected="0 to 1")
    if into_dataset and (form is not None or out is not None):
        raise UsageError(
            "boxes that go into the dataset are not written to files",
            place="--into-dataset",
            remedy=f"Leave out {'--as' if form is not None else '--out'}.",
        )


def _check_xml_place(source: Path, target: Path | None) -> None:
    if target is None and Store(source).exists():
        remedy = "Name a folder, or keep the boxes in the dataset with --into-dataset."
        raise UsageError("it is not said where the XML of a dataset goes", place="--out", remedy=remedy)
    if target is not None and target.exists() and not target.is_dir():
        raise UsageError("not a folder", place=target, expected="a folder for the XML")


def _write_results(predictor: Predictor, target: Path, least_score: float) -> PredictResult:
    """All images, as COCO results. Nothing is written before the last one was looked at."""
    parts = list(predictor.predict(predictor.pictures.images.images["image_id"].tolist(), min_score=least_score))
    images, found = _joined(parts)
    write_coco_results(target, found, images, predictor.classes.entries)
    notes = []
    if predictor.classes.unknown:
        names = ", ".join(predictor.classes.unknown)
        notes.append(f"The dataset has no class {names}: such boxes cannot be evaluated on it.")
    return _result(predictor, target, "coco", boxes=len(found.boxes), notes=notes)


def _write_xml(predictor: Predictor, target: Path | None, least_score: float, *, overwrite: bool) -> PredictResult:
    """An XML for each image that has none; those that are written stay when the rest is interrupted."""
    plan = plan_xml(predictor.pictures, target, overwrite=overwrite)
    predictor.problems.extend(plan.problems)
    root = predictor.pictures.images.root
    out, names = target or root, dict(predictor.classes.entries)
    if plan.places:
        add_class_names(out / CLASS_FILE, list(names.values()))
    boxes = 0
    for images, found in predictor.predict(list(plan.places), min_score=least_score):
        rows_of = clip_to_images(found, images).boxes.groupby("image_id")
        columns = (images[name].tolist() for name in ("image_id", "path", "width", "height"))
        for image_id, path, width, height in zip(*columns, strict=True):
            rows = rows_of.get_group(image_id) if image_id in rows_of.groups else found.boxes[:0]
            classes = [names[id_] for id_ in rows["class_id"].tolist()]
            xml = proposal_xml(root / path, width, height, classes, rows[CORNERS].to_numpy(dtype=np.float64))
            boxes += len(rows) if write_proposal(plan.places[image_id], xml) else 0
    return _result(predictor, out, "voc", boxes=boxes, notes=_xml_notes(plan, root, out))


def _xml_notes(plan: XmlPlan, root: Path, out: Path) -> list[str]:
    notes = [
        f"{count_of(number, 'image')} {what}"
        for number, what in (
            (plan.labelled, "labelled already: no XML was written."),
            (plan.saved, "with XML that somebody saved: it stays as it is."),
            (plan.proposed, "with a proposal already; --overwrite replaces it."),
        )
        if number
    ]
    folders = {file.parent for file in plan.places.values()}
    if len(folders) == len(plan.image_folders) == 1:
        command = ("labelImg", str(*plan.image_folders), str(out / CLASS_FILE), str(*folders))
        notes.append(f"To correct them: {shlex.join(command)}")
    elif folders:
        notes.append("LabelImg finds XML by name alone: open one folder at a time in it.")
    if folders:
        images = [] if out == root else ["--images", str(root)]
        command = shlex.join(["curate", "import-voc", "DATASET", str(out), *images])
        notes.append(f"Then, for what was saved in LabelImg: {command}")
    return notes


def _propose(predictor: Predictor, store: Store, least_score: float) -> PredictResult:
    """Boxes on the images that no person has labelled, as one entry of the history."""
    images = predictor.pictures.images.images
    waiting = images[images["label_state"].isin(WAITING)]
    parts = [
        (rows, clip_to_images(found, rows))
        for rows, found in predictor.predict(waiting["image_id"].tolist(), min_score=least_score)
    ]
    if not parts:
        return _result(predictor, store.root, None, version=store.head(), notes=["No image waits for a label."])
    seen, found = _joined(parts)
    record = predictor.folder.read_record()
    arguments = {
        "run": str(predictor.folder.path),
        "model": record.model,
        "steps": record.best_step,
        "score": least_score,
        "into_dataset": True,
    }
    names = dict(predictor.classes.entries)
    version, after = store.commit("predict", arguments, lambda before: join_proposals(before, seen, found, names))
    proposed = after.select(label_states=("proposed",)).boxes
    boxes = int(proposed["image_id"].isin(seen["image_id"]).sum())
    command = shlex.join(["curate", "label", str(store.root)])
    return _result(predictor, store.root, None, boxes=boxes, version=version, notes=[f"To correct them: {command}"])


def _joined(parts: Sequence[tuple[pd.DataFrame, Predictions]]) -> tuple[pd.DataFrame, Predictions]:
    images = pd.concat([rows for rows, _ in parts], ignore_index=True)
    return images, Predictions(pd.concat([found.boxes for _, found in parts], ignore_index=True))


def _result(
    predictor: Predictor,
    out: Path,
    form: Form | None,
    *,
    boxes: int = 0,
    version: int | None = None,
    notes: Sequence[str] = (),
) -> PredictResult:
    root = predictor.pictures.images.root
    dropped = count_of(predictor.dropped, "box")
    more = [f"Left out: {dropped} of classes that were dropped since."] if predictor.dropped else []
    return PredictResult(
        run=str(predictor.folder.path),
        images=predictor.images_done,
        boxes=boxes,
        out=str(out),
        form=form,
        version=version,
        problems=tuple(problem._asdict() | {"file": str(root / problem.file)} for problem in predictor.problems),
        notes=(*more, *notes),
    )
