"""Boxes, rotated boxes and polygons in an object."""

import math

import pytest
from lxml import etree

from curate.formats.voc.shapes import UnclearShapeError, read_shape

CORNERS = "<xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax>"
ROTATED = "<cx>50</cx><cy>40</cy><w>20</w><h>10</h><angle>{angle}</angle>"


def shape_of(text):
    return read_shape(etree.fromstring(f"<object><name>mask</name>{text}</object>"))


def refused(text):
    with pytest.raises(UnclearShapeError) as caught:
        shape_of(text)
    return caught.value


def rotation(value):
    """CVAT's attribute."""
    return f"<attributes><attribute><name>rotation</name><value>{value}</value></attribute></attributes>"


@pytest.mark.parametrize(
    "text",
    [
        f"<bndbox>{CORNERS}</bndbox>",
        f"<bndbox2D>{CORNERS}</bndbox2D>",
        f"<bbox>{CORNERS}</bbox>",
        CORNERS,
        f"<segm><box>{CORNERS}</box><mask>a.png</mask></segm>",
        "<bndbox xmin='1' ymin='2' xmax='30' ymax='40'/>",
        "<bndbox><x1>1</x1><y1>2</y1><x2>30</x2><y2>40</y2></bndbox>",
        "<bndbox><left>1</left><top>2</top><right>30</right><bottom>40</bottom></bndbox>",
        "<box xtl='1' ytl='2' xbr='30' ybr='40'/>",
        "<bndbox><x_min>1</x_min><y_min>2</y_min><x_max>30</x_max><y_max>40</y_max></bndbox>",
        "<bndbox><x>1</x><y>2</y><w>29</w><h>38</h></bndbox>",
        "<bndbox><x>1</x><y>2</y><width>29</width><height>38</height></bndbox>",
        "<bndbox><left>1</left><top>2</top><width>29</width><height>38</height></bndbox>",
        "<bndbox><xmin>1</xmin><ymin>2</ymin><width>29</width><height>38</height></bndbox>",
        "<bndbox><cx>15.5</cx><cy>21</cy><w>29</w><h>38</h></bndbox>",
        "<robndbox><cx>15.5</cx><cy>21</cy><w>29</w><h>38</h><angle>0.0</angle></robndbox>",
        "<polygon><pt><x>1</x><y>2</y></pt><pt><x>30</x><y>2</y></pt><pt><x>30</x><y>40</y></pt><pt><x>1</x><y>40</y></pt>"
        "</polygon>",
        "<points><point>1,2</point><point>30,2</point><point>30,40</point><point>1,40</point><point>1,2</point></points>",
    ],
)
def test_boxes(text):
    """Every notation of the same box gives its corners, and is no hull."""
    shape = shape_of(text)
    assert (shape.corners, shape.is_hull) == ((1, 2, 30, 40), False)


def test_usual_notation_is_not_named():
    """Only notations other than LabelImg's and VOC's are named."""
    assert shape_of(f"<bndbox>{CORNERS}</bndbox>").notation == ""
    assert shape_of("<bndbox><x>1</x><y>2</y><w>3</w><h>4</h></bndbox>").notation == "<bndbox> of x, y, w, h"


@pytest.mark.parametrize(
    "text",
    [
        "<polygon><pt><x>10</x><y>10</y></pt><pt><x>60</x><y>10</y></pt><pt><x>60</x><y>80</y></pt></polygon>",
        "<polygon><x1>10</x1><y1>10</y1><x2>60</x2><y2>10</y2><x3>60</x3><y3>80</y3></polygon>",
        "<polygon points='10,10;60,10;60,80'/>",
        "<polygon>10,10 60,10 60,80</polygon>",
        "<polygon><points>10.0,10.0 60.0,10.0 60.0,80.0</points></polygon>",
        "<points><point>10,10</point><point>60,10</point><point>60,80</point></points>",
        "<points><point x='10' y='10'/><point x='60' y='10'/><point x='60' y='80'/></points>",
        "<bndbox><x1>10</x1><y1>10</y1><x2>60</x2><y2>10</y2><x3>60</x3><y3>80</y3></bndbox>",
        "<robndbox><x_left_top>10</x_left_top><y_left_top>10</y_left_top><x_right_top>60</x_right_top>"
        "<y_right_top>10</y_right_top><x_right_bottom>60</x_right_bottom><y_right_bottom>80</y_right_bottom></robndbox>",
    ],
)
def test_polygons(text):
    """A polygon gives the box around it, and the notation says what it was."""
    shape = shape_of(text)
    assert (shape.corners, shape.is_hull) == ((10, 10, 60, 80), True)
    assert "of 3 points" in shape.notation


