"""Joining incoming images and boxes to a dataset.

An image that the dataset has already (same file, else same content) keeps its id, source, time and split, and gets the
incoming boxes; boxes that did not change keep their ids. Images that a source no longer has stay in the dataset. What
happens to the value of each column is declared in `curate.columns`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.boxes import iou_matrix
from curate.columns import (
    BOX_COLUMNS,
    CORNERS,
    IMAGE_COLUMNS,
    LANDMARKS,
    Reimport,
    conform,
    has_landmarks,
)
from curate.dataset import ClassEntry, Dataset
from curate.formats.incoming import Incoming, Problem, problem_table
from curate.formats.listing import base_name
from curate.plain_text import clean_name

_SAME_FACE_IOU = 0.5
_MATCHED = [name for name, column in BOX_COLUMNS.items() if column.reimport is Reimport.MATCH]
_REPLACED = [name for name, column in BOX_COLUMNS.items() if column.reimport is Reimport.REPLACE]


@dataclass(frozen=True)
class Joined:
    """A dataset after joining.

    Attributes:
        dataset: The result.
        is_new: Whether each incoming image is new. (n,)
        is_changed: Whether each incoming image was there, and it or its boxes changed. (n,)
        problems: Those of `Incoming`.
    """

    dataset: Dataset
    is_new: NDArray[np.bool_]
    is_changed: NDArray[np.bool_]
    problems: tuple[Problem, ...]

    @property
    def added(self) -> int:
        """Number of new images."""
        return int(self.is_new.sum())

    @property
    def updated(self) -> int:
        """Number of images that were there and changed."""
        return int(self.is_changed.sum())

    @property
    def unchanged(self) -> int:
        """Number of images that were there and did not change."""
        return int((~self.is_new & ~self.is_changed).sum())


def class_ids_by_name(dataset: Dataset) -> dict[str, int | None]:
    """Name that an annotation may have → id of the class that gets its boxes; None for a dropped class.

    Datasets of earlier versions may have names with invisible characters, which imports take out now.
    """
    names = {**dataset.aliases, **{entry.name: entry.id for entry in dataset.classes}}
    return {clean_name(name): id_ for name, id_ in names.items()} | names


def resolve_names(
    dataset: Dataset, incoming: Incoming, *, declared: Sequence[str] | None = None
) -> tuple[Dataset, Incoming]:
    """Add the source's classes to a dataset, and quarantine boxes of classes that are not allowed.

    Classes of the dataset keep their positions. After them come `declared`, else the source's own order, then the other
    names alphabetically; with `declared`, boxes of other names are quarantined. Names that were merged, renamed or
    dropped follow the dataset's aliases.

    Returns:
        The dataset with its new classes, and the incoming boxes without those that are left out.
    """
    names = set(incoming.boxes["name"].unique())
    known = class_ids_by_name(dataset)
    refused = names - known.keys() - set(declared) if declared is not None else set()
    ordered = dict.fromkeys([*(declared if declared is not None else incoming.class_order), *sorted(names - refused)])
    first_id = dataset.next_ids.class_
    added = [name for name in ordered if name not in known]
    classes = (*dataset.classes, *(ClassEntry(first_id + place, name) for place, name in enumerate(added)))
    dataset = dataset.replace(classes=classes) if added else dataset

    dropped = {name for name in names if name in known and known[name] is None}
    if not refused and not dropped:
        return dataset, incoming
    expected = ", ".join(declared or ())
    problems, boxes, images = list(incoming.problems), incoming.boxes, incoming.images.copy()
    for row in boxes[boxes["name"].isin(refused)].itertuples():
        place = str(row.file), int(row.line), int(row.object)  # pyright: ignore[reportArgumentType]
        problems.append(Problem(*place, "unknown_class", f"{row.name!r}, expected one of {expected}", "quarantined"))
        images.loc[row.image, "label_state"] = "incomplete"
    for row in boxes[boxes["name"].isin(dropped)].itertuples():
        place = str(row.file), int(row.line), int(row.object)  # pyright: ignore[reportArgumentType]
        problems.append(Problem(*place, "dropped_class", f"{row.name!r}", "noted"))
    kept = boxes[~boxes["name"].isin(refused | dropped)].reset_index(drop=True)
    return dataset, replace(incoming, images=images, boxes=kept, problems=tuple(problems))


def match_images(existing: pd.DataFrame, incoming: pd.DataFrame) -> NDArray[np.int64]:
    """Find the incoming images that a dataset has already: same path, else same content. No image is matched twice.

    Of several images with the same content (a still picture in a video), one with the same file name comes first.

    Args:
        existing: A dataset's images.
        incoming: Rows with `path` (in the dataset folder; null if not placed yet), `file` and `sha256`.

    Returns:
        Row in `existing` for each incoming image, -1 for a new one. (n,)
    """
    rows = np.full(len(incoming), -1, dtype=np.int64)
    if not len(existing):
        return rows
    # lists in the loops: a text column would create a new Python string at each access
    paths = existing["path"].tolist()
    by_path = {path: row for row, path in enumerate(paths)}
    by_content: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(existing["sha256"].tolist()):
        by_content[digest].append(row)
    matched = set()
    for index, path in enumerate(incoming["path"].tolist()):
        if path in by_path:
            rows[index] = by_path[path]
            matched.add(by_path[path])
    digests, files = incoming["sha256"].tolist(), incoming["file"].tolist()
    candidates = [index for index, digest in enumerate(digests) if digest in by_content]
    for same_name in (True, False):
        for index in candidates:
            if rows[index] >= 0:
                continue
            for row in by_content[digests[index]]:
                if row not in matched and (not same_name or base_name(paths[row]) == base_name(files[index])):
                    rows[index] = row
                    matched.add(row)
                    break
    return rows


def join(dataset: Dataset, incoming: Incoming, paths: Sequence[str], *, source: str, folder: str) -> Joined:
    """Join the images, boxes and problems of a source to a dataset.

    Args:
        dataset: Has all classes that `incoming` names (see `resolve_names`).
        incoming: The source.
        paths: Path of each incoming image in the dataset folder. (n,)
        source: Value of the column `source` of new images.
        folder: The source folder, relative to the dataset folder; problems are stored under it.
    """
    images = incoming.images.assign(path=pd.array(list(paths), dtype="str"))
    rows = match_images(dataset.images, images)
    is_new = rows < 0
    incoming = replace(incoming, problems=(*incoming.problems, *_split_conflicts(dataset.images, incoming, rows)))
    ids = np.empty(len(images), dtype=np.int64)
    ids[~is_new] = dataset.images["image_id"].to_numpy()[rows[~is_new]]
    ids[is_new] = dataset.next_ids.image + np.arange(int(is_new.sum()))

    boxes = _incoming_boxes(dataset, incoming, ids)
    # an image without a readable annotation leaves the dataset's boxes of it as they are
    is_annotated = images["annotated"].to_numpy(dtype=bool)
    absent = [name for name in _REPLACED if name not in incoming.boxes and name != "original_class"]
    boxes, changed_boxes = _carry_ids(dataset, boxes, ids[is_annotated & ~is_new], absent)
    merged_images, changed_images = _merge_images(dataset.images, images, rows, is_annotated, source, ids)
    is_changed = np.isin(ids, list(changed_boxes | changed_images)) & ~is_new
    annotated_ids = set(ids[is_annotated].tolist())
    kept = dataset.boxes[~dataset.boxes["image_id"].isin(annotated_ids).to_numpy()]
    fresh = boxes[boxes["image_id"].isin(annotated_ids).to_numpy()]
    if has_landmarks(fresh):
        kept = with_landmarks(kept)
    result = dataset.replace(
        images=merged_images if is_new.any() or changed_images else dataset.images,
        boxes=_stack(kept, fresh) if is_new.any() or changed_boxes else dataset.boxes,
        problems=_merge_problems(dataset.problems, incoming, folder),
    )
    return Joined(result, is_new, is_changed, tuple(incoming.problems))


def _incoming_boxes(dataset: Dataset, incoming: Incoming, ids: NDArray[np.int64]) -> pd.DataFrame:
    """Incoming boxes as rows of the boxes table, without their ids."""
    class_of = class_ids_by_name(dataset)
    names = incoming.boxes["name"].astype("category")
    codes = np.array([class_of[name] for name in names.cat.categories], dtype=np.int32)
    columns = {
        "box_id": np.zeros(len(names), dtype=np.int64),
        "image_id": ids[incoming.boxes["image"].to_numpy(dtype=int)],
        "class_id": codes[names.cat.codes.to_numpy()] if len(names) else np.empty(0, dtype=np.int32),
        **{name: incoming.boxes[name] for name in (*CORNERS, *_REPLACED) if name in incoming.boxes},
        "original_class": names,
    }
    if updates_landmarks(dataset.boxes, incoming.boxes):
        columns |= {name: incoming.boxes[name] for name in LANDMARKS}
    boxes = conform(columns, BOX_COLUMNS, place="incoming boxes")
    lacks_landmarks = has_landmarks(dataset.boxes) and not has_landmarks(boxes)
    return carry_landmarks(dataset.boxes, boxes) if lacks_landmarks else boxes


def _carry_ids(
    dataset: Dataset, boxes: pd.DataFrame, known_ids: NDArray[np.int64], absent: Sequence[str]
) -> tuple[pd.DataFrame, set[int]]:
    """Give boxes their ids: the old id where an image still has the same box, else a new one.

    Args:
        dataset: Before joining.
        boxes: Incoming boxes.
        known_ids: Ids of the annotated images that the dataset has already.
        absent: Columns that the source does not have: the same box keeps its values.

    Returns:
        The boxes, and the ids of known images whose boxes changed.
    """
    if not len(known_ids):
        return boxes.assign(box_id=dataset.next_ids.box + np.arange(len(boxes))), set()
    compared = [*_REPLACED, *(LANDMARKS if has_landmarks(boxes) else ())]
    old = dataset.boxes[dataset.boxes["image_id"].isin(known_ids).to_numpy()]
    old = with_landmarks(old) if has_landmarks(boxes) else old
    # equal boxes of an image are told apart by their order
    new = boxes.assign(turn=boxes.groupby(_MATCHED, observed=True, dropna=False).cumcount())
    old = old.assign(turn=old.groupby(_MATCHED, observed=True, dropna=False).cumcount())
    keys = [*_MATCHED, "turn"]
    joined = new[keys].merge(old[[*keys, "box_id", *compared]], on=keys, how="left")
    is_known = joined["box_id"].notna().to_numpy()
    if absent:
        values = {name: np.where(is_known, joined[name].astype(object), boxes[name].astype(object)) for name in absent}
        boxes = conform(boxes.assign(**values), BOX_COLUMNS, place="incoming boxes")
    is_same = is_known.copy()
    for column in compared:
        is_same &= _is_equal(joined[column].to_numpy(dtype=object), boxes[column].to_numpy(dtype=object))
    ids = np.where(is_known, joined["box_id"].fillna(0), 0).astype(np.int64)
    ids[~is_known] = dataset.next_ids.box + np.arange(int((~is_known).sum()))
    gone = old[~old["box_id"].isin(ids[is_known]).to_numpy()]["image_id"]
    altered = boxes["image_id"].to_numpy()[~is_same]
    return boxes.assign(box_id=ids), (set(altered.tolist()) & set(known_ids.tolist())) | set(gone.tolist())


def _merge_images(
    existing: pd.DataFrame,
    images: pd.DataFrame,
    rows: NDArray[np.int64],
    is_annotated: NDArray[np.bool_],
    source: str,
    ids: NDArray[np.int64],
) -> tuple[pd.DataFrame, set[int]]:
    """Existing images with their new values, then the new images; and the ids of existing images that changed."""
    is_new = rows < 0
    table = existing.copy()
    changed: set[int] = set()
    for name, column in IMAGE_COLUMNS.items():
        if name not in images or column.reimport is Reimport.KEEP:
            continue
        has_value = is_annotated if column.reimport is Reimport.REPLACE else images[name].notna().to_numpy(dtype=bool)
        chosen = has_value & ~is_new
        before = existing[name].to_numpy(dtype=object)[rows[chosen]]
        after = images[name].to_numpy(dtype=object)[chosen]
        differs = ~_is_equal(before, after) if column.reimport is Reimport.REPLACE else pd.isna(before)
        if differs.any():
            where = rows[chosen][differs]
            values = pd.array(after[differs], dtype=table[name].dtype)
            table.iloc[where, table.columns.get_loc(name)] = values  # pyright: ignore[reportCallIssue, reportArgumentType]
            changed |= set(existing["image_id"].to_numpy()[where].tolist())
    fresh = images[is_new].assign(image_id=ids[is_new], source=source).drop(columns=["file", "annotated"])
    return _stack(table, conform(fresh, IMAGE_COLUMNS, place="incoming images")), changed


def _split_conflicts(existing: pd.DataFrame, incoming: Incoming, rows: NDArray[np.int64]) -> Iterator[Problem]:
    """A note for each image that keeps its split though the source says another one."""
    if "split" not in incoming.images or not incoming.images["split"].notna().any():
        return
    prefix = f"{incoming.image_folder}/" if incoming.image_folder != incoming.folder else ""
    own = existing["split"].to_numpy(dtype=object)
    for file, said, row in zip(incoming.images["file"], incoming.images["split"], rows, strict=True):
        if row >= 0 and pd.notna(said) and pd.notna(own[row]) and own[row] != said:
            detail = f"stays in {own[row]}; the source says {said}"
            yield Problem(f"{prefix}{file}", None, None, "split_conflict", detail, "noted")


def _is_equal(before: NDArray[np.object_], after: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Where two columns have the same value, or both have none. (n,)"""
    no_before, no_after = pd.isna(before), pd.isna(after)
    is_equal = no_before & no_after
    known = ~(no_before | no_after)
    is_equal[known] = before[known] == after[known]
    return is_equal


