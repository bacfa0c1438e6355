"""Numbers as text."""

import pytest

from curate.formatting import UNDEFINED, count, metres, percent, points, score


@pytest.mark.parametrize(
    ("write", "number", "text"),
    [
        (points, 0.5132, "51.3"),
        (points, 0.0, "0.0"),
        (percent, 0.793, "79.3 %"),
        (count, 12345, "12,345"),
        (score, 0.69063, "0.691"),
        (metres, 12.345, "12.3 m"),
    ],
)
def test_numbers(write, number, text):
    """Each has its form, and what is undefined is a dash, never a zero."""
    assert write(number) == text
    assert write(None) == UNDEFINED == "–"
