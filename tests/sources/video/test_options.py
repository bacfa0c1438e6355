"""What the user says about files: video stream, frame rate, depth of samples."""

from fractions import Fraction

import pytest

from curate.errors import UsageError
from curate.sources.video.options import ReadOptions, parse_read_options


def test_values_are_exact():
    """Rates are fractions."""
    assert parse_read_options(stream=2, rate="30000/1001", depth=12) == ReadOptions(2, Fraction(30000, 1001), 12)
    assert parse_read_options(rate=12.5) == ReadOptions(rate=Fraction(25, 2))
    assert parse_read_options() == ReadOptions()


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"stream": 0}, "--stream"),
        ({"rate": "fast"}, "--rate"),
        ({"rate": "-1"}, "--rate"),
        ({"rate": 0}, "--rate"),
        ({"rate": "1/0"}, "--rate"),
        ({"depth": 0}, "--depth"),
        ({"depth": 17}, "--depth"),
    ],
)
def test_values_out_of_range(values, place):
    """The message names the option."""
    with pytest.raises(UsageError, match=f"^{place}: "):
        parse_read_options(**values)
