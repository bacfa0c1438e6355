"""`import-voc`: XML into a dataset, on the command line and by concurrent processes."""

import json
import multiprocessing
import shutil
import sys

import pytest
from builders import (
    HEIGHT,
    MASK,
    WIDTH,
    box_rows,
    corners_of,
    image_row,
    import_one,
    kinds,
    labelimg_folder,
    load,
    object_xml,
    snapshot,
    state_of,
    write_image,
    write_xml,
)

from curate.commands.imports import import_voc
from curate.errors import DataError, UsageError
from curate.store import Store

# ── images, boxes and options ─────────────────────────────────────────────────────────────────────────────────────────


def test_counts(dataset, source):
    """The result counts images, boxes, classes and added images."""
    result = import_voc(dataset, source)
    assert (result.images, result.boxes, result.classes) == (2, 3, {"bare": 1, "mask": 2})
    assert (result.version, result.added, result.updated, result.unchanged) == (1, 2, 0, 0)
    assert (result.repaired, result.quarantined, result.problems) == (0, 0, ())


def test_boxes_are_as_written(dataset, source):
    """LabelImg's coordinates are kept: they are the canvas's edges."""
    import_voc(dataset, source)
    assert box_rows(dataset) == [
        ("a.jpg", "mask", 5, 6, 25, 36),
        ("b.jpg", "bare", 30, 10, 60, 40),
        ("b.jpg", "mask", 5, 6, 25, 36),
    ]


def test_no_image_at_all(tmp_path, dataset):
    """XML of which none has an image is an error that says how many, and where was looked; no version is made."""
    for name in "abc":
        write_xml(tmp_path / "xml" / f"{name}.xml")
    told = r"no image of 3 XML files was found.*'a\.jpg'.*xml and its subfolders.*--images"
    with pytest.raises(DataError, match=told):
        import_voc(dataset, tmp_path / "xml")
    assert not Store(dataset).exists()


def test_other_xml(tmp_path, dataset):
    """XML of other formats alone is an error that says what to export."""
    write_image(tmp_path / "cvat" / "a.jpg")
    (tmp_path / "cvat" / "annotations.xml").write_text('<annotations><image name="a.jpg"/></annotations>')
    told = r"none of 1 XML file is .*annotations\.xml: <annotations>, expected <annotation>.*Export .* as Pascal VOC"
    with pytest.raises(DataError, match=told):
        import_voc(dataset, tmp_path / "cvat")


def test_file_in_place_of_a_folder(tmp_path, dataset):
    """A single file is no source, and is not called missing."""
    with pytest.raises(DataError, match=r"a\.xml: this is a file \(expected a folder\)"):
        import_voc(dataset, write_xml(tmp_path / "a.xml"))


def test_no_image_in_another_folder(tmp_path, dataset):
    """The folder of `--images` is named, and that it has images of other names."""
    write_xml(tmp_path / "xml" / "a.xml")
    write_image(tmp_path / "pictures" / "other.jpg")
    with pytest.raises(DataError, match=r"pictures and its subfolders; there are 1 of other names"):
        import_voc(dataset, tmp_path / "xml", images=tmp_path / "pictures")


@pytest.mark.parametrize("data", [b"", b"not an image"])
def test_no_image_that_can_be_read(dataset, source, data):
    """Images that are all damaged are an error, too."""
    for name in "ab":
        (source / f"{name}.jpg").write_bytes(data)
    with pytest.raises(DataError, match=r"2 XML files was found, or can be read .*a\.jpg"):
        import_voc(dataset, source)


def test_one_image_is_enough(dataset, source):
    """If one XML has an image, the others are problems."""
    (source / "a.jpg").unlink()
    assert kinds(import_voc(dataset, source)) == ["image_missing"]


def test_edges_of_the_image(tmp_path):
    """In LabelImg's coordinates a box may cover the whole image."""
    assert corners_of(tmp_path, ("mask", 0, 0, WIDTH, HEIGHT)) == [[0, 0, WIDTH, HEIGHT]]


def test_origin_voc(tmp_path):
    """With `--origin voc` (1-based, inclusive) 1 is subtracted from the minima: the whole image is 1…width."""
    assert corners_of(tmp_path, ("mask", 1, 1, WIDTH, HEIGHT), origin="voc") == [[0, 0, WIDTH, HEIGHT]]


