"""Versions on disk: concurrent commits, killed processes, history and undo."""

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from committing import add_an_image, new_class
from repository_paths import SUPPORT
from sample_datasets import build_dataset, face_dataset, save, set_column, video_rows

from curate import __version__
from curate.columns import TABLES
from curate.dataset import Dataset
from curate.errors import StoreError
from curate.files import temporary_name
from curate.store import Store
from curate.table_files import write_table
from curate.versions import VersionFiles

COMMITTING = SUPPORT / "committing.py"


@pytest.fixture
def root(tmp_path):
    """A dataset folder with three versions: built, split, and split differently."""
    root = save(face_dataset(tmp_path / "faces"))
    set_column(root, "split", ["train"] * 8)
    set_column(root, "split", ["val"] * 8)
    return root


def unchanged(dataset):
    """A change that changes nothing."""
    return dataset


def add_class(now):
    """A change that adds a class with the next id."""
    return now.replace(classes=(*now.classes, new_class(now.next_ids.class_)))


def splits(root, version=None):
    """The splits of a version's images."""
    return set(Store(root).load(version).images["split"].dropna())


# ── reading and writing ──────────────────────────────────────────────────────────────────────────────────────────


def test_written_then_read(tmp_path):
    """A loaded version equals the committed one, including types."""
    dataset = face_dataset(tmp_path / "d", video_id=["v1", None] * 4, timestamp_s=[0.5] * 8, frame_index=[3, None] * 4)
    save(dataset)
    loaded = Store(dataset.root).load()
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(dataset, name))
    assert (loaded.classes, loaded.next_ids, loaded.root) == (dataset.classes, dataset.next_ids, dataset.root)


def test_files_of_a_dataset(root):
    """HEAD is the zero-padded number; every version has its file; tables are Parquet."""
    assert (root / "HEAD").read_text().strip() == "000003"
    assert sorted(file.name for file in (root / "versions").iterdir()) == ["000001.json", "000002.json", "000003.json"]
    assert {file.suffix for file in (root / "tables").iterdir()} == {".parquet"}


def test_version_file(tmp_path):
    """A version file has operation, arguments, parent, time, tool version, classes, counts and tables."""
    root = save(build_dataset(tmp_path / "d", [[("with_mask", (0, 0, 9, 9))], []], classes=("with_mask", "bare")))
    Store(root).commit("widen", {"by": Path("x"), "names": ("a",)}, add_class)
    entry = json.loads((root / "versions" / "000002.json").read_text())
    taken = entry.pop("time")
    assert len(entry.pop("checksum")) == 20
    tables = entry.pop("tables")
    entry.pop("next_ids")
    counts = {"images": 2, "boxes": 1, "classes": {"with_mask": 1, "bare": 0}}
    assert entry == {
        "version": 2,
        "operation": "widen",
        "arguments": {"by": "x", "names": ["a"]},
        "parent": 1,
        "tool_version": __version__,
        "classes": [{"id": 1, "name": "with_mask"}, {"id": 2, "name": "bare"}, {"id": 3, "name": "class 3"}],
        "aliases": {},
        "counts": {"before": counts, "after": counts | {"classes": counts["classes"] | {"class 3": 0}}},
        "replaces": None,
        "card": None,
    }
    assert pd.Timestamp(taken).utcoffset().total_seconds() == 0
    assert tables.keys() == {"images", "boxes", "problems"}
    assert all(pd.read_parquet(root / file) is not None for file in tables.values())


def test_tables_that_did_not_change_are_shared(root):
    """A version writes only the tables that it changed."""
    older, newer = (Store(root).read_version(number).tables for number in (1, 2))
    assert older["boxes"] == newer["boxes"]
    assert older["images"] != newer["images"]


def test_tables_are_named_by_content(root):
    """Equal content gets the same file: alternating between two states adds no table."""
    before = sorted((root / "tables").iterdir())
    set_column(root, "split", ["train"] * 8)
    assert (sorted((root / "tables").iterdir()), Store(root).head()) == (before, 4)


