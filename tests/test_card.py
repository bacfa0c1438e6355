"""The card of a dataset."""

import pytest

from curate.card import Card, read_card
from curate.errors import DataError
from curate.versions import find_card

WHOLE = """
name: faces
about: Faces in the street.
licence: CC0-1.0
sources:
  - {name: a page, url: https://example.org/faces, author: somebody, licence: CC0-1.0, note: as published}
classes: [mask, bare, bad]
merges: {bare: [bad]}
expected:
  images: 853
  boxes: 4072
  repaired: 12
  quarantined: 0
  classes: {mask: 3232, bare: 717, bad: 123}
notes: Nothing more.
"""


@pytest.fixture
def write_card(tmp_path):
    """Writes a card and returns its path."""

    def write(text):
        path = tmp_path / "card.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_whole_card(write_card):
    """Every key of a card is read."""
    card = read_card(write_card(WHOLE))
    assert (card.name, card.licence, card.classes) == ("faces", "CC0-1.0", ("mask", "bare", "bad"))
    assert (card.sources[0].author, card.merges["bare"]) == ("somebody", ("bad",))
    assert (card.expected.images, card.expected.classes["bad"]) == (853, 123)


def test_name_is_enough(write_card):
    """A card needs a name and nothing else."""
    assert read_card(write_card("name: x")) == Card(name="x")


def test_card_in_any_script(write_card):
    """A card is UTF-8, or UTF-16 as Notepad writes it."""
    assert read_card(write_card("name: маски")).name == "маски"
    assert read_card(write_card("name: маски".encode("utf-16"))).name == "маски"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list",
        "name: [1]",
        "about: no name",
        "name: x\nclases: [a]",
        "name: x\nexpected: {pictures: 3}",
        "name: x\nexpected: {images: many}",
        "name: x\nclasses: mask",
        "name: x\nclasses: [yes, no]",
        "name: {",
        b"name: caf\xe9",
        b"\0",
    ],
)
def test_wrong_card(write_card, text):
    """A card that is not YAML, has no name or has an unknown key is an error that names the file."""
    with pytest.raises(DataError, match=r"card\.yaml"):
        read_card(write_card(text))


def test_wrong_key_is_named(write_card):
    """The error names the key."""
    with pytest.raises(DataError, match=r"expected\.pictures"):
        read_card(write_card("name: x\nexpected: {pictures: 3}"))


def test_missing_card(tmp_path):
    """A missing card is an error that names the file."""
    with pytest.raises(DataError, match=r"card\.yaml"):
        read_card(tmp_path / "card.yaml")


def found(images=853, boxes=4072, repaired=12, quarantined=0, classes=None):
    """The counts that the card expects."""
    names = {"mask": 3232, "bare": 717, "bad": 123} if classes is None else classes
    return {"images": images, "boxes": boxes, "repaired": repaired, "quarantined": quarantined, "classes": names}


def test_counts_that_fit(write_card):
    """There is no difference if all counts are as expected."""
    assert read_card(write_card(WHOLE)).differences(found()) == []


@pytest.mark.parametrize("key", ["images", "boxes", "repaired", "quarantined"])
def test_count_that_differs(write_card, key):
    """A count that differs is listed with both numbers."""
    expected = getattr(read_card(write_card(WHOLE)).expected, key)
    assert read_card(write_card(WHOLE)).differences(found(**{key: 1})) == [f"{key}: 1, the card says {expected}"]


def test_class_counts_that_differ(write_card):
    """Classes with another count, missing classes and unexpected classes are listed."""
    assert read_card(write_card(WHOLE)).differences(found(classes={"mask": 3232, "bare": 716, "cat": 1})) == [
        "bare boxes: 716, the card says 717",
        "bad boxes: 0, the card says 123",
        "cat boxes: 1, the card says 0",
    ]


def test_counts_that_are_not_named(write_card):
    """Counts that the card does not have are not compared."""
    assert read_card(write_card("name: x\nexpected: {images: 853}")).differences(found(boxes=1, classes={})) == []


def test_card_in_the_dataset(write_card, tmp_path):
    """A card in the dataset folder is found."""
    card = write_card("name: x")
    assert find_card(tmp_path) == card


def test_card_beside_the_dataset(write_card, tmp_path):
    """A card beside the dataset folder is found, also before the dataset exists."""
    card = write_card("name: x")
    assert find_card(tmp_path / "data") == card


def test_nearer_card(write_card, tmp_path):
    """The card in the dataset folder takes precedence."""
    write_card("name: x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "card.yaml").write_text("name: y")
    assert find_card(tmp_path / "data") == tmp_path / "data" / "card.yaml"


def test_no_card(tmp_path):
    """A dataset without a card has none."""
    assert find_card(tmp_path / "deep" / "data") is None


@pytest.mark.parametrize("line", ["classes: [mask, no]", "classes: [0]", "merges: {yes: [mask]}"])
def test_names_that_yaml_reads_as_values(tmp_path, line):
    """A class called yes, no or 0 without quotes is named, with the advice to quote it."""
    (tmp_path / "card.yaml").write_text(f"name: x\n{line}\n")
    with pytest.raises(DataError, match=r"got (True|False|0); .*in quotes"):
        read_card(tmp_path / "card.yaml")
