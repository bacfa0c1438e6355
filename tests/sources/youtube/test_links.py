"""Requests: time ranges, arguments, link files."""

from fractions import Fraction

import pytest

from curate.errors import UsageError
from curate.sources.youtube.links import (
    Clip,
    FetchRequest,
    collect_requests,
    encode_spaces,
    find_list_notes,
    parse_clip,
    write_link_file,
)

A, B = "https://example.org/a", "https://example.org/b"


@pytest.mark.parametrize(
    ("text", "start_s", "end_s"),
    [
        ("10-40", 10, 40),
        ("0:10-0:40", 10, 40),
        ("10.25-1:02:03.5", Fraction(41, 4), Fraction(7447, 2)),
        (" 0 - 1.500 ", 0, Fraction(3, 2)),
        ("10s-1min", 10, 60),
        ("1m30s-1h", 90, 3600),
        ("1h2m3.5s-2h", Fraction(7447, 2), 7200),
        ("10\u201340", 10, 40),
    ],
)
def test_forms(text, start_s, end_s):
    """Seconds, clock times and units are parsed exactly."""
    assert parse_clip(text, place="--clip") == Clip(Fraction(start_s), Fraction(end_s))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("40-10", "ends before it starts"),
        ("10-10", "ends before it starts"),
        ("10", "invalid time range"),
        ("-10", "invalid time range"),
        ("10-", "invalid time range"),
        ("10-20-30", "not a time"),
        ("a-b", "not a time"),
        ("1/3-1", "too precise"),
        ("0-1.0001", "too precise"),
    ],
)
def test_invalid_ranges(text, what):
    """The message names the option."""
    with pytest.raises(UsageError, match=f"^--clip: .*{what}"):
        parse_clip(text, place="--clip")


@pytest.mark.parametrize(
    ("link", "is_told"),
    [
        ("https://youtu.be/dQw4w9WgXcQ?list=PL1", True),
        ("https://m.youtube.com/watch?v=dQw4w9WgXcQ&list=PL1&index=2", True),
        ("https://www.youtube.com/watch?v=dQw4w9WgXcQ", False),
        ("https://www.youtube.com/playlist?list=PL1", False),
        ("https://www.youtube.com/watch?v=dQw4w9WgXcQ&list=RDdQw4w9WgXcQ", False),
        ("https://example.org/watch?v=1&list=PL1", False),
    ],
)
def test_one_video_of_a_list(link, is_told):
    """A link to a video within a playlist of YouTube is told once, one to a playlist or to an endless mix is not."""
    notes = find_list_notes([FetchRequest(link), FetchRequest(link, parse_clip("1-2", place=""))])
    assert len(notes) == is_told
    assert all("https://www.youtube.com/playlist?list=PL1" in note for note in notes)


@pytest.mark.parametrize(("text", "name"), [("0:10.0-0:40", "10-40"), ("10.50-40", "10.5-40"), ("0-1:00:00", "0-3600")])
def test_name(text, name):
    """A clip is written in seconds, without trailing zeros."""
    assert str(parse_clip(text, place="--clip")) == name


def test_every_clip_of_every_link():
    """Clips apply to all links; equal requests count once, however they are written."""
    requests = collect_requests([A, B, A], ["0-1", "2-3", "0:00-0:01"], None)
    assert [(request.link, str(request.clip)) for request in requests] == [
        (A, "0-1"),
        (A, "2-3"),
        (B, "0-1"),
        (B, "2-3"),
    ]


def test_link_file(tmp_path):
    """One link per line, followed by ranges; comments at the start or after white space."""
    file = tmp_path / "links.txt"
    file.write_text(f"\ufeff# mine\n\n{A}   # whole\n{B}#part\t0:10-0:40 50-60 # two\n  {A} 1-2\n", encoding="utf-8")
    requests = collect_requests([], [], file)
    assert [(request.link, request.clip and str(request.clip)) for request in requests] == [
        (A, None),
        (f"{B}#part", "10-40"),
        (f"{B}#part", "50-60"),
        (A, "1-2"),
    ]


def test_clips_for_links_without_range(tmp_path):
    """--clip applies to the links of a file that have no range of their own."""
    file = tmp_path / "links.txt"
    file.write_text(f"{A}\n{B} 5-6\n")
    assert [str(request.clip) for request in collect_requests([], ["0-1"], file)] == ["0-1", "5-6"]


@pytest.mark.parametrize("line", [f"{A} soon", f"{A} 9-3", f"{A} {B}", "htt\u200bps://x"])
def test_errors_name_file_and_line(tmp_path, line):
    """The message has file name and line number."""
    file = tmp_path / "links.txt"
    file.write_text(f"# one\n{B}\n{line}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"links\.txt, line 3: "):
        collect_requests([], [], file)


def test_missing_file(tmp_path):
    """A missing link file is a usage error."""
    with pytest.raises(UsageError, match=r"links\.txt: the link file cannot be read: No such file"):
        collect_requests([], [], tmp_path / "links.txt")


def test_nothing():
    """Neither a link nor a file is a usage error."""
    with pytest.raises(UsageError, match="nothing to fetch"):
        collect_requests([], ["0-1"], None)


def test_empty_file(tmp_path):
    """A file with only comments gives no requests."""
    (tmp_path / "links.txt").write_text("# nothing yet\n")
    assert collect_requests([], [], tmp_path / "links.txt") == []


def test_written_file_reads_back(tmp_path):
    """A written link file gives the same requests."""
    requests = [FetchRequest(A), FetchRequest(B, parse_clip("0.5-2", place="x"))]
    write_link_file(tmp_path / "rest.txt", requests)
    assert collect_requests([], [], tmp_path / "rest.txt") == requests


def test_white_space_in_a_link(tmp_path):
    """White space in a link is encoded, so that it is one word in a link file."""
    link = encode_spaces(f" {A}?x=one two\u2028three ")
    write_link_file(tmp_path / "rest.txt", [FetchRequest(link)])
    assert [request.link for request in collect_requests([], [], tmp_path / "rest.txt")] == [
        f"{A}?x=one%20two%E2%80%A8three"
    ]
