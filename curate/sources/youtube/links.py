"""Links and clips to fetch, from arguments and link files."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import parse_qs, quote

from curate.errors import DataError, UsageError
from curate.files import read_text, write_atomically
from curate.sources.times import format_seconds, parse_seconds

_CLIP_FORM = "START-END, such as 0:10-0:40, 10-40 or 1:02:03.5-1:02:10"
_VIDEO_OF_YOUTUBE = re.compile(r"https?://(?:(?:[\w-]+\.)?youtube\.com/watch|youtu\.be/[\w-]+)\?([^#]*)", re.IGNORECASE)
_MIX = "RD"  # begins the ID of a list that YouTube makes up for a viewer, and that has no end


@dataclass(frozen=True, order=True)
class Clip:
    """A part of a video: from the first frame at or after the start to the last before the end.

    Attributes:
        start_s, end_s: Seconds from the video's first frame, in whole milliseconds.
    """

    start_s: Fraction
    end_s: Fraction

    def __str__(self) -> str:
        return f"{format_seconds(self.start_s)}-{format_seconds(self.end_s)}"


@dataclass(frozen=True)
class FetchRequest:
    """A link, and the clip of its video to fetch; None for the whole video."""

    link: str
    clip: Clip | None = None


def parse_clip(text: str, *, place: object) -> Clip:
    """Parse `START-END`. Both are required, since they name the file before anything about the video is known.

    Raises:
        UsageError: The text has another form, the end is not after the start, or a time has fractions of milliseconds.

    Examples:
        >>> str(parse_clip("0:10-0:40.50", place="--clip"))
        '10-40.5'
    """
    start, dash, end = re.sub("[\N{EN DASH}\N{EM DASH}]", "-", text).partition("-")
    if not dash or not start.strip() or not end.strip():
        raise UsageError("invalid time range", place=place, got=repr(text), expected=_CLIP_FORM)
    clip = Clip(parse_seconds(start, place=place), parse_seconds(end, place=place))
    if clip.start_s >= clip.end_s:
        raise UsageError("time range ends before it starts", place=place, got=repr(text))
    if any((time_s * 1000).denominator != 1 for time_s in (clip.start_s, clip.end_s)):
        raise UsageError("time is too precise", place=place, got=repr(text), expected="whole milliseconds")
    return clip


def collect_requests(links: Iterable[str], clips: Iterable[str], from_file: Path | None) -> list[FetchRequest]:
    """Return all requests in order, without duplicates.

    Args:
        links: Links from the command line.
        clips: Clips of every link that has none of its own in the file.
        from_file: Link file.

    Raises:
        UsageError: There is nothing to fetch, the file cannot be read, or a link or clip is invalid; the message names
            file and line.
    """
    ranges = [parse_clip(text, place="--clip") for text in clips]
    requests = [FetchRequest(_check_link(link, "URL"), clip) for link in links for clip in ranges or [None]]
    if from_file is not None:
        lines = _read_link_file(from_file)
        requests += [FetchRequest(link, clip) for link, own in lines for clip in own or ranges or [None]]
    if not requests and from_file is None:
        raise UsageError("nothing to fetch", expected="at least one URL, or --from-file")
    return list(dict.fromkeys(requests))


def write_link_file(path: Path, requests: Iterable[FetchRequest]) -> None:
    """Write a link file for `--from-file`."""
    lines = [request.link + (f" {request.clip}" if request.clip else "") for request in requests]
    text = "# not fetched yet\n" + "".join(f"{line}\n" for line in lines)
    write_atomically(path, lambda file: file.write(text.encode()))


def encode_spaces(link: str) -> str:
    """Percent-encode white space and unprintable characters, so that the link is one word in a link file."""
    return "".join(c if c.isprintable() and not c.isspace() else quote(c, errors="replace") for c in link.strip())


def list_link(list_id: str) -> str:
    """Return the link to a playlist of YouTube."""
    return f"https://www.youtube.com/playlist?list={list_id}"


def find_list_notes(requests: Iterable[FetchRequest]) -> list[str]:
    """Return a sentence for each link that names a video and the YouTube playlist it was opened in."""
    notes = {}
    for link in (request.link for request in requests):
        match = _VIDEO_OF_YOUTUBE.match(link)
        words = parse_qs(match[1]) if match else {}
        list_id = words.get("list", [""])[0]
        if list_id and ("v" in words or "youtu.be/" in link) and not list_id.startswith(_MIX):
            fact = f"{link} names one video of a playlist; only that one is fetched."
            notes[link] = f"{fact} All are at {list_link(list_id)}."
    return list(notes.values())


def _read_link_file(path: Path) -> Iterator[tuple[str, list[Clip]]]:
    """Yield link and clips of each line. A comment starts with `#` at the beginning or after white space."""
    try:
        lines = read_text(path, "link file").splitlines()
    except DataError as error:
        raise UsageError(error.fact, place=path, got=error.got, expected=error.expected) from error
    for number, line in enumerate(lines, 1):
        words: list[str] = []
        for word in line.split():
            if word.startswith("#"):
                break
            words.append(word)
        if words:
            place = f"{path}, line {number}"
            yield _check_link(words[0], place), [parse_clip(word, place=place) for word in words[1:]]


def _check_link(link: str, place: str) -> str:
    link = link.strip()
    if not link or any(character.isspace() or not character.isprintable() for character in link):
        raise UsageError("invalid link", place=place, got=repr(link), expected="a URL such as https://…")
    return link
