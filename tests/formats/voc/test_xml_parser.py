"""Parsing one annotation file."""

import http.server
import math
import threading

import pytest
from builders import MASK, annotation_xml, object_xml
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.formats.voc.xml_parser import UnreadableError, VocParser

LABELIMG = b"""<annotation verified="yes">
	<folder>images</folder>
	<filename>first day.jpg</filename>
	<path>/home/someone/images/first day.jpg</path>
	<source>
		<database>Unknown</database>
	</source>
	<size>
		<width>640</width>
		<height>480</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>mask</name>
		<pose>Unspecified</pose>
		<truncated>1</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>10</xmin>
			<ymin>20.5</ymin>
			<xmax>110</xmax>
			<ymax>220</ymax>
		</bndbox>
	</object>
	<object>
		<name>face &amp; chin</name>
		<pose>Left</pose>
		<truncated>0</truncated>
		<difficult>1</difficult>
		<bndbox>
			<xmin>1</xmin>
			<ymin>2</ymin>
			<xmax>3</xmax>
			<ymax>4</ymax>
		</bndbox>
	</object>
</annotation>
"""


def parse(data):
    return VocParser().parse(data.encode() if isinstance(data, str) else data)


def only_object(text):
    (found,) = parse(annotation_xml(objects=[text])).objects
    return found


def only_fault(text):
    (fault,) = parse(annotation_xml(objects=[text])).faults
    return fault


def refused_as(data):
    with pytest.raises(UnreadableError) as caught:
        parse(data)
    return caught.value.fault.kind


# ── valid files ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_head():
    """File name, size and LabelImg's mark are read from the head, with their lines."""
    found = parse(LABELIMG)
    assert (found.filename, found.filename_line) == ("first day.jpg", 3)
    assert (found.width, found.height, found.size_line, found.verified) == ("640", "480", 8, True)


@pytest.mark.parametrize("rest", ["", "<!-- read by the XML library -->"])
def test_place_of_the_image(rest):
    """Both ways of reading give the texts of `<folder>` and `<path>`, and "" where they are missing."""
    found = parse(annotation_xml(folder=" cam 1 ", path="/home/x/cam 1/a.jpg") + rest)
    assert (found.folder, found.path) == ("cam 1", "/home/x/cam 1/a.jpg")
    assert parse("<annotation></annotation>" + rest)[-2:] == ("", "")


def test_first_object():
    """An object's name, corners, flags, pose, line and number are as written."""
    first = parse(LABELIMG).objects[0]
    assert first == ("mask", 10.0, 20.5, 110.0, 220.0, False, True, False, "Unspecified", 14, 1)


def test_escaped_name():
    """Escaped characters in names are decoded."""
    second = parse(LABELIMG).objects[1]
    assert second == ("face & chin", 1.0, 2.0, 3.0, 4.0, True, False, False, "Left", 26, 2)


def test_sound_file_has_no_faults():
    """A file written by LabelImg has no faults."""
    assert parse(LABELIMG).faults == []


@pytest.mark.parametrize(
    "data",
    [
        LABELIMG.replace(b"\n", b"\r\n"),
        LABELIMG.replace(b"\n", b"").replace(b"\t", b""),
        b'<?xml version="1.0" encoding="utf-8"?>\n' + LABELIMG,
        b"\xef\xbb\xbf" + LABELIMG,
        '<?xml version="1.0" encoding="utf-16"?>'.encode("utf-16") + LABELIMG.decode().encode("utf-16")[2:],
        b"<?xml-stylesheet href='http://example.invalid/x.xsl'?><!-- by hand -->" + LABELIMG,
        LABELIMG.replace(b"<name>mask</name>", b"<name><![CDATA[mask]]></name>"),
        LABELIMG.replace(b"<name>mask</name>", b"<name>ma<!-- really -->sk</name>"),
        LABELIMG.replace(b"<name>mask</name>", b"<name>m&#97;sk</name>"),
    ],
    ids=[
        "crlf",
        "one line",
        "declared",
        "bom",
        "utf-16",
        "comments",
        "cdata",
        "comment in name",
        "character reference",
    ],
)
def test_spelling_does_not_matter(data):
    """The same content in other XML notations gives the same objects."""
    expected = [one._replace(line=0) for one in parse(LABELIMG).objects]
    assert [one._replace(line=0) for one in parse(data).objects] == expected


