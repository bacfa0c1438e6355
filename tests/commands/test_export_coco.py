"""`export-coco`: files that pycocotools loads, stable ids, and replacing of earlier exports."""

import contextlib
import hashlib
import io
import json
import os

import pandas as pd
import pytest
from builders import write_image, write_xml
from PIL import Image
from pycocotools.coco import COCO
from sample_datasets import LARGE, MEDIUM, SMALL, build_dataset, face_dataset, results_of, save, set_column, video_rows

import curate
from curate.curation.classes import merge
from curate.errors import DataError, StoreError, UsageError
from curate.evaluation.scores import self_check_ap
from curate.formats.coco import coco_document, read_class_ids
from curate.store import Store

SPLITS = pd.array(["train"] * 4 + ["val"] * 2 + ["test", "test"], dtype="str")


@pytest.fixture
def root(tmp_path):
    """A saved dataset in three splits, with image files."""
    return save(face_dataset(tmp_path / "faces", split=SPLITS), pictures=True)


def read(out, split):
    """One exported annotation file."""
    return json.loads((out / "annotations" / f"instances_{split}.json").read_text())


def tree(folder):
    """Every file below a folder with its bytes' hash."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


# ── the result and the files ─────────────────────────────────────────────────────────────────────────────────────


def test_json_contract(root, tmp_path):
    """The document has the files and the counts."""
    out = tmp_path / "out"
    assert curate.export_coco(root, out).to_json() == {
        "out": str(out),
        "image_folder": str(out / "images"),
        "files": {name: str(out / "annotations" / f"instances_{name}.json") for name in ("train", "val", "test")},
        "class_ids": None,
        "images": 8,
        "boxes": 11,
        "self_check_ap": pytest.approx(1, abs=1e-9),
    }


def test_layout(root, tmp_path):
    """Images are in `images`, under their `file_name`, annotations in `annotations`."""
    curate.export_coco(root, tmp_path / "out")
    assert list(tree(tmp_path / "out")) == [
        "annotations/instances_test.json",
        "annotations/instances_train.json",
        "annotations/instances_val.json",
        *(f"images/faces/{number:03d}.png" for number in range(1, 9)),
    ]
    for split in ("train", "val", "test"):
        for image in read(tmp_path / "out", split)["images"]:
            assert (tmp_path / "out" / "images" / image["file_name"]).is_file()


def test_without_splits(tmp_path):
    """A dataset without splits gives one file."""
    root = save(face_dataset(tmp_path / "d"), pictures=True)
    assert list(curate.export_coco(root, tmp_path / "out").files) == ["all"]
    assert len(read(tmp_path / "out", "all")["images"]) == 8


def test_only_labelled_images(tmp_path):
    """Images without labels or without split are left out, and counted in a note."""
    states = pd.array(["labelled"] * 7 + ["unlabelled"], dtype="str")
    splits = pd.array(["train"] * 4 + ["val"] * 2 + [None, None], dtype="str")
    root = save(face_dataset(tmp_path / "d", split=splits, label_state=states), pictures=True)
    result = curate.export_coco(root, tmp_path / "out")
    assert (result.images, result.boxes) == (6, 9)
    assert result.notes == (
        "Left out: 1 image that nobody has labelled.",
        "Left out: 1 labelled image in no split; `curate split` assigns one.",
    )


def test_document():
    """Boxes are left, top, width, height, with area, flags and original class; images have sources."""
    dataset = build_dataset(
        images=[[("mask", (10, 20, 40, 60))]],
        classes=("face", "mask"),
        video_id=pd.array(["clip"], dtype="str"),
        timestamp_s=[1.5],
        frame_index=[45],
    )
    document = coco_document(dataset)
    assert document["images"] == [
        {
            "id": 1,
            "file_name": "faces/001.png",
            "width": 200,
            "height": 200,
            "source": "faces",
            "video_id": "clip",
            "frame_index": 45,
            "timestamp_s": 1.5,
        }
    ]
    assert document["annotations"] == [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 2,
            "bbox": [10.0, 20.0, 30.0, 40.0],
            "area": 1200.0,
            "iscrowd": 0,
            "difficult": 0,
            "truncated": 0,
            "occluded": 0,
            "original_class": "mask",
        }
    ]
    assert document["categories"] == [{"id": 1, "name": "face"}, {"id": 2, "name": "mask"}]


def test_what_is_unknown_is_left_out():
    """An image without video has no video keys."""
    assert coco_document(face_dataset())["images"][0].keys() == {"id", "file_name", "width", "height", "source"}


def test_where_frames_come_from():
    """A frame names its video, whose link and licence are in the document; videos without frames are left out."""
    videos = video_rows(
        ["talk_10-40", "other"],
        link=["https://example.org/talk", None],
        licence=["CC BY", None],
        clip_start_s=[10.0, float("nan")],
    )
    dataset = build_dataset(images=[[], []], video_id=pd.array(["talk_10-40", None], dtype="str"))
    document = coco_document(dataset.replace(videos=videos))
    assert document["licenses"] == [{"id": 1, "name": "CC BY"}]
    assert [image.get("license") for image in document["images"]] == [1, None]
    (video,) = document["videos"]
    assert (video["id"], video["link"], video["clip_start_s"]) == ("talk_10-40", "https://example.org/talk", 10.0)
    assert "title" not in video


def test_what_the_annotator_wrote_survives_a_merge():
    """After a merge the category is the target and `original_class` the source."""
    document = coco_document(merge(face_dataset(), ["badly_masked"], "without_mask"))
    found = [one for one in document["annotations"] if one["original_class"] == "badly_masked"]
    assert [one["category_id"] for one in found] == [2]
    assert [one["id"] for one in document["categories"]] == [1, 2]


def test_order_of_rows_does_not_show():
    """Rows are sorted by id, boxes with their own corners."""
    dataset = face_dataset()
    turned = dataset.replace(images=dataset.images[::-1], boxes=dataset.boxes[::-1])
    assert coco_document(turned) == coco_document(dataset)


# ── ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ids_are_unique_over_splits_and_stable(root, tmp_path):
    """Image and box ids are the dataset's, unique over splits, and do not depend on the split."""
    curate.export_coco(root, tmp_path / "a")
    set_column(root, "split", SPLITS[::-1])
    curate.export_coco(root, tmp_path / "b")
    for key, ids in (("images", set(range(1, 9))), ("annotations", set(range(1, 12)))):
        for out in ("a", "b"):
            found = [one["id"] for split in ("train", "val", "test") for one in read(tmp_path / out, split)[key]]
            assert (sorted(found), set(found)) == (sorted(ids), ids)
    names = [
        {
            one["id"]: one["file_name"]
            for split in ("train", "val", "test")
            for one in read(tmp_path / out, split)["images"]
        }
        for out in ("a", "b")
    ]
    assert names[0] == names[1]