def test_origin_voc_with_reversed_corners(tmp_path):
    """1 is subtracted from the smaller coordinate, also if the corners are reversed."""
    assert corners_of(tmp_path, ("mask", 20, 40, 11, 31), origin="voc") == [[10, 30, 20, 40]]


def test_origin_is_recorded(dataset, source):
    """The version file has the origin."""
    import_voc(dataset, source, origin="voc")
    assert Store(dataset).read_version(1).arguments["origin"] == "voc"


def test_unknown_origin(dataset, source):
    """Another origin is a usage error."""
    with pytest.raises(UsageError, match="labelimg or voc"):
        import_voc(dataset, source, origin="coco")  # pyright: ignore[reportArgumentType]


def test_labelled_without_objects(tmp_path):
    """An image whose XML has no objects is labelled, without boxes."""
    import_one(tmp_path)
    assert state_of(tmp_path / "dataset") == "labelled"


def test_verified(tmp_path, dataset):
    """LabelImg's `verified="yes"` is kept per image."""
    folder = labelimg_folder(tmp_path / "one", {"a": [MASK], "b": [MASK]})
    write_xml(folder / "a.xml", objects=[MASK], verified=True)
    import_voc(dataset, folder)
    assert (image_row(dataset, "a.jpg")["verified"], image_row(dataset, "b.jpg")["verified"]) == (True, False)


def test_flags_and_pose(tmp_path):
    """`difficult`, `truncated`, `occluded` and `pose` are kept."""
    import_one(tmp_path, object_xml(*MASK, difficult="1", truncated="1", occluded="1", pose="Left"))
    (row,) = load(tmp_path / "dataset").boxes.to_dict("records")
    assert (row["difficult"], row["truncated"], row["occluded"], row["pose"]) == (True, True, True, "Left")


def test_original_class(dataset, source):
    """Each box keeps the annotator's class name."""
    import_voc(dataset, source)
    assert sorted(load(dataset).boxes["original_class"]) == ["bare", "mask", "mask"]


def test_source_name(dataset, source):
    """An image's source is the name of the imported folder."""
    import_voc(dataset, source)
    assert set(load(dataset).images["source"]) == {"clips"}


def test_video_from(tmp_path, dataset):
    """`--video-from` reads the video id from the image's path; images that do not match have none."""
    folder = labelimg_folder(tmp_path / "clips", {"street_0001": [MASK], "street_0002": [MASK], "other": [MASK]})
    import_voc(dataset, folder, video_from=r"^(.*)_\d+")
    assert image_row(dataset, "street_0002.jpg")["video_id"] == "street"
    assert load(dataset).images["video_id"].isna().sum() == 1


def test_video_from_separate_images(tmp_path, dataset):
    """With `--images`, the path is relative to that folder."""
    write_xml(tmp_path / "xml" / "a.xml", objects=[MASK])
    write_image(tmp_path / "pictures" / "street" / "a.jpg")
    import_voc(dataset, tmp_path / "xml", images=tmp_path / "pictures", video_from="^([^/]+)/")
    assert image_row(dataset, "a.jpg")["video_id"] == "street"


def test_video_from_that_is_no_expression(dataset, source):
    """An invalid regular expression is a usage error."""
    with pytest.raises(UsageError, match="--video-from"):
        import_voc(dataset, source, video_from="(")


def test_splits_of_a_devkit(tmp_path, dataset):
    """ImageSets/Main becomes the split of the images."""
    folder = labelimg_folder(tmp_path / "kit", {"a": [MASK], "b": [MASK]}, xml_in="Annotations", images_in="JPEGImages")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    import_voc(dataset, folder)
    assert image_row(dataset, "b.jpg")["split"] == "val"


