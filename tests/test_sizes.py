"""The bounds between small, medium and large, and the range of interest."""

import numpy as np
import pytest

from curate.errors import UsageError
from curate.sizes import COCO_AREA_RANGES, SIZES, RangeOfInterest, count_by_size, size_index


@pytest.mark.parametrize(
    ("side", "size"), [(0, "small"), (31.999, "small"), (32, "medium"), (95.999, "medium"), (96, "large")]
)
def test_bounds_are_half_open(side, size):
    """Exactly 32² is medium and exactly 96² is large."""
    assert SIZES[size_index([side**2])[0]] == size


def test_count_by_size():
    """All three sizes are counted, also those that nothing has."""
    assert count_by_size([[0, 0, 10, 10], [0, 0, 32, 32]]) == {"small": 1, "medium": 1, "large": 0}
    assert count_by_size([]) == {"small": 0, "medium": 0, "large": 0}


def test_every_size_has_an_area_range():
    """COCO's ranges touch where our counts change."""
    assert [COCO_AREA_RANGES[size][0] for size in SIZES] == [0, 32**2, 96**2]


def test_range_of_interest_takes_the_shorter_side():
    """A box is in the range when its shorter side reaches the bound, and exactly the bound is enough."""
    wanted = RangeOfInterest(24)
    assert wanted.contains([[0, 0, 24, 300], [0, 0, 300, 23.9], [0, 0, 24, 24]]).tolist() == [True, False, True]


def test_range_of_interest_forgives_dust():
    """A side of 32 that floating point makes 31.999… is 32."""
    assert RangeOfInterest(32).contains([[0.3, 0.3, 32.3, 32.3], [10.1, 10.1, 42.1, 42.1]]).all()


@pytest.mark.parametrize("side", [-1, np.nan, np.inf])
def test_range_of_interest_refuses_what_is_no_length(side):
    """A bound that is no length is misuse, and the option is named."""
    with pytest.raises(UsageError, match=r"^--min-side: the smallest side is not a length"):
        RangeOfInterest(side)
