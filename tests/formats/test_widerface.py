"""`import-widerface`: boxes with landmarks, and landmarks in a dataset."""

import json

import numpy as np
import pandas as pd
import pytest
from builders import (
    HEIGHT,
    WIDTH,
    box_rows,
    image_row,
    kinds,
    labelimg_folder,
    load,
    object_xml,
    problem_of,
    read_versions,
    write_image,
    write_xml,
)
from proposing import find, write_run
from typer.testing import CliRunner

import curate
from curate.cli.app import app
from curate.columns import BOX_COLUMNS, LANDMARKS, has_landmarks
from curate.dataset import Dataset
from curate.errors import DataError, StrictImportError, UsageError
from curate.formats.joining import carry_landmarks
from curate.store import Store

POINTS = (10, 12.5, 18, 12, 14, 18, 11, 22, 17, 22.25)  # of the face at 8, 6, 14×20
BOX = (8.0, 6.0, 22.0, 26.0)
UNKNOWN = (None,) * 10
FACE = "8 6 14 20 10 12.5 0.0 18 12 0.0 14 18 1.0 11 22 0.0 17 22.25 0.0 0.82"
BARE_BOX = "30 10 20 20"
WITHOUT = "30 10 20 20" + " -1.0" * 15 + " 0.4"


def widerface_folder(folder, lists, *, images=None, end="\n", head=b""):
    """Write `label.txt` from image name → lines of its faces, and an image for each name, or for `images`."""
    lines = [line for name, faces in lists.items() for line in (f"# {name}", *faces)]
    for name in lists if images is None else images:
        write_image(folder / "images" / name)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "label.txt").write_bytes(head + "".join(line + end for line in lines).encode())
    return folder


def import_faces(tmp_path, *faces, **options):
    """Import one image of 64×48 with these lines."""
    return curate.import_widerface(tmp_path / "data", widerface_folder(tmp_path / "one", {"a.jpg": faces}), **options)


def points(dataset):
    """The landmarks of every box, in the order of the boxes; None if unknown."""
    table = load(dataset).boxes[LANDMARKS].to_numpy()
    return [tuple(None if np.isnan(value) else value for value in row) for row in table]


def state_of(dataset, name="a.jpg"):
    return image_row(dataset, name)["label_state"]


@pytest.fixture
def faces(tmp_path):
    """A dataset of one image with a face with landmarks, and one without."""
    import_faces(tmp_path, FACE, WITHOUT)
    return tmp_path / "data"


# ── boxes and landmarks ───────────────────────────────────────────────────────────────────────────────────────────────


def test_boxes_and_landmarks_are_as_written(tmp_path):
    """Left, top, width and height become edges; landmarks have no flags, and −1 means unknown."""
    result = import_faces(tmp_path, FACE, WITHOUT)
    assert (result.version, result.images, result.classes, result.problems) == (1, 1, {"face": 2}, ())
    assert box_rows(tmp_path / "data") == [("a.jpg", "face", *BOX), ("a.jpg", "face", 30, 10, 50, 30)]
    assert points(tmp_path / "data") == [POINTS, UNKNOWN]
    assert [LANDMARKS[place] for place in (0, 3, 4, 9)] == ["left_eye_x", "right_eye_y", "nose_x", "right_mouth_y"]


def test_some_landmarks_of_a_face(tmp_path):
    """A face may have some of its landmarks; the others are unknown."""
    import_faces(tmp_path, "8 6 14 20 10 12 0 -1 -1 -1 14 18 0 -1 -1 -1 17 22 0 0.8")
    assert points(tmp_path / "data") == [(10, 12, None, None, 14, 18, None, None, 17, 22)]


def test_landmarks_outside_the_picture_are_kept(tmp_path):
    """A box is clipped to the image; a landmark outside keeps its position."""
    result = import_faces(tmp_path, "-6 6 14 20 -3 12 0 4 12 0 1 18 0 -2.5 22 0 3 22 0 0.8")
    assert kinds(result) == ["outside_image"]
    assert box_rows(tmp_path / "data") == [("a.jpg", "face", 0, 6, 8, 26)]
    assert points(tmp_path / "data") == [(-3, 12, 4, 12, 1, 18, -2.5, 22, 3, 22)]


