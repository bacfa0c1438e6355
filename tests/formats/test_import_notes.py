"""Sentences at the end of an import."""

import pytest
from builders import BARE, MASK, import_one, labelimg_folder, read_versions, write_image

import curate
from curate.errors import CurateError, UsageError

LOST = ("mask", "nan", 6, 25, 36)


def test_lost_box(tmp_path):
    """One sentence has the count of lost boxes, the other boxes that this costs, and the file."""
    (note,) = import_one(tmp_path, MASK, BARE, LOST).notes
    assert note.startswith("Incomplete: 1 image with 2 boxes, left out of training, evaluation, split and stats")
    assert "1 other box could not be taken (a.xml)" in note


def test_only_box_is_lost(tmp_path):
    """Where there are no other boxes, the sentence speaks of none."""
    (note,) = import_one(tmp_path, LOST).notes
    assert "1 image, left out" in note
    assert "because 1 box could not be taken" in note


def test_many_lost_boxes(tmp_path, dataset):
    """Many are counted in the same sentence, with the first files."""
    folder = labelimg_folder(tmp_path / "clips", {stem: [MASK, LOST, LOST] for stem in "abcdef"})
    (note,) = curate.import_voc(dataset, folder).notes
    assert "6 images with 6 boxes" in note
    assert "12 other boxes could not be taken (a.xml, b.xml, c.xml, …)" in note


def test_class_that_is_not_allowed(tmp_path, dataset, source):
    """Boxes of classes that are not allowed are counted, too."""
    (note,) = curate.import_voc(dataset, source, classes=["mask"]).notes
    assert "1 image with 1 box," in note
    assert "1 other box could not be taken (b.xml)" in note


def test_unreadable_file(tmp_path, dataset, source):
    """An image whose annotations cannot be read is counted, without boxes."""
    (source / "a.xml").write_bytes(b"<annotation>")
    (note,) = curate.import_voc(dataset, source).notes
    assert note.startswith("Incomplete: 1 image, left out")
    assert "the annotations have faults (a.xml)" in note


def test_widerface(tmp_path, dataset):
    """Every format has the sentence."""
    write_image(tmp_path / "faces" / "images" / "a.jpg")
    (tmp_path / "faces" / "label.txt").write_text("# a.jpg\n5 6 20 30\n5 6 nan 30\n")
    (note,) = curate.import_widerface(dataset, tmp_path / "faces").notes
    assert "1 image with 1 box," in note
    assert "1 other box could not be taken (label.txt)" in note


def test_nothing_lost(tmp_path):
    """There is no sentence about repaired boxes, clicks and notes."""
    assert import_one(tmp_path, MASK, ("mask", 5, 6, 5, 6), ("mask", 99, 36, 6, 6)).notes == ()


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def names_folder(tmp_path, counts):
    """A source with so many boxes of each class."""
    names = [name for name, number in counts.items() for _ in range(number)]
    objects = [(name, 1 + place % 60, place // 60, 3 + place % 60, 9) for place, name in enumerate(names)]
    return labelimg_folder(tmp_path / "names", {"a": objects})


def similar(tmp_path, counts):
    """The sentences about similar names after an import."""
    notes = curate.import_voc(tmp_path / "named", names_folder(tmp_path, counts)).notes
    return [note for note in notes if "merge-classes" in note]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Raccoon", "raccoon"),
        ("no mask", "no_mask"),
        ("no-mask", "nomask"),
        ("mask.", "mask"),
        ("ｍask", "mask"),
        ("mask\u2003x", "mask x"),  # another space; those that are not seen are taken out before
        ("mask/", "mask"),
        ("(mask)", "mask"),
        ("no\u2013mask", "no mask"),
        ("A", "a"),
    ],
)
@pytest.mark.parametrize("number", [1, 30])
def test_names_that_differ_in_spelling_only(tmp_path, one, other, number):
    """Case, spaces, hyphens and punctuation alone are always named, however many boxes there are."""
    (note,) = similar(tmp_path, {one: number, other: 31})
    assert f"{one!r} ({number} box" in note
    assert f"--into {other!r}" in note or f"--into {other}" in note


