"""Faults do not abort an import: each is repaired, noted or quarantined, and listed."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from builders import (
    BARE,
    HEIGHT,
    MASK,
    WIDTH,
    annotation_xml,
    corners_of,
    import_one,
    kinds,
    labelimg_folder,
    load,
    object_xml,
    read_versions,
    state_of,
    write_image,
    write_xml,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.commands.imports import import_voc
from curate.errors import CurateError, StrictImportError
from curate.store import Store

# ── faults ────────────────────────────────────────────────────────────────────────────────────────────────────────────


FAULTS = {  # kind: (object, action, corners that remain)
    "reversed_corners": (("mask", 25, 36, 5, 6), "repaired", [5, 6, 25, 36]),
    "outside_image": (("mask", -3, 6, 25, 99), "repaired", [0, 6, 25, HEIGHT]),
    "odd_flag": (object_xml(*MASK, difficult="maybe"), "noted", [5, 6, 25, 36]),
    "white_space": (("mask ", 5, 6, 25, 36), "noted", [5, 6, 25, 36]),
    "element_not_kept": (object_xml(*MASK, inner="<polygon/>"), "noted", [5, 6, 25, 36]),
    "missing_coordinate": (("mask", 5, 6, None, 36), "quarantined", None),
    "not_finite": (("mask", 5, "nan", 25, 36), "quarantined", None),
    "not_in_image": (("mask", 70, 6, 99, 36), "quarantined", None),
    "fraction": (("mask", 0.1, 0.2, 0.5, 1), "quarantined", None),
    "click": (("mask", 5, 6, 5, 6), "noted", None),
    "empty_name": (("", 5, 6, 25, 36), "quarantined", None),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_fault(tmp_path, kind):
    """Each fault of a box is listed once, with kind, action, file, line and object."""
    written, action, _ = FAULTS[kind]
    result = import_one(tmp_path, BARE, written)
    (problem,) = result.problems
    lines = annotation_xml("a.jpg", [BARE, written]).splitlines()
    line = lines.index("\t<object>", 20) + 1 + (5 if kind == "element_not_kept" else 0)
    assert (problem["kind"], problem["action"]) == (kind, action)
    assert (Path(problem["file"]).name, problem["line"], problem["object"]) == ("a.xml", line, 2)


@pytest.mark.parametrize("kind", FAULTS)
def test_box_after_fault(tmp_path, kind):
    """A repaired box has corrected corners, a noted box its own, a quarantined box is left out."""
    written, _, remaining = FAULTS[kind]
    assert corners_of(tmp_path, written) == ([remaining] if remaining else [])


@pytest.mark.parametrize("kind", FAULTS)
def test_state_after_fault(tmp_path, kind):
    """An image with a quarantined box is incomplete, others are labelled."""
    written, action, _ = FAULTS[kind]
    import_one(tmp_path, BARE, written)
    assert state_of(tmp_path / "dataset") == ("incomplete" if action == "quarantined" else "labelled")


@pytest.mark.parametrize("kind", FAULTS)
def test_counts_of_fault(tmp_path, kind):
    """Repaired and quarantined boxes are counted, noted ones are not."""
    written, action, _ = FAULTS[kind]
    result = import_one(tmp_path, BARE, written)
    assert (result.repaired, result.quarantined) == (int(action == "repaired"), int(action == "quarantined"))


def test_reversed_and_outside(tmp_path):
    """A box with two faults is listed twice and counted once."""
    result = import_one(tmp_path, ("mask", 99, 36, 5, 6))
    assert (kinds(result), result.repaired) == (["outside_image", "reversed_corners"], 1)


@pytest.mark.parametrize("corners", [(70, 6, 99, 36), (-9, 6, 0, 36), (5, 48, 25, 60), (64, 0, 65, 48)])
def test_wholly_outside(tmp_path, corners):
    """A box without area inside the image is quarantined."""
    result = import_one(tmp_path, ("mask", *corners))
    assert (result.boxes, kinds(result)) == (0, ["not_in_image"])


@pytest.mark.parametrize("corners", [(20, 30, 20, 30), (20, 30, 20, 40), (20, 30, 28, 30), (0, 0, 0, 0), (99,) * 4])
def test_click(tmp_path, corners):
    """A box without width or height is no object: it is left out and noted, and its image stays labelled."""
    result = import_one(tmp_path, MASK, BARE, ("mask", *corners))
    assert (result.boxes, result.quarantined, kinds(result)) == (2, 0, ["click"])
    assert state_of(tmp_path / "dataset") == "labelled"


def test_click_on_an_empty_picture(tmp_path):
    """A single click in a picture without objects leaves it labelled, without boxes."""
    result = import_one(tmp_path, ("mask", 20, 30, 20, 30))
    assert (result.boxes, kinds(result), state_of(tmp_path / "dataset")) == (0, ["click"], "labelled")


def test_several_clicks(tmp_path):
    """Small boxes without area in different places are clicks, also if there are more of them than boxes."""
    clicks = [("mask", x, 9, x, y) for x, y in ((1, 9), (2, 14), (3, 12))]
    assert set(kinds(import_one(tmp_path / "beside", MASK, *clicks))) == {"click"}
    assert set(kinds(import_one(tmp_path / "alone", *clicks))) == {"click"}


def test_pixel_in_the_corner(tmp_path):
    """A box of whole numbers in the corner of the picture is a pixel, and no fraction."""
    assert corners_of(tmp_path, ("mask", 0, 0, 1, 1)) == [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    "corners", [[(0, 0, 0, 0)], [(20, 30, 20, 45), (9, 9, 9, 20)], [(0, 0, 0, 0)] * 3, [(7, 7, 7, 7)] * 2]
)
def test_coordinates_that_a_tool_has_lost(tmp_path, corners):
    """Boxes without area that are all there is, at 0, 0, in one place or as lines, are lost objects, and no clicks."""
    result = import_one(tmp_path, *(("mask", *one) for one in corners))
    assert (result.quarantined, set(kinds(result))) == (len(corners), {"no_area"})
    assert state_of(tmp_path / "dataset") == "incomplete"


def test_more_boxes_without_area_than_others(tmp_path):
    """More lines than boxes are no clicks."""
    assert kinds(import_one(tmp_path, MASK, *[("mask", x, 9, x, 20) for x in (1, 2)])) == ["no_area", "no_area"]


def test_one_pixel_in_voc(tmp_path):
    """Where pixels are counted from 1 with the last one, equal corners are one pixel, and no click."""
    result = import_one(tmp_path, ("mask", 20, 30, 20, 30), origin="voc")
    assert (result.boxes, kinds(result)) == (1, [])


@pytest.mark.parametrize("again", [MASK, object_xml(*MASK, difficult="1"), ("mask", 25, 36, 5, 6)])
def test_saved_twice(tmp_path, again):
    """An object that is there twice, with the same class and corners, counts once and is noted."""
    result = import_one(tmp_path, MASK, BARE, again)
    assert (result.boxes, kinds(result), state_of(tmp_path / "dataset")) == (2, ["saved_twice"], "labelled")


@pytest.mark.parametrize("other", [("bare", *MASK[1:]), ("mask", 5, 6, 25, 37)])
def test_other_class_or_corners(tmp_path, other):
    """The same corners with another class, or the same class elsewhere, are two objects."""
    result = import_one(tmp_path, MASK, other)
    assert (result.boxes, kinds(result)) == (2, [])


def test_the_same_box_in_two_pictures(tmp_path, dataset):
    """Equal boxes in two pictures are two objects."""
    assert import_voc(dataset, labelimg_folder(tmp_path / "clips", {"a": [MASK], "b": [MASK]})).boxes == 2


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999"])
def test_not_finite(tmp_path, text):
    """Numbers that are not finite are quarantined."""
    result = import_one(tmp_path, ("mask", 5, 6, text, 36))
    assert (result.boxes, kinds(result)) == (0, ["not_finite"])


def test_one_pixel_too_far(tmp_path):
    """A box that ends a pixel outside, as in published data sets, is clipped, and its image stays labelled."""
    assert corners_of(tmp_path, ("mask", 5, 6, WIDTH + 1, 36)) == [[5, 6, WIDTH, 36]]
    assert state_of(tmp_path / "dataset") == "labelled"


WHOLE_FILES = {
    b"": "empty_file",
    b"<annotation><object>": "unreadable_file",
    b"hello": "unreadable_file",
    b"<html/>": "wrong_root",
    b"<!DOCTYPE annotation [<!ENTITY x 'y'>]><annotation><filename>a.jpg</filename></annotation>": "declares_dtd",
}


@pytest.mark.parametrize("data", WHOLE_FILES)
def test_whole_file(tmp_path, dataset, data):
    """An unreadable file is quarantined with its kind, its image is incomplete, other files are imported."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [MASK], "b": [MASK]})
    (folder / "a.xml").write_bytes(data)
    result = import_voc(dataset, folder)
    assert (kinds(result), result.problems[0]["action"]) == ([WHOLE_FILES[data]], "quarantined")
    assert (result.boxes, result.quarantined, state_of(dataset, "a.jpg")) == (1, 0, "incomplete")


