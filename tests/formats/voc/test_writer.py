"""Proposals as XML: LabelImg's format, the same boxes after import, and the mark of unsaved files."""

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
from curate.formats.voc import matching as voc_matching
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
    """Elements, order, tabs and whole pixels are LabelImg's, with a mark after the database."""
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
    """Corners are rounded, inside the image and at least one pixel apart."""
    (found,) = parsed(as_xml([box], ["bare"])).objects
    assert found[1:5] == written


def test_text_that_xml_cannot_hold():
    """Control characters and undecodable file names become question marks, and the file can be parsed."""
    xml = as_xml(image=Path("/f\udcff/a\x07.jpg"), names=("a\x00b", "]]>"))
    root = etree.fromstring(xml)
    assert root.findtext("path") == "/f?/a?.jpg"
    assert [one.text for one in root.iter("name")] == ["a?b", "]]>"]


corner = st.floats(0, 1, allow_nan=False)


@given(st.lists(st.tuples(corner, corner, corner, corner), max_size=5), st.integers(1, 4000), st.integers(1, 4000))
def test_boxes_come_back(unit, width, height):
    """Any box inside the image is read back within half a pixel, or as one pixel if it was smaller."""
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
    assert np.abs(back - boxes).max(initial=0) <= 1.5


def test_import_gives_the_same_boxes(tmp_path, dataset):
    """Written proposals are imported with the same classes, within half a pixel, without problems."""
    image = write_image(tmp_path / "in" / "a.jpg", 200, 100)
    (tmp_path / "in" / "a.xml").write_bytes(as_xml(names=("masked", "bare"), image=image))
    done = import_voc(dataset, tmp_path / "in", accept_proposals=True)
    assert (done.repaired, done.quarantined, done.problems) == (0, 0, ())
    assert box_rows(dataset) == [("a.jpg", "bare", 0, 50, 40, 90), ("a.jpg", "masked", 10, 20, 31, 42)]


# ── the mark ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_untouched():
    """A written file is a proposal, with any line ends and under any path."""
    xml = as_xml()
    assert is_proposal(xml)
    assert is_proposal(xml.replace(b"\n", b"\r\n"))
    assert is_proposal(xml.replace(b"/photos/door", b"/elsewhere"))


def test_saved_in_labelimg(tmp_path):
    """A file saved in LabelImg is no longer a proposal, also without changes."""
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
    """A file with the mark and any other change is no longer a proposal."""
    assert old in as_xml()
    assert not is_proposal(as_xml().replace(old, new))


def test_a_person_s_xml_is_never_replaced(tmp_path):
    """A proposal replaces a proposal, but not a saved file."""
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
    """Two images with proposals; a person saved another box for the second."""
    folder = tmp_path / "clips"
    for name in "ab":
        image = write_image(folder / f"{name}.jpg", 200, 100)
        (folder / f"{name}.xml").write_bytes(as_xml(names=("masked", "bare"), image=image))
    save_in_labelimg(folder / "b.xml", [("masked", 1, 2, 30, 40)])
    return folder


def test_untouched_proposals_are_left_out(dataset, proposed):
    """Only saved files are imported; the others are listed and counted, with the option that imports them."""
    done = import_voc(dataset, proposed)
    assert box_rows(dataset) == [("b.jpg", "masked", 1, 2, 30, 40)]
    assert (done.images, done.quarantined, kinds(done)) == (1, 0, ["untouched_proposal"])
    problem = problem_of(done, "untouched_proposal")
    assert (problem["file"], problem["action"]) == (str(proposed / "a.xml"), "noted")
    assert "--accept-proposals" in done.notes[-1]


def test_accepted_proposals(dataset, proposed):
    """`--accept-proposals` imports them as labelled."""
    done = import_voc(dataset, proposed, accept_proposals=True)
    assert (done.images, done.boxes, done.problems, done.notes) == (2, 3, (), ())


def test_untouched_proposal_with_unlabelled(dataset, proposed):
    """With `--with-unlabelled`, an image with only a proposal is imported as unlabelled."""
    done = import_voc(dataset, proposed, with_unlabelled=True)
    assert (done.images, done.boxes) == (2, 1)


def test_import_again(dataset, proposed):
    """Importing the same folder again makes no version."""
    import_voc(dataset, proposed)
    assert import_voc(dataset, proposed).version == 1


def test_strict_takes_proposals_for_no_fault(dataset, proposed):
    """`--strict` does not refuse proposals that are left out."""
    assert import_voc(dataset, proposed, strict=True).version == 1


def test_only_proposals(tmp_path, dataset, proposed):
    """A folder of unsaved proposals imports nothing, and lists them."""
    (proposed / "b.xml").unlink()
    (proposed / "b.jpg").unlink()
    done = import_voc(dataset, proposed)
    assert (done.images, done.boxes, kinds(done)) == (0, 0, ["untouched_proposal"])


@pytest.mark.parametrize("by_hand", ["0.xml", "z.xml"])
@pytest.mark.parametrize("accept", [False, True])
def test_a_person_s_xml_goes_before_a_proposal(tmp_path, dataset, by_hand, accept):
    """XML saved by a person belongs to the image in its `<filename>`, even if a proposal has the image's name.

    The order of the names does not matter, nor whether proposals are imported.
    """
    image = write_image(tmp_path / "clips" / "a.jpg", 200, 100)
    (image.parent / "a.xml").write_bytes(as_xml(names=("masked", "bare"), image=image))
    write_xml(image.parent / by_hand, "a.jpg", [("masked", 1, 2, 30, 40)], size=(200, 100))
    done = import_voc(dataset, image.parent, accept_proposals=accept, strict=True)
    assert box_rows(dataset) == [("a.jpg", "masked", 1, 2, 30, 40)]
    assert (kinds(done), done.notes) == (["proposal_overruled"], ())
    assert problem_of(done, "proposal_overruled")["detail"] == f"left out; 'a.jpg' belongs to {by_hand}"


def test_a_copied_proposal(tmp_path, dataset):
    """A copied proposal with the old `<filename>` belongs to the image of its own name."""
    for name in "ab":
        write_image(tmp_path / f"{name}.jpg", 200, 100)
    (tmp_path / "b.xml").write_bytes(as_xml(names=("masked", "bare"), image=tmp_path / "b.jpg"))
    (tmp_path / "a.xml").write_bytes((tmp_path / "b.xml").read_bytes())
    done = import_voc(dataset, tmp_path, accept_proposals=True)
    assert (done.images, done.boxes, kinds(done)) == (2, 4, ["filename_mismatch"])


def test_each_xml_is_read_once(tmp_path, dataset, monkeypatch):
    """XML with the name of its image needs no look at other files for proposals."""
    labelimg_folder(tmp_path / "clips", {"a": [MASK], "b": [BARE], "c": []})
    read = []
    monkeypatch.setattr(voc_matching, "read_regular", lambda file: read.append(file) or Path(file).read_bytes())
    import_voc(dataset, tmp_path / "clips")
    assert [Path(file).name for file in read] == ["a.xml", "b.xml", "c.xml"]
