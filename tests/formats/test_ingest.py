"""Classes at import: order, undeclared names, earlier merges; counts of the card."""

from pathlib import Path

import pytest
from builders import (
    BARE,
    MASK,
    import_one,
    kinds,
    labelimg_folder,
    load,
    problem_of,
    state_of,
)

from curate.commands.classes import drop_class, merge_classes, rename_class
from curate.commands.history import undo
from curate.commands.imports import import_voc
from curate.errors import DataError

# ── classes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def class_names(dataset):
    return list(load(dataset).class_names.values())


def test_classes_alphabetical(dataset, source):
    """By default, classes are in alphabetical order, with ids from 1."""
    import_voc(dataset, source)
    assert load(dataset).class_names == {1: "bare", 2: "mask"}


def test_classes_declared(dataset, source):
    """Declared classes keep their order, also those without boxes."""
    import_voc(dataset, source, classes=["mask", "bad", "bare"])
    assert load(dataset).class_names == {1: "mask", 2: "bad", 3: "bare"}


def test_classes_from_predefined(dataset, source):
    """LabelImg's `predefined_classes.txt` gives the order; other names follow."""
    (source / "predefined_classes.txt").write_text("mask\n\nbad\n")
    import_voc(dataset, source)
    assert class_names(dataset) == ["mask", "bad", "bare"]


def test_classes_from_predefined_in_another_encoding(dataset, source):
    """A class list in UTF-16 is read; in an encoding that is not understood, nothing is imported."""
    (source / "predefined_classes.txt").write_bytes("无口罩\nmask\n".encode("utf-16"))
    import_voc(dataset, source)
    assert class_names(dataset) == ["无口罩", "mask", "bare"]
    (source / "predefined_classes.txt").write_bytes("无口罩\nmask\n".encode("gbk"))
    with pytest.raises(DataError, match="Save the file as UTF-8"):
        import_voc(dataset, source)
    assert load(dataset).class_names == {1: "无口罩", 2: "mask", 3: "bare"}


def test_classes_from_the_card(dataset, source):
    """The card's order takes precedence over `predefined_classes.txt`."""
    (source / "predefined_classes.txt").write_text("bare\nmask\n")
    dataset.mkdir()
    (dataset / "card.yaml").write_text("name: x\nclasses: [mask, bare]\n")
    import_voc(dataset, source)
    assert class_names(dataset) == ["mask", "bare"]


def test_classes_declared_before_the_card(dataset, source):
    """Declared classes take precedence over the card's."""
    dataset.mkdir()
    (dataset / "card.yaml").write_text("name: x\nclasses: [mask, bare]\n")
    import_voc(dataset, source, classes=["bare", "mask"])
    assert class_names(dataset) == ["bare", "mask"]


def test_later_classes_are_appended(dataset, source):
    """New names of a later import are appended; ids stay."""
    import_voc(dataset, source)
    labelimg_folder(source, {"c": [("apple", 1, 2, 30, 40)]})
    import_voc(dataset, source)
    assert load(dataset).class_names == {1: "bare", 2: "mask", 3: "apple"}


def test_undeclared_name_is_quarantined(dataset, source):
    """A box of an undeclared class is quarantined, and its image is incomplete; other boxes are imported."""
    result = import_voc(dataset, source, classes=["mask"])
    problem = problem_of(result, "unknown_class")
    assert (result.boxes, result.quarantined, state_of(dataset, "b.jpg")) == (2, 1, "incomplete")
    assert (Path(problem["file"]).name, problem["object"], problem["action"]) == ("b.xml", 2, "quarantined")
    assert "'bare'" in problem["detail"]


def test_capitals_make_another_class(tmp_path):
    """Class names are case-sensitive."""
    assert import_one(tmp_path, MASK, ("Mask", 1, 2, 30, 40)).classes == {"Mask": 1, "mask": 1}


def test_white_space_makes_no_class(tmp_path):
    """White space around a name does not make another class."""
    result = import_one(tmp_path, MASK, (" mask\n", 1, 2, 30, 40))
    assert (result.classes, kinds(result)) == ({"mask": 2}, ["white_space"])