def test_missing_image(tmp_path, dataset, source):
    """XML without its image is quarantined, other files are imported."""
    (source / "a.jpg").unlink()
    result = import_voc(dataset, source)
    assert (result.images, kinds(result), result.problems[0]["action"]) == (1, ["image_missing"], "quarantined")


@pytest.mark.parametrize("kept", [0, 10, 500])
def test_broken_image(dataset, source, kept):
    """A broken image is quarantined, and not listed as an image without XML."""
    (source / "a.jpg").write_bytes((source / "a.jpg").read_bytes()[:kept])
    result = import_voc(dataset, source)
    assert (result.images, kinds(result), result.problems[0]["action"]) == (1, ["image_broken"], "quarantined")


def test_broken_image_with_unlabelled(dataset, source):
    """With `--with-unlabelled` a broken image is listed once, too."""
    (source / "a.jpg").write_bytes(b"no image")
    assert kinds(import_voc(dataset, source, with_unlabelled=True)) == ["image_broken"]


def test_absurd_image_size(tmp_path, dataset, source):
    """A PNG with a declared width of four billion pixels is quarantined like any broken image."""
    data = bytearray(write_image(tmp_path / "c.png").read_bytes())
    data[16:20] = b"\xff\xff\xff\xff"
    (source / "c.png").write_bytes(data)
    write_xml(source / "c.xml", "c.png", [MASK])
    assert "image_broken" in kinds(import_voc(dataset, source))


