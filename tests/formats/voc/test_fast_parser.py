"""The fast parser against the XML parser: both agree on every file that the fast parser accepts."""

import random
import re

import pytest
from builders import MASK, annotation_xml

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
PIECES = [
    *(b"<object>", b"</object>", b"<x/>", b"<x>1</x>", b"<size/>", b"<size><width>1</width></size>", b"</bndbox>"),
    *(b"<filename>z</filename>", b"<annotation>", b"</annotation>", b"<pose/>", b"<name> </name>", b"<difficult/>"),
    *(b"<part><name>h</name></part>", b"<occluded>1</occluded>", b"<a:b>1</a:b>", b"<object/>", b"<xmlx>1</xmlx>"),
    *(b"&amp;", b"<!-- c -->", b"<![CDATA[a]]>", b"<?pi?>", b"]]>", b"<", b">", b" ", b"\n", b"\r", b"\t", b"."),
    *(b"_", b"nan", b"inf", b"1e3", b"-5", b"0x1", b"yes", b"\x00", b"\x0b", b"\xa0", b"\xc2\xa0", b"\xe2\x80\xa8"),
    *(b"\xef\xbf\xbe", b"\xef\xbb\xbf", b"\xd9\xa1", b"\x85"),
]


def mutated(data, chance):
    """A file with one to three random insertions, repetitions, replacements or deletions."""
    text = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        elements = list(re.finditer(rb"<(\w+)>[^<]*</\1>\s*", text))
        texts = list(re.finditer(rb">([^<]*)<", text))
        borders = [match.start() for match in re.finditer(b"<", text)] or [0]
        way = chance.randrange(5)
        if way == 0 or not elements or not texts:
            place = chance.randrange(len(text) + 1)
            text[place:place] = chance.choice(PIECES)
        elif way == 1:
            place = chance.choice(borders)
            text[place:place] = chance.choice(PIECES)
        elif way == 2:
            match = chance.choice(elements)
            text[match.start() : match.end()] = chance.choice((b"", match.group() * 2))
        elif way == 3:
            match = chance.choice(texts)
            text[match.start(1) : match.end(1)] = chance.choice(PIECES)
        else:
            place = chance.randrange(len(text) + 1)
            del text[place : place + chance.choice((1, 1, 3, 20, 100))]
    return bytes(text)


def compare(count, seed):
    """Compare both parsers on mutated files; returns how many the fast one accepted."""
    chance, plain, parser, taken = random.Random(seed), PlainReader(), VocParser(), 0
    for _ in range(count):
        data = mutated(LABELIMG, chance)
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