def test_a_list_of_boxes_alone(tmp_path):
    """Lines of four numbers are boxes; a dataset without landmarks has no columns for them."""
    result = import_faces(tmp_path, "8 6 14 20", BARE_BOX)
    assert (result.boxes, result.problems) == (2, ())
    assert list(load(tmp_path / "data").boxes) == list(BOX_COLUMNS)


@pytest.mark.parametrize("faces", [(), ("0 0 0 0",), ("0 0 0 0" + " -1" * 15 + " 0",)])
def test_an_image_without_faces(tmp_path, faces):
    """An image without lines, or with a single line of zeros, is labelled and has no boxes."""
    folder = widerface_folder(tmp_path / "one", {"a.jpg": faces, "b.jpg": [FACE]})
    result = curate.import_widerface(tmp_path / "data", folder)
    assert (result.images, result.boxes, result.problems) == (2, 1, ())
    assert state_of(tmp_path / "data") == "labelled"


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    """A list with Windows line ends, backslashes and blank lines is read the same."""
    folder = widerface_folder(
        tmp_path / "one", {"p\\a.jpg": ["", FACE]}, images=["p/a.jpg"], end="\r\n", head=b"\xef\xbb\xbf"
    )
    result = curate.import_widerface(tmp_path / "data", folder)
    assert (result.images, result.problems) == (1, ())
    assert points(tmp_path / "data") == [POINTS]


def test_class_split_and_source(tmp_path):
    """Class and split are arguments; the folder names the source, and subfolders are kept."""
    folder = widerface_folder(tmp_path / "train", {"0--Parade/a.jpg": [FACE]})
    result = curate.import_widerface(tmp_path / "data", folder, class_name=" person ", split="train")
    assert result.classes == {"person": 1}
    row = image_row(tmp_path / "data", "a.jpg")
    assert (row["split"], row["source"], row["path"]) == ("train", "train", "media/images/train/0--Parade/a.jpg")


def test_images_apart(tmp_path):
    """Images may be in another folder; problems name them by their whole path."""
    folder = widerface_folder(tmp_path / "list", {"a.jpg": [FACE]}, images=[])
    write_image(tmp_path / "pictures" / "a.jpg")
    other = write_image(tmp_path / "pictures" / "b.jpg")
    result = curate.import_widerface(tmp_path / "data", folder, images=tmp_path / "pictures")
    assert (result.images, problem_of(result, "image_not_listed")["file"]) == (1, str(other))
    assert any("Left out: 1 image not in label.txt." in note for note in result.notes)


def test_images_beside_the_list(tmp_path):
    """Without a folder `images`, paths are relative to the folder of the list."""
    write_image(tmp_path / "one" / "a.jpg")
    (tmp_path / "one" / "label.txt").write_text(f"# ./a.jpg\n{FACE}\n")
    assert curate.import_widerface(tmp_path / "data", tmp_path / "one").images == 1


def test_the_command(tmp_path):
    """The command prints the same document as the function; a usage error exits with 2."""
    folder = widerface_folder(tmp_path / "one", {"a.jpg": [FACE]})
    ask = ["import-widerface", str(tmp_path / "data"), str(folder), "--class-name", "head", "--split", "val", "--json"]
    said = CliRunner().invoke(app, ask)
    assert (said.exit_code, json.loads(said.stdout)["classes"]) == (0, {"head": 1})
    again = curate.import_widerface(tmp_path / "data", folder, class_name="head", split="val")
    assert json.loads(said.stdout) == again.to_json() | {"added": 1, "unchanged": 0}


def test_a_recipe_with_it(tmp_path, monkeypatch):
    """In a pipeline it is skipped unless the list has changed, and prints a summary."""
    monkeypatch.chdir(tmp_path)
    folder = widerface_folder(tmp_path / "one", {"a.jpg": [FACE]})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: faces\nsteps:\n  - import-widerface: {dataset: data, source: one, class_name: head}\n")
    told = CliRunner().invoke(app, ["run", str(recipe)])
    assert "import-widerface 1 image, 1 box (1 added)" in told.stdout
    assert "[unchanged]" in CliRunner().invoke(app, ["run", str(recipe)]).stdout
    (folder / "label.txt").write_text("# a.jpg\n")
    assert "1 image, 0 boxes (1 added)  [0" in CliRunner().invoke(app, ["run", str(recipe)]).stdout