def test_categories_are_the_same_in_every_split(root, tmp_path):
    """Every split declares all classes, also those without boxes."""
    curate.export_coco(root, tmp_path / "out")
    categories = [read(tmp_path / "out", split)["categories"] for split in ("train", "val", "test")]
    assert categories[0] == categories[1] == categories[2]
    assert [one["name"] for one in categories[0]] == ["with_mask", "without_mask", "badly_masked"]


# ── other tools, equal bytes ─────────────────────────────────────────────────────────────────────────────────────


def test_pycocotools_loads_it(root, tmp_path):
    """pycocotools loads all images, boxes and classes, and results with our ids."""
    result = curate.export_coco(root, tmp_path / "out")
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = {split: COCO(file) for split, file in result.files.items()}
        found = loaded["val"].loadRes(results_of(Store(root).load().select("val")))
    assert sum(len(coco.getImgIds()) for coco in loaded.values()) == 8
    assert sum(len(coco.getAnnIds()) for coco in loaded.values()) == 11
    assert len(found.getAnnIds()) == 3


def test_same_dataset_same_bytes(root, tmp_path):
    """A second export has the same bytes, also if it replaces an export."""
    for name in ("a", "b"):
        curate.export_coco(root, tmp_path / name)
    curate.export_coco(root, tmp_path / "b", overwrite=True)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_images_are_copies(root, tmp_path):
    """Who writes into an exported image in place, as some trainers do, does not change the dataset's."""
    own, exported = root / "media/images/faces/001.png", tmp_path / "out/images/faces/001.png"
    before = own.read_bytes()
    curate.export_coco(root, tmp_path / "out")
    assert exported.read_bytes() == before
    exported.write_bytes(b"saved anew")
    assert own.read_bytes() == before
    curate.export_coco(root, tmp_path / "out", overwrite=True)
    assert exported.read_bytes() == before


