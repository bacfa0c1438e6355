"""What a site says about a link: the entries of a playlist or page, or one video, its section, its formats."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count, islice
from typing import Any

from curate.sources.youtube.links import Clip, encode_spaces

LISTS = ("playlist", "multi_video")
"""yt-dlp's types of several videos."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One item of a playlist or page: a link of its own, or a video that only the page describes.

    Attributes:
        link: Its own link, or the page's.
        extractor: yt-dlp's extractor for it; None lets yt-dlp choose.
        number: Number of a video that only the page describes, from 1.
        info: What the page says about that video; None if the page has to be asked.
    """

    link: str
    extractor: str | None = None
    number: int | None = None
    info: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The link, followed by `#` and the number where the link alone does not identify the video."""
        return self.link if self.number is None else f"{self.link}#{self.number}"


@dataclass(frozen=True, eq=False)
class Video:
    """One video, with the format that was chosen.

    Attributes:
        extractor: The site in lower case; "generic" where IDs repeat from page to page.
        id: The site's ID; for generic pages the link, with the number of the video where there are several.
        site_id: The ID that file names are made of.
        origin: Identifies the recording; clips of one video have the same.
        link: Address of the page.
        title, uploader, licence: None where unknown.
        upload_date: ISO 8601; None where unknown.
        duration_s: Of the whole video, in seconds; None where unknown.
        size: In bytes, possibly estimated; None where unknown.
        info: yt-dlp's data for the download.
        section: The part of the video that the link means, as links to YouTube clips do; None for all of it.
        available_at: Unix time before which the site refuses the file: YouTube's, while an advertisement would run.
    """

    extractor: str
    id: str
    site_id: str
    origin: str
    link: str
    title: str | None
    uploader: str | None
    licence: str | None
    upload_date: str | None
    duration_s: float | None
    size: int | None
    info: Mapping[str, Any] = field(repr=False)
    section: Clip | None = None
    available_at: float = 0.0

    @property
    def format_id(self) -> str:
        """ID of the chosen format."""
        return str(self.info.get("format_id") or "file")

    @property
    def protocol(self) -> str:
        """How the bytes are transferred: "https", "m3u8_native", "http_dash_segments", …."""
        return str(self.info.get("protocol") or "")

    @property
    def is_direct(self) -> bool:
        """Whether the site has the video as one file."""
        return self.protocol in ("http", "https")

    @property
    def is_hls(self) -> bool:
        """Whether it comes as an HLS playlist."""
        return "m3u8" in self.protocol


def find_entries(
    link: str, info: Mapping[str, Any], newest: int | None, check_stop: Callable[[], None]
) -> Iterator[Entry]:
    """Yield the entries of a playlist or page, and of the playlists within, such as the tabs of a channel.

    Args:
        link: Of the playlist or page.
        info: What its site says.
        newest: Most entries of each list, from its first on; None for all. Sites are asked for no more pages than that.
        check_stop: Raises if all work is to end.
    """
    return _find_entries(link, info, newest, check_stop, count(1))


def _find_entries(
    link: str, info: Mapping[str, Any], newest: int | None, check_stop: Callable[[], None], numbers: Iterator[int]
) -> Iterator[Entry]:
    for item in islice(info.get("entries") or (), newest):
        check_stop()
        number = next(numbers)
        if not item:
            continue
        if item.get("_type") in LISTS:
            yield from _find_entries(link, item, newest, check_stop, numbers)
        elif item.get("_type") in ("url", "url_transparent") and item.get("url"):
            yield Entry(encode_spaces(item["url"]), item.get("ie_key"))
        else:
            page = {name: info.get(name) for name in ("extractor", "extractor_key", "webpage_url")}
            yield Entry(link, None, number, {**page, **item})


def take_section(info: dict[str, Any]) -> tuple[float, float | None] | None:
    """Remove start and end in seconds from what a site says, with which yt-dlp would have ffmpeg download."""
    start_s, end_s = info.pop("section_start", None), info.pop("section_end", None)
    return None if start_s is None and end_s is None else (float(start_s or 0), end_s)


def as_clip(section: tuple[float, float | None], duration_s: float | None) -> Clip | None:
    """A section in whole milliseconds; None where its end is unknown, or not after its start."""
    start_s, end_s = section[0], section[1] or duration_s
    if end_s is None or end_s <= start_s:
        return None
    return Clip(*(Fraction(round(1000 * time_s), 1000) for time_s in (start_s, end_s)))


def shorter_side_px(one: Mapping[str, Any]) -> int | None:
    """The shorter side of a format: what `720p` and yt-dlp's `res` mean. An upright video is as large as a wide one.

    Where the site gives one side only, the video is taken for a wide one, 16:9; None where it gives neither.
    """
    width, height = one.get("width"), one.get("height")
    if width and height:
        return min(width, height)
    return height or (width * 9 // 16 if width else None)
