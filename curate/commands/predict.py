"""`predict`: detections of a run on images, as COCO results, as XML for LabelImg, or as proposals in a dataset."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from curate.columns import CORNERS
from curate.commands.label import CLASS_FILE
from curate.dataset import Predictions
from curate.errors import MissingError, UsageError
from curate.files import OVERWRITE_REMEDY, write_atomically
from curate.formats.coco import coco_file_name
from curate.formats.proposals import WAITING, join_proposals
from curate.formats.voc.writer import proposal_xml, write_proposal
from curate.formatting import count_of, curate_command
from curate.images import decode_rgb, encode_rgb
from curate.inference.inputs import read_images
from curate.inference.outputs import (
    DRAWN,
    XmlPlan,
    add_class_names,
    check_folder_name,
    check_results,
    plan_xml,
    results_folder,
    write_coco_results,
)
from curate.inference.predictor import Predictor, clip_to_images
from curate.operating_point import DEFAULT_POINT, check_score
from curate.paths import refuse_links
from curate.progress import Progress, silent
from curate.result import Result
from curate.run_folder.folder import RunFolder
from curate.store import Store

Form = Literal["coco", "voc"]


@dataclass(frozen=True)
class PredictResult(Result):
    """The written detections.

    Attributes:
        run: Folder of the run.
        images: Number of images.
        boxes: Number of written boxes.
        out: Folder of `predictions.json` and `images.json`, folder of the XML, or the dataset.
        drawn: Folder of the pictures with their boxes, if these were requested.
        form: "coco" or "voc"; None if the boxes were added to the dataset.
        version: New version of the dataset, if the boxes were added to it.
        problems: Images that were left out; `file` is relative to the working folder, or absolute.
    """

    run: str
    images: int
    boxes: int
    out: str
    form: str | None
    version: int | None
    drawn: str | None
    problems: tuple[dict[str, Any], ...]


def predict(
    run: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    form: Form | None = None,
    score: float | None = None,
    draw: bool = False,
    into_dataset: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = silent,
) -> PredictResult:
    """Detect objects with a trained run.

    "coco" writes `predictions.json` (COCO results) and `images.json` (their images and classes). Image ids are those of
    the dataset; in a folder they count from 1 in the order of the paths.

    "voc" writes one XML file per image, for corrections in LabelImg and import. XML that a person saved is never
    replaced, and labelled images of a dataset get none. `into_dataset` adds the boxes of unlabelled images to the
    dataset as proposals, which are neither trained on nor counted until a person's XML replaces them.

    Args:
        run: Folder of the run, such as `masks/runs/first`.
        source: An image, a folder of images (with subfolders), or a dataset folder.
        out: Folder for the files. Default: for "coco" `RUN/predicted/NAME`, named after the source; for "voc" next to
            the images, and required for a dataset.
        form: "coco" (default) or "voc".
        score: Lowest score to keep. Default: for "coco" all detections, which AP needs; else 0.5.
        draw: Also write each picture with its boxes of at least the score, into the folder `drawn` beside the results.
        into_dataset: Add the boxes to the dataset `source`; no file is written.
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1".
        overwrite: Replace earlier results, and proposed XML that nobody has saved.
        progress: Callback for progress.

    Raises:
        UsageError: Arguments that do not go together; no such run; results already exist.
        DataError: There is no image, or none is readable.
        StoreError: `into_dataset`, and `source` is not a dataset.
        MissingError: The library of the run, or the device, is not available.
    """
    _check_arguments(form, score, out, draw=draw, into_dataset=into_dataset)
    folder, source = RunFolder(run), Path(source)
    folder.read_record()
    folder.require_checkpoint()
    target = Path(out) if out is not None else None
    results = target or results_folder(folder, source)
    if into_dataset:
        Store(source).head()
    elif form == "voc":
        _check_xml_folder(source, target)
    else:
        if target is not None:
            check_folder_name(target)
        check_results(results, overwrite=overwrite)
        if draw:
            _check_drawing(results / DRAWN, overwrite=overwrite)
    predictor = Predictor(folder, read_images(source, progress), device, progress)
    if into_dataset:
        return _propose(predictor, Store(source), DEFAULT_POINT.score if score is None else score)
    if form == "voc":
        return _write_xml(predictor, target, DEFAULT_POINT.score if score is None else score, overwrite=overwrite)
    drawn_from = (DEFAULT_POINT.score if score is None else score) if draw else None
    return _write_results(predictor, results, score or 0.0, drawn_from, progress)


def _check_arguments(
    form: Form | None, score: float | None, out: str | os.PathLike[str] | None, *, draw: bool, into_dataset: bool
) -> None:
    if form not in (None, "coco", "voc"):
        raise UsageError("unknown form", place="--as", got=repr(form), expected="coco or voc")
    if score is not None:
        check_score(score)
    if draw and (form == "voc" or into_dataset):
        other = "--into-dataset" if into_dataset else "--as voc"
        raise UsageError(f"--draw and {other} are mutually exclusive", place="predict")
    if into_dataset and (form is not None or out is not None):
        raise UsageError(
            f"--into-dataset and {'--as' if form is not None else '--out'} are mutually exclusive", place="predict"
        )


def _check_xml_folder(source: Path, target: Path | None) -> None:
    if target is None and Store(source).exists():
        remedy = "Give a folder, or add the boxes to the dataset with --into-dataset."
        raise UsageError("--as voc of a dataset needs --out", place="predict", remedy=remedy)
    if target is not None and target.exists() and not target.is_dir():
        raise UsageError("not a folder", place=target, expected="a folder for the XML")


def _check_drawing(folder: Path, *, overwrite: bool) -> None:
    """Check before long work that pictures can be drawn and written.

    Raises:
        MissingError: The package that draws is not installed.
        UsageError: The folder has files.
    """
    if find_spec("supervision") is None:
        remedy = "pip install 'curate-vision[watch]'"
        raise MissingError("the package supervision is not installed", place="--draw", remedy=remedy)
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise UsageError("the folder has files already", place=folder, remedy=OVERWRITE_REMEDY)


def _draw(
    predictor: Predictor,
    images: pd.DataFrame,
    predictions: Predictions,
    target: Path,
    min_score: float,
    report: Progress,
) -> None:
    """Write each picture with its boxes, upright, under the path of its image, into a folder of the results."""
    from curate.monitor.detections import NO_TRACK, FrameDetections
    from curate.monitor.outputs.drawing import Drawer

    entries = predictor.classes.entries
    drawer, index_of = Drawer([entry.name for entry in entries]), {entry.id: row for row, entry in enumerate(entries)}
    table = predictions.boxes[predictions.boxes["score"] >= min_score].sort_values("score", ascending=False)
    rows_of = dict(list(table.groupby("image_id")))
    paths = images["path"].tolist()
    for place, (image_id, path) in enumerate(zip(images["image_id"].tolist(), paths, strict=True)):
        report("draw", place, len(paths))
        rows = rows_of.get(image_id, table[:0])
        found = FrameDetections(
            frame_index=place,
            timestamp_s=0.0,
            boxes_xyxy=rows[CORNERS].to_numpy(dtype=np.float64),
            scores=rows["score"].to_numpy(dtype=np.float64),
            class_indices=np.array([index_of[id_] for id_ in rows["class_id"].tolist()], dtype=np.int64),
            track_ids=np.full(len(rows), NO_TRACK, dtype=np.int64),
        )
        drawn = drawer.draw(decode_rgb(predictor.inputs.images.image_file(path)), found)
        file = target / _drawn_file(path)
        data = encode_rgb(drawn, file.suffix.lower())
        write_atomically(file, lambda out, data=data: out.write(data))
    report("draw", len(paths), len(paths))


def _drawn_file(path: str) -> str:
    """The picture of an image with its boxes, relative to the folder of the results."""
    name = coco_file_name(path)
    return f"{DRAWN}/{name}" if name.lower().endswith((".png", ".jpg")) else f"{DRAWN}/{name}.jpg"


def _write_results(
    predictor: Predictor, target: Path, min_score: float, drawn_from: float | None, progress: Progress
) -> PredictResult:
    """Write COCO results of all images, after the last one; and pictures with the boxes from a score on."""
    if drawn_from is not None:
        for folder in {_drawn_file(path).rpartition("/")[0] for path in predictor.inputs.images.images["path"]}:
            refuse_links(target, folder)
    parts = list(predictor.predict(predictor.inputs.images.images["image_id"].tolist(), min_score=min_score))
    images, predictions = _concatenate(parts)
    write_coco_results(target, predictions, images, predictor.classes.entries)
    if drawn_from is not None:
        _draw(predictor, images, predictions, target, drawn_from, progress)
    notes = []
    if predictor.classes.unknown:
        names = ", ".join(predictor.classes.unknown)
        notes.append(f"The dataset has no class {names}: boxes of that name cannot be evaluated on it.")
    drawn = None if drawn_from is None else target / DRAWN
    return _result(predictor, target, "coco", boxes=len(predictions.boxes), drawn=drawn, notes=notes)


def _write_xml(predictor: Predictor, target: Path | None, min_score: float, *, overwrite: bool) -> PredictResult:
    """Write XML for each image of the plan; files written before an interruption stay."""
    plan = plan_xml(predictor.inputs, target, overwrite=overwrite)
    predictor.problems.extend(plan.problems)
    root = predictor.inputs.images.root
    out, names = target or root, dict(predictor.classes.entries)
    if plan.files:
        add_class_names(out / CLASS_FILE, list(names.values()))
    boxes = 0
    for images, predictions in predictor.predict(list(plan.files), min_score=min_score):
        rows_of = clip_to_images(predictions, images).boxes.groupby("image_id")
        columns = (images[name].tolist() for name in ("image_id", "path", "width", "height"))
        for image_id, path, width, height in zip(*columns, strict=True):
            rows = rows_of.get_group(image_id) if image_id in rows_of.groups else predictions.boxes[:0]
            classes = [names[id_] for id_ in rows["class_id"].tolist()]
            xml = proposal_xml(root / path, width, height, classes, rows[CORNERS].to_numpy(dtype=np.float64))
            boxes += len(rows) if write_proposal(plan.files[image_id], xml) else 0
    return _result(predictor, out, "voc", boxes=boxes, notes=_xml_notes(plan, root, out))


def _xml_notes(plan: XmlPlan, root: Path, out: Path) -> list[str]:
    notes = [
        f"Left out: {count_of(number, 'image')} {reason}"
        for number, reason in (
            (plan.labelled, "labelled already."),
            (plan.saved, "with XML that a person saved."),
            (plan.proposed, "with a proposal; --overwrite replaces it."),
        )
        if number
    ]
    folders = {file.parent for file in plan.files.values()}
    if len(folders) == len(plan.image_folders) == 1:
        command = ("labelImg", str(*plan.image_folders), str(out / CLASS_FILE), str(*folders))
        notes.append(f"To correct the boxes: {shlex.join(command)}")
    elif folders:
        notes.append("LabelImg finds XML by file name alone: open one folder at a time.")
    if folders:
        images = [] if out == root else ["--images", str(root)]
        command = curate_command("import-voc", "DATASET", out, *images)
        notes.append(f"To import what was saved in LabelImg: {command}")
    return notes


def _propose(predictor: Predictor, store: Store, min_score: float) -> PredictResult:
    """Add proposals to the unlabelled images, as one version."""
    images = predictor.inputs.images.images
    waiting = images[images["label_state"].isin(WAITING)]
    predicted = predictor.predict(waiting["image_id"].tolist(), min_score=min_score)
    parts = [(rows, clip_to_images(predictions, rows)) for rows, predictions in predicted]
    if not parts:
        return _result(predictor, store.root, None, version=store.head(), notes=["Every image is labelled."])
    rows, predictions = _concatenate(parts)
    record = predictor.folder.read_record()
    arguments = {
        "run": str(predictor.folder.path),
        "model": record.model,
        "steps": record.best_step,
        "score": min_score,
        "into_dataset": True,
    }
    names = dict(predictor.classes.entries)
    version, after = store.commit("predict", arguments, lambda before: join_proposals(before, rows, predictions, names))
    proposed = after.select(label_states=("proposed",)).boxes
    boxes = int(proposed["image_id"].isin(rows["image_id"]).sum())
    command = curate_command("label", store.root)
    return _result(
        predictor, store.root, None, boxes=boxes, version=version, notes=[f"To correct the boxes: {command}"]
    )


def _concatenate(parts: Sequence[tuple[pd.DataFrame, Predictions]]) -> tuple[pd.DataFrame, Predictions]:
    images = pd.concat([rows for rows, _ in parts], ignore_index=True)
    return images, Predictions(pd.concat([predictions.boxes for _, predictions in parts], ignore_index=True))


def _result(
    predictor: Predictor,
    out: Path,
    form: Form | None,
    *,
    boxes: int = 0,
    version: int | None = None,
    drawn: Path | None = None,
    notes: Sequence[str] = (),
) -> PredictResult:
    root = predictor.inputs.images.root
    dropped = count_of(predictor.dropped, "box")
    more = [f"Left out: {dropped} of classes that were dropped since."] if predictor.dropped else []
    return PredictResult(
        run=str(predictor.folder.path),
        images=predictor.images_done,
        boxes=boxes,
        out=str(out),
        form=form,
        version=version,
        drawn=None if drawn is None else str(drawn),
        problems=tuple(problem._asdict() | {"file": str(root / problem.file)} for problem in predictor.problems),
        notes=(*more, *notes),
    )
