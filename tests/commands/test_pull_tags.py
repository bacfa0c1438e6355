"""`pull-tags`: tags of the app become corrections and dropped images."""

import xml.etree.ElementTree as ElementTree

import pytest
from app_scene import needs_mongod, save_scene
from builders import BARE, MASK, annotation_xml, box_rows, object_xml, write_image
from extras import needs_fiftyone

import curate
from curate.errors import UsageError
from curate.fiftyone_app.mongo import FOLDER_VARIABLE, URI_VARIABLE
from curate.formats.voc.writer import TruthBox, truth_xml
from curate.store import Store


@pytest.fixture
def root(tmp_path):
    """The dataset of `app_scene`, without a run."""
    return save_scene(tmp_path / "faces", runs=())


@pytest.fixture
def tag(open_app):
    """Tag images in the app, as {image id: tag}; returns all tags."""

    def tagged(root, tags):
        def look(name):
            import fiftyone as fo
            from fiftyone import ViewField as F

            dataset = fo.load_dataset(name)
            for image_id, one in tags.items():
                dataset.match(F("image_id") == image_id).tag_samples(one)
            return dict(zip(*dataset.match(F("tags").length() > 0).values(["image_id", "tags"]), strict=True))

        return open_app(root, look)[1]

    return tagged


pytestmark = [needs_fiftyone, needs_mongod]


def test_dropped_images_go(root, tag):
    """A new version lacks the images tagged `drop`; undo restores them with their boxes."""
    tag(root, {5: "drop", 10: "drop"})
    before = Store(root).load()
    result = curate.pull_tags(root)
    after = Store(root).load()
    assert result.dropped == ("media/images/faces/005.png", "media/images/faces/010.png")
    assert result.version == Store(root).head() == 2
    assert set(before.images["image_id"]) - set(after.images["image_id"]) == {5, 10}
    assert len(after.boxes) == len(before.boxes) - 1
    curate.undo(root)
    assert Store(root).load().images["image_id"].tolist() == before.images["image_id"].tolist()


def test_images_to_relabel_lie_ready(root, tag):
    """Images tagged `relabel` are in one folder with their boxes as XML and the class list."""
    tag(root, {4: "relabel", 6: "relabel", 9: "relabel"})
    result = curate.pull_tags(root)
    folder = root / "relabel" / "1"
    assert result.relabel == tuple(f"media/images/faces/{number:03d}.png" for number in (4, 6, 9))
    assert sorted(file.name for file in folder.iterdir()) == [
        *("faces__004.png", "faces__004.xml", "faces__006.png", "faces__006.xml", "faces__009.png"),
        "predefined_classes.txt",
    ]
    (corners,) = ElementTree.parse(folder / "faces__004.xml").iterfind("object/bndbox")
    assert [one.text for one in corners] == ["10", "10", "60", "60"]
    assert result.command[0] == "labelImg"
    assert f"import-voc {root} {folder}" in result.notes[-1]


def test_what_is_not_changed_comes_back_as_it_was(dataset, tag, tmp_path):
    """Poses, flags, verified marks and original class names survive export and import."""
    bare = object_xml("bare", 5, 6, 30, 40, difficult="1", truncated="1", pose="Left", occluded="1")
    labels = tmp_path / "labels"
    for name, objects, verified in (("a", [bare, MASK], True), ("b", [BARE], False), ("c", [], False)):
        write_image(labels / f"{name}.jpg", seed=ord(name))
        (labels / f"{name}.xml").write_text(annotation_xml(f"{name}.jpg", objects, verified=verified))
    curate.import_voc(dataset, labels)
    names = curate.stats(dataset).classes
    curate.merge_classes(dataset, ["bare"], into=next(one.name for one in names if one.name != "bare"))
    tag(dataset, dict.fromkeys((1, 2, 3), "relabel"))
    before = box_rows(dataset)
    curate.pull_tags(dataset)
    result = curate.import_voc(dataset, dataset / "relabel" / "1")
    assert (result.unchanged, result.updated, result.added) == (3, 0, 0)
    assert box_rows(dataset) == before


def test_corrected_boxes_come_back(root, tag):
    """Corrections in the folder become the image's boxes."""
    tag(root, {4: "relabel"})
    curate.pull_tags(root)
    xml = root / "relabel" / "1" / "faces__004.xml"
    xml.write_text(xml.read_text().replace("<xmax>60</xmax>", "<xmax>70</xmax>"))
    assert curate.import_voc(root, root / "relabel" / "1").updated == 1
    boxes = Store(root).load().boxes
    assert boxes.loc[boxes["image_id"] == 4, ["x0", "y0", "x1", "y1"]].to_numpy().tolist() == [[10, 10, 70, 60]]


