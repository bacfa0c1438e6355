"""Merging, renaming and dropping classes: counts, aliases, original names, maps and dry runs."""

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_datasets import CLASSES, MEDIUM, build_dataset, face_dataset, save, write_text

import curate
from curate.curation.class_maps import parse_drops, parse_merges, parse_renames
from curate.curation.classes import drop, merge, rename
from curate.dataset import Dataset
from curate.errors import DataError, UsageError
from curate.plain_text import is_clean, shown
from curate.store import Store


@pytest.fixture
def root(tmp_path):
    """A saved dataset: 7 with_mask, 3 without_mask, 1 badly_masked."""
    return save(face_dataset(tmp_path / "faces"))


def head(root):
    """The number of the current version."""
    return Store(root).head()


# ── merge ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_merge_moves_the_boxes():
    """The target gets the boxes of the source, which is removed; no box is lost or moved."""
    before = face_dataset()
    after = merge(before, ["badly_masked"], "without_mask")
    assert after.class_counts() == {"with_mask": 7, "without_mask": 4}
    assert after.boxes.drop(columns="class_id").equals(before.boxes.drop(columns="class_id"))


def test_merge_keeps_what_the_annotator_wrote():
    """`original_class` does not change."""
    after = merge(face_dataset(), ["badly_masked", "with_mask"], "without_mask")
    assert set(after.boxes["original_class"]) == set(CLASSES)


def test_merge_keeps_ids():
    """The other classes keep their ids, with gaps."""
    after = merge(face_dataset(), ["without_mask"], "with_mask")
    assert after.classes == ((1, "with_mask"), (3, "badly_masked"))
    assert after.next_ids.class_ == 4


def test_merge_leaves_an_alias():
    """The name of the source becomes an alias of the target, also over several merges."""
    once = merge(face_dataset(), ["badly_masked"], "without_mask")
    twice = merge(once, ["without_mask"], "with_mask")
    assert (dict(once.aliases), dict(twice.aliases)) == ({"badly_masked": 2}, {"badly_masked": 1, "without_mask": 1})


def test_merge_twice_is_merge_once():
    """Repeating a merge changes nothing."""
    once = merge(face_dataset(), ["badly_masked"], "without_mask")
    assert merge(once, ["badly_masked"], "without_mask") is once


def test_merge_into_another_than_before_is_unknown():
    """A merged class cannot be merged into another one: its boxes are no longer separate."""
    once = merge(face_dataset(), ["badly_masked"], "without_mask")
    with pytest.raises(UsageError, match="unknown class"):
        merge(once, ["badly_masked"], "with_mask")


def test_target_among_the_sources():
    """The target among the sources is ignored; as the only source it is a usage error."""
    both = merge(face_dataset(), ["badly_masked", "without_mask"], "without_mask")
    assert both.class_counts() == {"with_mask": 7, "without_mask": 4}
    with pytest.raises(UsageError, match="no class to merge"):
        merge(face_dataset(), ["without_mask"], "without_mask")


@pytest.mark.parametrize(("sources", "into"), [(["with_maks"], "without_mask"), (["badly_masked"], "with_maks")])
def test_unknown_class(sources, into):
    """An unknown source or target is a usage error that lists the classes and suggests the closest."""
    with pytest.raises(UsageError, match=r"got 'with_maks'; expected one of .*\). Did you mean 'with_mask'\?"):
        merge(face_dataset(), sources, into)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(CLASSES[:-1]), min_size=1))
def test_merge_never_loses_a_box(sources):
    """Any merge keeps all boxes and does not change its argument."""
    before = face_dataset()
    table = before.boxes.copy(deep=True)
    after = merge(before, sources, "badly_masked")
    assert sum(after.class_counts().values()) == sum(before.class_counts().values())
    assert after.class_counts()["badly_masked"] == 1 + sum(before.class_counts()[name] for name in set(sources))
    pd.testing.assert_frame_equal(before.boxes, table)


def test_classes_of_an_empty_dataset():
    """Classes without boxes can be merged, renamed and dropped."""
    empty = build_dataset(images=[])
    assert merge(empty, ["badly_masked"], "with_mask").class_counts() == {"with_mask": 0, "without_mask": 0}
    assert list(rename(empty, {"with_mask": "masked"}).class_counts()) == ["masked", "without_mask", "badly_masked"]
    assert drop(empty, CLASSES).classes == ()


