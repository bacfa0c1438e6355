"""`log`, `diff`, `undo`, `redo` and `checkout`."""

import pandas as pd
import pytest
from committing import add_an_image
from sample_datasets import face_dataset, save

import curate
from curate.errors import StoreError
from curate.store import Store


@pytest.fixture
def root(tmp_path):
    """A saved dataset whose rare class was merged."""
    root = save(face_dataset(tmp_path / "faces"))
    curate.merge_classes(root, ["badly_masked"], "without_mask")
    return root


def test_log(root):
    """The log has the documented keys, newest first; the first version has no parent."""
    newest, oldest = curate.log(root).to_json()
    assert pd.Timestamp(newest.pop("time")) >= pd.Timestamp(oldest.pop("time"))
    assert newest == {
        "version": 2,
        "operation": "merge-classes",
        "arguments": {"merges": {"without_mask": ["badly_masked"]}},
        "parent": 1,
        "images": 8,
        "boxes": 11,
        "state": "current",
    }
    assert (oldest["version"], oldest["parent"]) == (1, None)


def test_log_follows_parents(root):
    """Undone versions are not in the log."""
    curate.undo(root)
    curate.drop_class(root, ["badly_masked"])
    assert [(entry.version, entry.parent) for entry in curate.log(root).entries] == [(3, 1), (1, None)]


def test_log_of_all_versions(root):
    """With `all`, the log has undone versions too, and says which are current, past and left."""
    curate.undo(root)
    curate.drop_class(root, ["badly_masked"])
    entries = curate.log(root, all=True).entries
    assert [(entry.version, entry.state) for entry in entries] == [(3, "current"), (2, "left"), (1, "past")]


def test_log_of_the_empty_version(root):
    """A dataset undone to the empty version has an empty log."""
    curate.undo(root)
    curate.undo(root)
    assert curate.log(root).to_json() == []


def test_log_of_the_empty_version_names_the_way_forward(root):
    """If versions were undone, a note says how to list them; the whole list and a new dataset need none."""
    curate.undo(root)
    assert curate.log(root).notes == ()
    curate.undo(root)
    assert curate.log(root).notes == (f"Version 0 is current; `curate log {root} --all` lists the others.",)
    assert curate.log(root, all=True).notes == ()
    assert [entry.state for entry in curate.log(root, all=True).entries] == ["left", "left"]


def test_log_beside_a_damaged_version(root):
    """With `all`, a version file that cannot be read hides no other version: it is how to find one to check out."""
    curate.drop_class(root, ["without_mask"])
    (root / "versions" / "000002.json").write_text("damaged")
    with pytest.raises(StoreError, match=r"000002\.json"):
        curate.log(root)
    assert [(entry.version, entry.state) for entry in curate.log(root, all=True).entries] == [
        (3, "current"),
        (1, "left"),
    ]


def test_diff(root):
    """A merge changes boxes, and adds and removes none."""
    assert curate.diff(root, 1, 2).to_json() == {
        "from": 1,
        "to": 2,
        "classes": {"with_mask": [7, 7], "without_mask": [3, 4], "badly_masked": [1, 0]},
        "images_added": 0,
        "images_removed": 0,
        "boxes_added": 0,
        "boxes_removed": 0,
        "boxes_changed": 1,
    }


def test_diff_of_additions(root):
    """Added images and boxes are counted; in the other direction they are removed."""
    Store(root).commit("add", {}, add_an_image("new.png"))
    forth, back = curate.diff(root, 2, 3), curate.diff(root, 3, 2)
    assert (forth.images_added, forth.boxes_added, forth.images_removed, forth.boxes_removed) == (1, 1, 0, 0)
    assert (back.images_added, back.boxes_added, back.images_removed, back.boxes_removed) == (0, 0, 1, 1)


def test_diff_sees_moved_and_flagged_boxes(root):
    """A box with other corners or flags counts as changed."""
    Store(root).commit("move", {}, lambda now: now.replace(boxes=now.boxes.assign(x0=[11.0, *now.boxes["x0"][1:]])))
    Store(root).commit("flag", {}, lambda now: now.replace(boxes=now.boxes.assign(difficult=True)))
    assert (curate.diff(root, 2, 3).boxes_changed, curate.diff(root, 3, 4).boxes_changed) == (1, 11)


def test_diff_from_nothing(root):
    """Version 0 is the empty dataset: everything is added to it."""
    found = curate.diff(root, 0, 1)
    assert (found.images_added, found.boxes_added, found.classes["with_mask"]) == (8, 11, (0, 7))


def test_diff_with_itself(root):
    """A version does not differ from itself."""
    found = curate.diff(root, 2, 2)
    assert (found.boxes_changed, found.boxes_added, found.images_removed) == (0, 0, 0)


@pytest.mark.parametrize("versions", [(1, 9), (9, 1), (-1, 1)])
def test_diff_of_what_there_is_not(root, versions):
    """A missing version is an error that lists the existing ones."""
    with pytest.raises(StoreError, match=r"there is no version -?\d \(expected one of 1, 2\)"):
        curate.diff(root, *versions)


def test_undo(root):
    """The result has the version that is current now, and the undone one."""
    assert curate.undo(root).to_json() == {"version": 1, "undone": 2}
    assert curate.undo(root).to_json() == {"version": 0, "undone": 1}
    with pytest.raises(StoreError, match="there is nothing to undo"):
        curate.undo(root)


def test_undo_says_the_way_forward(root):
    """The note of an undo is a command that works."""
    (note,) = curate.undo(root).notes
    assert note == f"`curate redo {root}` brings it back."
    assert curate.redo(root).to_json() == {"version": 2}


def test_checkout(root):
    """The result has the current version; the note is a command that goes back."""
    found = curate.checkout(root, 1)
    assert (found.to_json(), curate.log(root).entries[0].version) == ({"version": 1, "before": 2}, 1)
    assert found.notes == (f"`curate checkout {root} 2` goes back.",)
    assert curate.checkout(root, 1).notes == ()


@pytest.mark.parametrize(
    "question",
    [
        curate.log,
        curate.redo,
        lambda d: curate.checkout(d, 0),
        curate.undo,
        lambda d: curate.diff(d, 0, 0),
        curate.stats,
    ],
)
def test_no_dataset(tmp_path, question):
    """A folder without a dataset is an error."""
    with pytest.raises(StoreError, match="there is no dataset here"):
        question(tmp_path)


def test_log_of_a_damaged_dataset(root):
    """With `all`, the log lists what can be read, and says what is missing or damaged."""
    curate.undo(root)
    (root / "HEAD").write_text("x")
    (root / "versions/000002.json").unlink()
    result = curate.log(root, all=True)
    assert [(entry.version, entry.state) for entry in result.entries] == [(1, "left")]
    assert [note.partition(": the file is damaged")[0] for note in result.notes] == [f"{root}/HEAD", f"{root}/REDO"]
    assert curate.checkout(root, 1).before is None
    assert curate.log(root).entries[0].state == "current"