def test_each_pull_has_a_folder_of_its_own(root, tag):
    """Earlier folders are not changed."""
    tag(root, {4: "relabel"})
    curate.pull_tags(root)
    (root / "relabel" / "1" / "faces__004.xml").write_text("mine")
    tag(root, {4: "relabel"})
    assert curate.pull_tags(root).folder == str(root / "relabel" / "2")
    assert (root / "relabel" / "1" / "faces__004.xml").read_text() == "mine"
    assert "<xmax>60</xmax>" in (root / "relabel" / "2" / "faces__004.xml").read_text()


def test_capitals_do_not_matter(root, tag):
    """Case and surrounding white space of tags are ignored."""
    tag(root, {4: " Relabel", 5: "DROP"})
    result = curate.pull_tags(root)
    assert (len(result.relabel), len(result.dropped)) == (1, 1)
    assert tag(root, {}) == {}


def test_tags_go_when_they_are_taken_in(root, tag):
    """Processed tags are removed, other tags stay; with `keep_tags` all stay."""
    tag(root, {4: "relabel", 5: "mine"})
    curate.pull_tags(root, keep_tags=True)
    assert tag(root, {}) == {4: ["relabel"], 5: ["mine"]}
    curate.pull_tags(root)
    assert tag(root, {}) == {5: ["mine"]}
    with pytest.raises(UsageError, match="no image is tagged"):
        curate.pull_tags(root)


def test_drop_wins(root, tag):
    """An image with both tags is dropped."""
    tag(root, {4: "relabel"})
    tag(root, {4: "drop"})
    result = curate.pull_tags(root)
    assert (len(result.dropped), result.relabel, result.folder) == (1, (), None)
    assert not (root / "relabel").exists()


def test_only_told(root, tag):
    """A dry run changes nothing."""
    tag(root, {4: "relabel", 5: "drop"})
    result = curate.pull_tags(root, dry_run=True)
    assert (len(result.relabel), len(result.dropped), result.version) == (1, 1, None)
    assert Store(root).head() == 1
    assert not (root / "relabel").exists()
    assert tag(root, {}) == {4: ["relabel"], 5: ["drop"]}


def test_tags_of_another_dataset(root, tag, tmp_path):
    """Only this dataset's tags count."""
    other = save_scene(tmp_path / "other", runs=())
    tag(other, {4: "drop"})
    with pytest.raises(UsageError, match="no image is tagged"):
        curate.pull_tags(root)


def test_without_a_database(root, tmp_path, monkeypatch):
    """Without a database no image is tagged, and no server is started."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "none"))
    monkeypatch.delenv(URI_VARIABLE, raising=False)
    with pytest.raises(UsageError, match="no image is tagged"):
        curate.pull_tags(root)
    assert not (tmp_path / "none").exists()


def test_xml_says_all(tmp_path):
    """Flags and fractional corners are written exactly; names are escaped."""
    boxes = [TruthBox("a < b", 1.25, 2.0, 30.5, 40.0, pose="Left", truncated=True, difficult=True, occluded=True)]
    root = ElementTree.fromstring(truth_xml(tmp_path / "a.png", 50, 60, boxes, verified=True))
    (one,) = root.iterfind("object")
    assert root.get("verified") == "yes"
    told = {part.tag: part.text for part in one.iter()}
    assert (told["name"], told["pose"]) == ("a < b", "Left")
    assert [told[name] for name in ("xmin", "ymin", "xmax", "ymax")] == ["1.25", "2", "30.5", "40"]
    assert [told[name] for name in ("truncated", "difficult", "occluded")] == ["1", "1", "1"]


def test_a_pull_that_was_interrupted(root, tag, monkeypatch):
    """The next pull goes on in its folder, and keeps XML that is there."""
    tag(root, {4: "relabel", 6: "relabel"})

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("curate.commands.pull_tags.write_classes", interrupt)
        with pytest.raises(KeyboardInterrupt):
            curate.pull_tags(root)
    mine = root / "relabel/1/faces__004.xml"
    mine.write_text("<annotation/>")
    assert curate.pull_tags(root, keep_tags=True).folder == str(root / "relabel/1")
    assert mine.read_text() == "<annotation/>"
    assert curate.pull_tags(root).folder == str(root / "relabel/2")
