"""Numbers and commands as text."""

import re

import pytest
from repository_paths import REPOSITORY

from curate.formatting import (
    UNDEFINED,
    count,
    count_of,
    curate_command,
    listed,
    metres,
    percent,
    points,
    score,
    short_repr,
)


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


def test_commands_are_quoted():
    """A path with a space or a quote is one word of the command."""
    assert curate_command("undo", "my masks") == "`curate undo 'my masks'`"
    assert curate_command("log", "masks", "--all") == "`curate log masks --all`"


def test_messages_quote_paths_in_commands():
    """No message puts a path into a command by itself: a shell would split it at a space."""
    unquoted = re.compile(r"curate [a-z-]+ (--[a-z-]+ )*\{(?!digest)")
    for file in (REPOSITORY / "curate").rglob("*.py"):
        assert not unquoted.search(file.read_text(encoding="utf-8")), file


def test_representations_are_short():
    """Values of any size and depth are shown in 80 characters."""
    deep = []
    for _ in range(5000):
        deep = [deep]
    assert short_repr("no") == "'no'"
    assert short_repr([[0, 0], [1, 1]]) == "[[0, 0], [1, 1]]"
    for value in (deep, "x" * 10**6, list(range(10**5)), {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, 10**4000):
        assert len(short_repr(value)) <= 80