def test_images_are_linked_on_request(root, tmp_path):
    """With `link` exported images are hard links to the dataset's, also where they replace copies."""
    curate.export_coco(root, tmp_path / "out")
    for _ in range(2):
        curate.export_coco(root, tmp_path / "out", link=True, overwrite=True)
        assert os.path.samefile(root / "media/images/faces/001.png", tmp_path / "out/images/faces/001.png")
    curate.export_coco(root, tmp_path / "out", overwrite=True)
    assert not os.path.samefile(root / "media/images/faces/001.png", tmp_path / "out/images/faces/001.png")


# ── class ids ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def merged(root):
    """The dataset after a merge: classes 1 and 3."""
    curate.merge_classes(root, ["without_mask"], into="with_mask")
    return root


def test_gaps_in_class_ids_are_reported(root, tmp_path, run_main):
    """Class ids stay; a gap is reported with the number of classes, the highest id and what closes it."""
    assert curate.export_coco(root, tmp_path / "whole").notes == ()
    curate.merge_classes(root, ["without_mask"], into="with_mask")
    answer = run_main("export-coco", root, tmp_path / "out")
    assert "Class ids have gaps: 2 classes, ids up to 3" in answer.stderr
    assert "--contiguous-ids closes the gaps" in answer.stderr
    assert [one["id"] for one in read(tmp_path / "out", "train")["categories"]] == [1, 3]
    assert not (tmp_path / "out" / "class_ids.json").exists()


def test_contiguous_class_ids(merged, tmp_path):
    """With `contiguous_ids` classes and boxes have the ids 1 to n, and a file leads back to the dataset's."""
    curate.export_coco(merged, tmp_path / "own")
    result = curate.export_coco(merged, tmp_path / "out", contiguous_ids=True)
    assert (result.class_ids, result.notes) == (str(tmp_path / "out" / "class_ids.json"), ())
    ids = read_class_ids(tmp_path / "out" / "class_ids.json")
    assert ids == {1: 1, 2: 3}
    for split in ("train", "val", "test"):
        ours, theirs = read(tmp_path / "own", split), read(tmp_path / "out", split)
        assert [(one["id"], one["name"]) for one in theirs["categories"]] == [(1, "with_mask"), (2, "badly_masked")]
        assert [ids[one["category_id"]] for one in theirs["annotations"]] == [
            one["category_id"] for one in ours["annotations"]
        ]


def test_class_ids_of_an_earlier_export_go(merged, tmp_path):
    """Replacing an export by one with the dataset's ids removes the file that maps others."""
    curate.export_coco(merged, tmp_path / "out", contiguous_ids=True)
    curate.export_coco(merged, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "class_ids.json").exists()


# ── orientation ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def turned(tmp_path):
    """A dataset with one upright and one turned photograph of 64×48."""
    for name, orientation in (("a", None), ("b", 6)):
        width, height = (64, 48) if orientation is None else (48, 64)
        write_image(tmp_path / "photos" / f"{name}.jpg", width, height, orientation=orientation)
        write_xml(tmp_path / "photos" / f"{name}.xml", objects=[("mask", 5, 6, 25, 36)])
    curate.import_voc(tmp_path / "dataset", tmp_path / "photos")
    return tmp_path / "dataset"