def test_change_that_changes_nothing(root):
    """No version is made if the change returns the same or an equal dataset."""
    assert Store(root).commit("nothing", {}, unchanged)[0] == 3
    set_column(root, "split", ["val"] * 8)
    assert (Store(root).head(), len(list((root / "versions").iterdir()))) == (3, 3)


def test_failing_change_leaves_no_trace(root):
    """A change that raises makes no version and no table, and later commits work."""
    files = sorted(root.rglob("*"))
    with pytest.raises(ZeroDivisionError):
        Store(root).commit("fail", {}, lambda _: 1 / 0)
    assert sorted(root.rglob("*")) == files
    assert Store(root).commit("widen", {}, add_class)[0] == 4


def test_older_version(root):
    """Every version can be loaded, not only the current one."""
    assert [splits(root, version) for version in (1, 2, 3)] == [set(), {"train"}, {"val"}]


def test_no_such_version(root):
    """A missing version is an error that lists the existing ones."""
    with pytest.raises(StoreError, match=r"there is no version 9 \(expected one of 1, 2, 3\)"):
        Store(root).load(9)


@pytest.mark.parametrize("question", [Store.head, Store.load, Store.undo, Store.history, lambda s: s.load(0)])
def test_no_dataset(tmp_path, question):
    """A folder without a dataset is an error, and no dataset is created."""
    with pytest.raises(StoreError, match="there is no dataset here"):
        question(Store(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_dataset_in_the_place_of_a_file(tmp_path):
    """A file in place of the dataset folder is an error of one line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the dataset cannot be written"):
        Store(tmp_path / "file").commit("build", {}, add_class)


def test_nothing_committed_to_nothing(tmp_path):
    """An empty dataset that stays empty gets no version."""
    store = Store(tmp_path / "d")
    assert store.commit("nothing", {}, unchanged)[0] == 0
    assert not store.exists()


# ── undo and history ─────────────────────────────────────────────────────────────────────────────────────────────


def test_undo_deletes_nothing(root):
    """Undo moves HEAD to the parent, remembers the version that it left, and leaves every other file where it is."""
    before = sorted(root.rglob("*"))
    assert Store(root).undo() == (2, 3)
    assert (sorted(root.rglob("*")), splits(root)) == (sorted([*before, root / "REDO"]), {"train"})


def test_undo_to_the_empty_version(root):
    """The first version can be undone: the dataset is empty then."""
    for _ in range(3):
        Store(root).undo()
    assert (Store(root).head(), len(Store(root).load().images), Store(root).history()) == (0, 0, [])


def test_undo_of_nothing(root):
    """Undo of the empty version is an error."""
    for _ in range(3):
        Store(root).undo()
    with pytest.raises(StoreError, match="there is nothing to undo"):
        Store(root).undo()


def test_commit_after_undo(root):
    """A commit after undo gets a new number, with the current version as parent."""
    Store(root).undo()
    version, _ = Store(root).commit("widen", {}, add_class)
    assert (version, Store(root).read_version(version).parent) == (4, 2)
    assert [entry.version for entry in Store(root).history()] == [4, 2, 1]
    assert splits(root, 3) == {"val"}


def test_ids_are_never_used_twice(root):
    """Ids of images, boxes and classes of an undone version are not given again."""
    store = Store(root)
    store.commit("add", {}, add_an_image("new.png"))
    _, first = store.commit("widen", {}, add_class)
    store.undo()
    store.undo()
    store.commit("add", {}, add_an_image("other.png"))
    _, second = store.commit("widen", {}, add_class)
    assert first.classes[-1].id == 4
    assert second.classes[-1].id == 5
    assert (first.images["image_id"].max(), second.images["image_id"].max()) == (9, 10)
    assert (first.boxes["box_id"].max(), second.boxes["box_id"].max()) == (12, 13)


def test_ids_after_undo_to_nothing(root):
    """Ids increase also after undoing to the empty version."""
    for _ in range(3):
        Store(root).undo()
    _, dataset = Store(root).commit("widen", {}, add_class)
    assert dataset.classes == ((4, "class 4"),)


def test_check_out_goes_to_any_version(root):
    """An undone version can be made current again."""
    Store(root).undo()
    Store(root).check_out(3)
    assert splits(root) == {"val"}
    with pytest.raises(StoreError, match="there is no version 7"):
        Store(root).check_out(7)
    assert Store(root).head() == 3


def test_redo_goes_to_the_version_that_undo_left(root):
    """As many redos as undos lead back, one version at a time."""
    for _ in range(3):
        Store(root).undo()
    assert [Store(root).redo() for _ in range(3)] == [1, 2, 3]
    assert splits(root) == {"val"}


@pytest.mark.parametrize("undos", [0, 1])
def test_redo_of_nothing(root, undos):
    """Without an undo, and after all were redone, there is nothing to redo, and HEAD stays."""
    for _ in range(undos):
        Store(root).undo()
        Store(root).redo()
    with pytest.raises(StoreError, match=r"nothing to redo \(got version 3;.*`curate log \S+ --all` lists all"):
        Store(root).redo()
    assert Store(root).head() == 3


def test_redo_after_a_commit(root):
    """A commit after an undo begins another line; the one that was left stays reachable by its number."""
    Store(root).undo()
    set_column(root, "split", ["test"] * 8)
    with pytest.raises(StoreError, match="there is nothing to redo"):
        Store(root).redo()
    assert Store(root).check_out(3) == 4
    assert splits(root) == {"val"}


def test_redo_keeps_to_the_line_that_was_left_last(root):
    """With two lines behind a version, redo takes the one that the last undo came from, older or newer."""
    Store(root).undo()
    set_column(root, "split", ["test"] * 8)  # version 4 beside 3
    Store(root).undo()
    assert Store(root).redo() == 4
    Store(root).check_out(3)
    Store(root).undo()
    assert Store(root).redo() == 3


def test_redo_after_checking_out_an_earlier_version(root):
    """Going back by number can be redone like undos, also after further undos."""
    Store(root).check_out(2)
    Store(root).undo()
    assert [Store(root).redo(), Store(root).redo()] == [2, 3]


def test_undo_from_a_version_that_was_checked_out(root):
    """Undo goes to the parent of the version that was checked out."""
    Store(root).undo()
    set_column(root, "split", ["test"] * 8)
    Store(root).check_out(3)
    assert Store(root).undo() == (2, 3)


def test_check_out_of_the_current_version(root):
    """It changes nothing."""
    assert (Store(root).check_out(3), Store(root).head()) == (3, 3)


def test_check_out_of_the_empty_version(root):
    """Version 0 can be checked out, and redo leads back."""
    Store(root).check_out(0)
    assert (len(Store(root).load().images), Store(root).redo()) == (0, 1)


@pytest.mark.parametrize("number", [4, -1, 10**12])
def test_check_out_of_no_version(root, number):
    """A number without a version is refused, and HEAD stays."""
    with pytest.raises(StoreError, match=rf"there is no version {number} \(expected one of 1, 2, 3\)"):
        Store(root).check_out(number)
    assert Store(root).head() == 3


def test_check_out_of_a_version_without_its_tables(root):
    """A version whose table is missing does not become current."""
    (root / Store(root).read_version(2).tables["images"]).unlink()
    with pytest.raises(StoreError, match=r"tables/images-\w+.parquet: a table of version 2 is missing"):
        Store(root).check_out(2)
    assert splits(root) == {"val"}


def test_all_versions(root):
    """All versions are listed, also those that an undo left; the history has those that led to the current one."""
    Store(root).undo()
    set_column(root, "split", ["test"] * 8)
    assert [entry.version for entry in Store(root).all_versions()] == [4, 3, 2, 1]
    assert [entry.version for entry in Store(root).history()] == [4, 2, 1]


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff\xfe", b"000099", b"-1", b"000001"])
def test_damaged_mark_of_redo(root, content):
    """With a damaged REDO there is nothing to redo; undo works, and so does the redo after it."""
    (root / "REDO").write_bytes(content)
    with pytest.raises(StoreError, match="there is nothing to redo"):
        Store(root).redo()
    Store(root).undo()
    assert Store(root).redo() == 3


def test_undo_that_is_cut_off(root, monkeypatch):
    """A kill between the mark for redo and HEAD leaves the current version, and undo and redo work as before."""
    with monkeypatch.context() as patch:
        patch.setattr(VersionFiles, "set_head", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Store(root).undo()
    assert Store(root).head() == 3
    with pytest.raises(StoreError, match="there is nothing to redo"):
        Store(root).redo()
    assert (Store(root).undo(), Store(root).redo()) == ((2, 3), 3)


def test_undo_beside_a_damaged_version_file(root):
    """A version file that cannot be read, on the way that redo would go, does not stop undo."""
    set_column(root, "split", ["test"] * 8)
    Store(root).undo()
    (root / "versions" / "000004.json").write_text("{")
    assert Store(root).undo() == (2, 3)
    assert Store(root).redo() == 3


def test_four_processes_undo_and_redo(root):
    """Undo and redo hold the lock: whatever the order, HEAD names a version and nothing is lost."""
    script = (
        "import sys; from curate.store import Store; from curate.errors import StoreError; store = Store(sys.argv[1])\n"
        "for _ in range(5):\n"
        "    for move in (store.undo, store.redo):\n"
        "        try: move()\n"
        "        except StoreError as error: assert 'there is nothing to' in str(error)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, root]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert Store(root).head() in range(4)
    assert [entry.version for entry in Store(root).all_versions()] == [3, 2, 1]


# ── damage ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_version_without_head(root):
    """A version file that HEAD does not name is not current, and its number is not used again."""
    (root / "HEAD").write_text("000002\n")
    assert splits(root) == {"train"}
    assert Store(root).commit("widen", {}, add_class)[0] == 4


def test_first_version_without_head(tmp_path):
    """If the first commit was killed before it wrote HEAD, its version is current."""
    root = save(face_dataset(tmp_path / "d"))
    (root / "HEAD").unlink()
    assert len(Store(root).load().images) == 8


@pytest.mark.parametrize(
    "content", [None, b"", b"\n", b"rubbish", b"\xff\xfe\x00", b"000099", b"-1", b"2.5", b"1", b"3"]
)
def test_head_that_cannot_be_read(root, content):
    """With a missing or damaged HEAD nobody knows which version is current: an error, until one is checked out."""
    (root / "HEAD").unlink()
    if content is not None:
        (root / "HEAD").write_bytes(content)
    for question in (Store.load, Store.undo, Store.redo, lambda store: store.commit("widen", {}, add_class)):
        with pytest.raises(StoreError, match=r"HEAD: the file is .*which version is current .*`curate checkout .* N`"):
            question(Store(root))
    assert [entry.version for entry in Store(root).all_versions()] == [3, 2, 1]
    assert Store(root).check_out(2) is None
    assert splits(root) == {"train"}


def test_head_of_older_versions(root):
    """A HEAD without a checksum is read."""
    (root / "HEAD").write_text("000002\n")
    assert splits(root) == {"train"}


def test_redo_in_place_of_head(root):
    """Their checksums depend on their names: a copy of one does not pass for the other."""
    Store(root).undo()
    (root / "HEAD").write_bytes((root / "REDO").read_bytes())
    with pytest.raises(StoreError, match="which version is current is not known"):
        Store(root).head()


@pytest.mark.parametrize("name", ["HEAD", "REDO"])
def test_every_flipped_bit_of_a_number_is_seen(root, name):
    """No flipped bit of HEAD makes another version current, and none of REDO leads to another one."""
    for number in range(20):
        set_column(root, "split", [str(number)] * 8)
    for _ in range(8):
        Store(root).undo()
    whole = (root / name).read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        (root / name).write_bytes(damaged)
        with contextlib.suppress(StoreError):
            assert (Store(root).head() if name == "HEAD" else Store(root).redo()) == 15 + (name == "REDO")
            assert name == "HEAD" or Store(root).undo() == (15, 16)


def test_half_written_table_of_a_version_to_come(root):
    """A commit rewrites a table that is cut off under its final name."""
    set_column(root, "split", ["test"] * 8)
    table = root / Store(root).read_version(4).tables["images"]
    (root / "HEAD").write_text("000003\n")
    (root / "versions" / "000004.json").unlink()
    table.write_bytes(table.read_bytes()[:100])
    assert splits(root) == {"val"}
    set_column(root, "split", ["test"] * 8)
    assert splits(root) == {"test"}


def test_leftover_temporary_files(root):
    """Temporary files of a killed process are not read, and the next commit removes them."""
    leftovers = [Path(temporary_name(folder)) for folder in (root, root / "versions", root / "tables")]
    for file in leftovers:
        file.write_bytes(b"half")
    assert splits(root) == {"val"}
    Store(root).commit("widen", {}, add_class)
    assert not any(file.exists() for file in leftovers)


def test_temporary_files_of_others(root):
    """Files and folders of the user whose names end with `.tmp` stay, and no commit fails because of them."""
    own = [root / "notes.tmp", root / "HEAD.tmp", root / "tables" / "images.tmp", root / "versions" / ".curate-1.tmp"]
    for file in own:
        file.write_bytes(b"mine")
    (root / "folder.tmp").mkdir()
    (root / "tables" / Path(temporary_name(root)).name).mkdir()
    Store(root).commit("widen", {}, add_class)
    assert {file.read_bytes() for file in own} == {b"mine"}
    assert (root / "folder.tmp").is_dir()


def test_damaged_table_of_the_current_version(root):
    """A damaged table is an error that names it and the remedy; the remedy, undo, works."""
    (root / Store(root).read_version(3).tables["images"]).write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match=r"a table of version 3 cannot be read.*`curate undo .*` goes back to"):
        Store(root).load()
    Store(root).undo()
    assert splits(root) == {"train"}


def test_lost_table_of_the_current_version(root):
    """A missing table is an error that names it."""
    (root / Store(root).read_version(3).tables["images"]).unlink()
    with pytest.raises(StoreError, match=r"tables/images-\w+.parquet: a table of version 3 cannot be read"):
        Store(root).load()


def test_other_table_under_a_name(root):
    """A table is what its name says: other rows, or those of another version, are an error."""
    files = [root / Store(root).read_version(number).tables["images"] for number in (2, 3)]
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(StoreError, match=r"its content is not what was written \(got hash \w{20}; expected \w{20}\)"):
        Store(root).load()


def test_table_that_is_written_again(root):
    """A commit replaces a damaged table of the same content."""
    entry = Store(root).read_version(3)
    (root / entry.tables["images"]).write_bytes(b"")
    Store(root).undo()
    set_column(root, "split", ["val"] * 8)
    assert splits(root) == {"val"}


def test_damaged_version_file(root):
    """A damaged version file is an error that names it."""
    (root / "versions" / "000003.json").write_text("{}")
    with pytest.raises(StoreError, match=r"versions/000003.json: the version file cannot be read"):
        Store(root).load()


def edited(root, number, edit):
    """Edit the document of a version file, without its checksum, as in files of older versions."""
    file = root / "versions" / f"{number:06d}.json"
    document = json.loads(file.read_text())
    del document["checksum"]
    edit(document)
    file.write_text(json.dumps(document))


def test_commit_beside_a_damaged_version_that_was_undone(root):
    """The ids that it gave are not known: nothing is committed until it is restored, or moved away."""
    Store(root).undo()
    (root / "versions" / "000003.json").write_text("{")
    with pytest.raises(StoreError, match=r"000003.json: the version file cannot be read.* move it away to go on"):
        Store(root).commit("widen", {}, add_class)
    (root / "versions" / "000003.json").unlink()
    assert Store(root).commit("widen", {}, add_class)[0] == 3


@pytest.mark.parametrize(
    "change",
    [
        {"parent": 3},
        {"parent": 4},
        {"parent": True},
        {"parent": -1},
        {"parent": None},
        {"parent": 1e400},
        {"version": 2},
        {"operation": None},
        {"arguments": []},
        {"time": "yesterday"},
        {"classes": {}},
        {"classes": [{"id": "1", "name": "a"}]},
        {"classes": [{"id": 1}]},
        {"aliases": {"a": "b"}},
        {"next_ids": {"image": 1, "box": 1}},
        {"next_ids": {"image": 10**30, "box": 1, "class_": 1}},
        {"counts": {"before": {}, "after": {}}},
        {"tables": {}},
        {"tables": {"images": "../images.parquet", "boxes": "/etc/passwd", "problems": "tables/x"}},
        {"replaces": 3},
        {"unheard": 1},
    ],
    ids=str,
)
def test_version_file_of_another_form(root, change):
    """A value that curate would not have written is an error that names the file; no walk is endless."""
    edited(root, 3, lambda document: document.update(change))
    for question in (Store.load, Store.history, Store.undo):
        with pytest.raises(StoreError, match=r"versions/000003.json: the version file cannot be read: "):
            question(Store(root))
    assert Store(root).lineage() == [3]


def test_version_file_of_an_older_version(root):
    """Files without a checksum and the keys that came later are read."""

    def without(document):
        del document["card"], document["replaces"]

    edited(root, 3, without)
    assert splits(root) == {"val"}


def test_version_file_with_other_content(root):
    """Content that is not what was written is an error, where it has the form of what curate writes."""
    file = root / "versions" / "000003.json"
    file.write_text(file.read_text().replace('"set"', '"sat"', 1).replace('"parent": 2', '"parent": 1'))
    with pytest.raises(StoreError, match="its content is not what was written"):
        Store(root).load()


def test_deeply_nested_version_file(root):
    """A document that would take all of the stack is an error."""
    (root / "versions" / "000003.json").write_text("[" * 100_000)
    with pytest.raises(StoreError, match="the version file cannot be read"):
        Store(root).load()


def test_table_that_curate_did_not_write(root):
    """A table with the right name and other columns is an error that names the version."""

    def swap(document):
        document["tables"]["boxes"] = write_table(root, "boxes", pd.DataFrame({"x0": ["a"]}))

    edited(root, 3, swap)
    with pytest.raises(StoreError, match=r"a table of version 3 cannot be read: boxes: column '\w+' is missing"):
        Store(root).load()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("instant", range(7))
def test_disk_that_takes_no_more(root, monkeypatch, number, instant):
    """Whichever write of a commit fails, the error names a file and a remedy, and the dataset is as it was."""
    before = sorted(root.rglob("*"))
    left = iter(range(instant, -1, -1))

    def failing(call):
        def either(*arguments):
            if next(left, 1) == 0:
                raise OSError(number, os.strerror(number))
            return call(*arguments)

        return either

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(os, name, failing(getattr(os, name)))
        with pytest.raises(StoreError, match=rf"^{root}.*: the dataset cannot be written: {os.strerror(number)}\. \w"):
            Store(root).commit("add", {}, add_an_image("new.png"))
    assert not list(root.rglob(".curate-*"))
    assert {file for file in before if file.is_file()} <= set(root.rglob("*"))
    assert splits(root) == {"val"}
    assert Store(root).commit("widen", {}, add_class)[0] in (4, 5)


# ── many processes ───────────────────────────────────────────────────────────────────────────────────────────────


def test_twenty_processes_commit_at_once(tmp_path):
    """Twenty concurrent commits give twenty versions, images and boxes with unique ids."""
    root = save(build_dataset(tmp_path / "d", []))
    subprocess.run([sys.executable, COMMITTING, "together", root, "20"], check=True, timeout=100)
    store = Store(root)
    dataset = store.load()
    assert sorted(dataset.images["path"]) == sorted(f"{number}.png" for number in range(20))
    assert sorted(dataset.images["image_id"]) == sorted(dataset.boxes["box_id"]) == list(range(1, 21))
    assert sorted(entry.arguments["number"] for entry in store.history()[:-1]) == list(range(20))
    assert [entry.version for entry in store.history()] == list(range(21, 0, -1))


def test_twenty_processes_begin_a_dataset(tmp_path):
    """Concurrent first commits create the dataset once, and all are kept."""
    begin = f"""
import sys, os; sys.path.insert(0, {str(COMMITTING.parent)!r})
from committing import new_class  # and all that a commit needs
from curate.store import Store
for number in range(20):
    if os.fork() == 0:
        Store({str(tmp_path / "d")!r}).commit("add", {{}}, lambda now: now.replace(
            classes=(*now.classes, new_class(now.next_ids.class_))))
        os._exit(0)
sys.exit(sum(os.wait()[1] != 0 for _ in range(20)))
"""
    subprocess.run([sys.executable, "-c", begin], check=True, timeout=100)
    assert [entry.id for entry in Store(tmp_path / "d").load().classes] == list(range(1, 21))


def kill_while_committing(root, kills, seed):
    """Repeatedly start a process that commits in a loop, and kill it at a random time."""
    chance = random.Random(seed)
    commits = 0
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, COMMITTING, "forever", root], stdout=subprocess.PIPE)
        process.stdout.read(1)  # it has begun
        time.sleep(chance.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        commits += 1 + len(process.communicate()[0])
        check_whole(root)
    assert commits >= kills


def kill_forks_while_committing(root, kills, seed):
    """The same for hundreds of processes, forked from one that has loaded all modules."""
    chance = random.Random(seed)
    script = (
        f"import sys; sys.path.insert(0, {str(COMMITTING.parent)!r})\n"
        "import os, signal, time\n"
        "from pathlib import Path\n"
        "from committing import commit_forever\n"
        "for line in sys.stdin:\n"
        "    begun, tell = os.pipe()\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        f"        os.dup2(tell, 1); commit_forever(Path({str(root)!r}))\n"
        "    os.read(begun, 1); time.sleep(float(line)); os.kill(child, signal.SIGKILL); os.waitpid(child, 0)\n"
        "    os.close(begun); os.close(tell); sys.stdout.write('x'); sys.stdout.flush()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for _ in range(kills):
            process.stdin.write(f"{chance.random() * 0.1}\n".encode())
            process.stdin.flush()
            assert process.stdout.read(1) == b"x"
            check_whole(root)
        process.stdin.close()


def check_whole(root):
    """Check that the dataset and its whole history load and agree with the version files."""
    store = Store(root)
    dataset = store.load()
    entry = store.read_version(store.head())
    assert entry.counts["after"]["images"] == len(dataset.images)
    assert entry.counts["after"]["boxes"] == len(dataset.boxes)
    assert dataset.images["path"].is_unique
    assert store.load(entry.parent).next_ids.image <= dataset.next_ids.image
    numbers = [entry.version for entry in store.history()]
    assert numbers == sorted(set(numbers), reverse=True)
    with contextlib.suppress(FileNotFoundError):
        assert len((root / "HEAD").read_bytes()) == 24


def test_kill_at_any_instant(tmp_path):
    """A process killed during a commit leaves the old or the new version, and the dataset loads."""
    root = save(build_dataset(tmp_path / "d", []))
    kill_forks_while_committing(root, kills=15, seed=os.getpid())
    version = Store(root).head()
    assert version > 15
    assert Store(root).commit("widen", {}, add_class)[0] > version


@pytest.mark.long
def test_kill_at_hundreds_of_instants(tmp_path):
    """The same for hundreds of processes, killed at any time from their start."""
    kill_forks_while_committing(save(build_dataset(tmp_path / "forks", [])), kills=300, seed=1)
    kill_while_committing(save(build_dataset(tmp_path / "starts", [])), kills=40, seed=2)


def test_kill_between_any_two_calls(tmp_path):
    """A commit killed before any of its renames or syncs leaves a dataset that loads and accepts commits."""
    root, instants = save(face_dataset(tmp_path / "d")), 15
    subprocess.run([sys.executable, COMMITTING, "until", root, str(instants)], check=True, timeout=60)
    found = []
    for instant in range(instants):
        store = Store(tmp_path / f"d-{instant}")
        found.append(len(store.load().images))
        store.commit("add", {}, add_an_image("newer.png"))
        assert len(store.load().images) == found[-1] + 1
    assert found == sorted(found)  # first the old version, then the new one
    assert (found[0], found[-1], set(found)) == (8, 9, {8, 9})


def test_reading_while_another_commits(root):
    """A reader needs no lock: it sees the old version or the new one."""
    process = subprocess.Popen([sys.executable, COMMITTING, "forever", root], stdout=subprocess.PIPE)
    try:
        process.stdout.read(1)
        for _ in range(30):
            assert isinstance(Store(root).load(), Dataset)
    finally:
        process.kill()
        process.communicate()


# ── work with several commits ────────────────────────────────────────────────────────────────────────────────────


def add_video(name):
    """A change that adds a video."""
    return lambda now: now.replace(videos=pd.concat([now.videos, video_rows([name])]))


def test_work_kept_bit_by_bit_is_one_step(root):
    """All commits of one piece of work are one entry of the history and one undo."""
    store = Store(root)
    work = store.begin("fetch", {})
    work.commit(add_video("a"))
    second, dataset = work.commit(add_video("b"))
    assert dataset.videos["video_id"].tolist() == ["a", "b"]
    assert [entry.version for entry in store.history()] == [second, 3, 2, 1]
    assert [entry.version for entry in store.all_versions()] == [second, 3, 2, 1]
    assert store.undo() == (3, second)


def test_work_counts_from_its_beginning(root):
    """The entry's counts before are those from before the whole work."""
    store = Store(root)
    work = store.begin("classes", {})
    work.commit(add_class)
    second, _ = work.commit(add_class)
    counts = store.read_version(second).counts
    assert len(counts["after"]["classes"]) == len(counts["before"]["classes"]) + 2


def test_nothing_of_others_is_replaced(root):
    """After a commit of another process, the next part becomes a version of its own."""
    store = Store(root)
    work = store.begin("fetch", {})
    first, _ = work.commit(add_video("a"))
    other, _ = store.commit("classes", {}, add_class)
    second, _ = work.commit(add_video("b"))
    assert [entry.version for entry in store.history()][:3] == [second, other, first]


def test_work_that_began_with_nothing_replaces_nothing(root):
    """If the first part changes nothing, a later part does not replace the version that was current."""
    store = Store(root)
    work = store.begin("fetch", {})
    assert work.commit(unchanged)[0] == 3
    second, _ = work.commit(add_video("a"))
    assert [entry.version for entry in store.history()][:2] == [second, 3]


def test_a_dataset_without_videos_has_no_table_of_them(root):
    """Versions without a videos table load; the table is written once there is a video."""
    store = Store(root)
    assert "videos" not in store.read_version(3).tables
    assert len(store.load().videos) == 0
    number, _ = store.commit("fetch", {}, add_video("a"))
    assert "videos" in store.read_version(number).tables
    assert store.load().videos["path"].tolist() == ["media/videos/a.mp4"]
