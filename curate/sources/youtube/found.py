"""What a site tells of a link, and how it is to be asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """How to reach a site.

    Attributes:
        max_height: in pixels.
        cookies: the text of a cookie file.
        allow_private: follow links to hosts that are not public.
        cache: a folder for what yt-dlp learns about a site's player.
        pause: waits between attempts, given how many failed.
        take: told of bytes that came; it may wait, to keep below a rate.
        check_stop: raises when all work is to end.
    """

    max_height: int
    cookies: str | None
    allow_private: bool
    cache: Path
    pause: Callable[[int], None]
    take: Callable[[int], None]
    check_stop: Callable[[], None]


@dataclass(frozen=True, eq=False)
class Entry:
    """One item of a playlist or page, which is a link of its own, or a video that the page itself describes.

    Attributes:
        link: its own, or the page's.
        extractor: the only one to use; None lets yt-dlp choose.
        number: of a video that only the page describes, counted from 1.
        info: what the page says of that video; None where the page is to be asked.
    """

    link: str
    extractor: str | None = None
    number: int | None = None
    info: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The link, and the number where the link alone does not tell which video it is."""
        return self.link if self.number is None else f"{self.link}#{self.number}"


@dataclass(frozen=True, eq=False)
class Video:
    """What a site tells of one video.

    Attributes:
        extractor: the site, in small letters; "generic" where ids repeat from page to page.
        id: the site's id; for generic pages the link, with the number of the video where it has several.
        site_id: the id that names files.
        origin: what was filmed; clips of one video have it in common.
        link: the page.
        title, uploader, licence: None where unknown.
        upload_date: ISO 8601.
        whole_s: seconds; None where unknown.
        size: bytes, perhaps estimated.
        info: what yt-dlp needs to fetch it.
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
    whole_s: float | None
    size: int | None
    info: Mapping[str, Any] = field(repr=False)

    @property
    def format_id(self) -> str:
        """Of the format that was chosen."""
        return str(self.info.get("format_id") or "file")

    @property
    def protocol(self) -> str:
        """How its bytes come: "https", "m3u8_native", "http_dash_segments", …."""
        return str(self.info.get("protocol") or "")

    @property
    def is_direct(self) -> bool:
        """Whether its bytes are one file, as the site has it."""
        return self.protocol in ("http", "https")