def stored_size(file):
    with Image.open(file) as image:
        return image.size, image.getexif().get(0x0112, 1)


def test_turned_images_are_written_upright(turned, tmp_path, run_main):
    """A turned image is exported upright, as its `width` and `height` say; how many were is reported."""
    answer = run_main("export-coco", turned, tmp_path / "out")
    assert "Written upright: 1 image with an EXIF orientation (--keep-exif keeps their bytes)" in answer.stderr
    for row in read(tmp_path / "out", "all")["images"]:
        assert (row["width"], row["height"]) == (64, 48)
        assert stored_size(tmp_path / "out/images" / row["file_name"]) == ((64, 48), 1)
    upright = tmp_path / "out/images/photos/a.jpg"
    assert upright.read_bytes() == (turned / "media/images/photos/a.jpg").read_bytes()


@pytest.mark.parametrize("link", [True, False])
def test_turned_images_keep_their_bytes(turned, tmp_path, run_main, link):
    """With `--keep-exif` a turned image keeps its bytes; how many need a reader that turns them is reported."""
    answer = run_main("export-coco", turned, tmp_path / "out", "--keep-exif", *(["--link"] if link else []))
    assert "1 image with an EXIF orientation: boxes fit only in tools that turn such images" in answer.stderr
    exported = tmp_path / "out/images/photos/b.jpg"
    assert exported.read_bytes() == (turned / "media/images/photos/b.jpg").read_bytes()


def test_turned_image_in_place_of_an_earlier_one(turned, tmp_path):
    """An export that replaces one with links does not write into the linked file."""
    before = (turned / "media/images/photos/b.jpg").read_bytes()
    curate.export_coco(turned, tmp_path / "out", keep_exif=True, link=True)
    curate.export_coco(turned, tmp_path / "out", overwrite=True)
    assert (turned / "media/images/photos/b.jpg").read_bytes() == before
    assert stored_size(tmp_path / "out/images/photos/b.jpg") == ((64, 48), 1)


# ── existing files ───────────────────────────────────────────────────────────────────────────────────────────────


