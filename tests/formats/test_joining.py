"""A second import: more images, corrected XML, XML for frames that had none."""

import shutil
from pathlib import Path

import pytest
from builders import (
    BARE,
    MASK,
    box_rows,
    image_row,
    kinds,
    labelimg_folder,
    load,
    object_xml,
    problem_of,
    read_versions,
    state_of,
    write_image,
    write_xml,
)
from corner_engine import register
from proposing import write_run

from curate.commands.history import undo
from curate.commands.imports import import_voc
from curate.commands.predict import predict
from curate.commands.split import split
from curate.store import Store

# ── images without XML ────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_xml_is_named(tmp_path, dataset):
    """Images without XML are left out, counted and listed."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [MASK], "b": None, "c": None})
    result = import_voc(dataset, folder)
    left = [Path(one["file"]).name for one in result.problems if one["kind"] == "image_without_xml"]
    assert (result.images, left) == (1, ["b.jpg", "c.jpg"])
    assert any("Left out: 2 images without XML" in note for note in result.notes)


def test_with_unlabelled(tmp_path, dataset):
    """With `--with-unlabelled` they are imported as unlabelled, and not listed."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [MASK], "b": None})
    result = import_voc(dataset, folder, with_unlabelled=True)
    assert (result.images, kinds(result), state_of(dataset, "b.jpg")) == (2, [], "unlabelled")


def test_only_unlabelled(tmp_path, dataset):
    """A folder without XML can be imported with `--with-unlabelled`."""
    assert import_voc(dataset, labelimg_folder(tmp_path / "clips", {"a": None}), with_unlabelled=True).images == 1


def test_unlabelled_gets_its_xml(tmp_path, dataset):
    """A frame whose XML is imported later becomes labelled, and keeps id, path, source, video and split."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [MASK], "b": None})
    import_voc(dataset, folder, with_unlabelled=True, video_from="^([ab])")
    Store(dataset).commit(
        "edit", {}, lambda before: before.replace(images=before.images.assign(split="val", timestamp_s=1.5))
    )
    before = image_row(dataset, "b.jpg")
    write_xml(folder / "b.xml", objects=[BARE])
    result = import_voc(dataset, folder)
    assert (result.added, result.updated, result.unchanged) == (0, 1, 1)
    after = image_row(dataset, "b.jpg")
    assert after == {**before, "label_state": "labelled"} | {key: after[key] for key in ("frame_index",)}
    assert box_rows(dataset)[1] == ("b.jpg", *BARE)


def test_note_goes_when_the_xml_comes(tmp_path, dataset):
    """The note about a missing XML is gone once the XML is there."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [MASK], "b": None})
    import_voc(dataset, folder)
    write_xml(folder / "b.xml", objects=[BARE])
    import_voc(dataset, folder)
    assert load(dataset).problems["kind"].tolist() == []


# ── a second import ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_identical_import(dataset, source):
    """Importing the same files again changes nothing and makes no version."""
    import_voc(dataset, source)
    again = import_voc(dataset, source)
    assert (again.version, again.added, again.updated, again.unchanged) == (1, 0, 0, 2)
    assert read_versions(dataset) == [1]


def test_identical_import_with_problems(tmp_path, dataset):
    """The same for a source with faults."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [("mask", 60, 40, 10, 99), ("", 1, 2, 3, 4)], "b": None})
    (folder / "c.xml").write_bytes(b"")
    write_image(folder / "c.jpg")
    first = import_voc(dataset, folder)
    again = import_voc(dataset, folder)
    assert (again.version, again.problems) == (1, first.problems)


def test_identical_import_without_boxes(tmp_path, dataset):
    """The same for a source whose only box is quarantined: the table of boxes is empty."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [("mask", 0, 0, 0, 0)]})
    import_voc(dataset, folder)
    assert import_voc(dataset, folder).version == 1


def test_identical_import_of_nothing(tmp_path, dataset):
    """The same for a source of labelled images without boxes."""
    folder = labelimg_folder(tmp_path / "clips", {"a": []})
    import_voc(dataset, folder)
    assert import_voc(dataset, folder).version == 1


def test_corrected_xml(dataset, source):
    """Corrected XML updates the boxes of its image, and not those of others."""
    import_voc(dataset, source)
    write_xml(source / "a.xml", objects=[("bare", 1, 2, 30, 40)])
    result = import_voc(dataset, source)
    assert (result.version, result.added, result.updated, result.unchanged) == (2, 0, 1, 1)
    assert box_rows(dataset)[0] == ("a.jpg", "bare", 1, 2, 30, 40)
    assert result.boxes == 3