def _merge_problems(existing: pd.DataFrame, incoming: Incoming, folder: str) -> pd.DataFrame:
    """Replace the older problems of the same folder, except those of annotation files that are gone."""
    fresh = problem_table(incoming.problems, folder)
    stale = (existing["source"] == folder).to_numpy(bool)
    if stale.any():
        was_read, suffixes = set(incoming.files), incoming.annotation_suffixes
        is_gone = [file.lower().endswith(suffixes) and file not in was_read for file in existing["file"].tolist()]
        stale = stale & ~np.array(is_gone, dtype=bool)
    if fresh.reset_index(drop=True).equals(existing[stale].reset_index(drop=True)):
        return existing
    return _stack(existing[~stale], fresh)


def _stack(above: pd.DataFrame, below: pd.DataFrame) -> pd.DataFrame:
    """Concatenate two tables with the same columns; categories are united."""
    if not len(above) or not len(below):
        return (below if not len(above) else above).reset_index(drop=True)
    columns = {}
    for name in above.columns:
        if isinstance(above[name].dtype, pd.CategoricalDtype):
            columns[name] = pd.api.types.union_categoricals([above[name], below[name]], sort_categories=True)
        else:
            columns[name] = pd.concat([above[name], below[name]], ignore_index=True)
    return pd.DataFrame(columns)