def test_splits_with_one_picture_on_both_sides(tmp_path, dataset):
    """If the source's own splits have equal pictures on both sides, they are kept, and a note names the remedy."""
    folder = labelimg_folder(tmp_path / "kit", {"a": [MASK], "b": [MASK]}, xml_in="Annotations", images_in="JPEGImages")
    shutil.copyfile(folder / "JPEGImages" / "a.jpg", folder / "JPEGImages" / "b.jpg")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (note,) = import_voc(dataset, folder).notes
    assert note.startswith("1 picture occurs in more than one split, with 1 box outside train")
    assert note.endswith(f"`curate split {dataset} --overwrite` splits again.")
    assert image_row(dataset, "b.jpg")["split"] == "val"


def test_separate_images(tmp_path, dataset):
    """`--images` names the folder of the images."""
    write_xml(tmp_path / "xml" / "a.xml", objects=[MASK])
    write_image(tmp_path / "pictures" / "a.jpg")
    result = import_voc(dataset, tmp_path / "xml", images=tmp_path / "pictures")
    assert (result.images, result.boxes, kinds(result)) == (1, 1, [])


def test_relative_folders(tmp_path, dataset, source, monkeypatch):
    """Folders can be relative to the working folder."""
    shutil.move(source / "a.jpg", tmp_path / "a.jpg")
    shutil.move(source / "b.jpg", tmp_path / "b.jpg")
    monkeypatch.chdir(tmp_path)
    assert import_voc("dataset", "clips", images=".").boxes == 3


def test_source_is_not_there(tmp_path, dataset):
    """A missing source is an error, and no dataset is created."""
    with pytest.raises(DataError, match="nowhere"):
        import_voc(dataset, tmp_path / "nowhere")
    assert not dataset.exists()


def test_input_is_unchanged(tmp_path, dataset):
    """The source folder is not changed, whatever its faults."""
    folder = labelimg_folder(
        tmp_path / "clips", {"a": [MASK, ("mask", 50, 40, 10, 99)], "b": None, "c": [("", 1, 2, 3, 4)]}
    )
    (folder / "d.xml").write_bytes(b"<annotation>")
    before = snapshot(folder)
    import_voc(dataset, folder, with_unlabelled=True)
    assert snapshot(folder) == before


def test_same_input_same_tables(tmp_path, source):
    """The same files give the same tables, byte for byte."""
    import_voc(tmp_path / "one", source)
    import_voc(tmp_path / "two", source)
    assert Store(tmp_path / "one").read_version(1).tables == Store(tmp_path / "two").read_version(1).tables