@pytest.mark.parametrize(
    ("rare", "usual"),
    [
        ("persond", "person"),
        ("racoon", "raccoon"),
        ("preson", "person"),
        ("helmat", "helmet"),
        ("persons", "person"),
        ("cars", "car"),
        ("bus", "buses"),
        ("maks", "mask"),
        ("dgo", "dog"),
    ],
)
def test_misspelt_names(tmp_path, rare, usual):
    """A rare class one letter from a usual one, or its plural, is named with the command that joins them."""
    (note,) = similar(tmp_path, {rare: 1, usual: 40})
    assert f"merge-classes {tmp_path / 'named'} {rare} --into {usual}`" in note


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("class1", "class2"),
        ("person", "person1"),
        ("mask", "no_mask"),
        ("with_mask", "without_mask"),
        ("cat", "car"),
        ("left", "right"),
        ("front left", "front right"),
        ("M1.5", "M15"),
        ("c", "c#"),
        ("dig", "dog"),
    ],
)
def test_names_that_are_meant(tmp_path, one, other):
    """Numbered classes, opposites and short words are no misspelt names."""
    assert similar(tmp_path, {one: 1, other: 40}) == []


@pytest.mark.parametrize(
    "counts", [{"kitten": 20, "mitten": 40}, {"kitten": 4, "mitten": 40}, {"maske": 3, "mask": 40}]
)
def test_frequent_classes_are_meant(tmp_path, counts):
    """Two classes with boxes enough are both meant, and of short names a few are enough."""
    assert similar(tmp_path, counts) == []


def test_small_sets(tmp_path):
    """A few boxes are enough to compare longer names."""
    assert len(similar(tmp_path, {"persond": 1, "person": 2})) == 1


def test_name_that_the_dataset_has(tmp_path, dataset):
    """Names are compared with the classes of the dataset, too; after merging them, nothing is left to say."""
    curate.import_voc(dataset, labelimg_folder(tmp_path / "one", {"a": [("raccoon", *MASK[1:])] * 1}))
    more = labelimg_folder(tmp_path / "two", {"b": [("Raccoon", *MASK[1:])]})
    assert any("merge-classes" in note for note in curate.import_voc(dataset, more).notes)
    curate.merge_classes(dataset, ["Raccoon"], "raccoon")
    assert curate.import_voc(dataset, more).notes == ()


def test_several_similar_names(tmp_path):
    """A name that is like several is named once, with the one that has most boxes."""
    notes = similar(tmp_path, {"racoon": 1, "Raccoon": 3, "raccoon": 40})
    assert [note.split("`")[1].split()[-3:] for note in notes] == [
        ["Raccoon", "--into", "raccoon"],
        ["racoon", "--into", "raccoon"],
    ]


def test_other_imports_say_nothing(tmp_path, dataset):
    """Classes that an import does not have are not compared again."""
    curate.import_voc(dataset, names_folder(tmp_path, {"Raccoon": 1, "raccoon": 2}))
    assert curate.import_voc(dataset, labelimg_folder(tmp_path / "two", {"c": [MASK]})).notes == ()


def test_many_similar_names(tmp_path):
    """The first few are named, the others counted."""
    notes = curate.import_voc(
        tmp_path / "named", names_folder(tmp_path, {name: 1 for word in "abcdefg" for name in (word, word.upper())})
    ).notes
    assert (len(notes), notes[-1]) == (6, "Similar names: 2 more pairs of classes.")


def test_misspelt_among_allowed_classes(tmp_path, dataset):
    """A class that is not allowed, one letter from an allowed one, is asked for; others are not."""
    folder = names_folder(tmp_path, {"person": 3, "helmets": 2, "tree": 1})
    notes = curate.import_voc(dataset, folder, classes=["person", "helmet"]).notes
    asked = [note for note in notes if "did you mean" in note]
    assert asked == ["The class 'helmets' (2 boxes) is not allowed; did you mean 'helmet'?"]


def test_no_allowed_class(tmp_path, dataset):
    """If no box has an allowed class, nothing is imported, and the error names the nearest class."""
    folder = names_folder(tmp_path, {"raccoon": 3})
    with pytest.raises(UsageError, match=r"--classes: no box has an allowed class .*Did you mean 'raccoon'") as caught:
        curate.import_voc(dataset, folder, classes=["racoon"])
    assert "'raccoon'; expected one of racoon" in str(caught.value)
    assert read_versions(dataset) == []


def test_no_class_of_the_card(tmp_path, dataset):
    """The classes of a card are named as the card's."""
    dataset.mkdir()
    (dataset / "card.yaml").write_text("name: x\nclasses: [racoon]\n")
    with pytest.raises(CurateError, match=r"card\.yaml: no box has an allowed class"):
        curate.import_voc(dataset, names_folder(tmp_path, {"raccoon": 3}))


def test_allowed_classes_without_boxes(tmp_path, dataset):
    """Images without boxes are imported, whatever the allowed classes."""
    assert curate.import_voc(dataset, labelimg_folder(tmp_path / "one", {"a": []}), classes=["racoon"]).images == 1