# ── faults ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("800 6 14 20", "not_in_image"),
        ("8 6 nan 20", "not_finite"),
        ("8 6 1e308 1e309", "not_finite"),
        ("a garbage line of words", "missing_coordinate"),
        ("8 6 14", "missing_coordinate"),
        ("8 6 14 20 0.8", "missing_coordinate"),
        ("8 6 1_4 20", "missing_coordinate"),
        (f"{FACE} 5", "missing_coordinate"),
        ("\x00\ufffd", "missing_coordinate"),
    ],
)
def test_a_face_that_cannot_be_read_is_left_out(tmp_path, line, kind):
    """A faulty face is quarantined with its line and number, its image is incomplete, other faces are imported."""
    result = import_faces(tmp_path, FACE, line, BARE_BOX)
    found = problem_of(result, kind)
    assert (found["file"], found["line"], found["object"]) == (str(tmp_path / "one" / "label.txt"), 3, 2)
    assert (found["action"], result.boxes, result.quarantined) == ("quarantined", 2, 1)
    assert state_of(tmp_path / "data") == "incomplete"


def test_an_infinite_landmark_is_unknown(tmp_path):
    """A landmark that is not finite is noted and unknown; box and other landmarks stay."""
    result = import_faces(tmp_path, FACE.replace("12.5", "inf"))
    assert (kinds(result), problem_of(result, "landmark_not_finite")["action"]) == (["landmark_not_finite"], "noted")
    assert points(tmp_path / "data") == [(None, None, *POINTS[2:])]
    assert state_of(tmp_path / "data") == "labelled"


def test_a_face_before_any_image(tmp_path):
    """A face before the first image is listed as a problem."""
    folder = widerface_folder(tmp_path / "one", {"a.jpg": [FACE]}, head=f"{BARE_BOX}\n".encode())
    result = curate.import_widerface(tmp_path / "data", folder)
    assert (problem_of(result, "image_missing")["line"], result.boxes, result.quarantined) == (1, 1, 1)


def test_a_missing_and_a_broken_image(tmp_path):
    """A missing or broken image costs its own faces and is listed with the line that names it."""
    folder = widerface_folder(tmp_path / "one", {"a.jpg": [FACE], "b.jpg": [FACE, FACE], "c.jpg": [FACE]})
    (folder / "images" / "b.jpg").unlink()
    (folder / "images" / "c.jpg").write_bytes(b"no picture")
    result = curate.import_widerface(tmp_path / "data", folder)
    assert [(one["line"], one["kind"]) for one in result.problems] == [(3, "image_missing"), (6, "image_broken")]
    assert (result.images, result.boxes) == (1, 1)
    assert "2 faces" in problem_of(result, "image_missing")["detail"]


@pytest.mark.parametrize("again", [["30 10 20 20"], ["8 6 14"]])
def test_an_image_named_twice(tmp_path, again):
    """Of an image named twice, the first faces count; if the second list has others, the image is incomplete."""
    folder = widerface_folder(
        tmp_path / "one", {"a.jpg": [FACE], "b.jpg": [FACE], "./a.jpg": again, ".//b.jpg": [FACE]}
    )
    result = curate.import_widerface(tmp_path / "data", folder)
    assert [one["line"] for one in result.problems if one["kind"] == "image_taken"] == [5, 7]
    assert (result.images, result.boxes) == (2, 2)
    assert (state_of(tmp_path / "data", "a.jpg"), state_of(tmp_path / "data", "b.jpg")) == ("incomplete", "labelled")


