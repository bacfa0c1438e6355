"""COCO's detection format: `images`, `annotations`, `categories` in one JSON file.

Format: cocodataset.org, "Data format". Boxes are (left, top, width, height) in pixels; ids are the dataset's, stable
and unique over all splits. Additional keys, which other tools ignore: `source`, `video_id`, `timestamp_s` of images,
`original_class`, `difficult`, … of annotations, and `videos`, the origin of frames.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import pandas as pd
from pydantic import BaseModel, Strict

from curate.boxes import area, xyxy_to_xywh
from curate.columns import CORNERS
from curate.dataset import Dataset
from curate.documents.json_reader import LARGEST_TABLE_BYTES, read_json
from curate.errors import DataError
from curate.files import write_atomically
from curate.media import IMAGES
from curate.paths import is_inside

CLASS_IDS_FILE = "class_ids.json"
IMAGE_FOLDER = "images"
_EXPORTED_BY_US = "exported by curate"
_INFO = {"description": _EXPORTED_BY_US}
_BATCH = 5000
_IMAGE_EXTRAS = ("source", "video_id", "frame_index", "timestamp_s")
_BOX_EXTRAS = ("difficult", "truncated", "occluded")
_VIDEO_KEYS = (
    "link",
    "title",
    "uploader",
    "licence",
    "upload_date",
    "clip_start_s",
    "clip_end_s",
    "fetched_at",
    "duration_s",
    "fps",
    "sha256",
)


def coco_document(dataset: Dataset, class_ids: Mapping[int, int] | None = None) -> dict[str, Any]:
    """The COCO document of a dataset; the same dataset gives the same document.

    Args:
        dataset: All its images and boxes are included, sorted by id.
        class_ids: Id of each class in the document → its id in the dataset. Default: they are the same.
    """
    images, boxes = _sorted_tables(dataset)
    licences = _licence_of_videos(dataset)
    return {
        **_head(dataset, licences),
        "images": _image_rows(images, licences),
        "annotations": _annotation_rows(_with_class_ids(boxes, class_ids)),
        "categories": _category_rows(dataset, class_ids),
    }


def write_coco(dataset: Dataset, path: str | os.PathLike[str], class_ids: Mapping[int, int] | None = None) -> None:
    """Write `coco_document` to a file, atomically."""
    write_atomically(Path(path), lambda file: file.writelines(_encode(dataset, class_ids)))


def annotation_file(split: str) -> str:
    """The annotation file of a split, relative to the folder of the export."""
    return f"annotations/instances_{split}.json"


def image_file(path: str) -> str:
    """The copy of a dataset's image, relative to the folder of the export."""
    return f"{IMAGE_FOLDER}/{coco_file_name(path)}"


def exported_files(folder: Path) -> set[str] | None:
    """The files of an export, relative to its folder; None if an annotation file there is not one of `write_coco`."""
    files: set[str] = set()
    for file in folder.glob(annotation_file("*")):
        names = _listed_images(file)
        if names is None:
            return None
        files |= {annotation_file(file.stem.removeprefix("instances_")), *map(image_file, names)}
    if _is_class_ids(folder / CLASS_IDS_FILE):
        files.add(CLASS_IDS_FILE)
    return files


class _Info(BaseModel):
    description: str


class _FileName(BaseModel):
    file_name: str


class _Export(BaseModel):
    """The part of an export of ours that is read again."""

    info: _Info
    images: list[_FileName]


def _listed_images(path: Path) -> list[str] | None:
    """The image file names in a COCO file written by `write_coco`; None for other files, and if one leads elsewhere."""
    try:
        export = read_json(path, "COCO file", _Export, limit=LARGEST_TABLE_BYTES)
    except DataError:
        return None
    names = [image.file_name for image in export.images]
    return names if export.info.description == _EXPORTED_BY_US and all(map(is_inside, names)) else None


def _is_class_ids(path: Path) -> bool:
    try:
        return bool(read_class_ids(path))
    except DataError:
        return False


def coco_file_name(path: str) -> str:
    """The path of an image, relative to the folder of exported images."""
    return path.removeprefix(f"{IMAGES}/")


# ── class ids without gaps ────────────────────────────────────────────────────────────────────────────────────────
# class_ids.json {"1": 2, "2": 5}: the export's class 1 is the dataset's class 2. Who trains on such an export writes
# its ids into results; `read_class_ids` leads them back.


def contiguous_ids(ids: Iterable[int]) -> dict[int, int]:
    """Exported id, from 1 without gaps, → id in the dataset."""
    return dict(enumerate(sorted(ids), start=1))


def write_class_ids(path: Path, ids: Mapping[int, int]) -> None:
    """Write exported id → id in the dataset, atomically."""
    text = orjson.dumps({str(exported): own for exported, own in ids.items()}, option=orjson.OPT_INDENT_2)
    write_atomically(path, lambda file: file.write(text + b"\n"))


