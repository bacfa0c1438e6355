"""The fast parser against the XML parser: both agree on every file that the fast parser accepts."""

import random

import pytest
from builders import MASK, annotation_xml
from mutating import mutated_xml

from curate.formats.voc.fast_parser import PlainReader
from curate.formats.voc.xml_parser import UnreadableError, VocParser

LABELIMG = b"""<annotation verified="yes">
\t<folder>frames</folder>
\t<filename>caf\xc3\xa9 1.jpg</filename>
\t<path>/home/labeller/frames/1.jpg</path>
\t<source>
\t\t<database>Unknown</database>
\t</source>
\t<size>
\t\t<width>640</width>
\t\t<height>480</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
\t<object>
\t\t<name>mask</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>1</truncated>
\t\t<difficult>0</difficult>
\t\t<bndbox>
\t\t\t<xmin>10</xmin>
\t\t\t<ymin>20.5</ymin>
\t\t\t<xmax>110</xmax>
\t\t\t<ymax>220</ymax>
\t\t</bndbox>
\t</object>
\t<object>
\t\t<name>no mask</name>
\t\t<pose></pose>
\t\t<truncated>0</truncated>
\t\t<difficult>1</difficult>
\t\t<bndbox>
\t\t\t<xmin>1</xmin>
\t\t\t<ymin>2</ymin>
\t\t\t<xmax>3</xmax>
\t\t\t<ymax>4</ymax>
\t\t</bndbox>
\t</object>
</annotation>
"""


def compare(count, seed):
    """Compare both parsers on mutated files; returns how many the fast one accepted."""
    chance, plain, parser, taken = random.Random(seed), PlainReader(), VocParser(), 0
    for _ in range(count):
        data = mutated_xml(LABELIMG, chance)
        quick = plain.read(data)
        if quick is None:
            continue
        taken += 1
        try:
            slow = parser._parse_elements(data)
        except UnreadableError as error:
            slow = error.fault
        assert repr(quick) == repr(slow), data  # repr: nan is not equal to itself
    return taken


def test_labelimg_files_are_plain():
    """LabelImg's files are accepted by the fast parser, with both kinds of line ends, and agree with the XML parser."""
    quick = PlainReader().read(LABELIMG)
    assert quick is not None
    assert quick == VocParser()._parse_elements(LABELIMG)
    assert PlainReader().read(LABELIMG.replace(b"\n", b"\r\n")) == quick
    assert [one.line for one in quick.objects] == [14, 26]


def test_builders_files_are_plain():
    """The files that other tests write are accepted by the fast parser: those tests cover both."""
    assert PlainReader().read(annotation_xml("a.jpg", [MASK]).encode()) is not None


def test_mutants_are_read_alike():
    """On mutated files that the fast parser accepts, both agree."""
    assert compare(4000, seed=1) > 100


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_many_mutants_are_read_alike(seed):
    """The same with many more files."""
    assert compare(30_000, seed=100 + seed) > 1000
