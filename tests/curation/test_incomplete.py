"""Commands say why images that were imported with faults do not count."""

import pytest
from builders import BARE, MASK, labelimg_folder

import curate
from curate.curation.incomplete import note_incomplete, nothing_labelled
from curate.errors import DataError
from curate.store import Store

LOST = ("mask", "nan", 6, 25, 36)


@pytest.fixture
def faulty(tmp_path, dataset):
    """One labelled image with two boxes, and one incomplete image with one."""
    curate.import_voc(dataset, labelimg_folder(tmp_path / "clips", {"a": [MASK, BARE], "b": [BARE, LOST]}))
    return dataset


@pytest.fixture
def all_faulty(tmp_path, dataset):
    """Only an incomplete image."""
    curate.import_voc(dataset, labelimg_folder(tmp_path / "clips", {"b": [BARE, LOST]}))
    return dataset


def test_note(faulty):
    """The sentence counts images and boxes, and names the file and the fault."""
    (note,) = note_incomplete(Store(faulty).load())
    assert note.startswith("Left out: 1 incomplete image with 1 box.")
    assert "b.xml: not_finite" in note


def test_faults_of_other_files(tmp_path, dataset):
    """XML without image, and images that are broken, are not among the reasons."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [BARE], "b": [BARE, LOST]})
    (folder / "a.jpg").write_bytes(b"")
    (folder / "0.xml").write_text("<html/>")
    result = curate.import_voc(dataset, folder)
    assert {problem["kind"] for problem in result.problems} >= {"image_broken", "image_missing", "wrong_root"}
    assert any("(b.xml)" in note for note in result.notes)
    (note,) = note_incomplete(Store(dataset).load())
    assert "(b.xml: not_finite)" in note


def test_no_note(tmp_path, dataset, source):
    """There is none if no image is incomplete."""
    curate.import_voc(dataset, source)
    assert note_incomplete(Store(dataset).load()) == ()


def test_note_of_a_split(faulty):
    """Only incomplete images of the split are counted."""
    current = Store(faulty).load()
    images = current.images.assign(split=["train", "val"])
    assert note_incomplete(current.replace(images=images), "train") == ()
    assert len(note_incomplete(current.replace(images=images), "val")) == 1


def test_error(all_faulty):
    """If no image is labelled, the error has the counts by state, the file and the fault."""
    message = str(nothing_labelled(Store(all_faulty).load()))
    assert "got 1 incomplete" in message
    assert "b.xml: not_finite" in message
    assert "import again" in message


def test_error_without_faults(tmp_path, dataset, source):
    """Without incomplete images, the remedy is to label."""
    curate.import_voc(dataset, source)
    current = Store(dataset).load()
    message = str(nothing_labelled(current.replace(images=current.images.assign(label_state="unlabelled"))))
    assert "got 2 unlabelled" in message
    assert "Label images" in message


@pytest.mark.parametrize(
    "command",
    [
        curate.stats,
        lambda root: curate.split(root, val=0.5),
        lambda root: curate.export_coco(root, root.parent / "out"),
    ],
    ids=["stats", "split", "export_coco"],
)
def test_commands_that_leave_out(faulty, command):
    """Commands that take labelled images only say that others are incomplete."""
    assert any("1 incomplete image" in note and "b.xml" in note for note in command(faulty).notes)


@pytest.mark.parametrize(
    "command",
    [
        curate.split,
        lambda root: curate.export_coco(root, root.parent / "out"),
        lambda root: curate.evaluate(root, predictions=root / "none.json"),
        lambda root: curate.train(root, run="first", steps=1),
    ],
    ids=["split", "export_coco", "evaluate", "train"],
)
def test_commands_that_refuse(all_faulty, command):
    """Commands that need a labelled image name the faults if all are incomplete."""
    with pytest.raises(DataError, match=r"no image is labelled .*b\.xml: not_finite"):
        command(all_faulty)