# ── rename and drop ──────────────────────────────────────────────────────────────────────────────────────────────


def test_rename_keeps_id_place_and_boxes():
    """A renamed class keeps its id, position and boxes; its old name becomes an alias."""
    after = rename(face_dataset(), {"without_mask": "bare"})
    assert after.classes == ((1, "with_mask"), (2, "bare"), (3, "badly_masked"))
    assert (after.class_counts()["bare"], dict(after.aliases)) == (3, {"without_mask": 2})
    assert "without_mask" in set(after.boxes["original_class"])


def test_rename_there_and_back():
    """A name that becomes a class again is no longer an alias."""
    after = rename(rename(face_dataset(), {"without_mask": "bare"}), {"bare": "without_mask"})
    assert (after.classes, dict(after.aliases)) == (face_dataset().classes, {"bare": 2})


@pytest.mark.parametrize(
    ("new", "fact"), [("with_mask", "two classes would have the same name"), (" ", "not a class name")]
)
def test_refused_rename(new, fact):
    """An empty name, or the name of another class, is a usage error."""
    with pytest.raises(UsageError, match=fact):
        rename(face_dataset(), {"without_mask": new})


def test_drop_takes_the_boxes_and_leaves_the_images():
    """A dropped class is removed with its boxes; images stay; its name becomes an alias of nothing."""
    after = drop(face_dataset(), ["badly_masked"])
    assert (len(after.images), len(after.boxes), dict(after.aliases)) == (8, 10, {"badly_masked": None})
    assert (after.images["label_state"] == "labelled").all()


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_merge_command(root):
    """The result has the version and the counts before and after."""
    assert curate.merge_classes(root, ["badly_masked"], "without_mask").to_json() == {
        "version": 2,
        "before": {"with_mask": 7, "without_mask": 3, "badly_masked": 1},
        "after": {"with_mask": 7, "without_mask": 4},
    }
    assert Store(root).load().class_counts() == {"with_mask": 7, "without_mask": 4}


def test_undo_brings_the_class_back(root):
    """After `undo` all three classes have their boxes and ids again."""
    curate.merge_classes(root, ["badly_masked"], "without_mask")
    curate.undo(root)
    now = Store(root).load()
    assert (now.class_counts(), now.classes) == (face_dataset().class_counts(), face_dataset().classes)


def test_merge_command_again(root):
    """Repeating a merge makes no version."""
    curate.merge_classes(root, ["badly_masked"], "without_mask")
    again = curate.merge_classes(root, ["badly_masked"], "without_mask")
    assert (again.version, again.before) == (2, again.after)


@pytest.mark.parametrize("command", ["merge", "rename", "drop"])
def test_dry_run(root, command):
    """A dry run returns the counts without version, and changes no file."""
    files = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    result = {
        "merge": lambda: curate.merge_classes(root, ["badly_masked"], "without_mask", dry_run=True),
        "rename": lambda: curate.rename_class(root, "badly_masked", "bad", dry_run=True),
        "drop": lambda: curate.drop_class(root, ["badly_masked"], dry_run=True),
    }[command]()
    assert (result.version, result.before["badly_masked"], "badly_masked" in result.after) == (None, 1, False)
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == files


def test_unknown_class_makes_no_version(root):
    """A merge with one unknown class changes nothing."""
    with pytest.raises(UsageError, match="unknown class"):
        curate.merge_classes(root, ["badly_masked", "nose"], "without_mask")
    assert head(root) == 1


@pytest.mark.parametrize(
    "text",
    ["without_mask: [badly_masked]", "badly_masked: without_mask", "without_mask:\n  - badly_masked\n"],
)
def test_merge_map(root, tmp_path, text):
    """A map lists the sources of each target, or the target of each source."""
    result = curate.merge_classes(root, map=write_text(tmp_path / "map.yaml", text))
    assert result.after == {"with_mask": 7, "without_mask": 4}
    assert Store(root).read_version(2).arguments == {"merges": {"without_mask": ["badly_masked"]}}


def test_merge_map_of_many(root, tmp_path):
    """One map is one version, however many classes it merges."""
    map_ = write_text(tmp_path / "map.yaml", "badly_masked: with_mask\nwithout_mask: with_mask\n")
    assert curate.merge_classes(root, map=map_).after == {"with_mask": 11}
    assert head(root) == 2


