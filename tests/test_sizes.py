"""The boundaries between small, medium and large, and the range of interest."""

import numpy as np
import pytest

from curate.errors import UsageError
from curate.sizes import (
    COCO_AREA_RANGES,
    SIZES,
    PinholeView,
    RangeOfInterest,
    choose_range,
    choose_view,
    count_by_size,
    sides_to_try,
    size_index,
)


@pytest.mark.parametrize(
    ("side", "size"), [(0, "small"), (31.999, "small"), (32, "medium"), (95.999, "medium"), (96, "large")]
)
def test_bounds_are_half_open(side, size):
    """Exactly 32² is medium and exactly 96² is large."""
    assert SIZES[size_index([side**2])[0]] == size


def test_count_by_size():
    """All three sizes are counted, also those without boxes."""
    assert count_by_size([[0, 0, 10, 10], [0, 0, 32, 32]]) == {"small": 1, "medium": 1, "large": 0}
    assert count_by_size([]) == {"small": 0, "medium": 0, "large": 0}


def test_every_size_has_an_area_range():
    """COCO's ranges meet at the boundaries of our counts."""
    assert [COCO_AREA_RANGES[size][0] for size in SIZES] == [0, 32**2, 96**2]


def test_range_of_interest_takes_the_shorter_side():
    """A box is in the range if its shorter side is at least the minimum."""
    wanted = RangeOfInterest(24)
    assert wanted.contains([[0, 0, 24, 300], [0, 0, 300, 23.9], [0, 0, 24, 24]]).tolist() == [True, False, True]


def test_range_of_interest_forgives_dust():
    """A side of 32 that floating point represents as 31.999… counts as 32."""
    assert RangeOfInterest(32).contains([[0.3, 0.3, 32.3, 32.3], [10.1, 10.1, 42.1, 42.1]]).all()


@pytest.mark.parametrize("side", [-1, np.nan, np.inf])
def test_range_of_interest_refuses_what_is_no_length(side):
    """An invalid minimum side is a usage error that names the option."""
    with pytest.raises(UsageError, match=r"^--min-side: invalid minimum side"):
        RangeOfInterest(side)


# ── minimum sides of a curve ─────────────────────────────────────────────────────────────────────────────────────


def test_sides_to_try_end_with_the_boxes():
    """The values end at the largest one that a box reaches: 48 for a box of 48 px."""
    assert sides_to_try([[0, 0, 10, 10], [0, 0, 48, 300]]) == (0, 4, 8, 12, 16, 24, 32, 48)


def test_sides_to_try_hold_what_is_wanted():
    """Additional values are sorted in, once, also beyond the largest box."""
    assert sides_to_try([[0, 0, 9, 9]], 5, 8, 99.5) == (0, 4, 5, 8, 99.5)


def test_sides_to_try_without_boxes():
    """Without boxes the only value is 0."""
    assert sides_to_try([]) == (0,)


# ── distance ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_distance_becomes_pixels():
    """A head of 0.24 m at a distance of 10 m and a focal length of 1000 px is 24 px high."""
    assert RangeOfInterest.within_distance(10, 0.24, 1000) == RangeOfInterest(24)


@pytest.mark.parametrize(("side", "distance"), [(24, 10), (48, 5), (0, None)])
def test_pixels_become_distance(side, distance):
    """Twice the pixels is half the distance; 0 pixels has no limit."""
    assert PinholeView(0.24, 1000).distance_m(side) == distance


@pytest.mark.parametrize(("height", "focal", "side"), [(1e200, 1e200, 24), (2, 800, 1e-320)])
def test_distance_beyond_numbers(height, focal, side):
    """A distance beyond the range of floats is None, which JSON can represent."""
    assert PinholeView(height, focal).distance_m(side) is None


@pytest.mark.parametrize("distance", [0.7, 3, 11, 240.5])
def test_distance_there_and_back(distance):
    """Converting a distance to pixels and back gives the same distance."""
    view = PinholeView(1.7, 1234.5)
    assert view.distance_m(view.side_px(distance)) == pytest.approx(distance, rel=1e-9)


def test_choose_range():
    """A range is given in pixels or metres; object height and focal length alone give none."""
    assert choose_range(min_side=24) == RangeOfInterest(24)
    assert choose_range(max_distance=10, object_height=0.24, focal_px=1000) == RangeOfInterest(24)
    assert choose_range(object_height=0.24, focal_px=1000) is None
    assert choose_range(min_side=30, object_height=0.24, focal_px=1000) == RangeOfInterest(30)
    assert choose_range() is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_distance": 10}, "--max-distance: the camera is missing .*--object-height and --focal-px"),
        ({"max_distance": 10, "object_height": 1}, "--object-height: the camera is incomplete .*--focal-px too"),
        ({"focal_px": 900}, "--focal-px: the camera is incomplete .*--object-height too"),
        (
            {"min_side": 24, "max_distance": 10, "object_height": 1, "focal_px": 900},
            "the options are mutually exclusive",
        ),
        ({"max_distance": 0, "object_height": 1, "focal_px": 900}, "--max-distance: must be positive .got 0;"),
        ({"max_distance": 1e-310, "object_height": 1, "focal_px": 900}, "^--max-distance: .*got 1e-310;"),
        ({"max_distance": 1, "object_height": -1, "focal_px": 900}, "--object-height: must be positive"),
        ({"max_distance": 1, "object_height": 1, "focal_px": np.inf}, "--focal-px: must be positive"),
        ({"min_side": -1}, "--min-side"),
    ],
)
def test_range_that_makes_no_sense(options, message):
    """Missing, conflicting and invalid options are usage errors that name the option."""
    with pytest.raises(UsageError, match=message):
        choose_range(**options)


def test_no_camera():
    """Without object height and focal length there is no camera."""
    assert choose_view(None, None) is None
