"""Versions on disk: commits that lose nothing, kills that break nothing, history and undo."""

import contextlib
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
from curate.store import Store

COMMITTING = SUPPORT / "committing.py"


@pytest.fixture
def root(tmp_path):
    """A dataset folder with three versions: built, split, and split otherwise."""
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
    """The splits that a version's images are in."""
    return set(Store(root).load(version).images["split"].dropna())


# ── reading and writing ──────────────────────────────────────────────────────────────────────────────────────────


def test_written_then_read(tmp_path):
    """What is committed is what is loaded, types and all."""
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
    """A version's file tells operation, arguments, parent, time, tool, classes, counts and tables."""
    root = save(build_dataset(tmp_path / "d", [[("with_mask", (0, 0, 9, 9))], []], classes=("with_mask", "bare")))
    Store(root).commit("widen", {"by": Path("x"), "names": ("a",)}, add_class)
    entry = json.loads((root / "versions" / "000002.json").read_text())
    taken = entry.pop("time")
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
    """The same content again is the same file: going back and forth between two states adds no table."""
    before = sorted((root / "tables").iterdir())
    set_column(root, "split", ["train"] * 8)
    assert (sorted((root / "tables").iterdir()), Store(root).head()) == (before, 4)


def test_change_that_changes_nothing(root):
    """No version is made where nothing changed, be it by the same value or by an equal one."""
    assert Store(root).commit("nothing", {}, unchanged)[0] == 3
    set_column(root, "split", ["val"] * 8)
    assert (Store(root).head(), len(list((root / "versions").iterdir()))) == (3, 3)


def test_failing_change_leaves_no_trace(root):
    """A change that raises makes no version and no table, and the dataset can be committed to afterwards."""
    files = sorted(root.rglob("*"))
    with pytest.raises(ZeroDivisionError):
        Store(root).commit("fail", {}, lambda _: 1 / 0)
    assert sorted(root.rglob("*")) == files
    assert Store(root).commit("widen", {}, add_class)[0] == 4


def test_older_version(root):
    """Every version can be loaded, whatever is current."""
    assert [splits(root, version) for version in (1, 2, 3)] == [set(), {"train"}, {"val"}]


def test_no_such_version(root):
    """A version that is not there is told, with those that are."""
    with pytest.raises(StoreError, match=r"there is no version 9 \(expected one of 1, 2, 3\)"):
        Store(root).load(9)