def test_corrected_xml_keeps_the_image(dataset, source):
    """An updated image keeps id, path, source, video and split."""
    import_voc(dataset, source, video_from="^([ab])")
    split(dataset, val=0.5, group_by="none")
    before = image_row(dataset, "a.jpg")
    write_xml(source / "a.xml", objects=[BARE])
    import_voc(dataset, source)
    assert str(image_row(dataset, "a.jpg")) == str(before)


def test_unchanged_boxes_keep_their_ids(dataset, source):
    """If a box is added to XML, the others keep their ids, and it gets a new one."""
    import_voc(dataset, source)
    before = load(dataset).boxes
    write_xml(source / "b.xml", objects=[("mask", 0, 0, 9, 9), BARE, MASK])
    import_voc(dataset, source)
    after = load(dataset).boxes
    assert set(before["box_id"]) < set(after["box_id"])
    assert set(after["box_id"]) - set(before["box_id"]) == {before["box_id"].max() + 1}


def test_removed_box_goes(dataset, source):
    """A box that was removed from XML is removed from the dataset, and its id is not given again."""
    import_voc(dataset, source)
    gone = set(load(dataset).boxes["box_id"])
    write_xml(source / "b.xml", objects=[MASK])
    import_voc(dataset, source)
    write_xml(source / "b.xml", objects=[MASK, BARE])
    import_voc(dataset, source)
    boxes = load(dataset).boxes
    (new,) = set(boxes["box_id"]) - gone
    assert new > max(gone)


def test_changed_flag_is_an_update(dataset, source):
    """A box with a changed flag keeps its id."""
    import_voc(dataset, source)
    before = set(load(dataset).boxes["box_id"])
    write_xml(source / "a.xml", objects=[object_xml(*MASK, difficult="1")])
    assert import_voc(dataset, source).updated == 1
    boxes = load(dataset).boxes
    assert (set(boxes["box_id"]), boxes["difficult"].sum()) == (before, 1)


def test_two_equal_boxes(tmp_path, dataset):
    """An object that was saved twice is one box, also in a second import."""
    folder = labelimg_folder(tmp_path / "clips", {"a": [MASK, MASK]})
    import_voc(dataset, folder)
    assert (import_voc(dataset, folder).version, load(dataset).boxes["box_id"].tolist()) == (1, [1])


def test_verified_later(dataset, source):
    """An image that was verified in LabelImg since is updated, and stays labelled."""
    import_voc(dataset, source)
    write_xml(source / "a.xml", objects=[MASK], verified=True)
    assert import_voc(dataset, source).updated == 1
    assert (image_row(dataset, "a.jpg")["verified"], state_of(dataset)) == (True, "labelled")


def test_further_images(dataset, source):
    """New images are added after the existing ones, which keep their ids."""
    import_voc(dataset, source)
    before = load(dataset).images["image_id"].tolist()
    labelimg_folder(source, {"0": [MASK]})
    result = import_voc(dataset, source)
    assert (result.added, result.unchanged) == (1, 2)
    assert load(dataset).images["image_id"].tolist() == [*before, 3]


def test_images_that_do_not_come_stay(tmp_path, dataset, source):
    """An import of some of the images leaves the others as they are."""
    import_voc(dataset, source)
    (source / "b.xml").unlink()
    (source / "b.jpg").unlink()
    assert import_voc(dataset, source).images == 2


def test_xml_that_does_not_come_takes_no_label(dataset, source):
    """An image that is imported again without its XML keeps its boxes and stays labelled."""
    import_voc(dataset, source)
    (source / "b.xml").unlink()
    result = import_voc(dataset, source, with_unlabelled=True)
    assert (result.version, result.boxes, state_of(dataset, "b.jpg")) == (1, 3, "labelled")


def test_split_of_a_list_does_not_move(tmp_path, dataset):
    """An image with a split keeps it, whatever a list says later."""
    folder = labelimg_folder(tmp_path / "kit", {"a": [MASK]}, xml_in="Annotations", images_in="JPEGImages")
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\n")
    import_voc(dataset, folder)
    (lists / "val.txt").rename(lists / "train.txt")
    import_voc(dataset, folder)
    assert image_row(dataset, "a.jpg")["split"] == "val"