def test_order_of_elements_does_not_matter():
    """Elements and corners may come in any order."""
    found = only_object(
        "<object><bndbox><ymax>4</ymax><xmin>1</xmin><xmax>3</xmax><ymin>2</ymin></bndbox>"
        "<difficult>1</difficult><name>mask</name><truncated>0</truncated></object>"
    )
    assert (found.name, found.x0, found.y0, found.x1, found.y1, found.difficult) == ("mask", 1, 2, 3, 4, True)


def test_names_beyond_ascii():
    """Names in any script are kept exactly."""
    assert only_object(object_xml("маска 口罩 🐈", 1, 2, 3, 4)).name == "маска 口罩 🐈"


def test_latin_1_is_decoded():
    """A declared encoding is used."""
    data = '<?xml version="1.0" encoding="iso-8859-1"?>' + annotation_xml(objects=[("é", 1, 2, 3, 4)])
    assert parse(data.encode("latin-1")).objects[0].name == "é"


@pytest.mark.parametrize("encoding", ["gbk", "GB2312", "gb18030", "big5", "utf-16", "UTF-16LE", "utf-8"])
def test_declared_encodings(encoding):
    """Chinese names are read in the encoding that the file declares."""
    data = f'<?xml version="1.0" encoding="{encoding}"?>' + annotation_xml(objects=[("口罩", 1, 2, 3, 4)])
    found = parse(data.encode(encoding))
    assert ([one.name for one in found.objects], found.faults) == (["口罩"], [])


@pytest.mark.parametrize("declared", ["gbk", "utf-16", "us-ascii", "iso-8859-1", "windows-1252"])
def test_utf_8_that_declares_another_encoding(declared):
    """UTF-8 that declares another encoding, as some tools write it, is read as UTF-8, and that is noted."""
    data = f'<?xml version="1.0" encoding="{declared}"?>' + annotation_xml(objects=[("口罩", 1, 2, 3, 4)])
    found = parse(data)
    assert [one.name for one in found.objects] == ["口罩"]
    assert [(fault.kind, fault.action) for fault in found.faults] == [("other_encoding", "noted")]


@pytest.mark.parametrize("head", ["", '<?xml version="1.0"?>', '<?xml version="1.0" encoding="utf-8"?>'])
@pytest.mark.parametrize(("encoding", "name"), [("gbk", "口罩"), ("latin-1", "café"), ("euc-kr", "마스크")])
def test_undeclared_encodings(head, encoding, name):
    """Another encoding that is not declared is not guessed: the file is unreadable, and the reason says what to do."""
    with pytest.raises(UnreadableError, match="UTF-8") as caught:
        parse((head + annotation_xml(objects=[(name, 1, 2, 3, 4)])).encode(encoding))
    assert caught.value.fault.kind == "unreadable_file"


def test_utf_16_without_a_mark():
    """UTF-16 without its mark is known by the XML declaration; without that, the file is unreadable."""
    text = annotation_xml(objects=[("口罩", 1, 2, 3, 4)])
    assert parse(('<?xml version="1.0"?>' + text).encode("utf-16-le")).objects[0].name == "口罩"
    assert refused_as(text.encode("utf-16-le")) == "unreadable_file"


@pytest.mark.parametrize("name", ["\ufffd\ufffd", "ma\ufffdk", "??", "????"])
def test_lost_names(name):
    """A name whose characters were lost by another program makes no class: its box is quarantined."""
    fault = only_fault(object_xml(name, 1, 2, 3, 4))
    assert (fault.kind, fault.action) == ("lost_name", "quarantined")


@pytest.mark.parametrize("name", ["?", "mask?", "is it?? a mask"])
def test_question_marks(name):
    """Question marks in a name are kept."""
    assert only_object(object_xml(name, 1, 2, 3, 4)).name == name


def test_occluded_is_read():
    """`<occluded>`, used by later VOC years, is a flag like the others."""
    assert only_object(object_xml("mask", 1, 2, 3, 4, occluded="1")).occluded


def test_later_shapes_in_one_file():
    """Objects with different elements in one file are all read and numbered."""
    rows = [object_xml("a", 1, 2, 3, 4), object_xml("b", 1, 2, 3, 4, pose=None), object_xml("c", 1, 2, 3, 4)]
    assert [(one.name, one.number) for one in parse(annotation_xml(objects=rows)).objects] == [
        ("a", 1),
        ("b", 2),
        ("c", 3),
    ]