def test_folder_that_is_not_empty(root, tmp_path):
    """A folder that is not empty is an error, and is not changed."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"out: the folder is not empty.*--overwrite"):
        curate.export_coco(root, out)
    assert list(tree(out)) == ["mine.txt"]


def test_place_that_is_a_file(root, tmp_path):
    """A file is not replaced by a folder."""
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match="this is a file"):
        curate.export_coco(root, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"


def test_empty_folder_is_free(root, tmp_path):
    """An empty folder is accepted."""
    (tmp_path / "out").mkdir()
    assert curate.export_coco(root, tmp_path / "out").images == 8


def test_overwrite_removes_splits_that_are_no_more(root, tmp_path):
    """Replacing an export removes annotation files of splits that no longer exist."""
    curate.export_coco(root, tmp_path / "out")
    set_column(root, "split", ["train"] * 6 + ["val"] * 2)
    curate.export_coco(root, tmp_path / "out", overwrite=True)
    assert sorted(file.name for file in (tmp_path / "out/annotations").iterdir()) == [
        "instances_train.json",
        "instances_val.json",
    ]


def test_old_export_under_another_name_is_not_written_into(root, tmp_path):
    """Replacing an export does not change hard links of its files."""
    out, kept = tmp_path / "out", tmp_path / "kept"
    curate.export_coco(root, out)
    kept.mkdir()
    os.link(out / "annotations/instances_train.json", kept / "train.json")
    other = out / "images/faces/001.png"
    other.unlink()
    other.write_bytes(b"an old picture")
    os.link(other, kept / "001.png")
    before = tree(kept)
    set_column(root, "split", ["train"] * 8)
    curate.export_coco(root, out, overwrite=True)
    assert tree(kept) == before
    assert other.read_bytes() == (root / "media/images/faces/001.png").read_bytes()


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_labelled(tmp_path):
    """Without labelled images the export is an error, and no folder is created."""
    root = save(face_dataset(tmp_path / "d", label_state=pd.array(["unlabelled"] * 8, dtype="str")))
    with pytest.raises(DataError, match="no image is labelled"):
        curate.export_coco(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_image_that_is_gone(root, tmp_path):
    """A missing image file is an error that names it."""
    (root / "media/images/faces/003.png").unlink()
    with pytest.raises(StoreError, match=r"faces/003\.png: the image file is missing"):
        curate.export_coco(root, tmp_path / "out")


def test_without_boxes_there_is_nothing_to_check(tmp_path):
    """Images without boxes are exported; the self check has no AP then."""
    root = save(build_dataset(tmp_path / "d", [[], []]), pictures=True)
    result = curate.export_coco(root, tmp_path / "out")
    assert (result.images, result.boxes, result.self_check_ap) == (2, 0, None)


def test_crowded_image_checks_out(tmp_path):
    """The self check has no limit of 100 boxes per image and class."""
    boxes = [("with_mask", (x, y, x + 9, y + 9)) for x in range(0, 190, 10) for y in range(0, 190, 10)]
    root = save(build_dataset(tmp_path / "d", [boxes]), pictures=True)
    assert curate.export_coco(root, tmp_path / "out").self_check_ap == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document["annotations"][0].update(image_id=99),
        lambda document: document["annotations"][0].update(category_id=99),
        lambda document: document["annotations"][0].pop("bbox"),
        lambda document: document["categories"].clear(),
        lambda document: document.pop("images"),
    ],
)
def test_self_check_finds_a_broken_file(root, tmp_path, damage):
    """The self check fails if images and boxes do not fit."""
    file = tmp_path / "out/annotations/instances_train.json"
    curate.export_coco(root, tmp_path / "out")
    document = json.loads(file.read_text())
    damage(document)
    file.write_text(json.dumps(document))
    with pytest.raises(DataError):
        self_check_ap(file)


def test_export_fails_where_the_truth_does_not_match_itself(root, tmp_path, monkeypatch):
    """An AP other than 1 is an error that names the file."""
    monkeypatch.setattr("curate.commands.export_coco.self_check_ap", lambda _: 0.999)
    with pytest.raises(DataError, match=r"instances_train\.json: the exported truth does not match.*AP 0\.999"):
        curate.export_coco(root, tmp_path / "out")


def test_sizes_survive():
    """Areas agree with the counts by size."""
    dataset = build_dataset(images=[[("with_mask", SMALL), ("with_mask", MEDIUM), ("with_mask", LARGE)]])
    assert [one["area"] for one in coco_document(dataset)["annotations"]] == [400, 2500, 25600]


def test_overwriting_what_is_no_export(root, tmp_path):
    """A folder that is not an export is not replaced, also with `overwrite`."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="the folder is not an export of curate"):
        curate.export_coco(root, tmp_path / "photos", overwrite=True)
    assert [file.name for file in (tmp_path / "photos").iterdir()] == ["mine.txt"]


def test_another_tools_coco_folder_is_never_replaced(root, tmp_path):
    """COCO files of other tools, and their images, are not replaced."""
    theirs = tmp_path / "coco"
    (theirs / "annotations").mkdir(parents=True)
    (theirs / "images").mkdir()
    (theirs / "annotations" / "instances_val2017.json").write_text('{"info": {}, "images": [], "annotations": []}')
    (theirs / "images" / "precious.jpg").write_bytes(b"theirs")
    before = tree(theirs)
    with pytest.raises(UsageError, match="not an export of curate"):
        curate.export_coco(root, theirs, overwrite=True)
    assert tree(theirs) == before


def test_what_others_put_into_an_export_stays(root, tmp_path):
    """Replacing an export removes its own files, and no others."""
    out = tmp_path / "out"
    curate.export_coco(root, out)
    (out / "images" / "mine.txt").write_text("mine")
    curate.export_coco(root, out, overwrite=True)
    assert (out / "images" / "mine.txt").read_text() == "mine"