@pytest.mark.parametrize("angle", [0.5, -0.5, math.pi - 0.5, math.pi + 0.5])
def test_rotated_box(angle):
    """roLabelImg's rotated box, in radians about its centre, gives the box around it."""
    shape = shape_of(f"<robndbox>{ROTATED.format(angle=angle)}</robndbox>")
    half_width, half_height = 10 * math.cos(0.5) + 5 * math.sin(0.5), 10 * math.sin(0.5) + 5 * math.cos(0.5)
    expected = (50 - half_width, 40 - half_height, 50 + half_width, 40 + half_height)
    assert shape.corners == pytest.approx(expected)
    assert shape.is_hull


@pytest.mark.parametrize("degrees", [90, -90, 270])
def test_rotation_of_cvat(degrees):
    """CVAT's rotation is in degrees about the centre; the corners are those before it."""
    shape = shape_of(f"<bndbox>{CORNERS}</bndbox>{rotation(degrees)}")
    assert shape.corners == pytest.approx((-3.5, 6.5, 34.5, 35.5))
    assert shape.is_hull


@pytest.mark.parametrize(
    "beside", [rotation("0.0"), rotation(0), "<rotation>0</rotation>", "<angle/>", "<pose>Left</pose>"]
)
def test_no_rotation(beside):
    """A rotation of 0 is none."""
    assert not shape_of(f"<bndbox>{CORNERS}</bndbox>{beside}").is_hull


@pytest.mark.parametrize(
    "text",
    [
        f"<bndbox>{CORNERS}</bndbox><rotation>30</rotation>",
        f"<bndbox>{CORNERS}<angle>0.5</angle></bndbox>",
        f"<bndbox>{CORNERS}</bndbox><rotation>sideways</rotation>",
        f"<robndbox>{ROTATED.format(angle=30)}</robndbox>",
        f"<robndbox>{ROTATED.format(angle=0.5)}</robndbox>{rotation(30)}",
        f"<bndbox>{ROTATED.format(angle=0.5)}</bndbox>",
        f"<polygon points='10,10;60,10;60,80'/>{rotation(30)}",
    ],
)
def test_rotation_of_unknown_meaning(text):
    """A rotation whose unit or centre is not known is refused."""
    assert refused(text).kind in ("rotated_box", "not_finite")


@pytest.mark.parametrize(
    "text",
    [
        f"<bndbox>{CORNERS}</bndbox><bndbox>{CORNERS.replace('30', '31')}</bndbox>",
        f"<bndbox>{CORNERS}</bndbox><bndbox2D>{CORNERS.replace('30', '31')}</bndbox2D>",
        f"<bndbox>{CORNERS}<xmax>31</xmax></bndbox>",
        "<polygon points='10,10;60,10;60,80'/><polygon points='10,10;60,10;60,90'/>",
    ],
)
def test_two_boxes(text):
    """Two boxes that differ in one object are refused."""
    assert refused(text).kind == "second_box"


def test_the_same_box_twice():
    """Equal boxes in one object are one."""
    assert shape_of(f"<bndbox>{CORNERS}</bndbox>" * 2).corners == (1, 2, 30, 40)


def test_box_beside_a_polygon():
    """A box that is written beside a polygon or a rotated box is taken as it is."""
    beside = "<polygon points='10,10;60,10;60,80'/>" + f"<robndbox>{ROTATED.format(angle=1)}</robndbox>"
    shape = shape_of(f"{beside}<bndbox>{CORNERS}</bndbox>")
    assert (shape.corners, shape.notation) == ((1, 2, 30, 40), "")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("<keypoints><point x='1' y='2'/></keypoints>", "<keypoints>"),
        ("<mask>a.png</mask>", "<mask>"),
        ("<bndbox>1 2 30 40</bndbox>", "'1 2 30 40'"),
        ("<bndbox><x>1</x><y>2</y></bndbox>", "<bndbox> of x, y"),
        ("<bndbox><a>1</a><b>2</b></bndbox>", "<bndbox> of a, b"),
        ("<polygon points='1,2 3,4'/>", "<polygon>"),
        ("<bndbox3D><cz>1</cz></bndbox3D>", "<bndbox3D>"),
        ("<type>polyline</type><polygon points='10,10;60,10;60,80'/>", "<polygon> of type 'polyline'"),
    ],
)
def test_unknown_shapes(text, named):
    """A shape that is not understood is refused, and the message names what was there."""
    error = refused(text)
    assert error.kind == "unknown_shape"
    assert named in error.detail


def test_box_of_a_part():
    """The box of a VOC part is not that of its object."""
    assert refused(f"<part><name>head</name><bndbox>{CORNERS}</bndbox></part>").kind == "unknown_shape"


def test_what_is_not_used():
    """Elements in a box that are not its corners are named."""
    (unused,) = shape_of(f"<bndbox>{CORNERS}<depth>3</depth></bndbox>").unused
    assert unused.tag == "depth"