def test_parts_are_not_objects():
    """The `<part>` of a VOC person is listed, is not a box, and does not change the person."""
    part = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>10</xmax><ymax>10</ymax></bndbox></part>"
    found = parse(annotation_xml(objects=[object_xml("person", 1, 2, 30, 40, inner=part)]))
    assert [(one.name, one.x0, one.x1) for one in found.objects] == [("person", 1, 30)]
    assert [(fault.kind, fault.object) for fault in found.faults] == [("element_not_kept", 1)]


@pytest.mark.parametrize("around", ["objects", "owner", "metadata", "object"])
def test_objects_in_another_element(around):
    """An object anywhere below the root is read, and that it is in another element is noted."""
    found = parse(annotation_xml(objects=[f"<{around}>{object_xml('inner', 1, 2, 3, 4)}</{around}>", MASK]))
    assert [(one.name, one.x1) for one in found.objects] == [("inner", 3), ("mask", 25)]
    assert [(fault.kind, fault.action) for fault in found.faults] == [("nested_object", "noted")]


def test_object_inside_an_object():
    """An object inside another one is read too, and both keep their own boxes."""
    inner = object_xml("face", 1, 2, 3, 4)
    found = parse(annotation_xml(objects=[object_xml("person", 1, 2, 30, 40, inner=inner)]))
    assert [(one.name, one.x1) for one in found.objects] == [("person", 30), ("face", 3)]


@pytest.mark.parametrize(
    "text",
    [
        "<item><name>mask</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></item>",
        "<face><left>1</left><top>2</top><width>3</width><height>4</height></face>",
        "<box xmin='1' ymin='2' xmax='3' ymax='4'/>",
        "<coordinates>10, 20, 30, 40</coordinates>",
        "<obj><label>mask</label><tl>1,2</tl><br>3,4</br></obj>",
        "<polygon><pt><x>1</x><y>2</y></pt></polygon>",
        "<group><item><bndbox/></item></group>",
        "10 20 30 40",
        "mask 10 20 30 40",
        "<gt>mask,10,20,30,40</gt>",
        "<objects>[{'name': 'mask', 'bbox': '10 20 30 40'}]</objects>",
        "<Labels><one/></Labels>",
        "<ships><ship><box_xmin>1</box_xmin><box_ymin>2</box_ymin></ship></ships>",
    ],
)
def test_what_may_be_an_object(text):
    """Coordinates under a name that is not known are lost objects, not an image without objects."""
    fault = only_fault(text)
    assert (fault.kind, fault.action, fault.object) == ("unknown_element", "quarantined", None)
    assert "expected <object>" in fault.detail


@pytest.mark.parametrize(
    "text",
    [
        "<weather>wet</weather>",
        "<camera><model>X 100</model><iso>200</iso></camera>",
        "<objects/>",
        "<mask>a.png</mask>",
        "by hand, 2020",
    ],
)
def test_what_is_no_object(text):
    """Other elements and texts beside the objects are noted, and the objects count."""
    found = parse(annotation_xml(objects=[text, MASK]))
    assert [(fault.kind, fault.action) for fault in found.faults] == [("element_not_kept", "noted")]
    assert len(found.objects) == 1


def test_known_elements_are_not_noted():
    """What LabelImg and VOC write beside the objects is not worth a word, also where the slow parser reads it."""
    head = (
        "<folder>VOC2007</folder><filename>a.jpg</filename><path>C:/a.jpg</path><source><database>D</database>"
        "<annotation>A</annotation><image>flickr</image><flickrid>1</flickrid></source><owner><flickrid>x</flickrid>"
        "<name>?</name></owner><size><width>64</width><height>48</height><depth>3</depth></size>"
        "<segmented>0</segmented>"
    )
    assert parse(f"<annotation><!-- -->{head}{object_xml(*MASK)}</annotation>").faults == []


def test_capitals_and_namespaces():
    """Names of elements may be in capitals or of a namespace; it is noted once a file."""
    text = annotation_xml(objects=[MASK]).replace("xmin>", "XMin>").replace("<object>", "<Object>")
    text = text.replace("</object>", "</Object>").replace("<annotation>", "<annotation xmlns='urn:x'>")
    found = parse(text)
    assert [one[:5] for one in found.objects] == [MASK]
    assert (found.width, found.height) == ("64", "48")
    assert [fault.kind for fault in found.faults] == ["other_spelling"]


def test_size_of_labelme():
    """LabelMe's `<imagesize>` is a size."""
    found = parse("<annotation><imagesize><nrows>48</nrows><ncols>64</ncols></imagesize></annotation>")
    assert (found.width, found.height, found.faults) == ("64", "48", [])


