"""Joining incoming images and boxes to a dataset: what is new, what is changed, what was there already.

An image that is there already (the same file, else the same content) keeps its id, source, time and split, and gets
the incoming boxes. Its boxes that did not change keep their ids. Nothing is removed because it did not come again.
Landmarks are those that the source says; where it knows none, see `curate.formats.joining`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curate.boxes import iou_matrix
from curate.columns import BOX_COLUMNS, CORNERS, IMAGE_COLUMNS, LANDMARKS, conform, has_landmarks
from curate.dataset import ClassEntry, Dataset
from curate.formats.incoming import Incoming, Problem, problem_table

_SAME_FACE_IOU = 0.5


def with_landmarks(boxes: pd.DataFrame) -> pd.DataFrame:
    """The boxes with the columns of `LANDMARKS`, unknown where they had none."""
    return boxes.assign(**{name: np.nan for name in LANDMARKS if name not in boxes})


def say_landmarks(existing: pd.DataFrame, incoming: pd.DataFrame) -> bool:
    """Whether boxes that come into a dataset have landmarks to say, or such to unsay."""
    if not has_landmarks(incoming):
        return False
    return has_landmarks(existing) or bool(incoming[LANDMARKS].notna().to_numpy().any())


def carry_landmarks(existing: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """Give boxes of a source that knows no landmarks those of the same images' boxes before.

    Args:
        existing: a dataset's boxes, with landmarks.
        boxes: rows for its boxes table, by the same image ids.

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
            for one, other in _pairs(iou_matrix(before[old, :4], corners[new])):
                points[new[other]] = before[old[one], 4:]
    return boxes.assign(**dict(zip(LANDMARKS, points.T, strict=True)))


