"""Proposals as XML: LabelImg's form, the same boxes when they come back, and the mark of what nobody has saved."""

import re
from pathlib import Path

import numpy as np
import pytest
from builders import BARE, MASK, box_rows, kinds, labelimg_folder, problem_of, write_image, write_xml
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from proposing import save_in_labelimg

from curate.commands.imports import import_voc
from curate.formats.voc import layout as voc_matching
from curate.formats.voc.writer import is_proposal, proposal_xml, write_proposal
from curate.formats.voc.xml_parser import VocParser

IMAGE = Path("/photos/door/a&b.jpg")
EXPECTED = """<annotation>
	<folder>door</folder>
	<filename>a&amp;b.jpg</filename>
	<path>/photos/door/a&amp;b.jpg</path>
	<source>
		<database>Unknown</database>
		<annotation>curate proposal DIGEST</annotation>
	</source>
	<size>
		<width>200</width>
		<height>100</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>mask &lt;worn&gt;</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>10</xmin>
			<ymin>20</ymin>
			<xmax>31</xmax>
			<ymax>42</ymax>
		</bndbox>
	</object>
	<object>
		<name>bare</name>
		<pose>Unspecified</pose>
		<truncated>1</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>0</xmin>
			<ymin>50</ymin>
			<xmax>40</xmax>
			<ymax>90</ymax>
		</bndbox>
	</object>
</annotation>
"""
TWO = np.array([[10.4, 19.6, 30.7, 42.0], [0.2, 50, 40, 90]])


def as_xml(boxes=TWO, names=("mask <worn>", "bare"), width=200, height=100, image=IMAGE):
    return proposal_xml(image, width, height, names, np.array(boxes, dtype=float).reshape(-1, 4))


def parsed(xml):
    return VocParser().parse(xml)


def test_the_file_as_a_whole():
    """Elements, order, tabs and whole pixels are those that LabelImg writes, and a mark beside the database."""
    assert re.sub(r"proposal [0-9a-f]{16}<", "proposal DIGEST<", as_xml().decode()) == EXPECTED


def test_nothing_found():
    """Without boxes, the file has no objects."""
    assert parsed(as_xml([], [])).objects == []


@pytest.mark.parametrize(
    ("box", "written"),
    [
        ((0, 0, 200, 100), (0, 0, 200, 100)),  # the whole image, as pixel edges
        ((0.4, 0.6, 199.6, 99.4), (0, 1, 200, 99)),
        ((10.2, 10.2, 10.4, 10.4), (10, 10, 11, 11)),  # never without an area
        ((199.6, 99.6, 200, 100), (199, 99, 200, 100)),
    ],
)
def test_whole_pixels(box, written):
    """Corners are rounded, stay inside the image and apart."""
    (found,) = parsed(as_xml([box], ["bare"])).objects
    assert found[1:5] == written


def test_text_that_xml_cannot_hold():
    """Control characters and file names that are no text become question marks, and the file can be read."""
    xml = as_xml(image=Path("/f\udcff/a\x07.jpg"), names=("a\x00b", "]]>"))
    root = etree.fromstring(xml)
    assert root.findtext("path") == "/f?/a?.jpg"
    assert [one.text for one in root.iter("name")] == ["a?b", "]]>"]


corner = st.floats(0, 1, allow_nan=False)


@given(st.lists(st.tuples(corner, corner, corner, corner), max_size=5), st.integers(1, 4000), st.integers(1, 4000))
def test_boxes_come_back(unit, width, height):
    """Any box inside the image comes back within half a pixel, or as one pixel where it was less."""
    boxes = np.array(unit, dtype=float).reshape(-1, 4) * (width, height, width, height)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) >= 1e-6).all(axis=1)]
    back = np.array([one[1:5] for one in parsed(as_xml(boxes, ["x"] * len(boxes), width, height)).objects])
    back = back.reshape(-1, 4)
    assert (back[:, :2] >= 0).all()
    assert (back[:, 2:] <= (width, height)).all()
    assert (back[:, :2] < back[:, 2:]).all()
    wide = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    assert np.abs(back - boxes)[wide].max(initial=0) <= 0.5
    assert np.abs(back - boxes).max(initial=0) <= 1


def test_import_gives_the_same_boxes(tmp_path, dataset):
    """What is written is imported with the same classes, within half a pixel, and nothing needs mending."""
    image = write_image(tmp_path / "in" / "a.jpg", 200, 100)
    (tmp_path / "in" / "a.xml").write_bytes(as_xml(names=("masked", "bare"), image=image))
    done = import_voc(dataset, tmp_path / "in", accept_proposals=True)
    assert (done.repaired, done.quarantined, done.problems) == (0, 0, ())
    assert box_rows(dataset) == [("a.jpg", "bare", 0, 50, 40, 90), ("a.jpg", "masked", 10, 20, 31, 42)]


# ── the mark ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_untouched():
    """What was written is known as a proposal, with whatever line ends, under whatever path."""
    xml = as_xml()
    assert is_proposal(xml)
    assert is_proposal(xml.replace(b"\n", b"\r\n"))
    assert is_proposal(xml.replace(b"/photos/door", b"/elsewhere"))


