"""Which links and which parts of their videos are wanted, from arguments and link files."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

from curate.errors import UsageError
from curate.files import write_atomically
from curate.sources.times import format_seconds, parse_seconds

_RANGE_FORM = "START-END, such as 0:10-0:40, 10-40 or 1:02:03.5-1:02:10"


@dataclass(frozen=True, order=True)
class Clip:
    """A part of a video: from the first frame at or after the start to the last before the end.

    Attributes:
        start_s, end_s: seconds from the video's beginning, in whole milliseconds.
    """

    start_s: Fraction
    end_s: Fraction

    def __str__(self) -> str:
        return f"{format_seconds(self.start_s)}-{format_seconds(self.end_s)}"


@dataclass(frozen=True)
class Wish:
    """One link, and what of it: a clip, or None for the whole video."""

    link: str
    clip: Clip | None = None


def parse_clip(text: str, *, place: object) -> Clip:
    """Read `START-END`; both ends are needed, because they name the file before anything of the video is known.

    Raises:
        UsageError: it is no range, ends before it starts, or is finer than milliseconds.

    Examples:
        >>> str(parse_clip("0:10-0:40.50", place="--clip"))
        '10-40.5'
    """
    start, dash, end = re.sub("[\N{EN DASH}\N{EM DASH}]", "-", text).partition("-")
    if not dash or not start.strip() or not end.strip():
        raise UsageError("not a range of time", place=place, got=repr(text), expected=_RANGE_FORM)
    clip = Clip(parse_seconds(start, place=place), parse_seconds(end, place=place))
    if clip.start_s >= clip.end_s:
        raise UsageError("the range ends before it starts", place=place, got=repr(text), expected="START before END")
    if any((time_s * 1000).denominator != 1 for time_s in (clip.start_s, clip.end_s)):
        raise UsageError("the range is too fine", place=place, got=repr(text), expected="whole milliseconds")
    return clip


def collect_wishes(links: Iterable[str], clips: Iterable[str], from_file: Path | None) -> list[Wish]:
    """Everything that is asked for, in order, and each only once.

    `clips` hold for every link that has no range of its own in the file.

    Raises:
        UsageError: nothing is asked for, the file cannot be read, or something is no link or no range; the message
            names the file and the line.
    """
    ranges = [parse_clip(text, place="--clip") for text in clips]
    wishes = [Wish(_checked(link, "URL"), clip) for link in links for clip in ranges or [None]]
    if from_file is not None:
        wishes += [Wish(link, clip) for link, own in _read_link_file(from_file) for clip in own or ranges or [None]]
    if not wishes and from_file is None:
        raise UsageError("nothing to fetch", expected="at least one URL, or --from-file")
    return list(dict.fromkeys(wishes))


def write_link_file(path: Path, wishes: Iterable[Wish]) -> None:
    """Write a file that `--from-file` reads back."""
    lines = [wish.link + (f" {wish.clip}" if wish.clip else "") for wish in wishes]
    text = "# not fetched yet\n" + "".join(f"{line}\n" for line in lines)
    write_atomically(path, lambda file: file.write(text.encode()))


def tidy_link(link: str) -> str:
    """A link as one word, as link files hold it: what a site wrote into it with white space is percent-encoded."""
    return "".join(c if c.isprintable() and not c.isspace() else quote(c, errors="replace") for c in link.strip())


def _read_link_file(path: Path) -> Iterator[tuple[str, list[Clip]]]:
    """Each line's link and ranges. A comment starts with `#` at the beginning or after white space."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fact = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"the link file cannot be read: {fact}", place=path) from error
    for number, line in enumerate(lines, 1):
        words: list[str] = []
        for word in line.split():
            if word.startswith("#"):
                break
            words.append(word)
        if words:
            place = f"{path}, line {number}"
            yield _checked(words[0], place), [parse_clip(word, place=place) for word in words[1:]]


def _checked(link: str, place: str) -> str:
    link = link.strip()
    if not link or any(character.isspace() or not character.isprintable() for character in link):
        raise UsageError("not a link", place=place, got=repr(link), expected="an address that starts with https://")
    return link