@pytest.mark.parametrize("name", ["../outside.jpg", "x/../../outside.jpg", "ABSOLUTE", "", "..", "%s", ".hidden.jpg"])
def test_a_path_never_leaves_the_folder(tmp_path, name):
    """Only images inside the folder are read, whatever a line names."""
    outside = write_image(tmp_path / "one" / "outside.jpg")
    write_image(tmp_path / "one" / "images" / ".hidden.jpg")
    name = str(outside) if name == "ABSOLUTE" else name
    folder = widerface_folder(tmp_path / "one", {"a.jpg": [FACE], name: [FACE]}, images=["a.jpg"])
    result = curate.import_widerface(tmp_path / "data", folder)
    assert (kinds(result), result.images) == (["image_missing"], 1)
    assert [path.name for path in (tmp_path / "data" / "media").rglob("*.jpg")] == ["a.jpg"]


def test_an_empty_list(tmp_path):
    """An empty list is listed as a problem, and so are the images."""
    folder = widerface_folder(tmp_path / "one", {}, images=["a.jpg"])
    assert kinds(curate.import_widerface(tmp_path / "data", folder)) == ["empty_file", "image_not_listed"]


@pytest.mark.parametrize("click", ["8 6 0 20", "8 6 14 0", "8 6 0 0"])
def test_a_click_is_no_face(tmp_path, click):
    """A face without width or height is noted and left out, and its image stays labelled."""
    result = import_faces(tmp_path, FACE, click)
    assert (result.boxes, problem_of(result, "click")["action"]) == (1, "noted")
    assert load(tmp_path / "data").images["label_state"].tolist() == ["labelled"]


def test_strict_makes_no_version(tmp_path):
    """With `strict`, a repaired or quarantined face refuses the import; a note does not."""
    with pytest.raises(StrictImportError, match=r"label\.txt, object 2: .*not_in_image"):
        import_faces(tmp_path, FACE, "800 6 14 20", strict=True)
    assert not (tmp_path / "data" / "versions").exists()
    write_image(tmp_path / "one" / "images" / "b.jpg")
    assert import_faces(tmp_path, FACE, strict=True).version == 1


@pytest.mark.parametrize(
    ("error", "told", "options"),
    [
        (UsageError, "--class-name", {"class_name": " "}),
        (UsageError, "--split", {"split": "training"}),
        (DataError, "there is no such folder", {"images": "nowhere"}),
    ],
)
def test_misuse(tmp_path, error, told, options):
    """An empty class name, an unknown split and a missing folder are errors."""
    with pytest.raises(error, match=told):
        import_faces(tmp_path, FACE, **options)


@pytest.mark.parametrize("made", [False, True])
def test_no_list(tmp_path, made):
    """A missing folder, or one without list, is an error."""
    if made:
        (tmp_path / "one").mkdir()
    with pytest.raises(DataError, match=r"label\.txt"):
        curate.import_widerface(tmp_path / "data", tmp_path / "one")


# ── landmarks in a dataset ────────────────────────────────────────────────────────────────────────────────────────────


def test_coming_back_changes_nothing(tmp_path, faces):
    """Importing the same list again makes no version."""
    result = import_faces(tmp_path, FACE, WITHOUT)
    assert (result.unchanged, read_versions(faces)) == (1, [1])


def test_corrected_landmarks_keep_the_box_id(tmp_path, faces):
    """A changed landmark updates the image; the box keeps its id."""
    result = import_faces(tmp_path, FACE.replace("12.5", "13.5"), WITHOUT)
    assert (result.updated, points(faces)) == (1, [(10, 13.5, *POINTS[2:]), UNKNOWN])
    assert load(faces).boxes["box_id"].tolist() == [1, 2]


def test_landmarks_can_be_taken_back(tmp_path, faces):
    """−1 in a later list removes the landmarks of a face."""
    import_faces(tmp_path, "8 6 14 20" + " -1" * 15 + " 0.8", WITHOUT)
    assert points(faces) == [UNKNOWN, UNKNOWN]


def test_a_list_of_boxes_alone_takes_nothing_away(tmp_path, faces):
    """A later list without landmarks leaves the existing ones."""
    result = import_faces(tmp_path, "8 6 14 20", BARE_BOX)
    assert (result.unchanged, points(faces)) == (1, [POINTS, UNKNOWN])