@pytest.mark.parametrize("question", [Store.head, Store.load, Store.undo, Store.history, lambda s: s.load(0)])
def test_no_dataset(tmp_path, question):
    """A folder without a dataset is told as such, and none is made by asking."""
    with pytest.raises(StoreError, match="there is no dataset here"):
        question(Store(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_dataset_in_the_place_of_a_file(tmp_path):
    """A file where the folder should be is told in one line."""
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
    """Undo moves HEAD to the parent and leaves every file where it is."""
    before = sorted(root.rglob("*"))
    assert Store(root).undo() == (2, 3)
    assert (sorted(root.rglob("*")), splits(root)) == (before, {"train"})


def test_undo_to_the_empty_version(root):
    """The first version can be undone too: the dataset is then empty, and still a dataset."""
    for _ in range(3):
        Store(root).undo()
    assert (Store(root).head(), len(Store(root).load().images), Store(root).history()) == (0, 0, [])


def test_undo_of_nothing(root):
    """When nothing is left to undo, that is told."""
    for _ in range(3):
        Store(root).undo()
    with pytest.raises(StoreError, match="there is nothing to undo"):
        Store(root).undo()


def test_commit_after_undo(root):
    """A commit after undo takes a number of its own, with the current version as parent."""
    Store(root).undo()
    version, _ = Store(root).commit("widen", {}, add_class)
    assert (version, Store(root).read_version(version).parent) == (4, 2)
    assert [entry.version for entry in Store(root).history()] == [4, 2, 1]
    assert splits(root, 3) == {"val"}


def test_ids_are_never_used_twice(root):
    """Ids that an undone version gave out stay taken: of images, boxes and classes."""
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
    """Even from the empty version on, ids go up."""
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


# ── damage ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_version_without_head(root):
    """A version file that HEAD does not name yet is not current, and its number is not taken again."""
    (root / "HEAD").write_text("000002\n")
    assert splits(root) == {"train"}
    assert Store(root).commit("widen", {}, add_class)[0] == 4


def test_first_version_without_head(tmp_path):
    """A dataset whose very first commit died before HEAD was there has that version."""
    root = save(face_dataset(tmp_path / "d"))
    (root / "HEAD").unlink()
    assert len(Store(root).load().images) == 8


@pytest.mark.parametrize("content", [None, b"", b"\n", b"rubbish", b"\xff\xfe\x00", b"000099", b"-1", b"2.5"])
def test_head_that_cannot_be_read(root, content):
    """A HEAD that is gone, cut off or nonsense gives the newest version, and a commit mends it."""
    (root / "HEAD").unlink()
    if content is not None:
        (root / "HEAD").write_bytes(content)
    assert splits(root) == {"val"}
    Store(root).commit("widen", {}, add_class)
    assert (root / "HEAD").read_text() == "000004\n"


def test_version_that_is_cut_off_and_without_head(root):
    """A half-written version file that nothing names is passed over."""
    (root / "HEAD").unlink()
    (root / "versions" / "000003.json").write_text('{"version": 3, "oper')
    assert splits(root) == {"train"}
    assert Store(root).commit("widen", {}, add_class)[0] == 4


def test_half_written_table_of_a_version_to_come(root):
    """A table that was cut off under its final name is written anew by the commit that needs it."""
    set_column(root, "split", ["test"] * 8)
    table = root / Store(root).read_version(4).tables["images"]
    (root / "HEAD").write_text("000003\n")
    (root / "versions" / "000004.json").unlink()
    table.write_bytes(table.read_bytes()[:100])
    assert splits(root) == {"val"}
    set_column(root, "split", ["test"] * 8)
    assert splits(root) == {"test"}


def test_leftover_temporary_files(root):
    """Temporary files of a dead process are never read, and the next commit sweeps them up."""
    leftovers = [root / "HEAD.tmp", root / "versions" / "000004.json.tmp", root / "tables" / "images.tmp"]
    for file in leftovers:
        file.write_bytes(b"half")
    assert splits(root) == {"val"}
    Store(root).commit("widen", {}, add_class)
    assert not any(file.exists() for file in leftovers)


def test_damaged_table_of_the_current_version(root):
    """A table that the disk has damaged is told by name, with the way out; undo is that way."""
    (root / Store(root).read_version(3).tables["images"]).write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match=r"a table of version 3 cannot be read.*`curate undo .*` goes back to"):
        Store(root).load()
    Store(root).undo()
    assert splits(root) == {"train"}


def test_lost_table_of_the_current_version(root):
    """A table that is gone is told by name."""
    (root / Store(root).read_version(3).tables["images"]).unlink()
    with pytest.raises(StoreError, match=r"tables/images-\w+.parquet: a table of version 3 cannot be read"):
        Store(root).load()


def test_damaged_version_file(root):
    """A version file that makes no sense is told by name."""
    (root / "versions" / "000003.json").write_text("{}")
    with pytest.raises(StoreError, match=r"versions/000003.json: the version file cannot be read"):
        Store(root).load()


# ── many processes ───────────────────────────────────────────────────────────────────────────────────────────────


def test_twenty_processes_commit_at_once(tmp_path):
    """Twenty processes that commit at once lose nothing: twenty versions, images, boxes, and no id twice."""
    root = save(build_dataset(tmp_path / "d", []))
    subprocess.run([sys.executable, COMMITTING, "together", root, "20"], check=True, timeout=100)
    store = Store(root)
    dataset = store.load()
    assert sorted(dataset.images["path"]) == sorted(f"{number}.png" for number in range(20))
    assert sorted(dataset.images["image_id"]) == sorted(dataset.boxes["box_id"]) == list(range(1, 21))
    assert sorted(entry.arguments["number"] for entry in store.history()[:-1]) == list(range(20))
    assert [entry.version for entry in store.history()] == list(range(21, 0, -1))


def test_twenty_processes_begin_a_dataset(tmp_path):
    """A dataset that is not there yet is begun by whoever comes first, and nobody's work is lost."""
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
    """Start a process that commits without an end and kill it at some instant, again and again."""
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
    """The same by the hundred: processes that are forked from one with everything loaded, and killed."""
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
    """The dataset loads and is what its version file says, and so is all of its history."""
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
        assert len((root / "HEAD").read_bytes()) == 7


def test_kill_at_any_instant(tmp_path):
    """A process that is killed while it commits leaves a dataset that loads, the old version or the new one."""
    root = save(build_dataset(tmp_path / "d", []))
    kill_forks_while_committing(root, kills=15, seed=os.getpid())
    version = Store(root).head()
    assert version > 15
    assert Store(root).commit("widen", {}, add_class)[0] > version


@pytest.mark.long
def test_kill_at_hundreds_of_instants(tmp_path):
    """The same, killed by the hundred, and from the start of a process on."""
    kill_forks_while_committing(save(build_dataset(tmp_path / "forks", [])), kills=300, seed=1)
    kill_while_committing(save(build_dataset(tmp_path / "starts", [])), kills=40, seed=2)


def test_kill_between_any_two_calls(tmp_path):
    """Whichever of its renames and syncs a commit does not reach any more, what is left loads and takes commits."""
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


# ── work that is kept bit by bit ─────────────────────────────────────────────────────────────────────────────────


def add_video(name):
    """A change that adds a video."""
    return lambda now: now.replace(videos=pd.concat([now.videos, video_rows([name])]))


def test_work_kept_bit_by_bit_is_one_step(root):
    """Commits of one piece of work are one entry of the history and one undo."""
    store = Store(root)
    work = store.begin("fetch", {})
    work.commit(add_video("a"))
    second, dataset = work.commit(add_video("b"))
    assert dataset.videos["video_id"].tolist() == ["a", "b"]
    assert [entry.version for entry in store.history()] == [second, 3, 2, 1]
    assert store.undo() == (3, second)


def test_work_counts_from_its_beginning(root):
    """What the entry says of before is what was there before the whole work."""
    store = Store(root)
    work = store.begin("classes", {})
    work.commit(add_class)
    second, _ = work.commit(add_class)
    counts = store.read_version(second).counts
    assert len(counts["after"]["classes"]) == len(counts["before"]["classes"]) + 2


def test_nothing_of_others_is_replaced(root):
    """When somebody else committed in between, the later part is a version of its own."""
    store = Store(root)
    work = store.begin("fetch", {})
    first, _ = work.commit(add_video("a"))
    other, _ = store.commit("classes", {}, add_class)
    second, _ = work.commit(add_video("b"))
    assert [entry.version for entry in store.history()][:3] == [second, other, first]


def test_work_that_began_with_nothing_replaces_nothing(root):
    """A first part that changes nothing leaves the version of somebody else current, which is not replaced later."""
    store = Store(root)
    work = store.begin("fetch", {})
    assert work.commit(unchanged)[0] == 3
    second, _ = work.commit(add_video("a"))
    assert [entry.version for entry in store.history()][:2] == [second, 3]


def test_a_dataset_without_videos_has_no_table_of_them(root):
    """Versions from before there were videos are read; a table of videos is written once there is one."""
    store = Store(root)
    assert "videos" not in store.read_version(3).tables
    assert len(store.load().videos) == 0
    number, _ = store.commit("fetch", {}, add_video("a"))
    assert "videos" in store.read_version(number).tables
    assert store.load().videos["path"].tolist() == ["media/videos/a.mp4"]
