"""Box arithmetic: examples by hand, and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curate.boxes import (
    area,
    as_boxes,
    clip,
    iou_matrix,
    shorter_side,
    sides,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

COORDINATES = st.integers(0, 400_000).map(lambda hundredths: hundredths / 100)


@st.composite
def boxes(draw):
    """Arrays of well-formed boxes."""
    corners = np.sort(draw(arrays(np.float64, (draw(st.integers(0, 6)), 2, 2), elements=COORDINATES)), axis=1)
    return corners.reshape(-1, 4)


def test_no_boxes():
    """Every function accepts an empty sequence and returns an array without rows."""
    assert as_boxes([]).shape == (0, 4)
    assert area([]).shape == shorter_side([]).shape == (0,)
    assert xywh_to_xyxy([]).shape == xyxy_to_xywh([]).shape == clip([], 10, 10).shape == (0, 4)
    assert iou_matrix([], [[0, 0, 1, 1]]).shape == (0, 1)


def test_left_top_width_height():
    """COCO's width is counted from the left edge to the right edge, with nothing added."""
    assert xywh_to_xyxy([[10, 20, 30, 40]]).tolist() == [[10, 20, 40, 60]]
    assert xyxy_to_xywh([[10, 20, 40, 60]]).tolist() == [[10, 20, 30, 40]]


@given(boxes())
def test_layouts_round_trip(given_boxes):
    """Conversion to the other layout and back gives the same box to a billionth."""
    np.testing.assert_allclose(xywh_to_xyxy(xyxy_to_xywh(given_boxes)), given_boxes, atol=2e-9)


def test_sides_forget_floating_point_dust():
    """42.1 − 10.1 is rounded to 32: the box is exactly on the size boundary."""
    assert sides([[10.1, 10.1, 42.1, 42.1]]).tolist() == [[32, 32]]
    assert area([[10.1, 10.1, 42.1, 42.1]]).tolist() == [1024]


def test_area_and_shorter_side():
    """Area is in square pixels; the shorter side is the smaller of width and height."""
    assert area([[0, 0, 4, 3], [0, 0, 3, 4]]).tolist() == [12, 12]
    assert shorter_side([[0, 0, 4, 3], [0, 0, 3, 4]]).tolist() == [3, 3]


def test_clip_with_one_size_and_with_one_a_box():
    """The image size is given once or per box; width limits x and height limits y."""
    wide = [[-5, -5, 300, 300], [10, 10, 20, 20]]
    assert clip(wide, 200, 100).tolist() == [[0, 0, 200, 100], [10, 10, 20, 20]]
    assert clip(wide, [50, 15], [60, 12]).tolist() == [[0, 0, 50, 60], [10, 10, 15, 12]]


def test_iou_by_hand():
    """Two boxes of 4 px² that share 2 px² have an IoU of 1/3; boxes that touch have 0."""
    found = iou_matrix([[0, 0, 2, 2]], [[1, 0, 3, 2], [0, 0, 2, 2], [2, 0, 4, 2]])
    assert found.tolist() == [[pytest.approx(1 / 3), 1, 0]]


def test_boxes_without_area_divide_nothing():
    """An empty box has IoU 0 with every box, also with itself."""
    assert iou_matrix([[1, 1, 1, 1]], [[1, 1, 1, 1]]).tolist() == [[0]]


@given(boxes(), boxes())
def test_iou_is_symmetric_and_bounded(one, other):
    """IoU is symmetric and between 0 and 1."""
    found = iou_matrix(one, other)
    np.testing.assert_allclose(found, iou_matrix(other, one).T)
    assert ((found >= 0) & (found <= 1 + 1e-6)).all()


@given(boxes())
def test_input_stays(given_boxes):
    """No function changes its arguments."""
    before = given_boxes.copy()
    for function in (area, shorter_side, sides, xywh_to_xyxy, xyxy_to_xywh, lambda b: clip(b, 5, 5)):
        function(given_boxes)
    np.testing.assert_array_equal(given_boxes, before)
