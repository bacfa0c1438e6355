"""`verify`: every file of a dataset is compared with what was written."""

import json
import os
import threading

import pandas as pd
import pytest
from sample_datasets import face_dataset, save, set_column, video_rows, write_text

import curate
from curate.errors import StoreError
from curate.store import Store
from curate.table_files import write_table
from curate.versions import VersionFiles


@pytest.fixture
def root(tmp_path):
    """A dataset of two versions with pictures, of which the hashes are known, and one undone version."""
    source = save(face_dataset(tmp_path / "drawn"), pictures=True)
    root = tmp_path / "faces"
    curate.export_coco(source, tmp_path / "out")
    store = Store(source)
    hashes = [curate.images.read_image_facts(source / path).sha256 for path in store.load().images["path"]]
    set_column(source, "sha256", hashes)
    set_column(source, "split", ["train"] * 8)
    store.undo()
    source.rename(root)
    return root


def found(root):
    """Kind, file and detail of each finding."""
    return [(finding.kind, finding.file, finding.detail) for finding in curate.verify(root).findings]


def test_whole_dataset(root):
    """Nothing is found where nothing is damaged, and all is counted."""
    result = curate.verify(root)
    assert result.to_json() == {
        "version": 2,
        "versions": 3,
        "tables": 5,
        "images": 8,
        "videos": 0,
        "unchecked": 0,
        "findings": [],
    }
    assert result.notes == ()


def test_images_without_a_hash(tmp_path):
    """Images whose hash is not known are counted, and must be there."""
    root = save(face_dataset(tmp_path / "faces", sha256=[""] * 8), pictures=True)
    assert curate.verify(root).unchecked == 8
    path = Store(root).load().images["path"][3]
    (root / path).unlink()
    assert found(root) == [("image", path, "the file cannot be read: No such file or directory")]


def test_damaged_files(root):
    """A damaged table, version file, HEAD, REDO and image is named each, with what is wrong."""
    image = Store(root).load().images["path"][0]
    table = Store(root).read_version(3).tables["images"]
    for name in (image, table, "versions/000003.json"):
        data = bytearray((root / name).read_bytes())
        data[len(data) // 2] ^= 1
        (root / name).write_bytes(data)
    write_text(root / "HEAD", "000007\n")
    write_text(root / "REDO", "x")
    assert [(kind, file) for kind, file, _ in found(root)] == [
        ("head", "HEAD"),
        ("version", "versions/000003.json"),
        ("redo", "REDO"),
        ("image", image),
    ]
    assert "its content is not what was imported (got hash" in found(root)[3][2]


def test_damaged_table_of_another_version(root):
    """Tables of versions that are not current are compared, too."""
    table = Store(root).read_version(3).tables["images"]
    (root / table).write_bytes(b"PAR1")
    ((kind, file, detail),) = found(root)
    assert (kind, file) == ("table", table)
    assert detail.startswith("its content is not what was written (got hash ")


def test_forged_table_of_another_version(root):
    """A path that is missing, in a table with the right hash, is a finding."""
    files = VersionFiles(root)
    document = files.read(1)
    table = pd.read_parquet(root / document["tables"]["images"])
    forged = write_table(root, "images", table.assign(path=None))
    files.file(1).unlink()
    files.write(1, document | {"tables": document["tables"] | {"images": forged}})
    assert found(root) == [("table", forged, "it is no table of images: a path is missing")]


def test_missing_version_file(root):
    """A version whose file is gone is found by those that were made from it."""
    (root / "versions" / "000001.json").unlink()
    assert found(root) == [("version", "versions/000001.json", "the file is missing: version 2 was made from it")]


@pytest.mark.parametrize("name", ["clips", "clips of others"])
def test_damaged_images_come_back(dataset, source, name):
    """What `verify` advises works: a missing image comes back with its source, and a file of that name stays."""
    curate.import_voc(dataset, source)
    one, other = (dataset / path for path in Store(dataset).load().images["path"])
    whole = one.read_bytes()
    one.write_bytes(whole[:-9])
    other.unlink()
    source = source.rename(source.with_name(name))
    assert curate.import_voc(dataset, source).notes == ("Put back: 1 image whose file was missing.",)
    assert [file for _, file, _ in found(dataset)] == [one.relative_to(dataset).as_posix()]
    assert "Remove damaged images" in curate.verify(dataset).notes[0]
    one.unlink()
    curate.import_voc(dataset, source)
    assert one.read_bytes() == whole
    assert found(dataset) == []
    assert curate.verify(dataset).notes == ()


def test_pipe_in_place_of_an_image(root):
    """A pipe is not waited for."""
    image = Store(root).load().images["path"][0]
    (root / image).unlink()
    os.mkfifo(root / image)
    assert found(root) == [("image", image, "the file cannot be read: it is no regular file")]


def test_videos(root):
    """Videos are compared like images."""
    (root / "media/videos").mkdir()
    write_text(root / "media/videos/a.mp4", "frames")
    Store(root).commit("add", {}, lambda now: now.replace(videos=video_rows(["a"], sha256="0" * 64)))
    ((kind, file, _),) = found(root)
    assert (kind, file, curate.verify(root).videos) == ("video", "media/videos/a.mp4", 1)


def test_edited_card(root):
    """A card that is another one than at the last commit is a note and no finding: people edit it."""
    write_text(root / "card.yaml", "name: faces\n")
    Store(root).commit("split", {}, lambda now: now.replace(images=now.images.assign(split="val")))
    assert curate.verify(root).notes == ()
    write_text(root / "card.yaml", "name: races\n")
    result = curate.verify(root)
    assert result.findings == ()
    assert result.notes[0].startswith("the card is another one than when version 4 was made")


def test_interruption(root):
    """Ctrl-C ends the work at once, and no thread is left."""

    def interrupt(task, *_):
        if task != "tables":
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        curate.verify(root, progress=interrupt)
    assert threading.active_count() == before


def test_no_dataset(tmp_path):
    """A folder without a dataset is an error."""
    with pytest.raises(StoreError, match="there is no dataset here"):
        curate.verify(tmp_path)


def test_command_line(root, run_main):
    """Damage gives exit code 1 and one document with all findings."""
    assert run_main("verify", root).stdout.startswith("nothing is damaged: 3 versions, 5 tables, 8 images, 0 videos")
    (root / Store(root).load().images["path"][0]).unlink()
    done = run_main("verify", root, "--json")
    assert (done.returncode, len(json.loads(done.stdout)["findings"])) == (1, 1)
    assert "1 damaged file" in run_main("verify", root).stdout
