"""Predictions in a file: of which images and classes, and what is left out."""

import json

import pandas as pd
import pytest
from sample_datasets import face_dataset, results_of, save, set_column, write_json

import curate
from curate.errors import DataError, MissingError, UsageError
from curate.store import Store

SPLITS = pd.array(["train"] * 3 + ["val"] * 3 + [None, "val"], dtype="str")
GOOD = {"image_id": 4, "category_id": 1, "bbox": [20, 20, 160, 160], "score": 0.9}


@pytest.fixture
def root(tmp_path):
    """A saved dataset: val holds images 4, 5, 6 and 8 with 4 boxes; image 7 is in no split."""
    return save(face_dataset(tmp_path / "faces", split=SPLITS))


def own_rows(root, split="val"):
    """The dataset's own boxes of a split as results."""
    return results_of(Store(root).load().select(split))


def judged(root, rows, **options):
    """The result of evaluating these rows on val."""
    return curate.evaluate(root, predictions=write_json(root / "results.json", rows), **options)


# ── rows that are left out ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"category_id": 99}, "unknown class id"),
        ({"category_id": 0}, "unknown class id"),
        ({"bbox": [0, 0, -5, 5]}, "the box has no area"),
        ({"bbox": [200, 50, 0, 12.5]}, "the box has no area"),
        ({"bbox": [0, 0]}, "'bbox' is not valid"),
        ({"score": None}, "'score' is not valid"),
        ({"score": -0.5}, "the score is negative"),
        ({"score": float("nan")}, "'score' is not valid"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_one_bad_row_is_left_out(root, change, fact):
    """One bad row does not refuse a file: it is left out, and a note has its number, its place and what is wrong."""
    rows = own_rows(root)
    result = judged(root, [*rows, rows[0] | change])
    assert (result.ap, result.detections) == (pytest.approx(1, abs=1e-9), 4)
    (note,) = result.notes
    assert note.startswith(f"Left out: 1 of 5 predictions ({fact}: 1). First: ")
    assert "results.json, entry 4: " in note


def test_all_kinds_of_bad_rows_are_counted(root):
    """The note counts each kind, and names the first bad row of the file that cannot be read at all."""
    rows = own_rows(root)
    (note,) = judged(root, [rows[0] | {"category_id": 9}, *rows, rows[0] | {"score": -1}, GOOD | {"score": -2}]).notes
    assert "Left out: 3 of 7 predictions (the score is negative: 2, unknown class id: 1)." in note


@pytest.mark.parametrize("change", [{"bbox": [0, 0, 0, 0]}, {"category_id": 99}])
def test_only_bad_rows(root, change):
    """A file in which every row is bad is refused with the first."""
    rows = [row | change for row in own_rows(root)]
    with pytest.raises(DataError, match=r"results\.json, entry 0: no row is valid; "):
        judged(root, rows)


def test_unknown_class_tells_how_to_map_it(root):
    """The note on an unknown class names the classes, and the option that maps ids."""
    (note,) = judged(root, [GOOD, GOOD | {"category_id": 0}]).notes
    assert "got 0; expected one of 1 with_mask, 2 without_mask, 3 badly_masked" in note
    assert "--class-ids FILE" in note


def test_no_predictions(root):
    """A file without rows has scores of 0, and no note."""
    result = judged(root, [])
    assert (result.detections, result.notes) == (0, ())


# ── other images ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_other_images_are_counted(root):
    """Predictions of other splits, of unlabelled images and of unknown ones are counted in notes."""
    set_column(root, "label_state", ["labelled"] * 2 + ["unlabelled"] + ["labelled"] * 5)
    others = [GOOD | {"image_id": id_} for id_ in (1, 1, 2, 3, 7, 99, 99)]
    result = judged(root, [*own_rows(root), *others])
    assert (result.detections, result.ap) == (4, pytest.approx(1, abs=1e-9))
    assert result.notes == (
        "Left out: 2 predictions of 1 image that the dataset does not have, such as 99.",
        "Left out: 1 prediction of 1 image in no split, 3 predictions of 2 images in train, "
        "1 prediction of 1 image without labels; these are not evaluated.",
    )


def test_predictions_of_another_split_alone(root):
    """If no prediction is of an evaluated image, an error says where they are."""
    rows = [GOOD | {"image_id": id_} for id_ in (1, 2, 2, 99)]
    with pytest.raises(
        DataError,
        match=r"no prediction is of an evaluated image \(got 3 predictions of 2 images in train; "
        r"1 prediction of images that the dataset does not have; "
        r"expected image ids or file names of the 4 evaluated images\)\. .*--split",
    ):
        judged(root, rows)


# ── file names, and lists of images ──────────────────────────────────────────────────────────────────────────────


def test_file_names(root):
    """Predictions by file name are the same as by id."""
    named = [row | {"image_id": f"{row['image_id']:03d}.png"} for row in own_rows(root)]
    result = judged(root, named)
    assert (result.ap, result.detections) == (pytest.approx(1, abs=1e-9), 4)
    assert result.notes == ("Some image ids are text, so all are read as file names.",)


def other_ids(root, tmp_path):
    """Results with ids of another tool, and its list of images with its own classes."""
    images = {"images": [{"id": 100 - id_, "file_name": f"val/{id_:03d}.png"} for id_ in range(1, 9)]}
    categories = [{"id": 7, "name": "with_mask"}, {"id": 8, "name": "without_mask"}, {"id": 9, "name": "person"}]
    rows = [row | {"image_id": 100 - row["image_id"], "category_id": row["category_id"] + 6} for row in own_rows(root)]
    return rows, images | {"categories": categories}


def test_list_of_images(root, tmp_path):
    """A COCO file says which images and classes the ids are, by their names."""
    rows, listed = other_ids(root, tmp_path)
    file = write_json(tmp_path / "theirs.json", listed)
    result = judged(root, [*rows, rows[0] | {"category_id": 9}], image_ids=file)
    assert (result.ap, result.detections) == (pytest.approx(1, abs=1e-9), 4)
    assert result.notes[0] == f"The image ids are those of {file}."
    assert "unknown class id: 1" in result.notes[1]


def test_list_beside_the_results(root):
    """The list that `predict` writes beside its results is used without being named."""
    rows, listed = other_ids(root, root)
    write_json(root / "images.json", listed)
    assert judged(root, rows).ap == pytest.approx(1, abs=1e-9)
    write_json(root / "images.json", {"images": listed["images"][:2]})  # it is of other results
    with pytest.raises(DataError, match="no row is valid"):
        judged(root, rows)


def test_list_beside_the_results_is_read(root):
    """A pipeline runs the step again when the list beside the results changes."""
    assert judged(root, own_rows(root)).reads == (root / "images.json",)


def test_list_without_classes_of_the_dataset(root, tmp_path):
    """If the list names no class of the dataset, class ids are those of the dataset."""
    rows, listed = other_ids(root, tmp_path)
    file = write_json(tmp_path / "theirs.json", listed | {"categories": [{"id": 1, "name": "object"}]})
    rows = [row | {"category_id": row["category_id"] - 6} for row in rows]
    assert judged(root, rows, image_ids=file).ap == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("content", ["[]", '{"images": [{"id": 1}]}', '{"images": 3}', "{"])
def test_broken_list_of_images(root, tmp_path, content):
    """A file that is no list of images is refused by name."""
    (tmp_path / "theirs.json").write_text(content)
    with pytest.raises(DataError, match=r"theirs\.json.*the list of images (is not valid|cannot be read)"):
        judged(root, own_rows(root), image_ids=tmp_path / "theirs.json")


def test_missing_list_of_images(root):
    """A list that is not there is an error."""
    with pytest.raises(MissingError, match=r"theirs\.json"):
        judged(root, own_rows(root), image_ids=root / "theirs.json")


@pytest.mark.parametrize(("typed", "meant"), [("name", "names"), ("Names", "names"), ("datasets", "dataset")])
def test_typo_in_the_reading(root, typed, meant):
    """A word that is almost a reading is no file."""
    with pytest.raises(UsageError, match=f"^--image-ids: unknown reading .*Did you mean '{meant}'"):
        judged(root, own_rows(root), image_ids=typed)


@pytest.mark.parametrize(("in_rows", "in_list"), [(str, int), (int, str), (str, str), (int, float), (float, int)])
def test_ids_as_text_in_one_of_the_files(root, tmp_path, in_rows, in_list):
    """A number is the same image id as text, in the results and in the list of images."""
    rows, listed = other_ids(root, tmp_path)
    rows = [row | {"image_id": in_rows(row["image_id"])} for row in rows]
    images = [image | {"id": in_list(image["id"])} for image in listed["images"]]
    file = write_json(tmp_path / "theirs.json", listed | {"images": images})
    assert judged(root, rows, image_ids=file).ap == pytest.approx(1, abs=1e-9)


def test_boxes_as_shares_of_the_size(root):
    """Boxes in shares of the image's size are told: AP is 0, and nothing else says why."""
    rows = own_rows(root)
    shares = [row | {"bbox": [number / 1000 for number in row["bbox"]]} for row in rows]
    assert any("shares of the image's size" in note for note in judged(root, shares).notes)
    assert judged(root, rows).notes == ()


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_several_classes_as_one(root, tmp_path):
    """`--class-ids` may lead several classes of a model to one class of the dataset."""
    merged = next(iter(own_rows(root)))["category_id"]
    rows = [row for row in own_rows(root) if row["category_id"] == merged]
    others = [row | {"category_id": 50 + number % 2} for number, row in enumerate(rows)]
    file = write_json(tmp_path / "ids.json", {"50": merged, "51": merged})
    assert judged(root, others, class_ids=file).ap == judged(root, rows).ap


def test_predictions_from_before_a_merge(root):
    """Class ids that were merged since count as the surviving class, with a note."""
    rows = own_rows(root)
    curate.merge_classes(root, ["without_mask"], "with_mask")
    curate.rename_class(root, "with_mask", "face")
    result = judged(root, rows)
    assert (result.ap, result.detections) == (pytest.approx(1, abs=1e-9), 4)
    assert result.notes == ("Class id 2 was without_mask, merged since: its predictions count as face.",)


def test_predictions_from_before_a_rename(root):
    """A renamed class keeps its id, so nothing needs to be said."""
    rows = own_rows(root)
    curate.rename_class(root, "without_mask", "bare")
    result = judged(root, rows)
    assert (result.ap, result.notes) == (pytest.approx(1, abs=1e-9), ())


def test_predictions_of_a_dropped_class(root):
    """Predictions of a class that was dropped since are left out, with their number."""
    rows = own_rows(root)
    curate.drop_class(root, ["without_mask"])
    result = judged(root, rows)
    assert (result.ap, result.detections) == (pytest.approx(1, abs=1e-9), 2)
    assert result.notes == (
        "Class id 2 was without_mask, which was dropped since.",
        "Left out: 2 predictions of classes that were dropped since.",
    )


@pytest.mark.parametrize("merged", [False, True])
def test_map_of_class_ids(root, tmp_path, merged):
    """A file maps contiguous class ids to those of the dataset, of any of its versions."""
    rows = [row | {"category_id": row["category_id"] - 1} for row in own_rows(root)]
    file = write_json(tmp_path / "class_ids.json", {"0": 1, "1": 2})
    if merged:
        curate.merge_classes(root, ["without_mask"], "with_mask")
    result = judged(root, rows, class_ids=file)
    assert (result.ap, result.detections) == (pytest.approx(1, abs=1e-9), 4)


def test_ids_of_an_export_without_gaps(tmp_path):
    """Predictions with the ids of an export without gaps are led back by the file that it writes."""
    root = save(face_dataset(tmp_path / "faces"), pictures=True)
    curate.merge_classes(root, ["with_mask"], "without_mask")  # leaves 2 and 3
    set_column(root, "split", ["val"] * 8)
    curate.export_coco(root, tmp_path / "out", contiguous_ids=True)
    rows = [row | {"category_id": row["category_id"] - 1} for row in own_rows(root)]
    result = judged(root, rows, class_ids=tmp_path / "out" / "class_ids.json")
    assert (result.ap, result.detections) == (pytest.approx(1, abs=1e-9), 11)


@pytest.mark.parametrize("content", ["[1]", '{"a": 1}', '{"1": "x"}', "{"])
def test_broken_map_of_class_ids(root, tmp_path, content):
    """A file that is no map of ids is refused by name."""
    (tmp_path / "class_ids.json").write_text(content)
    with pytest.raises(DataError, match=r"class_ids\.json"):
        judged(root, own_rows(root), class_ids=tmp_path / "class_ids.json")


@pytest.mark.parametrize("option", ["image_ids", "class_ids"])
def test_ids_without_predictions(root, option):
    """The options about ids of a file need a file."""
    with pytest.raises(UsageError, match="need --predictions"):
        curate.evaluate(root, run="first", **{option: "x.json"})


def test_notes_of_the_command_line(root, run_main):
    """The command line prints the notes, and the JSON document stays alone on stdout."""
    file = write_json(root / "results.json", [*own_rows(root), GOOD | {"bbox": [0, 0, 0, 0]}, GOOD | {"image_id": 1}])
    answer = run_main("evaluate", root, "--predictions", file, "--image-ids", "dataset", "--json")
    assert json.loads(answer.stdout)["detections"] == 4
    assert answer.stderr.count("note: Left out: ") == 2
