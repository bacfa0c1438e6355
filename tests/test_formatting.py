"""Numbers as text."""

import pytest

from curate.formatting import UNDEFINED, count, count_of, listed, metres, percent, points, score


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


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (2, "image", "2 images"),
        (1, "box", "1 box"),
        (2, "labelled box", "2 labelled boxes"),
        (3, "class", "3 classes"),
    ],
)
def test_counts_with_their_noun(number, noun, text):
    """One is singular, all others plural."""
    assert count_of(number, noun) == text


def test_listed():
    """Each name is there once, and only the first few."""
    assert listed(["b", "a", "b", "c"]) == "b, a, c"
    assert listed("abcd") == "a, b, c, …"
    assert listed([]) == ""