def test_rename_and_drop_maps(root, tmp_path):
    """Renames are `old: new` entries, drops a list."""
    renames = write_text(tmp_path / "r.yaml", "with_mask: masked\nwithout_mask: bare\n")
    assert curate.rename_class(root, map=renames).after == {"masked": 7, "bare": 3, "badly_masked": 1}
    drops = write_text(tmp_path / "d.yaml", "- bare\n- badly_masked\n")
    assert curate.drop_class(root, map=drops).after == {"masked": 7}


@pytest.mark.parametrize("text", ["", "- a\n", "a: []\n", "a:\n", "a: [[b]]\n", "a: {b: c}\n", "'': a\n", "just text"])
def test_refused_merge_map(root, tmp_path, text):
    """A malformed map is a usage error that names the file and shows the form with an example."""
    with pytest.raises(UsageError, match=r"map\.yaml.* TARGET: \[SOURCE, \.\.\.\], such as fruit: \[apple, pear\]"):
        curate.merge_classes(root, map=write_text(tmp_path / "map.yaml", text))


@pytest.mark.parametrize(
    ("command", "text", "form"),
    [
        (curate.rename_class, "a: [b]\n", "map.yaml, a: not a rename (got the list ['b']; expected a line OLD: NEW"),
        (curate.rename_class, "- a\n", "not a mapping of class names (got the list ['a']; expected lines OLD: NEW"),
        (curate.drop_class, "a: b\n", "not a list of class names (got a mapping; expected lines - NAME"),
        (curate.drop_class, "- a\n-\n", "map.yaml, entry 2: not a class name (got nothing; expected a line - NAME"),
    ],
)
def test_refused_map_shows_its_form(root, tmp_path, command, text, form):
    """The message names the entry that is wrong, and the form of a line with an example."""
    with pytest.raises(UsageError, match=re.escape(form) + r".*such as"):
        command(root, map=write_text(tmp_path / "map.yaml", text))


def test_names_in_a_map_are_text(tmp_path):
    """Names that YAML would read as truth values, numbers or dates are names."""
    names = ("yes", "no", "off", "0", "1.50", "2024-01-01", "~", "0x10")
    root = save(build_dataset(tmp_path / "d", [[(name, MEDIUM) for name in names]], classes=names))
    map_ = write_text(tmp_path / "map.yaml", "yes: [no, off, 0]\n1.50: 0x10\n2024-01-01: ~\n")
    assert curate.merge_classes(root, map=map_).after == {"yes": 4, "0x10": 2, "~": 2}
    renames = write_text(tmp_path / "r.yaml", "~: null\n")
    assert curate.rename_class(root, map=renames).after == {"yes": 4, "0x10": 2, "null": 2}
    assert curate.drop_class(root, map=write_text(tmp_path / "d.yaml", "[yes, null]")).after == {"0x10": 2}


def test_name_that_is_twice_in_a_map(root, tmp_path):
    """A line that YAML would replace by a later one is an error that names the second."""
    text = "badly_masked: with_mask\nbadly_masked: without_mask\n"
    with pytest.raises(DataError, match=r"map\.yaml, line 2, column 1: the map cannot be read: .* duplicate key"):
        curate.merge_classes(root, map=write_text(tmp_path / "map.yaml", text))


@pytest.mark.parametrize("command", ["merge-classes", "rename-class", "drop-class"])
def test_help_shows_the_form_of_a_map(run_main, command):
    """`--help` shows a line of the map, with an example."""
    out = " ".join(run_main(command, "--help", COLUMNS="80").stdout.split())
    assert re.search(r"YAML file instead of names; lines are (TARGET: \[SOURCE|OLD: NEW|- NAME).*such as", out)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_of_a_map(root, tmp_path, encoding):
    """A map may be in the encodings of class lists; another one is an error that names it."""
    file = tmp_path / "map.yaml"
    file.write_bytes("badly_masked: 口罩\n".encode(encoding))
    assert "口罩" in curate.rename_class(root, map=file, dry_run=True).after
    file.write_bytes("badly_masked: 口罩\n".encode("gbk"))
    with pytest.raises(DataError, match=r"map\.yaml: the encoding of the map is not understood .*UTF-8"):
        curate.rename_class(root, map=file)