def test_saved_in_labelimg(tmp_path):
    """Saving makes it a person's file, also where nothing was changed."""
    file = tmp_path / "a.xml"
    file.write_bytes(as_xml())
    before = parsed(file.read_bytes()).objects
    save_in_labelimg(file)
    assert not is_proposal(file.read_bytes())
    assert [one[:5] for one in parsed(file.read_bytes()).objects] == [one[:5] for one in before]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"<xmin>10<", b"<xmin>11<"), (b"bare", b"masked"), (b"</annotation>\n", b"<!-- seen --></annotation>\n")],
)
def test_edited_with_another_tool(old, new):
    """A program that keeps the mark and changes anything else makes it a person's file."""
    assert old in as_xml()
    assert not is_proposal(as_xml().replace(old, new))


def test_a_person_s_xml_is_never_replaced(tmp_path):
    """A proposal replaces a proposal, never what somebody saved."""
    file = tmp_path / "deep" / "a.xml"
    assert write_proposal(file, as_xml())
    assert write_proposal(file, as_xml([], []))
    assert parsed(file.read_bytes()).objects == []
    saved = save_in_labelimg(file).read_bytes()
    assert not write_proposal(file, as_xml())
    assert file.read_bytes() == saved


# ── import-voc ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def proposed(tmp_path):
    """Two images with proposals; of the second, a person saved another box."""
    folder = tmp_path / "clips"
    for name in "ab":
        image = write_image(folder / f"{name}.jpg", 200, 100)
        (folder / f"{name}.xml").write_bytes(as_xml(names=("masked", "bare"), image=image))
    save_in_labelimg(folder / "b.xml", [("masked", 1, 2, 30, 40)])
    return folder


def test_untouched_proposals_are_left_out(dataset, proposed):
    """Only what a person saved is imported; the rest is named, counted, and told how to take in."""
    done = import_voc(dataset, proposed)
    assert box_rows(dataset) == [("b.jpg", "masked", 1, 2, 30, 40)]
    assert (done.images, done.quarantined, kinds(done)) == (1, 0, ["untouched_proposal"])
    problem = problem_of(done, "untouched_proposal")
    assert (problem["file"], problem["action"]) == (str(proposed / "a.xml"), "noted")
    assert "--accept-proposals" in done.notes[-1]


def test_accepted_proposals(dataset, proposed):
    """`--accept-proposals` takes them as labelled."""
    done = import_voc(dataset, proposed, accept_proposals=True)
    assert (done.images, done.boxes, done.problems, done.notes) == (2, 3, (), ())


def test_untouched_proposal_with_unlabelled(dataset, proposed):
    """With `--with-unlabelled`, an image that has only a proposal comes in without a label."""
    done = import_voc(dataset, proposed, with_unlabelled=True)
    assert (done.images, done.boxes) == (2, 1)


def test_import_again(dataset, proposed):
    """The same folder again makes no version."""
    import_voc(dataset, proposed)
    assert import_voc(dataset, proposed).version == 1


def test_strict_takes_proposals_for_no_fault(dataset, proposed):
    """`--strict` does not refuse a folder for what it leaves out."""
    assert import_voc(dataset, proposed, strict=True).version == 1


def test_only_proposals(tmp_path, dataset, proposed):
    """A folder in which nobody has saved anything brings nothing, and says so."""
    (proposed / "b.xml").unlink()
    (proposed / "b.jpg").unlink()
    done = import_voc(dataset, proposed)
    assert (done.images, done.boxes, kinds(done)) == (0, 0, ["untouched_proposal"])


@pytest.mark.parametrize("by_hand", ["0.xml", "z.xml"])
@pytest.mark.parametrize("accept", [False, True])
def test_a_person_s_xml_goes_before_a_proposal(tmp_path, dataset, by_hand, accept):
    """XML that a person saved is of the image in its `<filename>`, though a proposal has the image's name.

    This holds whichever comes first by name, and whether proposals are taken in or not.
    """
    image = write_image(tmp_path / "clips" / "a.jpg", 200, 100)
    (image.parent / "a.xml").write_bytes(as_xml(names=("masked", "bare"), image=image))
    write_xml(image.parent / by_hand, "a.jpg", [("masked", 1, 2, 30, 40)], size=(200, 100))
    done = import_voc(dataset, image.parent, accept_proposals=accept, strict=True)
    assert box_rows(dataset) == [("a.jpg", "masked", 1, 2, 30, 40)]
    assert (kinds(done), done.notes) == (["proposal_overruled"], ())
    assert problem_of(done, "proposal_overruled")["detail"] == f"left out; 'a.jpg' belongs to {by_hand}"


def test_a_copied_proposal(tmp_path, dataset):
    """A proposal that was copied keeps the old `<filename>`, and is of the image whose name it has all the same."""
    for name in "ab":
        write_image(tmp_path / f"{name}.jpg", 200, 100)
    (tmp_path / "b.xml").write_bytes(as_xml(names=("masked", "bare"), image=tmp_path / "b.jpg"))
    (tmp_path / "a.xml").write_bytes((tmp_path / "b.xml").read_bytes())
    done = import_voc(dataset, tmp_path, accept_proposals=True)
    assert (done.images, done.boxes, kinds(done)) == (2, 4, ["filename_mismatch"])


def test_each_xml_is_read_once(tmp_path, dataset, monkeypatch):
    """Where XML has its image's name, no file is read a second time to learn whether it is a proposal."""
    labelimg_folder(tmp_path / "clips", {"a": [MASK], "b": [BARE], "c": []})
    read = []
    monkeypatch.setattr(voc_matching, "read_bytes", lambda file: read.append(file) or Path(file).read_bytes())
    import_voc(dataset, tmp_path / "clips")
    assert [Path(file).name for file in read] == ["a.xml", "b.xml", "c.xml"]
