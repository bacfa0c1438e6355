"""The version files of a dataset folder: numbers in messages, and names of datasets that are nearly right."""

import os

import pytest
from sample_datasets import face_dataset, save, set_column

from curate.errors import StoreError
from curate.store import Store
from curate.versions import VersionFiles


@pytest.fixture
def root(tmp_path):
    """A saved dataset."""
    return save(face_dataset(tmp_path / "faces"))


def test_many_versions_in_a_message(root):
    """A message lists runs of numbers by their ends."""
    for number in range(6):
        set_column(root, "split", [str(number)] * 8)
    (root / "versions" / "000005.json").unlink()
    with pytest.raises(StoreError, match=r"\(expected one of 1–4, 6, 7\)"):
        Store(root).read_version(12)


def test_a_version_file_of_a_newer_curate(root):
    """What another version of curate wrote is not called damaged: nobody is told to move it away."""
    files = VersionFiles(root)
    document = files.read(1)
    files.write(1, {**document, "mood": "good", "tool_version": "9.1"})
    with pytest.raises(StoreError, match=r"unknown 'mood'\. Use curate 9\.1, which wrote it\.$"):
        files.read(1)
    files.file(1).write_text(files.file(1).read_text().replace("good", "bad"))
    with pytest.raises(StoreError, match=r"unknown 'mood'\. Restore it from a copy"):
        files.read(1)


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_a_version_file_of_any_depth(root, opened, closed):
    """Deep nesting is an error and no traceback, also where it can just be read, but no checksum be made of it."""
    files = VersionFiles(root)
    for depth in range(900, 1010):
        files.file(1).write_text('{"checksum": "", "mood": ' + opened * depth + "1" + closed * depth + "}")
        with pytest.raises(StoreError, match="cannot be read"):
            files.read(1)


@pytest.mark.parametrize("name", ["face", "facse", "Faces", "faces2"])
def test_dataset_that_is_nearly_there(root, name):
    """A name that is nearly that of a dataset brings that one, with its folder."""
    with pytest.raises(StoreError, match=f"Did you mean '{root}'\\?"):
        Store(root.parent / name).head()


def test_folder_of_datasets(root):
    """A folder that holds datasets names them."""
    save(face_dataset(root.parent / "masks"))
    with pytest.raises(StoreError, match=r"Datasets in this folder: faces, masks\."):
        Store(root.parent).head()


def test_no_dataset_is_near(root):
    """Where no name is near, the message says how to make a dataset."""
    with pytest.raises(StoreError, match="Create one with an import"):
        Store(root.parent / "zebra").head()


def test_parents_in_a_circle(root):
    """Version files that name one another as parents end the walk."""
    set_column(root, "split", ["val"] * 8)
    document = VersionFiles(root).read(1)
    VersionFiles(root).write(1, document | {"parent": 2})
    assert list(VersionFiles(root).ancestry(2)) == [2, 1]
    with pytest.raises(StoreError, match="a version before it has a higher number"):
        VersionFiles(root).read(1)


@pytest.mark.parametrize("name", ["1.json", "٣.json", "000001 (copy).json", "000001.json.old", "0000000001.json"])
def test_other_files_beside_the_versions(root, name):
    """Only names as curate gives them are versions."""
    (root / "versions" / name).write_text("{}")
    assert VersionFiles(root).numbers() == [1]


@pytest.mark.parametrize("name", ["HEAD", "REDO", "versions/000001.json"])
def test_pipe_in_place_of_a_file(root, name):
    """A pipe is not waited for."""
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    with pytest.raises(StoreError):
        Store(root).redo()