@pytest.mark.parametrize("text", ["a: [", "a: b: c"])
def test_map_that_is_no_yaml(root, tmp_path, text):
    """A file that is not YAML is an error of one line."""
    with pytest.raises(DataError, match=r"map\.yaml, line 1, column \d: the map cannot be read"):
        curate.merge_classes(root, map=write_text(tmp_path / "map.yaml", text))


def test_map_that_is_not_there(root, tmp_path):
    """A missing map is an error that names it."""
    with pytest.raises(DataError, match=r"nowhere\.yaml: the map cannot be read"):
        curate.drop_class(root, map=tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    "call",
    [
        lambda root: curate.merge_classes(root),
        lambda root: curate.merge_classes(root, ["badly_masked"]),
        lambda root: curate.merge_classes(root, into="with_mask"),
        lambda root: curate.merge_classes(root, ["badly_masked"], "with_mask", map="m.yaml"),
        lambda root: curate.rename_class(root, "with_mask"),
        lambda root: curate.rename_class(root, "with_mask", "x", map="m.yaml"),
        lambda root: curate.drop_class(root),
        lambda root: curate.drop_class(root, ["with_mask"], map="m.yaml"),
    ],
)
def test_half_said(root, call):
    """Missing and conflicting arguments are usage errors."""
    with pytest.raises(UsageError):
        call(root)
    assert head(root) == 1


def test_parsed_maps():
    """Maps are parsed as target → sources, old → new, names."""
    assert parse_merges({"a": ["b", "c"], "d": "a"}) == {"a": ("b", "c", "d")}
    assert parse_renames({"a": "b"}) == {"a": "b"}
    assert parse_drops(["a"]) == ("a",)


def test_merge_of_a_crowd_of_classes():
    """All classes but one can be merged in one call."""
    names = tuple(f"c{number}" for number in range(30))
    dataset = build_dataset(images=[[(name, MEDIUM) for name in names]], classes=names)
    after = merge(dataset, names[1:], "c0")
    assert (after.class_counts(), len(after.aliases)) == ({"c0": 30}, 29)
    assert isinstance(after, Dataset)


def test_two_classes_swap_their_names():
    """Renames in one map are simultaneous: two classes can swap names."""
    before = face_dataset()
    after = rename(before, {"with_mask": "without_mask", "without_mask": "with_mask"})
    ids = {name: id_ for id_, name in before.class_names.items()}
    assert after.class_names[ids["with_mask"]] == "without_mask"
    assert after.class_names[ids["without_mask"]] == "with_mask"
    assert dict(after.aliases) == dict(before.aliases)


# ── names of earlier versions ────────────────────────────────────────────────────────────────────────────────────

OLD = "ma\u200bsk\u202e"


@pytest.fixture
def old_root(tmp_path):
    """A saved dataset of an earlier version, with an invisible character in a class name."""
    dataset = face_dataset(tmp_path / "faces")
    classes = [(id_, OLD if name == "with_mask" else name) for id_, name in dataset.classes]
    return save(dataset.replace(classes=classes))


@pytest.mark.parametrize("given", [OLD, shown(OLD)], ids=["as it is", "as it is shown"])
@pytest.mark.parametrize("command", ["rename", "merge", "merge into", "drop"])
def test_old_names_are_repaired(old_root, given, command):
    """A dataset of an earlier version loads, and each of the three commands ends an unclear name."""
    assert curate.stats(old_root).classes[0].name == OLD
    if command == "rename":
        curate.rename_class(old_root, given, "mask")
    elif command == "merge":
        curate.merge_classes(old_root, [given], "without_mask")
        curate.merge_classes(old_root, [given], "without_mask")  # again, as in a pipeline
    elif command == "merge into":
        curate.merge_classes(old_root, ["without_mask", given], given)
        curate.rename_class(old_root, given, "mask")
    else:
        curate.drop_class(old_root, [given])
    after = Store(old_root).load()
    assert all(map(is_clean, after.class_names.values()))
    assert OLD in after.aliases
    assert shown(OLD) not in after.aliases


@pytest.mark.parametrize("new", ["a\x1b[2J", "a\u202e", "a\nb"])
def test_new_names_are_checked(root, new):
    """No class gets a name with an invisible character."""
    with pytest.raises(UsageError, match="not a class name: it has an invisible character"):
        curate.rename_class(root, "with_mask", new)