def test_import_after_merge(dataset, source):
    """A merged class in XML means its target; importing the same XML again changes nothing."""
    import_voc(dataset, source)
    merge_classes(dataset, ["bare"], "mask")
    result = import_voc(dataset, source)
    assert (result.version, result.classes, result.unchanged) == (2, {"mask": 3}, 2)


def test_new_image_after_merge(dataset, source):
    """Boxes of a merged class in a new image join the target, and keep the annotator's name."""
    import_voc(dataset, source)
    merge_classes(dataset, ["bare"], "mask")
    labelimg_folder(source, {"c": [BARE]})
    assert import_voc(dataset, source).classes == {"mask": 4}
    assert (load(dataset).boxes["original_class"] == "bare").sum() == 2


def test_merge_outlives_predefined(dataset, source):
    """A merged class in `predefined_classes.txt` is not added again."""
    (source / "predefined_classes.txt").write_text("bare\nmask\n")
    import_voc(dataset, source)
    merge_classes(dataset, ["bare"], "mask")
    assert import_voc(dataset, source).classes == {"mask": 3}


def test_import_after_rename(dataset, source):
    """The old name of a renamed class in XML means the renamed class."""
    import_voc(dataset, source)
    rename_class(dataset, "bare", "no mask")
    assert import_voc(dataset, source).classes == {"no mask": 1, "mask": 2}


def test_import_after_drop(dataset, source):
    """Boxes of a dropped class are left out and noted; their image stays labelled."""
    import_voc(dataset, source)
    drop_class(dataset, ["bare"])
    result = import_voc(dataset, source)
    assert (result.classes, problem_of(result, "dropped_class")["action"]) == ({"mask": 2}, "noted")
    assert state_of(dataset, "b.jpg") == "labelled"


def test_import_after_undone_merge(dataset, source):
    """After `undo` of a merge, an import finds the classes of before."""
    import_voc(dataset, source)
    merge_classes(dataset, ["bare"], "mask")
    undo(dataset)
    assert import_voc(dataset, source).classes == {"bare": 1, "mask": 2}


# ── card ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_card_counts_that_fit(tmp_path, dataset, source):
    """There is no note if the counts equal the card's."""
    card = tmp_path / "card.yaml"
    card.write_text(
        "name: x\nexpected: {images: 2, boxes: 3, repaired: 0, quarantined: 0, classes: {mask: 2, bare: 1}}\n"
    )
    assert import_voc(dataset, source, card=card).problems == ()


def test_card_counts_that_differ(tmp_path, dataset, source):
    """Every count that differs is noted with both numbers."""
    card = tmp_path / "card.yaml"
    card.write_text("name: x\nexpected: {images: 3, boxes: 3, classes: {mask: 4, bad: 1}}\n")
    result = import_voc(dataset, source, card=card)
    details = [one["detail"] for one in result.problems if one["kind"] == "card_count"]
    assert details == [
        "images: 2, the card says 3",
        "mask boxes: 2, the card says 4",
        "bad boxes: 0, the card says 1",
        "bare boxes: 1, the card says 0",
    ]
    assert len(result.notes) == 4


def test_card_is_named_where_it_is(tmp_path, dataset, source):
    """A note about a count names the card's file."""
    card = tmp_path / "my-card.yaml"
    card.write_text("name: x\nexpected: {images: 3}\n")
    assert Path(problem_of(import_voc(dataset, source, card=card), "card_count")["file"]) == card


def test_mended_card_forgets_its_note(tmp_path, dataset, source):
    """After the card is corrected, its note is gone."""
    card = tmp_path / "card.yaml"
    card.write_text("name: x\nexpected: {images: 3}\n")
    import_voc(dataset, source, card=card)
    card.write_text("name: x\nexpected: {images: 2}\n")
    import_voc(dataset, source, card=card)
    assert load(dataset).problems["kind"].tolist() == []


def test_card_that_is_not_there(tmp_path, dataset, source):
    """A missing card is an error if it was given."""
    with pytest.raises(DataError, match="no-card"):
        import_voc(dataset, source, card=tmp_path / "no-card.yaml")