def test_file_name_of_fair1m():
    """FAIR1M's file name is inside `<source>`."""
    assert parse("<annotation><source><filename>2.png</filename></source></annotation>").filename == "2.png"


@pytest.mark.parametrize(("text", "count"), [("1", 0), ("yes", 0), ("0", 1), ("", 1)])
def test_deleted_objects(text, count):
    """An object that LabelMe marks as deleted is none, and nothing is missing."""
    deleted = object_xml(*MASK, inner=f"<deleted>{text}</deleted>")
    found = parse(annotation_xml(objects=[deleted]))
    assert len(found.objects) == count
    assert {fault.action for fault in found.faults} <= {"noted"}


@pytest.mark.parametrize(
    "names",
    [
        "<possibleresult><name>mask</name><probability>1</probability></possibleresult>",
        "<label>mask</label>",
        "<Class>mask</Class>",
        "<name lang='en'>mask</name>",
        "<name>mask</name><name>mask</name>",
    ],
)
def test_other_places_of_the_class(names):
    """The class may be FAIR1M's possible result, or have another name."""
    found = parse(annotation_xml(objects=[object_xml("?", 1, 2, 3, 4).replace("<name>?</name>", names)]))
    assert [one.name for one in found.objects] == ["mask"]


@pytest.mark.parametrize(
    "names",
    [
        "<name>mask</name><name>bare</name>",
        "<possibleresult><name>mask</name></possibleresult><possibleresult><name>bare</name></possibleresult>",
    ],
)
def test_two_classes_of_one_object(names):
    """An object with two different classes is quarantined."""
    fault = only_fault(object_xml("?", 1, 2, 3, 4).replace("<name>?</name>", names))
    assert (fault.kind, fault.action, fault.detail) == ("second_name", "quarantined", "'mask', 'bare'")


def test_one_parser_for_many_files():
    """A parser's result does not depend on files parsed before."""
    parser = VocParser()
    texts = [LABELIMG, annotation_xml(objects=[object_xml("a", 1, 2, 3, 4, pose=None)]).encode()] * 2
    assert [parser.parse(text) for text in texts] == [parse(text) for text in texts]


# ── faults of single objects ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("written", [" mask", "mask\n\t\t", "\u00a0mask "])
def test_white_space_around_names(written):
    """White space around a name is removed and noted."""
    assert only_object(object_xml(written, 1, 2, 3, 4)).name == "mask"
    assert only_fault(object_xml(written, 1, 2, 3, 4)).kind == "white_space"


@pytest.mark.parametrize("written", ["traffic\n\t\tlight", "traffic\tlight", "traffic \r\n light"])
def test_line_breaks_in_names(written):
    """A line break in a name, as programs that wrap lines leave it, is a space: a list of classes has a name a line."""
    text = object_xml(written, 1, 2, 3, 4)
    assert only_object(text).name == "traffic light"
    assert "line breaks in 'traffic light'" in only_fault(text).detail


def test_white_space_inside_names():
    """White space inside a name is kept."""
    assert only_object(object_xml("bare face", 1, 2, 3, 4)).name == "bare face"


@pytest.mark.parametrize("name", ["", "   ", None])
def test_empty_name(name):
    """A box without a name is quarantined."""
    found = parse(annotation_xml(objects=[object_xml(name, 1, 2, 3, 4)]))
    assert (found.objects, [fault.kind for fault in found.faults]) == ([], ["empty_name"])


@pytest.mark.parametrize("missing", range(4))
@pytest.mark.parametrize("text", [None, ""])
def test_missing_coordinate(missing, text):
    """A box with a missing or empty corner is quarantined, and the fault names the side."""
    corners = [1, 2, 3, 4]
    corners[missing] = text
    fault = only_fault(object_xml("mask", *corners))
    assert (fault.kind, fault.detail) == ("missing_coordinate", ("xmin", "ymin", "xmax", "ymax")[missing])


def test_missing_bndbox():
    """An object without `<bndbox>` is quarantined."""
    assert only_fault("<object><name>mask</name></object>").kind == "missing_coordinate"


