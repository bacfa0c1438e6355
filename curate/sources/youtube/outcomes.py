"""What is wanted of every link, and what can become of one."""

import re
from dataclasses import dataclass

from curate.sources.youtube.archive import Record
from curate.sources.youtube.failures import Failure
from curate.sources.youtube.links import Wish


@dataclass(frozen=True)
class Wanted:
    """What is wanted of every link.

    Attributes:
        max_height: in pixels.
        licence: "creative-commons", or None for any.
        max_duration_s: of whole videos.
        cookies: the text of a cookie file.
        rate_limit: bytes a second, of all workers together.
        sleep_s: between the starts of two videos.
        workers: how many at once.
        allow_private: follow links to hosts that are not public.
    """

    max_height: int = 720
    licence: str | None = None
    max_duration_s: float | None = None
    cookies: str | None = None
    rate_limit: float | None = None
    sleep_s: float = 0.0
    workers: int = 2
    allow_private: bool = False


@dataclass(frozen=True)
class Got:
    """A video that is there now; `is_new` tells whether it was fetched in this run."""

    wish: Wish
    record: Record
    is_new: bool
    note: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A link that was left out on purpose; `later` is what the next run is to ask for."""

    wish: Wish
    reason: str
    later: Wish | None = None


@dataclass(frozen=True)
class Failed:
    """A link that gave nothing; `later` is what the next run is to ask for."""

    wish: Wish
    failure: Failure
    later: Wish | None = None


Outcome = Got | Skipped | Failed


_CREATIVE_COMMONS = re.compile(r"creative.?commons|\bcc[ :_-]?(?:by|0)\b", re.IGNORECASE)
_DENIED = re.compile(
    r"\b(?:not|non|no|without)\W+(?:(?:a|under|licensed)\W+)*(?:creative.?commons|cc)\b", re.IGNORECASE
)


def unwanted(wanted: Wanted, licence: str | None, whole_s: float | None) -> str | None:
    """Why a video is to be left out; None where it is wanted. A licence that is not told is none."""
    if wanted.licence and (not licence or _DENIED.search(licence) or not _CREATIVE_COMMONS.search(licence)):
        return (
            f"its licence is {licence!r}, not Creative Commons" if licence else "it tells no Creative Commons licence"
        )
    if wanted.max_duration_s is not None and whole_s is not None and whole_s > wanted.max_duration_s:
        return f"it is {whole_s:g} s long, more than {wanted.max_duration_s:g} s"
    return None