def _pairs(iou: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Rows and columns that belong together, the largest overlaps first; equal ones in their order."""
    rows, columns = np.nonzero(iou >= _SAME_FACE_IOU)
    taken_rows, taken_columns = set(), set()
    # rounded: two equal boxes overlap by 1 but for the last bits
    for pair in np.argsort(-np.round(iou[rows, columns], 6), kind="stable"):
        row, column = int(rows[pair]), int(columns[pair])
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            yield row, column


_FLAGS = ["difficult", "truncated", "occluded", "crowd"]


@dataclass(frozen=True)
class Joined:
    """A dataset after joining.

    Attributes:
        dataset: the result.
        is_new, is_changed: of each incoming image: whether it was not there, or there with other boxes. (n,)
        problems: of the incoming.
    """

    dataset: Dataset
    is_new: NDArray[np.bool_]
    is_changed: NDArray[np.bool_]
    problems: tuple[Problem, ...]

    @property
    def added(self) -> int:
        """How many images are new."""
        return int(self.is_new.sum())

    @property
    def updated(self) -> int:
        """How many images were there and are not what they were."""
        return int(self.is_changed.sum())

    @property
    def unchanged(self) -> int:
        """How many images were there just so."""
        return int((~self.is_new & ~self.is_changed).sum())


def resolve_names(
    dataset: Dataset, incoming: Incoming, *, declared: Sequence[str] | None = None
) -> tuple[Dataset, Incoming]:
    """Settle the classes: which there are, in which order, and which boxes are of a class that is not allowed.

    Classes that the dataset has keep their places; then come the declared names, else those of the source's own list,
    else alphabetically; names found beyond a list are appended, or quarantined where `declared` is given. Names that
    were merged, renamed or dropped before follow the dataset's aliases.

    Returns:
        The dataset with its new classes; the incoming boxes without the quarantined ones, which are listed instead.
    """
    found = set(incoming.boxes["name"].unique())
    known = {entry.name for entry in dataset.classes} | dataset.aliases.keys()
    refused = found - known - set(declared) if declared is not None else set()
    listed = declared if declared is not None else incoming.class_order
    new = dict.fromkeys([*listed, *sorted(found - refused)])
    first_id = dataset.next_ids.class_
    added = [name for name in new if name not in known]
    classes = (*dataset.classes, *(ClassEntry(first_id + place, name) for place, name in enumerate(added)))
    dataset = dataset.replace(classes=classes) if added else dataset

    dropped = {name for name in found if name in dataset.aliases and dataset.aliases[name] is None}
    if not refused and not dropped:
        return dataset, incoming
    expected = ", ".join(declared or ())
    problems, boxes, images = list(incoming.problems), incoming.boxes, incoming.images.copy()
    for row in boxes[boxes["name"].isin(refused)].itertuples():
        detail = f"{row.name!r}, expected one of {expected}"
        problems.append(Problem(str(row.file), int(row.line), int(row.object), "unknown_class", detail))  # pyright: ignore[reportArgumentType]
        images.loc[row.image, "label_state"] = "incomplete"
    for row in boxes[boxes["name"].isin(dropped)].itertuples():
        place = str(row.file), int(row.line), int(row.object)  # pyright: ignore[reportArgumentType]
        problems.append(Problem(*place, "dropped_class", f"{row.name!r}"))
    kept = boxes[~boxes["name"].isin(refused | dropped)].reset_index(drop=True)
    return dataset, replace(incoming, images=images, boxes=kept, problems=tuple(problems))


def match_images(existing: pd.DataFrame, incoming: pd.DataFrame) -> NDArray[np.int64]:
    """Find the images that are there already: the same path, else the same content. Each is found once.

    Of several with the same content (a still picture in a video), the one of the same file name comes first.

    Args:
        existing: a dataset's images.
        incoming: rows with `path` (in the dataset folder; null where not placed yet), `file` and `sha256`.

    Returns:
        Row in `existing` for each incoming image, -1 for a new one. (n,)
    """
    rows = np.full(len(incoming), -1, dtype=np.int64)
    if not len(existing):
        return rows
    # lists, not columns, in the loops: a text column makes a Python string anew for each step
    paths = existing["path"].tolist()
    by_path = {path: row for row, path in enumerate(paths)}
    by_content: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(existing["sha256"].tolist()):
        by_content[digest].append(row)
    taken = set()
    for index, path in enumerate(incoming["path"].tolist()):
        if path in by_path:
            rows[index] = by_path[path]
            taken.add(by_path[path])
    searched = [index for index, digest in enumerate(incoming["sha256"].tolist()) if digest in by_content]
    digests, files = incoming["sha256"].tolist(), incoming["file"].tolist()
    for same_name in (True, False):
        for index in searched:
            if rows[index] >= 0:
                continue
            for row in by_content[digests[index]]:
                if row not in taken and (not same_name or _base(paths[row]) == _base(files[index])):
                    rows[index] = row
                    taken.add(row)
                    break
    return rows


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def join(dataset: Dataset, incoming: Incoming, paths: Sequence[str], *, source: str, origin: str) -> Joined:
    """Join what a source says to a dataset.

    Args:
        dataset: with all classes that `incoming` names (see `resolve_names`).
        incoming: what the source says.
        paths: where each incoming image lies in the dataset folder. (n,)
        source: the name that new images carry as theirs.
        origin: the folder that was imported, relative to the dataset folder: what its problems are kept under.
    """
    images = incoming.images.assign(path=pd.array(list(paths), dtype="str"))
    rows = match_images(dataset.images, images)
    is_new = rows < 0
    ids = np.empty(len(images), dtype=np.int64)
    ids[~is_new] = dataset.images["image_id"].to_numpy()[rows[~is_new]]
    ids[is_new] = dataset.next_ids.image + np.arange(int(is_new.sum()))

    boxes = _incoming_boxes(dataset, incoming, ids)
    # an image that came without readable annotations says nothing about the boxes that are there
    tells = images["annotated"].to_numpy(dtype=bool)
    boxes, changed_boxes = _carry_ids(dataset, boxes, ids[tells & ~is_new])
    merged_images, changed_images = _merge_images(dataset.images, images, rows, tells, source, ids)
    changed = np.isin(ids, list(changed_boxes | changed_images)) & ~is_new
    told = set(ids[tells].tolist())
    untouched = dataset.boxes[~dataset.boxes["image_id"].isin(told).to_numpy()]
    fresh = boxes[boxes["image_id"].isin(told).to_numpy()]
    if has_landmarks(fresh):
        untouched = with_landmarks(untouched)
    problems = _merge_problems(dataset.problems, incoming, origin)
    result = dataset.replace(
        images=merged_images if is_new.any() or changed_images else dataset.images,
        boxes=_stack(untouched, fresh) if is_new.any() or changed_boxes else dataset.boxes,
        problems=problems,
    )
    return Joined(result, is_new, changed, tuple(incoming.problems))


def _incoming_boxes(dataset: Dataset, incoming: Incoming, ids: NDArray[np.int64]) -> pd.DataFrame:
    """Incoming boxes as rows of the boxes table, ids still to come."""
    class_of = {name: id_ for name, id_ in dataset.aliases.items() if id_ is not None}
    class_of |= {entry.name: entry.id for entry in dataset.classes}
    names = incoming.boxes["name"].astype("category")
    codes = np.array([class_of[name] for name in names.cat.categories], dtype=np.int32)
    columns = {
        "box_id": np.zeros(len(names), dtype=np.int64),
        "image_id": ids[incoming.boxes["image"].to_numpy(dtype=int)],
        "class_id": codes[names.cat.codes.to_numpy()] if len(names) else np.empty(0, dtype=np.int32),
        **{column: incoming.boxes[column] for column in (*CORNERS, *_FLAGS, "pose")},
        "original_class": names,
    }
    if say_landmarks(dataset.boxes, incoming.boxes):
        columns |= {name: incoming.boxes[name] for name in LANDMARKS}
    boxes = conform(columns, BOX_COLUMNS, place="incoming boxes")
    lacking = has_landmarks(dataset.boxes) and not has_landmarks(boxes)
    return carry_landmarks(dataset.boxes, boxes) if lacking else boxes


def _carry_ids(dataset: Dataset, boxes: pd.DataFrame, known_ids: NDArray[np.int64]) -> tuple[pd.DataFrame, set[int]]:
    """Give boxes their ids: the old one where an image holds the same box still, else a new one.

    Returns:
        The boxes, and the ids of known images whose boxes are not what they were.
    """
    if not len(known_ids):
        return boxes.assign(box_id=dataset.next_ids.box + np.arange(len(boxes))), set()
    place = ["image_id", "class_id", *CORNERS]
    rest = [*_FLAGS, "pose", "original_class", *(LANDMARKS if has_landmarks(boxes) else ())]
    old = dataset.boxes[dataset.boxes["image_id"].isin(known_ids).to_numpy()]
    old = with_landmarks(old) if has_landmarks(boxes) else old
    new = boxes.assign(turn=boxes.groupby(place, observed=True, dropna=False).cumcount())
    old = old.assign(turn=old.groupby(place, observed=True, dropna=False).cumcount())
    keys = [*place, "turn"]
    joined = new[keys].merge(old[[*keys, "box_id", *rest]], on=keys, how="left")
    found = joined["box_id"].notna().to_numpy()
    same = found.copy()
    for column in rest:
        before, after = joined[column].astype(object).to_numpy(), boxes[column].astype(object).to_numpy()
        same &= (before == after) | (pd.isna(before) & pd.isna(after))
    ids = np.where(found, joined["box_id"].fillna(0), 0).astype(np.int64)
    ids[~found] = dataset.next_ids.box + np.arange(int((~found).sum()))
    gone = old[~old["box_id"].isin(ids[found]).to_numpy()]["image_id"]
    altered = boxes["image_id"].to_numpy()[~same]
    return boxes.assign(box_id=ids), (set(altered.tolist()) & set(known_ids.tolist())) | set(gone.tolist())


def _merge_images(
    existing: pd.DataFrame,
    images: pd.DataFrame,
    rows: NDArray[np.int64],
    tells: NDArray[np.bool_],
    source: str,
    ids: NDArray[np.int64],
) -> tuple[pd.DataFrame, set[int]]:
    """Existing images with their new state, then the new ones. Also the ids of existing ones that changed."""
    is_new = rows < 0
    table = existing.copy()
    changed: set[int] = set()
    for column, wanted in (
        ("label_state", tells),
        ("verified", tells),
        ("width", tells),
        ("height", tells),
        ("sha256", tells),
        ("split", images["split"].notna().to_numpy()),
        ("video_id", images["video_id"].notna().to_numpy()),
    ):
        chosen = wanted & ~is_new
        target = table.columns.get_loc(column)
        before = existing[column].to_numpy(dtype=object)[rows[chosen]]
        after = images[column].to_numpy(dtype=object)[chosen]
        keeps = ~pd.isna(before) if column in ("split", "video_id") else np.zeros(len(before), dtype=bool)
        differs = (before != after) & ~keeps
        if differs.any():
            where = rows[chosen][differs]
            values = pd.array(after[differs], dtype=table[column].dtype)
            table.iloc[where, target] = values  # pyright: ignore[reportCallIssue, reportArgumentType]
            changed |= set(existing["image_id"].to_numpy()[where].tolist())
    fresh = images[is_new].assign(image_id=ids[is_new], source=source).drop(columns=["file", "annotated"])
    return _stack(table, conform(fresh, IMAGE_COLUMNS, place="incoming images")), changed


def _merge_problems(existing: pd.DataFrame, incoming: Incoming, origin: str) -> pd.DataFrame:
    """Problems of a folder that was read again are replaced by what it says now; of XML gone from it, they stay."""
    fresh = problem_table(incoming.problems, origin)
    stale = (existing["source"] == origin).to_numpy(bool)
    if stale.any():
        read_again = set(incoming.files)
        is_gone = [file.lower().endswith(".xml") and file not in read_again for file in existing["file"].tolist()]
        stale = stale & ~np.array(is_gone, dtype=bool)
    if fresh.reset_index(drop=True).equals(existing[stale].reset_index(drop=True)):
        return existing
    return _stack(existing[~stale], fresh)


def _stack(above: pd.DataFrame, below: pd.DataFrame) -> pd.DataFrame:
    """Concatenate two tables of one kind; categories are united."""
    if not len(above) or not len(below):
        return (below if not len(above) else above).reset_index(drop=True)
    columns = {}
    for name in above.columns:
        if isinstance(above[name].dtype, pd.CategoricalDtype):
            columns[name] = pd.api.types.union_categoricals([above[name], below[name]], sort_categories=True)
        else:
            columns[name] = pd.concat([above[name], below[name]], ignore_index=True)
    return pd.DataFrame(columns)