@pytest.mark.parametrize("text", ["ten", "1,5", "1_0", "0x10", "--3"])
def test_text_for_a_number(text):
    """A box with a corner that is not a number is quarantined, and the fault shows the text."""
    fault = only_fault(object_xml("mask", text, 2, 3, 4))
    assert fault.kind == "not_finite"
    assert text in fault.detail


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"difficult": None}, (False, False)),
        ({"truncated": None}, (False, False)),
        ({"difficult": "yes"}, (True, False)),
        ({"truncated": "2"}, (False, False)),
        ({"truncated": "TRUE"}, (False, True)),
        ({"truncated": "Unspecified"}, (False, False)),
        ({"difficult": ""}, (False, False)),
    ],
)
def test_odd_flags(flags, expected):
    """A missing or odd `difficult` or `truncated` is noted once, and the box stays."""
    text = object_xml("mask", 1, 2, 3, 4, **flags)
    found = only_object(text)
    assert (found.difficult, found.truncated) == expected
    assert only_fault(text).kind == "odd_flag"


def test_fault_place():
    """A fault has the line where its object begins, and the object's number from 1."""
    data = LABELIMG.replace(b"<xmin>1</xmin>", b"<xmin>nan?</xmin>")
    (fault,) = parse(data).faults
    assert (fault.line, fault.object) == (26, 2)


def test_fault_leaves_the_others():
    """A quarantined box does not change the numbers of the others."""
    rows = [("a", 1, 2, 3, 4), ("", 1, 2, 3, 4), ("c", 1, 2, 3, 4)]
    assert [(one.name, one.number) for one in parse(annotation_xml(objects=rows)).objects] == [("a", 1), ("c", 3)]


# ── unreadable files ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("data", [b"", b"  \n\t "])
def test_empty_file(data):
    """An empty file has a kind of its own."""
    assert refused_as(data) == "empty_file"


@pytest.mark.parametrize("kept", [5, 60, 300, len(LABELIMG) - 4])
def test_cut_off_file(kept):
    """A file that is cut off is unreadable."""
    assert refused_as(LABELIMG[:kept]) == "unreadable_file"


@pytest.mark.parametrize(
    "data",
    [
        b"not xml",
        b'{"name": "mask"}',
        b"\x00\x01\x02",
        b"\xff\xd8\xff\xe0",
        b"<annotation><name>\xff</name></annotation>",
        b"<annotation>&nothing;</annotation>",
        b'<?xml version="1.0" encoding="no-such"?><annotation/>',
        b"<annotation/><annotation/>",
        LABELIMG + b"more",
        b"<a>" * 5000,
    ],
)
def test_unreadable_file(data):
    """A file that is not well-formed XML is unreadable, with the parser's reason."""
    assert refused_as(data) == "unreadable_file"


def test_unreadable_line():
    """A syntax error has its line."""
    with pytest.raises(UnreadableError) as caught:
        parse(LABELIMG.replace(b"<ymin>20.5</ymin>", b"<ymin>20.5</ymax>"))
    assert caught.value.fault.line == 21


@pytest.mark.parametrize("root", ["html", "annotations", "object"])
def test_wrong_root(root):
    """Another root element is an error that names it."""
    assert refused_as(f"<{root}><object/></{root}>") == "wrong_root"


# ── document types and entities ──────────────────────────────────────────────────────────────────────────────────

BOMB = (
    '<!DOCTYPE annotation [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 12))
    + "]>"
)


@pytest.mark.parametrize(
    "head",
    [
        "<!DOCTYPE annotation>",
        '<!DOCTYPE annotation SYSTEM "annotation.dtd">',
        '<!DOCTYPE annotation PUBLIC "-//X//Y" "annotation.dtd">',
        "<!DOCTYPE annotation [<!ELEMENT annotation ANY>]>",
        '<!DOCTYPE annotation [<!ENTITY mask "m">]>',
    ],
)
def test_document_type_is_refused(head):
    """A file that declares a document type or entities is unreadable, even if it uses none."""
    assert refused_as(head + annotation_xml()) == "declares_dtd"


@pytest.mark.parametrize("place", ["<name>&a11;</name>", '<name x="&a11;"/>'])
def test_entity_bomb(place):
    """An entity expansion attack is refused for its declaration; expanding it would fill the memory."""
    assert refused_as(f"{BOMB}<annotation>{place}</annotation>") == "declares_dtd"


def test_external_entity_is_not_read(tmp_path):
    """A file that an entity refers to is not read."""
    secret = tmp_path / "secret"
    secret.write_text("<name>hush</name>")
    with pytest.raises(UnreadableError) as caught:
        parse(f'<!DOCTYPE a [<!ENTITY x SYSTEM "{secret.as_uri()}">]>' + annotation_xml(objects=["&x;"]))
    assert caught.value.fault.kind == "declares_dtd"
    assert "hush" not in caught.value.fault.detail