def test_moved_source(tmp_path, dataset, source):
    """Images with the same content in another folder are the same images, and keep their source."""
    import_voc(dataset, source)
    moved = source.rename(tmp_path / "elsewhere")
    result = import_voc(dataset, moved)
    assert (result.added, result.unchanged) == (0, 2)
    assert set(load(dataset).images["source"]) == {"clips"}


def test_renamed_image(dataset, source):
    """An image that was renamed in its source is recognised by its content."""
    import_voc(dataset, source)
    (source / "a.jpg").rename(source / "z.jpg")
    (source / "a.xml").rename(source / "z.xml")
    assert import_voc(dataset, source).added == 0


def test_labelled_in_place(tmp_path, dataset):
    """XML beside the dataset's own images belongs to them; the images are not copied."""
    folder = labelimg_folder(tmp_path / "clips", {"a": None, "b": None})
    import_voc(dataset, folder, with_unlabelled=True)
    inside = dataset / "media" / "images" / "clips"
    write_xml(inside / "b.xml", objects=[MASK])
    result = import_voc(dataset, inside)
    assert (result.added, result.updated, result.images) == (0, 1, 2)
    assert (state_of(dataset, "b.jpg"), state_of(dataset, "a.jpg")) == ("labelled", "unlabelled")


def test_double_content_stays_two_images(tmp_path, dataset):
    """Two files with the same content in a source are two images with their own boxes."""
    folder = tmp_path / "clips"
    for name, row in (("a", MASK), ("b", BARE)):
        write_image(folder / f"{name}.jpg", seed=1)
        write_xml(folder / f"{name}.xml", objects=[row])
    assert import_voc(dataset, folder).images == 2
    assert box_rows(dataset) == [("a.jpg", *MASK), ("b.jpg", *BARE)]
    assert import_voc(dataset, folder).version == 1


def test_double_content_finds_its_own(tmp_path, dataset):
    """XML for the second of two equal images belongs to the second."""
    folder = tmp_path / "clips"
    for name in "ab":
        write_image(folder / f"{name}.jpg", seed=1)
    import_voc(dataset, folder, with_unlabelled=True)
    write_xml(folder / "b.xml", objects=[MASK])
    import_voc(dataset, folder)
    assert box_rows(dataset) == [("b.jpg", *MASK)]


def test_double_content_in_the_dataset_finds_its_own(tmp_path, dataset):
    """The same with XML in another folder and `--images` for the dataset's own folder."""
    folder = tmp_path / "clips"
    for name in "ab":
        write_image(folder / f"{name}.jpg", seed=1)
    import_voc(dataset, folder, with_unlabelled=True)
    write_xml(tmp_path / "xml" / "b.xml", objects=[MASK])
    import_voc(dataset, tmp_path / "xml", images=dataset / "media" / "images" / "clips")
    assert box_rows(dataset) == [("b.jpg", *MASK)]


def test_double_that_comes_later(dataset, source):
    """A second file with the content of an existing image is a new image."""
    import_voc(dataset, source)
    shutil.copy(source / "a.jpg", source / "c.jpg")
    write_xml(source / "c.xml", objects=[BARE])
    result = import_voc(dataset, source)
    assert (result.added, result.unchanged) == (1, 2)
    assert box_rows(dataset)[0] == ("a.jpg", *MASK)


def edit_in_place(source):
    """Write another picture into a.jpg, and a box of it into its XML."""
    other = write_image(source.parent / "other.jpg", 100, 80)
    (source / "a.jpg").write_bytes(other.read_bytes())
    write_xml(source / "a.xml", objects=[("mask", 70, 60, 100, 80)], size=(100, 80))


def test_image_edited_in_place(dataset, source):
    """An image whose file was modified is another image; the first stays as it was, with its boxes."""
    import_voc(dataset, source)
    before = (dataset / image_row(dataset, "a.jpg")["path"]).read_bytes()
    edit_in_place(source)
    result = import_voc(dataset, source)
    assert (result.added, result.updated) == (1, 0)
    assert problem_of(result, "same_name")["action"] == "noted"
    assert (dataset / image_row(dataset, "a.jpg")["path"]).read_bytes() == before
    assert ("a.jpg", *MASK) in box_rows(dataset)


def test_linked_image_edited_in_place(dataset, source):
    """A linked image whose file was modified stays the same image, with its new size."""
    import_voc(dataset, source, link=True)
    edit_in_place(source)
    result = import_voc(dataset, source)
    assert (result.added, result.updated) == (0, 1)
    assert (image_row(dataset, "a.jpg")["width"], image_row(dataset, "a.jpg")["height"]) == (100, 80)