# ── command line ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def curate(monkeypatch, capsys):
    """Run a command line; returns exit code, stdout and stderr."""

    def run(*words):
        from curate.cli import main

        monkeypatch.setattr(sys, "argv", ["curate", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return caught.value.code or 0, captured.out, captured.err

    return run


JSON_KEYS = [
    "dataset",
    "version",
    "images",
    "boxes",
    "classes",
    "added",
    "updated",
    "unchanged",
    "repaired",
    "quarantined",
    "problems",
]


def test_json(curate, dataset, source):
    """`--json` prints one document with exactly the documented keys."""
    code, out, _ = curate("import-voc", dataset, source, "--json")
    assert (code, list(json.loads(out))) == (0, JSON_KEYS)


def test_quarantined_alone_is_fine(curate, tmp_path, dataset):
    """With quarantined boxes only, the exit code is 0, and the document lists them."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [("", 1, 2, 3, 4)]})
    code, out, _ = curate("import-voc", dataset, folder, "--json")
    assert (code, json.loads(out)["quarantined"]) == (0, 1)
    assert set(json.loads(out)["problems"][0]) == {"file", "line", "object", "kind", "detail", "action"}


def test_strict_exit(curate, tmp_path, dataset):
    """`--strict` exits with 1 and one line on stderr; `--json` prints the document all the same."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [("mask", 99, 36, 5, 6)]})
    code, out, err = curate("import-voc", dataset, folder, "--strict", "--json")
    assert (code, json.loads(out)["version"], list(json.loads(out))) == (1, None, JSON_KEYS)
    assert (len(err.strip().splitlines()), "Traceback" in err) == (1, False)


def test_missing_source_exit(curate, tmp_path, dataset):
    """A missing source exits with 1 and one line."""
    code, _, err = curate("import-voc", dataset, tmp_path / "nowhere")
    assert (code, len(err.strip().splitlines())) == (1, 1)


@pytest.mark.parametrize("words", [["--origin", "coco"], ["--video-from", "("], ["--no-such-option"]])
def test_misuse_exit(curate, dataset, source, words):
    """A usage error exits with 2."""
    assert curate("import-voc", dataset, source, *words)[0] == 2


def test_declared_on_the_command_line(curate, dataset, source):
    """`--classes a,b` declares names in order; white space around them is ignored."""
    _, out, _ = curate("import-voc", dataset, source, "--classes", "mask, bare", "--json")
    assert list(json.loads(out)["classes"]) == ["mask", "bare"]


def test_table_names_the_faults(curate, tmp_path, dataset):
    """Without `--json` counts and faults are printed as text."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [MASK, ("", 1, 2, 3, 4)]})
    code, out, _ = curate("import-voc", dataset, folder)
    assert code == 0
    assert "mask" in out
    assert "empty_name" in out


def test_equal_notes_are_one_line(curate, tmp_path, dataset):
    """A note that is the same for a whole folder is one line with count and example; `--json` has all of them."""
    folder = labelimg_folder(tmp_path / "clips", {f"p{number}": [MASK] for number in range(30)})
    for number in range(30):
        write_xml(folder / f"p{number}.xml", f"IMG_{number}.jpg", [MASK])
    _, out, _ = curate("import-voc", dataset, folder)
    (line,) = [line for line in out.splitlines() if "filename_mismatch" in line]
    assert "30" in line
    assert out.count("IMG_") == 1
    _, out, _ = curate("import-voc", dataset, folder, "--json")
    assert len(json.loads(out)["problems"]) == 30


def test_size_mismatch_on_the_command_line(curate, tmp_path, dataset):
    """Images with another size are counted on stderr, with the option; with it, they are labelled."""
    folder = labelimg_folder(tmp_path / "clips", {"a": []})
    write_xml(folder / "a.xml", objects=[("mask", 10, 12, 50, 72)], size=(2 * WIDTH, 2 * HEIGHT))
    code, _, err = curate("import-voc", dataset, folder)
    assert (code, state_of(dataset)) == (0, "incomplete")
    assert "1 image is incomplete" in err
    assert "--size-mismatch scale" in err
    curate("import-voc", dataset, folder, "--size-mismatch", "scale")
    assert (box_rows(dataset), state_of(dataset)) == ([("a.jpg", *MASK)], "labelled")


def test_nothing_taken_is_no_success(curate, tmp_path, dataset, source):
    """Classes that fit no box exit with 2, XML without images with 1; neither makes a version."""
    code, _, err = curate("import-voc", dataset, source, "--classes", "masc")
    assert (code, "Did you mean 'mask'?" in err) == (2, True)
    write_xml(tmp_path / "xml" / "a.xml")
    code, _, err = curate("import-voc", dataset, tmp_path / "xml")
    assert (code, len(err.strip().splitlines())) == (1, 1)
    assert not Store(dataset).exists()


# ── concurrent processes ──────────────────────────────────────────────────────────────────────────────────────────────


def import_in_process(dataset, source):
    import_voc(dataset, source)


def import_at_once(dataset, sources):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=import_in_process, args=(dataset, source)) for source in sources]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)


def test_two_sources_at_once(tmp_path, dataset):
    """Two sources with equal folder and file names, imported concurrently, are both imported."""
    names = {f"{number:03}": [MASK] for number in range(40)}
    folders = [labelimg_folder(tmp_path / parent / "clips", names, seed=ord(parent)) for parent in "xy"]
    import_at_once(dataset, folders)
    current = load(dataset)
    assert (len(current.images), len(current.boxes), current.images["path"].nunique()) == (80, 80, 80)
    placed = {(dataset / path).read_bytes() for path in current.images["path"]}
    assert placed == {file.read_bytes() for folder in folders for file in folder.glob("*.jpg")}


def test_one_source_twice_at_once(tmp_path, dataset):
    """A source imported by two processes concurrently is in the dataset once."""
    folder = labelimg_folder(tmp_path / "clips", {f"{number:03}": [MASK] for number in range(40)})
    import_at_once(dataset, [folder, folder])
    assert (len(load(dataset).images), len(load(dataset).boxes)) == (40, 40)