@pytest.mark.parametrize(
    ("name", "corners", "expected"),
    [
        ("face", (8, 6, 22, 26), POINTS),  # unchanged
        ("masked", (8, 6, 22, 26), POINTS),  # another class
        ("face", (8, 5, 23, 27), POINTS),  # edges corrected
        ("face", (20, 6, 34, 26), UNKNOWN),  # elsewhere
    ],
)
def test_xml_that_comes_back(tmp_path, faces, name, corners, expected):
    """XML has no landmarks: an overlapping box keeps those of before, a box elsewhere has none."""
    path = image_row(faces, "a.jpg")["path"].removeprefix("media/images/")
    write_xml(tmp_path / "xml" / path.replace(".jpg", ".xml"), objects=[(name, *corners)])
    result = curate.import_voc(faces, tmp_path / "xml", images=faces / "media/images")
    assert (result.boxes, points(faces)) == (1, [expected])


def test_xml_that_comes_back_as_it_was(tmp_path, faces):
    """XML with the same boxes makes no version."""
    drawn = [object_xml("face", *corners, pose=None) for corners in ((8, 6, 22, 26), (30, 10, 50, 30))]
    write_xml(tmp_path / "xml" / "one" / "a.xml", objects=drawn)
    result = curate.import_voc(faces, tmp_path / "xml", images=faces / "media/images")
    assert (result.unchanged, read_versions(faces)) == (1, [1])


def test_faces_that_overlap_keep_their_own(tmp_path):
    """Of overlapping boxes, each keeps the landmarks of the box with the largest IoU, whatever their order."""
    shifted = "10 6 14 20 12 12.5 0 20 12 0 16 18 0 13 22 0 19 22.25 0 0.8"
    import_faces(tmp_path, FACE, shifted)
    write_xml(tmp_path / "xml" / "one" / "a.xml", objects=[("face", 10, 6, 24, 27), ("face", 8, 6, 22, 26)])
    curate.import_voc(tmp_path / "data", tmp_path / "xml", images=tmp_path / "data" / "media/images")
    assert [row[0] for row in points(tmp_path / "data")] == [12, 10]


def test_one_box_keeps_one_face():
    """If two new boxes overlap an old one, the one with the larger IoU gets its landmarks."""
    corners = [[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 9]]
    table = pd.DataFrame(corners, columns=["x0", "y0", "x1", "y1"]).assign(image_id=1)
    before = table[:1].assign(**dict.fromkeys(LANDMARKS, 5.0))
    assert carry_landmarks(before, table[1:].reset_index(drop=True))["nose_x"].tolist() == pytest.approx(
        [np.nan, 5.0], nan_ok=True
    )


def test_landmarks_join_a_dataset_that_has_none(tmp_path):
    """Boxes from XML have unknown landmarks if other images have landmarks, whichever is imported first."""
    voc = labelimg_folder(tmp_path / "voc", {"x": [("face", 5, 6, 25, 36)]})
    curate.import_voc(tmp_path / "data", voc)
    import_faces(tmp_path, FACE)
    curate.import_voc(tmp_path / "data", labelimg_folder(tmp_path / "more", {"y": [("face", 5, 6, 25, 36)]}))
    assert points(tmp_path / "data") == [UNKNOWN, POINTS, UNKNOWN]


def test_unknown_landmarks_make_no_columns(tmp_path):
    """A list with −1 only adds no landmark columns."""
    import_faces(tmp_path, WITHOUT)
    assert not has_landmarks(load(tmp_path / "data").boxes)


def test_other_commands_keep_landmarks(tmp_path, faces):
    """Merging, renaming, splitting, dropping another class and undoing leave landmarks as they are."""
    curate.import_voc(faces, labelimg_folder(tmp_path / "voc", {f"x{n}": [("bare", 5, 6, 25, 36)] for n in range(3)}))
    curate.rename_class(faces, "face", "head")
    curate.split(faces, val=0.5)
    assert points(faces)[:2] == [POINTS, UNKNOWN]
    curate.merge_classes(faces, ["head"], into="bare")
    assert points(faces)[:2] == [POINTS, UNKNOWN]
    curate.undo(faces)
    curate.drop_class(faces, ["bare"])
    assert points(faces) == [POINTS, UNKNOWN]
    assert curate.diff(faces, 1, Store(faces).head()).boxes_changed == 0