def test_after_undo(dataset, source):
    """An import after `undo` does not give ids of the undone version again."""
    import_voc(dataset, source)
    labelimg_folder(source, {"c": [MASK]})
    import_voc(dataset, source)
    undo(dataset)
    (source / "c.jpg").unlink()
    (source / "c.xml").unlink()
    labelimg_folder(source, {"d": [MASK]})
    import_voc(dataset, source)
    assert image_row(dataset, "d.jpg")["image_id"] == 4


def test_edited_image_is_told(dataset, source):
    """An edited image is another image; a note says that the old one is still in the dataset."""
    import_voc(dataset, source)
    write_image(source / "fresh.jpg", seed=99)
    (source / "fresh.jpg").replace(source / "a.jpg")
    result = import_voc(dataset, source)
    assert (result.images, result.added) == (3, 1)
    assert [one["file"] for one in result.problems if one["kind"] == "same_name"] == [f"{source}/a.jpg"]


def test_card_is_about_its_own_source(tmp_path, dataset, source):
    """Counts are compared with the card only if the dataset has no other source."""
    card = tmp_path / "card.yaml"
    card.write_text("name: x\nexpected: {images: 2}\n")
    assert "card_count" not in kinds(import_voc(dataset, source, card=card))
    more = labelimg_folder(tmp_path / "mine", {"new": [MASK]}, seed=7)
    assert "card_count" not in kinds(import_voc(dataset, more, card=card))


# ── images with proposals ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def proposed(tmp_path, dataset, monkeypatch):
    """A dataset of two images with proposals, and the folder of the images."""
    register(monkeypatch)
    folder = labelimg_folder(tmp_path / "clips", {"a": None, "b": None})
    import_voc(dataset, folder, with_unlabelled=True)
    predict(write_run(tmp_path / "run", [(1, "mask"), (2, "bare")]), dataset, into_dataset=True)
    return folder


def test_xml_replaces_proposals(dataset, proposed):
    """XML saved by a person replaces the proposals of its image, and no others."""
    write_xml(proposed / "a.xml", objects=[BARE])
    result = import_voc(dataset, proposed)
    assert (result.updated, result.boxes, state_of(dataset), state_of(dataset, "b.jpg")) == (
        1,
        1,
        "labelled",
        "proposed",
    )
    assert [row for row in box_rows(dataset) if row[0] == "a.jpg"] == [("a.jpg", *BARE)]


def test_xml_without_objects_replaces_proposals(dataset, proposed):
    """XML without objects replaces proposals too: the image is labelled without boxes."""
    write_xml(proposed / "a.xml", objects=[])
    import_voc(dataset, proposed)
    assert (state_of(dataset), {row[0] for row in box_rows(dataset)}) == ("labelled", {"b.jpg"})


def test_faulty_xml_leaves_no_proposals(dataset, proposed):
    """If a box is quarantined, the image is incomplete, and its proposals are removed."""
    write_xml(proposed / "a.xml", objects=[("mask", 0, 0, 0, 0)])
    import_voc(dataset, proposed)
    assert (state_of(dataset), {row[0] for row in box_rows(dataset)}) == ("incomplete", {"b.jpg"})


def test_unreadable_xml_changes_no_proposal(dataset, proposed):
    """XML that cannot be read leaves the proposals as they are."""
    (proposed / "a.xml").write_bytes(b"<annotation>")
    import_voc(dataset, proposed)
    assert (state_of(dataset), len(box_rows(dataset))) == ("proposed", 4)


def test_images_with_proposals_come_again_without_xml(dataset, proposed):
    """An import of the images without XML leaves their proposals as they are."""
    result = import_voc(dataset, proposed, with_unlabelled=True)
    assert (result.unchanged, state_of(dataset), len(box_rows(dataset))) == (2, "proposed", 4)


def test_split_of_the_dataset_stays(dataset, source):
    """An image that has a split keeps it; that a source says another one is noted once."""
    import_voc(dataset, source, split="train")
    result = import_voc(dataset, source, split="test")
    assert set(load(dataset).images["split"]) == {"train"}
    assert {one["detail"] for one in result.problems} == {"stays in train; the source says test"}
    assert kinds(result) == ["split_conflict", "split_conflict"]
    assert import_voc(dataset, source, split="test").version == result.version