def test_problems_are_kept(tmp_path):
    """The dataset's problems table has the problems of the result."""
    result = import_one(tmp_path, ("mask", 99, 36, 5, 6), ("", 1, 2, 3, 4))
    table = load(tmp_path / "dataset").problems
    columns = ["line", "object", "kind", "detail", "action"]
    assert table[columns].to_dict("records") == [{key: one[key] for key in columns} for one in result.problems]
    assert set(table["file"]) == {"a.xml"}


def test_problems_can_be_opened(tmp_path, dataset):
    """Every file named in the result exists under that path, also in `--images`."""
    write_xml(tmp_path / "xml" / "a.xml", objects=[("mask", 99, 36, 5, 6)])
    write_image(tmp_path / "pictures" / "a.jpg")
    write_image(tmp_path / "pictures" / "b.jpg")
    result = import_voc(dataset, tmp_path / "xml", images=tmp_path / "pictures")
    assert [one["file"] for one in result.problems if not Path(one["file"]).exists()] == []


def test_mended_file_forgets_its_problems(tmp_path, dataset):
    """A corrected file loses its problems, and its image is labelled."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [("", 1, 2, 3, 4)], "b": [("mask", 99, 36, 5, 6)]})
    import_voc(dataset, folder)
    write_xml(folder / "a.xml", objects=[MASK])
    import_voc(dataset, folder)
    assert load(dataset).problems["kind"].tolist() == ["reversed_corners", "outside_image"]
    assert state_of(dataset, "a.jpg") == "labelled"


def test_mended_unreadable_file(tmp_path, dataset, source):
    """After an unreadable file is corrected, its boxes are imported."""
    (source / "a.xml").write_bytes(b"<annotation>")
    import_voc(dataset, source)
    write_xml(source / "a.xml", objects=[MASK])
    result = import_voc(dataset, source)
    assert (result.updated, result.boxes, state_of(dataset, "a.jpg")) == (1, 3, "labelled")
    assert len(load(dataset).problems) == 0


def test_file_that_breaks_later(dataset, source):
    """Unreadable XML leaves the existing boxes of its image."""
    import_voc(dataset, source)
    (source / "b.xml").write_bytes(b"<annotation>")
    result = import_voc(dataset, source)
    assert (result.boxes, kinds(result)) == (3, ["unreadable_file"])


def test_quarantined_later_is_incomplete(dataset, source):
    """An image whose only box is quarantined in a second import is incomplete."""
    import_voc(dataset, source)
    write_xml(source / "a.xml", objects=[("mask", 5, "nan", 25, 36)])
    import_voc(dataset, source)
    assert state_of(dataset, "a.jpg") == "incomplete"


def test_mended_split_list_forgets_its_problems(tmp_path, dataset):
    """A corrected split list loses its problems, too."""
    folder = labelimg_folder(tmp_path / "kit", {"a": [MASK]}, xml_in="Annotations", images_in="JPEGImages")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("a\nghost\n")
    import_voc(dataset, folder)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    import_voc(dataset, folder)
    assert load(dataset).problems["kind"].tolist() == []


def test_problems_of_equal_sources(tmp_path, dataset):
    """Problems of two sources with the same folder name are kept separately."""
    for number, parent in enumerate("xy"):
        folder = labelimg_folder(tmp_path / parent / "clips", {"a": [("mask", 99, 36, 5, 6 + number)]}, seed=number)
        import_voc(dataset, folder)
    assert (load(dataset).problems["kind"] == "outside_image").sum() == 2


# ── strict ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", FAULTS)
def test_strict(tmp_path, kind):
    """`strict` refuses repaired and quarantined boxes, and accepts notes."""
    written, action, _ = FAULTS[kind]
    if action == "noted":
        assert import_one(tmp_path, written, strict=True).version == 1
    else:
        with pytest.raises(StrictImportError, match=f"a.xml, object 1: .*{kind}"):
            import_one(tmp_path, written, strict=True)
        assert read_versions(tmp_path / "dataset") == []


def test_strict_with_undeclared_name(dataset, source):
    """`strict` refuses undeclared class names."""
    with pytest.raises(StrictImportError, match="unknown_class"):
        import_voc(dataset, source, classes=["mask"], strict=True)
    assert read_versions(dataset) == []


def test_strict_with_unreadable_file(dataset, source):
    """`strict` refuses unreadable files."""
    (source / "a.xml").write_bytes(b"")
    with pytest.raises(StrictImportError, match="empty_file"):
        import_voc(dataset, source, strict=True)


def test_strict_leaves_the_dataset(dataset, source):
    """A refused import makes no version, and its result has the counts of the current one."""
    import_voc(dataset, source)
    labelimg_folder(source, {"c": [("mask", 99, 36, 5, 6)]})
    with pytest.raises(StrictImportError) as caught:
        import_voc(dataset, source, strict=True)
    result = caught.value.result
    assert (result.version, result.repaired, kinds(result)) == (None, 1, ["outside_image", "reversed_corners"])
    assert (result.images, result.boxes, result.classes) == (2, 3, {"bare": 1, "mask": 2})
    assert Store(dataset).head() == 1


def test_strict_brings_no_image(dataset, source):
    """A refused import links no images into the dataset."""
    (source / "a.xml").write_bytes(b"")
    with pytest.raises(StrictImportError):
        import_voc(dataset, source, strict=True)
    assert not list(dataset.rglob("*.jpg"))


# ── properties ────────────────────────────────────────────────────────────────────────────────────────────────────────


NUMBER = st.one_of(
    st.integers(-20, 90).map(str), st.floats().map(repr), st.sampled_from(["", "nan", "-inf", "1e999", "x", None])
)
OBJECT = st.builds(
    object_xml,
    st.sampled_from(["mask", "bare", " mask", "", "&", "口罩"]),
    NUMBER,
    NUMBER,
    NUMBER,
    NUMBER,
    difficult=st.sampled_from(["0", "1", None, "x"]),
    inner=st.sampled_from(["", "", "<extra/>"]),
)
FILE = st.one_of(
    st.lists(OBJECT, max_size=4).map(lambda rows: (annotation_xml(None, rows).encode(), len(rows))),
    st.binary(max_size=60).map(lambda data: (data, 0)),
    st.just((None, 0)),
)


def check_import(folder, dataset, files, **options):
    """Import files, and check that every object and file is imported or listed."""
    for place in (folder, dataset):
        shutil.rmtree(place, ignore_errors=True)
    for number, (data, _) in enumerate(files):
        write_image(folder / f"{number}.png", seed=0)
        if data is not None:
            (folder / f"{number}.xml").write_bytes(data)
    result = import_voc(dataset, folder, with_unlabelled=True, **options)
    assert result.images == len(files)
    dropped = sum(kind in ("click", "saved_twice") for kind in kinds(result))
    assert result.boxes + result.quarantined + dropped == sum(count for _, count in files)
    current = load(dataset)
    corners = current.boxes_xyxy
    assert np.isfinite(corners).all()
    assert ((corners[:, :2] >= 0) & (corners[:, :2] < corners[:, 2:])).all()
    assert (corners[:, 2:] <= (WIDTH, HEIGHT)).all()
    quarantined = {Path(one["file"]).stem for one in result.problems if one["action"] == "quarantined"}
    incomplete = current.images[current.images["label_state"] == "incomplete"]["path"]
    assert {Path(path).stem for path in incomplete} == quarantined
    again = import_voc(dataset, folder, with_unlabelled=True, **options)
    assert (again.version, again.unchanged) == (result.version, len(files))


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(FILE, min_size=1, max_size=4))
def test_nothing_vanishes(tmp_path, files):
    """For any XML, each image is imported, each object is a box or listed, each box is inside its image."""
    check_import(tmp_path / "clips", tmp_path / "dataset", files)


@pytest.mark.long
@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(FILE, min_size=1, max_size=6),
    origin=st.sampled_from(["labelimg", "voc"]),
    classes=st.sampled_from([None, ["mask"], ["bare", "mask", "&"]]),
)
def test_nothing_vanishes_at_length(tmp_path, files, origin, classes):
    """The same with many more files, both origins, and declared classes."""
    allowed = annotation_xml(None, [object_xml(*MASK)]).encode()  # without any allowed class, an import is refused
    check_import(tmp_path / "clips", tmp_path / "dataset", [*files, (allowed, 1)], origin=origin, classes=classes)


def test_any_error_is_ours(tmp_path, dataset):
    """A file in place of the dataset folder is an error of curate."""
    dataset.write_text("taken")
    with pytest.raises(CurateError):
        import_voc(dataset, labelimg_folder(tmp_path / "clips", {"a": [MASK]}))