def test_a_coco_export_is_as_without_landmarks(faces, tmp_path):
    """Exports have boxes without landmarks."""
    result = curate.export_coco(faces, tmp_path / "out")
    document = json.loads((tmp_path / "out" / "annotations" / "instances_all.json").read_text())
    assert (result.self_check_ap, len(document["annotations"])) == (1.0, 2)
    assert "keypoints" not in document["annotations"][0]


def test_proposals_have_no_landmarks(faces, tmp_path, monkeypatch):
    """Proposals have no landmarks; existing faces keep theirs."""
    frames = labelimg_folder(tmp_path / "frames", {"x": None})
    curate.import_voc(faces, frames, with_unlabelled=True)
    find(monkeypatch, [[1, 2, 30, 40]])
    run = write_run(tmp_path / "run", [(1, "face")])
    curate.predict(run, faces, into_dataset=True, device="cpu")
    assert points(faces) == [POINTS, UNKNOWN, UNKNOWN]
    assert state_of(faces, "x.jpg") == "proposed"


def test_landmarks_are_numbers(tmp_path):
    """Landmark columns are numbers; other values are an error that names the row."""
    images = pd.DataFrame({"image_id": [1], "path": ["a.jpg"], "width": [WIDTH], "height": [HEIGHT]})
    box = {"box_id": 1, "image_id": 1, "class_id": 1, **dict(zip(("x0", "y0", "x1", "y1"), BOX, strict=True))}
    boxes = pd.DataFrame([box | dict.fromkeys(LANDMARKS, 3)])
    dataset = Dataset(tmp_path, ((1, "face"),), images, boxes)
    assert {str(dataset.boxes[name].dtype) for name in LANDMARKS} == {"float64"}
    with pytest.raises(DataError, match="boxes, row 0: column 'nose_x' does not fit its type"):
        Dataset(tmp_path, ((1, "face"),), images, boxes.assign(nose_x="here"))


def test_a_list_inside_the_dataset(faces, tmp_path):
    """A list for images of the dataset annotates them; images that it does not name are not reported."""
    curate.import_voc(faces, labelimg_folder(tmp_path / "voc", {"x": None, "y": None}), with_unlabelled=True)
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "label.txt").write_text(f"# voc/x.jpg\n{FACE}\n")
    result = curate.import_widerface(faces, tmp_path / "list", images=faces / "media/images")
    assert (result.updated, result.added, result.problems) == (1, 0, ())
    assert points(faces) == [POINTS, UNKNOWN, POINTS]


def test_a_list_of_names_alone_says_nothing_of_faces(tmp_path):
    """A list of names only, as for WIDER FACE's test images, leaves images unlabelled."""
    folder = widerface_folder(tmp_path / "one", {"a.jpg": (), "b.jpg": ()})
    curate.import_widerface(tmp_path / "data", folder)
    assert {state_of(tmp_path / "data", name) for name in ("a.jpg", "b.jpg")} == {"unlabelled"}


def test_a_list_of_names_alone_takes_no_faces_away(faces, tmp_path):
    """A list of names only does not change labelled images."""
    before = box_rows(faces)
    import_faces(tmp_path)
    assert box_rows(faces) == before
    assert state_of(faces) == "labelled"


def test_a_landmark_miles_away_is_a_slip(tmp_path):
    """A landmark far outside the image would break training; it is noted and unknown."""
    result = import_faces(tmp_path, "8 6 14 20 1.5e38 1.5e38 0 12 12 0 14 18 0 11 22 0 17 22 0 0.8")
    assert kinds(result) == ["landmark_not_finite"]
    assert points(tmp_path / "data") == [(None, None, 12, 12, 14, 18, 11, 22, 17, 22)]


def test_diff_sees_a_landmark_that_moved(faces, tmp_path):
    """`diff` counts a box as changed if a landmark moved by a pixel."""
    moved = FACE.split()
    moved[4] = str(float(moved[4]) + 1)
    import_faces(tmp_path, " ".join(moved), WITHOUT)
    assert curate.diff(faces, 1, 2).boxes_changed == 1
    assert curate.diff(faces, 1, 1).boxes_changed == 0