def read_class_ids(path: Path) -> dict[int, int]:
    """Read exported id → id in the dataset; a person's file may lead several ids to one class.

    Raises:
        DataError: The file cannot be read, or is not a mapping of ids.
    """
    remedy = 'The file has the form {"1": 2, …}: id in the predictions, id in the dataset.'
    return read_json(path, "mapping of class ids", dict[int, Annotated[int, Strict()]], remedy=remedy)


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _encode(dataset: Dataset, class_ids: Mapping[int, int] | None) -> Iterator[bytes]:
    """`coco_document` as JSON, in batches of rows: a row takes a kilobyte as a Python object."""
    images, boxes = _sorted_tables(dataset)
    licences = _licence_of_videos(dataset)
    yield b'%b,"images":[' % orjson.dumps(_head(dataset, licences))[:-1]
    yield from _encode_rows(images, lambda rows: _image_rows(rows, licences))
    yield b'],"annotations":['
    yield from _encode_rows(_with_class_ids(boxes, class_ids), _annotation_rows)
    yield b'],"categories":%b}' % orjson.dumps(_category_rows(dataset, class_ids))


def _encode_rows(table: pd.DataFrame, as_rows: Callable[[pd.DataFrame], list[dict[str, Any]]]) -> Iterator[bytes]:
    for start in range(0, len(table), _BATCH):
        yield (b"," if start else b"") + orjson.dumps(as_rows(table.iloc[start : start + _BATCH]))[1:-1]


def _sorted_tables(dataset: Dataset) -> tuple[pd.DataFrame, pd.DataFrame]:
    images, boxes = dataset.images, dataset.boxes
    return images.sort_values("image_id", kind="stable"), boxes.sort_values("box_id", kind="stable")


def _head(dataset: Dataset, licences: Mapping[str, str]) -> dict[str, Any]:
    """The keys before the images: licences by id from 1, and the videos of the frames, if there are any."""
    names = _licence_ids(licences)
    head = {"info": _INFO, "licenses": [{"id": id_, "name": name} for name, id_ in names.items()]}
    used = dataset.videos[dataset.videos["video_id"].isin(dataset.images["video_id"].dropna())]
    videos = [{"id": video_id} for video_id in used["video_id"].tolist()]
    for key in _VIDEO_KEYS:
        _add_known(videos, key, used[key])
    return head | ({"videos": videos} if videos else {})


def _licence_of_videos(dataset: Dataset) -> dict[str, str]:
    """Video id → licence, for videos with a licence and frames in the dataset."""
    known = dataset.videos[dataset.videos["licence"].notna()]
    used = known[known["video_id"].isin(dataset.images["video_id"].dropna())]
    return dict(zip(used["video_id"].tolist(), used["licence"].tolist(), strict=True))


def _licence_ids(licences: Mapping[str, str]) -> dict[str, int]:
    return {name: id_ for id_, name in enumerate(sorted(set(licences.values())), 1)}


def _with_class_ids(boxes: pd.DataFrame, class_ids: Mapping[int, int] | None) -> pd.DataFrame:
    if class_ids is None:
        return boxes
    exported = {own: exported for exported, own in class_ids.items()}
    return boxes.assign(class_id=boxes["class_id"].map(exported).astype("int32"))


def _category_rows(dataset: Dataset, class_ids: Mapping[int, int] | None) -> list[dict[str, Any]]:
    exported = {own: exported for exported, own in (class_ids or {}).items()}
    return [{"id": exported.get(entry.id, entry.id), "name": entry.name} for entry in dataset.classes]


def _image_rows(images: pd.DataFrame, licences: Mapping[str, str]) -> list[dict[str, Any]]:
    ids, widths, heights = (images[name].tolist() for name in ("image_id", "width", "height"))
    names = [coco_file_name(path) for path in images["path"].tolist()]
    rows = [
        {"id": id_, "file_name": name, "width": width, "height": height}
        for id_, name, width, height in zip(ids, names, widths, heights, strict=True)
    ]
    for key in _IMAGE_EXTRAS:
        _add_known(rows, key, images[key])
    if licences:
        ids = _licence_ids(licences)
        of_videos = {video_id: ids[name] for video_id, name in licences.items()}
        _add_known(rows, "license", images["video_id"].map(of_videos).astype("Int64"))
    return rows


def _annotation_rows(boxes: pd.DataFrame) -> list[dict[str, Any]]:
    corners = boxes[CORNERS].to_numpy(dtype=np.float64)
    columns = (
        boxes["box_id"].tolist(),
        boxes["image_id"].tolist(),
        boxes["class_id"].tolist(),
        xyxy_to_xywh(corners).tolist(),
        area(corners).tolist(),
        boxes["crowd"].astype(int).tolist(),
        *(boxes[key].astype(int).tolist() for key in _BOX_EXTRAS),
    )
    rows = [
        {
            "id": id_,
            "image_id": image_id,
            "category_id": class_id,
            "bbox": bbox,
            "area": area_px2,
            "iscrowd": crowd,
            "difficult": difficult,
            "truncated": truncated,
            "occluded": occluded,
        }
        for id_, image_id, class_id, bbox, area_px2, crowd, difficult, truncated, occluded in zip(*columns, strict=True)
    ]
    for key in ("pose", "original_class"):
        _add_known(rows, key, boxes[key])
    return rows


def _add_known(rows: list[dict[str, Any]], key: str, values: pd.Series) -> None:
    """Set a key in the rows whose value is known."""
    known = values.notna().to_numpy()
    if not known.any():
        return
    for row, value, is_known in zip(rows, values.tolist(), known.tolist(), strict=True):
        if is_known:
            row[key] = value
