"""`Dataset` and `Predictions`: rules are checked by row, and arguments are never changed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sample_datasets import MEDIUM, build_dataset, face_dataset, video_rows

from curate.columns import BOX_COLUMNS, IMAGE_COLUMNS, conform
from curate.dataset import ClassEntry, Dataset, NextIds, Predictions
from curate.errors import DataError, UsageError


def two_images():
    """Two images of 200 px with a box each."""
    return build_dataset(images=[[("with_mask", MEDIUM)], [("without_mask", MEDIUM)]])


def changed(table, column, value, row=1):
    """A copy of a table with one value changed."""
    values = table[column].astype(object)
    values.iloc[row] = value
    return table.assign(**{column: values})


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────

IMAGE_FAULTS = [
    ("image_id", 1, "duplicate image id"),
    ("image_id", 0, "not an image id"),
    ("image_id", None, "column 'image_id' does not fit its type"),
    ("image_id", 1.5, "column 'image_id' does not fit its type"),
    ("path", "media/images/faces/001.png", "duplicate path"),
    ("path", None, "the path is missing"),
    ("path", "../outside.png", "the path leaves the dataset folder"),
    ("path", "/etc/passwd", "the path leaves the dataset folder"),
    ("path", "a\\b.png", "the path leaves the dataset folder"),
    ("path", "", "the path leaves the dataset folder"),
    ("path", "a/../../b.png", "the path leaves the dataset folder"),
    ("path", "a\0b.png", "the path leaves the dataset folder"),
    ("split", "../val", "the split is not a name"),
    ("split", "/val", "the split is not a name"),
    ("split", "..", "the split is not a name"),
    ("split", "", "the split is not a name"),
    ("width", 0, "the image has no area"),
    ("height", -3, "the image has no area"),
    ("width", 2**32 + 200, "column 'width' does not fit its type"),
    ("label_state", "finished", "unknown label state"),
    ("label_state", None, "unknown label state"),
    ("verified", None, "column 'verified' does not fit its type"),
    ("frame_index", 0.5, "column 'frame_index' does not fit its type"),
    ("timestamp_s", "soon", "column 'timestamp_s' does not fit its type"),
]
BOX_FAULTS = [
    ("box_id", 1, "duplicate box id"),
    ("box_id", 0, "not a box id"),
    ("class_id", 9, "unknown class id"),
    ("class_id", 1.5, "column 'class_id' does not fit its type"),
    ("class_id", 2**40 + 1, "column 'class_id' does not fit its type"),
    ("image_id", 7, "unknown image id"),
    ("x0", np.nan, "a corner is not finite"),
    ("y1", np.inf, "a corner is not finite"),
    ("x0", -0.001, "the box is not inside its image"),
    ("x1", 200.001, "the box is not inside its image"),
    ("x1", 10.0, "the box is not inside its image"),
    ("y0", 60.0, "the box is not inside its image"),
    ("crowd", np.nan, "column 'crowd' does not fit its type"),
    ("difficult", "False", "column 'difficult' does not fit its type"),
]


@pytest.mark.parametrize(("column", "value", "fact"), IMAGE_FAULTS)
def test_refused_image(column, value, fact):
    """An image that breaks a rule is an error that names its row."""
    dataset = two_images()
    with pytest.raises(DataError, match=rf"^images, row 1: {fact}"):
        dataset.replace(images=changed(dataset.images, column, value))


@pytest.mark.parametrize(("column", "value", "fact"), BOX_FAULTS)
def test_refused_box(column, value, fact):
    """A box that breaks a rule is an error that names its row."""
    dataset = two_images()
    with pytest.raises(DataError, match=rf"^boxes, row 1: {fact}"):
        dataset.replace(boxes=changed(dataset.boxes, column, value))


def test_values_are_shown_plainly():
    """The message shows the value as a plain number or text."""
    dataset = two_images()
    with pytest.raises(DataError, match=r"\(got 9; expected an id of the classes\)"):
        dataset.replace(boxes=changed(dataset.boxes, "class_id", 9))


def test_further_faults_are_counted():
    """The message counts the other rows with the same problem."""
    dataset = face_dataset()
    with pytest.raises(DataError, match="row 0: the image has no area; the same problem in 7 more rows"):
        dataset.replace(images=dataset.images.assign(width=0))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([(1, "a"), (1, "b")], "duplicate class id"),
        ([(1, "a"), (2, "a")], "duplicate class name"),
        ([(1, "a"), (0, "b")], "classes, entry 1: not a class id"),
        ([(1, "a"), ("2", "b")], "classes, entry 1: not a class id"),
        ([(1, "a"), (2, " b")], "classes, entry 1: not a class name"),
        ([(1, "a"), (2, "")], "classes, entry 1: not a class name"),
        ([(1, "a"), (2, None)], "classes, entry 1: not a class name"),
    ],
)
def test_refused_classes(classes, message):
    """Class ids and names are unique, ids start at 1, names have no outer white space."""
    with pytest.raises(DataError, match=message):
        Dataset(Path("d"), tuple(classes))


def test_missing_column():
    """A missing column without default is an error."""
    with pytest.raises(DataError, match="images: column 'path' is missing"):
        Dataset(Path("d"), images=pd.DataFrame({"image_id": [1], "width": [5], "height": [5]}))


def test_removing_an_image_that_has_boxes():
    """Boxes are checked again when the images change."""
    dataset = two_images()
    with pytest.raises(DataError, match="boxes, row 1: unknown image id"):
        dataset.replace(images=dataset.images[:1])


def test_removing_a_class_that_has_boxes():
    """Boxes are checked again when the classes change."""
    dataset = two_images()
    with pytest.raises(DataError, match="boxes, row 1: unknown class id"):
        dataset.replace(classes=dataset.classes[:1])


def test_replacing_what_there_is_not():
    """A misspelt attribute is an error."""
    with pytest.raises(TypeError, match="a dataset has no image"):
        two_images().replace(image=None)


# ── what is accepted ─────────────────────────────────────────────────────────────────────────────────────────────


def test_empty_dataset():
    """An empty dataset has all columns, and all properties work."""
    empty = Dataset(Path("d"))
    assert (list(empty.images), list(empty.boxes)) == (list(IMAGE_COLUMNS), list(BOX_COLUMNS))
    assert (empty.class_counts(), empty.boxes_xyxy.shape, empty.next_ids) == ({}, (0, 4), NextIds(1, 1, 1))
    assert len(empty.select("val").images) == 0


def test_box_as_large_as_its_image():
    """A box may cover the whole image: edges of 0, width and height are valid."""
    whole = build_dataset(images=[[("with_mask", (0, 0, 200, 200))]])
    assert whole.boxes_xyxy.tolist() == [[0, 0, 200, 200]]


def test_dots_in_names_are_no_parents():
    """A path leaves the folder only if a part is `..`."""
    dataset = two_images()
    paths = pd.array(["a..b/01.png", "..c.png"], dtype="str")
    assert dataset.replace(images=dataset.images.assign(path=paths)).images["path"].tolist() == list(paths)


def test_ids_of_numpy_become_plain():
    """Class ids from an array become Python numbers, which can be written as JSON."""
    (entry,) = Dataset(Path("d"), ((np.int64(3), "a"),)).classes
    assert (entry, type(entry.id)) == (ClassEntry(3, "a"), int)


def test_next_ids_follow_what_is_there():
    """New ids start after the largest in use, and never decrease."""
    dataset = build_dataset(images=[[("with_mask", MEDIUM)] * 3, []])
    assert dataset.next_ids == NextIds(image=3, box=4, class_=4)
    smaller = dataset.replace(boxes=dataset.boxes[:0], classes=())
    assert smaller.next_ids == dataset.next_ids


def test_further_columns_are_kept():
    """Additional columns are kept after the declared ones."""
    dataset = two_images()
    more = dataset.replace(images=dataset.images.assign(weather=["sun", "rain"]))
    assert more.images["weather"].tolist() == ["sun", "rain"]
    assert more.keep_images(np.array([False, True])).images["weather"].tolist() == ["rain"]


def test_find_class_of_an_unknown_name():
    """An unknown class is a usage error; the message lists the classes and the closest name."""
    with pytest.raises(UsageError, match=r"one of with_mask, without_mask, badly_masked\). Did you mean 'with_mask'"):
        two_images().find_class("with_maks")


def test_a_class_is_found_by_its_name_as_shown():
    """A name of an earlier version may have invisible characters; it is found as it is, and by its escapes."""
    dataset = Dataset(Path("d"), ((1, "a\u202e"), (2, "a"), (3, r"a\x1b"), (4, "a\x1b"), (5, "a\u200cb")))
    given = ["a\u202e", r"a\u202e", "a", r"a\x1b", "a\x1b", "a\u200cb", r"a\u200cb"]
    assert [dataset.find_class(name).id for name in given] == [1, 1, 2, 3, 4, 5, 5]


def test_classes_without_boxes_count_zero():
    """A class without boxes is counted as 0."""
    assert two_images().class_counts() == {"with_mask": 1, "without_mask": 1, "badly_masked": 0}


# ── select ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_select_takes_labelled_images_with_their_boxes():
    """The default selects labelled images, with or without boxes."""
    states = pd.array(["labelled"] * 6 + ["proposed", "labelled"], dtype="str")
    chosen = face_dataset(label_state=states).select()
    assert chosen.images["image_id"].tolist() == [1, 2, 3, 4, 5, 6, 8]
    assert set(chosen.boxes["image_id"]) == {1, 2, 3, 4, 5, 6}


def test_select_a_split():
    """A split selects its own images; images without split are in none."""
    splits = pd.array(["train", "val", None, "train", "val", None, None, "val"], dtype="str")
    dataset = face_dataset(split=splits)
    assert dataset.select("val").images["image_id"].tolist() == [2, 5, 8]
    assert dataset.select("test").images["image_id"].tolist() == []


def test_select_any_state():
    """Without label states, images in all states are selected."""
    dataset = face_dataset(label_state=pd.array(["unlabelled"] * 8, dtype="str"))
    assert (len(dataset.select().images), len(dataset.select(label_states=None).images)) == (0, 8)


def test_selection_keeps_the_next_ids():
    """Ids of images that a selection left out are not given to new images."""
    dataset = face_dataset()
    assert dataset.keep_images(np.arange(8) < 1).next_ids == dataset.next_ids


# ── arguments do not change ──────────────────────────────────────────────────────────────────────────────────────


def test_construction_leaves_the_tables_alone():
    """Constructing a dataset does not change the tables."""
    images, boxes = face_dataset().images[["image_id", "path", "width", "height"]], face_dataset().boxes
    before = images.copy(deep=True), boxes.copy(deep=True)
    Dataset(Path("d"), face_dataset().classes, images, boxes)
    pd.testing.assert_frame_equal(images, before[0])
    pd.testing.assert_frame_equal(boxes, before[1])


def test_later_changes_do_not_reach_in():
    """Changing a table afterwards does not change the dataset."""
    images = face_dataset().images
    dataset = face_dataset().replace(images=images)
    images.loc[0, "path"] = "other.png"
    assert dataset.images["path"].iloc[0] == "media/images/faces/001.png"


def test_operations_leave_the_dataset_alone():
    """Selecting and replacing return a new dataset."""
    dataset = face_dataset()
    before = dataset.images.copy(deep=True), dataset.boxes.copy(deep=True), dataset.classes
    dataset.select("train")
    dataset.replace(boxes=dataset.boxes[:2])
    pd.testing.assert_frame_equal(dataset.images, before[0])
    pd.testing.assert_frame_equal(dataset.boxes, before[1])
    assert dataset.classes == before[2]


# ── conform ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_conform_types_and_defaults():
    """Declared columns come first and typed; missing ones get their default."""
    table = conform({"note": ["x"], "path": ["a.png"], "width": [5.0], "height": [5], "image_id": [1]}, IMAGE_COLUMNS)
    assert list(table) == [*IMAGE_COLUMNS, "note"]
    assert {name: str(dtype) for name, dtype in table.dtypes.items() if name != "note"} == {
        name: column.dtype for name, column in IMAGE_COLUMNS.items()
    }
    assert table["label_state"].tolist() == ["unlabelled"]
    assert table["split"].isna().all()


def test_conform_twice_is_conform_once():
    """Converting twice gives the same table."""
    once = face_dataset().boxes
    pd.testing.assert_frame_equal(conform(once, BOX_COLUMNS), once)


def test_conform_counts_rows_anew():
    """The index starts at 0, so that messages name rows by position."""
    table = face_dataset().images.set_index(np.arange(100, 108))
    assert conform(table, IMAGE_COLUMNS).index.tolist() == list(range(8))


# ── predictions ──────────────────────────────────────────────────────────────────────────────────────────────────


def predictions(**changes):
    """Two detections; the first one has the given values."""
    row = {"image_id": 1, "class_id": 1, "x0": 0.0, "y0": 0.0, "x1": 5.0, "y1": 5.0, "score": 0.5}
    return Predictions(pd.DataFrame([row, row | changes]))


def test_predictions_may_leave_the_image():
    """Detections are never clipped."""
    assert predictions(x0=-50.0, x1=9999.0).boxes_xyxy[1].tolist() == [-50, 0, 9999, 5]


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"x1": 0.0}, "the box has no area"),
        ({"y1": -1.0}, "the box has no area"),
        ({"x0": np.nan}, "a number is not finite"),
        ({"score": np.inf}, "a number is not finite"),
        ({"class_id": 1.5}, "column 'class_id' does not fit"),
    ],
)
def test_refused_predictions(changes, fact):
    """Empty and non-finite detections are errors that name the row."""
    with pytest.raises(DataError, match=f"predictions, row 1: {fact}"):
        predictions(**changes)


def test_no_predictions():
    """A table without detections is valid."""
    assert Predictions().boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (video_rows(["a", "a"]), "videos, row 1: duplicate video id"),
        (video_rows(["a", "b"], path=["v.mp4", "v.mp4"]), "videos, row 1: duplicate path"),
        (video_rows(["a"], path=["/v.mp4"]), "videos, row 0: the path leaves the dataset folder"),
        (video_rows(["a"], path=["../v.mp4"]), "videos, row 0: the path leaves the dataset folder"),
        *(
            (video_rows(["a", name], path=["a.mp4", "b.mp4"]), "videos, row 1: the video id is not a name")
            for name in ("../b", "/b", "b/c", "..", ".", "", "b\\c", "b\0")
        ),
    ],
)
def test_refused_video(rows, message):
    """Videos have unique ids and paths, inside the dataset folder."""
    with pytest.raises(DataError, match=f"^{message}"):
        face_dataset().replace(videos=rows)