def test_nothing_is_fetched():
    """Document types, entities and schemas are not requested from a server."""
    asked = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        for head in (
            f'<!DOCTYPE annotation SYSTEM "{place}/dtd">',
            f'<!DOCTYPE annotation [<!ENTITY % p SYSTEM "{place}/parameter"> %p;]>',
            f'<!DOCTYPE annotation [<!ENTITY e SYSTEM "{place}/entity">]>',
        ):
            with pytest.raises(UnreadableError):
                parse(f"{head}<annotation/>")
        parse(f'<annotation xmlns:i="http://www.w3.org/2001/XInclude"><i:include href="{place}/include"/></annotation>')
        server.shutdown()
    assert asked == []


# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────────

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
NUMBER = st.one_of(
    st.integers(-50, 200),
    st.floats(),
    st.sampled_from(["", " ", "nan", "-inf", "1e999", "1_0", "12px", "٣", None]),
    TEXT,
)
FLAG = st.sampled_from(["0", "1", None, "", "yes", "2", " 1"])
OBJECT = st.builds(
    object_xml,
    st.one_of(st.sampled_from(["mask", " mask ", "a & b", "<x>", ""]), TEXT),
    NUMBER,
    NUMBER,
    NUMBER,
    NUMBER,
    difficult=FLAG,
    truncated=FLAG,
    occluded=FLAG,
    pose=st.sampled_from(["Left", None, ""]),
    inner=st.sampled_from(["", "", "", "<extra/>", "<attributes><a>1</a></attributes>"]),
)


def count_lost(found):
    return len([fault for fault in found.faults if fault.action == "quarantined" and fault.object])


@settings(deadline=None, max_examples=100)
@given(rows=st.lists(OBJECT, max_size=5))
def test_every_object_is_kept_or_listed(rows):
    """The numbers of boxes and of quarantined objects add up to the number of objects."""
    found = parse(annotation_xml(objects=rows))
    assert len(found.objects) + count_lost(found) == len(rows)


def same(one, other):
    """Equality where NaN equals NaN."""
    return all(a == b or (a != a and b != b) for a, b in zip(one, other, strict=True))


@settings(deadline=None, max_examples=100)
@given(rows=st.lists(OBJECT, min_size=1, max_size=5))
def test_both_ways_of_reading_agree(rows):
    """An unknown element does not change the objects, although another parser reads them."""
    plain = parse(annotation_xml(objects=rows).encode())
    longer = parse(annotation_xml(objects=[row.replace("</object>", "<zzz/></object>") for row in rows]).encode())
    assert len(plain.objects) == len(longer.objects)
    assert all(map(same, plain.objects, longer.objects))


@settings(deadline=None, max_examples=100)
@given(corners=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_corners_are_read_to_the_last_bit(corners):
    """Any finite number is read exactly."""
    found = only_object(object_xml("mask", *map(repr, corners)))
    assert [found.x0, found.y0, found.x1, found.y1] == corners
    assert all(map(math.isfinite, found[1:5]))


def check_garbage(data):
    refusal, found = "", None
    try:
        found = parse(data)
    except UnreadableError as error:
        refusal = error.fault.kind
    assert refusal in ({"empty_file", "unreadable_file", "wrong_root", "declares_dtd"} if found is None else {""})
    assert all(one.name == one.name.strip() != "" for one in (found.objects if found else ()))


@settings(deadline=None, max_examples=100)
@given(data=st.binary(max_size=200))
def test_garbage(data):
    """Any bytes are parsed or are an error with a kind."""
    check_garbage(data)


@st.composite
def damaged_files(draw):
    """A LabelImg file with pieces removed, repeated or overwritten."""
    data = LABELIMG
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        piece = draw(st.sampled_from([b"", data[start:end] * 2, b"<object>", b"</bndbox>", b"&amp;", b"]]>", b"\xe9"]))
        data = data[:start] + piece + data[end:]
    return data


@settings(deadline=None, max_examples=100)
@given(data=damaged_files())
def test_damaged_file(data):
    """A damaged file is parsed or is an error with a kind."""
    check_garbage(data)


@pytest.mark.long
@settings(deadline=None, max_examples=10_000)
@given(data=damaged_files())
def test_many_damaged_files(data):
    """The same with many more files."""
    check_garbage(data)


@pytest.mark.long
@settings(deadline=None, max_examples=3_000)
@given(rows=st.lists(OBJECT, max_size=6))
def test_many_odd_objects(rows):
    """The numbers add up for many more files."""
    found = parse(annotation_xml(objects=rows))
    assert len(found.objects) + count_lost(found) == len(rows)