# ── landmarks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_landmarks(boxes: pd.DataFrame) -> pd.DataFrame:
    """The boxes with the columns of `LANDMARKS`; NaN in those that were absent."""
    return boxes.assign(**{name: np.nan for name in LANDMARKS if name not in boxes})


def updates_landmarks(existing: pd.DataFrame, incoming: pd.DataFrame) -> bool:
    """Whether incoming boxes add landmarks to a dataset, or replace some that it has."""
    if not has_landmarks(incoming):
        return False
    return has_landmarks(existing) or bool(incoming[LANDMARKS].notna().to_numpy().any())


def carry_landmarks(existing: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """Give boxes of a source without landmarks those of overlapping boxes that the same images had before.

    Args:
        existing: A dataset's boxes, with landmarks.
        boxes: Rows for its boxes table, with the same image ids.

    Returns:
        `boxes` with the columns of `LANDMARKS`.
    """
    known = existing[existing["image_id"].isin(boxes["image_id"]).to_numpy()]
    points = np.full((len(boxes), len(LANDMARKS)), np.nan)
    if known[LANDMARKS].notna().to_numpy().any():
        before, corners = known[[*CORNERS, *LANDMARKS]].to_numpy(dtype=np.float64), boxes[CORNERS].to_numpy(np.float64)
        rows_of = boxes.groupby("image_id").indices
        for image_id, old in known.groupby("image_id").indices.items():
            new = rows_of[image_id]
            for old_row, new_row in _match_boxes(iou_matrix(before[old, :4], corners[new])):
                points[new[new_row]] = before[old[old_row], 4:]
    return boxes.assign(**dict(zip(LANDMARKS, points.T, strict=True)))


def _match_boxes(iou: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Pairs of row and column with an IoU of at least 0.5, largest first; each row and column once."""
    rows, columns = np.nonzero(iou >= _SAME_FACE_IOU)
    used_rows, used_columns = set(), set()
    # rounded: the IoU of equal boxes is 1 except for the last bits
    for pair in np.argsort(-np.round(iou[rows, columns], 6), kind="stable"):
        row, column = int(rows[pair]), int(columns[pair])
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            yield row, column
