"""Why a link could not be fetched, told apart, each with what the reader can do about it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "not_found", "forbidden", "gone", "bot_check", "rate_limited", "geo", "age", "private", "drm", "live", "no_format",
    "no_network", "refused_address", "no_ffmpeg", "unsupported", "other",
]  # fmt: skip
Kind = Literal["network", "unsupported", "refused", "broken", "other"]

STOPPING: frozenset[Reason] = frozenset({"bot_check", "rate_limited"})  # going on would make it worse
PASSING: frozenset[Reason] = frozenset({*STOPPING, "forbidden", "no_network", "no_ffmpeg", "other"})  # may work later
WORTH_ASKING_AGAIN: frozenset[Reason] = frozenset({"forbidden", "gone"})  # addresses of media expire

GET_FFMPEG = "Install ffmpeg: `sudo apt install ffmpeg`, or `brew install ffmpeg`."
GET_RUNTIME = "`pip install deno`, or install Node.js 22 or newer"
FREE_SPACE = "Free some space and run again; it goes on where it stopped."
_UPDATE = "Update with `pip install -U 'yt-dlp[default]'`"

_ADVICE: dict[Reason, str] = {
    "not_found": "The video was removed or the link is wrong; take the link out.",
    "forbidden": f"The site refused the file twice. {_UPDATE}, and see that a JavaScript runtime is there "
    f"({GET_RUNTIME}); then run again.",
    "gone": f"The site says the file is gone, also after asking again. {_UPDATE}, and see that a JavaScript runtime "
    f"is there ({GET_RUNTIME}); else take the link out.",
    "bot_check": "The site asks to prove that you are no robot. Wait some hours, or export the cookies of a browser "
    "that is signed in and give them with --cookies FILE; an account that fetches much may be suspended.",
    "rate_limited": "The site asks for patience. Run the same command again in an hour; it goes on where it stopped. "
    "--sleep 10 and --workers 1 keep below the limit.",
    "geo": "The video is not shown in your country; take the link out, or run from where it is shown.",
    "age": "The video asks for a proof of age: give cookies of a signed-in account with --cookies FILE.",
    "private": "Only signed-in or paying viewers see this video; take the link out, or give cookies of an account "
    "that may see it with --cookies FILE.",
    "drm": "The video is encrypted against copying and cannot be fetched; take the link out.",
    "live": "It is live or has not begun; run again when the recording is there.",
    "no_format": f"The site offers no format with a picture, or hides them. {_UPDATE}, and see that a JavaScript "
    f"runtime is there ({GET_RUNTIME}).",
    "no_network": "The site was not reached, or the connection broke off. Check the connection and run again; what "
    "is there already is kept.",
    "refused_address": "Only http and https links to public hosts are followed; --allow-private lifts that.",
    "no_ffmpeg": GET_FFMPEG,
    "unsupported": "Give the address of a page with a video, starting with https://, or of a video file.",
    "other": f"{_UPDATE} and run again.",
}  # fmt: skip

# "other" that no newer yt-dlp mends
_SPECIAL: tuple[tuple[str, str], ...] = (
    (r"redirect loop|redirect error", "The site sends requests in circles; take the link out."),
    (r"did not get any data blocks", "The site sent nothing; run again later, or take the link out."),
)
_FULL_DISK = re.compile(
    r"no space left on device|disk quota exceeded|read-only file system|errno 27\b|file too large", re.IGNORECASE
)

# how files of videos begin: MP4, Matroska, FLV, AVI, Ogg, MPEG, ASF, HLS, TS
_BEGINNINGS = re.compile(
    rb"....(?:ftyp|moov|mdat|free|wide|skip)|\x1aE\xdf\xa3|FLV|RIFF....AVI|OggS|\x00\x00\x01[\xb3\xba]|0&\xb2u|#EXTM3U"
    rb"|G.{187}G",
    re.DOTALL,
)

# in this order: the first that fits; what sites, and yt-dlp for them, say
_TELLING: tuple[tuple[Reason, str], ...] = (
    ("bot_check", r"not a bot|not a robot|captcha|unusual traffic"),
    ("rate_limited", r"isn't available, try again later|rate.?limit|too many requests"),
    ("age", r"confirm your age|age.?restricted|age.?verification|age.?gate|inappropriate for some users"),
    ("private", r"members.?only|join this channel|channel's members|member-exclusive|premium members|requires payment"),
    ("private", r"private video|(?:video|playlist|content) is private|registered users|subscribers"),
    ("private", r"\blog ?in\b|\bsign in\b"),
    ("geo", r"available in your (?:location|region)|from your (?:location|country)|in your country|geo.?restrict"),
    ("drm", r"\bdrm\b|widevine|fairplay|playready"),
    (
        "live",
        r"live event will begin|live event has ended|premieres? (?:in|will)|live ?stream|not (?:currently )?live"
        r"|is offline|starts in",
    ),
    (
        "not_found",
        r"video unavailable|(?:video|content|page|playlist|account|channel)(?: is| has been| was)?"
        r"(?: (?:no longer|not) available| removed| deleted| terminated| unavailable)|isn't available"
        r"|does(?: not|n't) exist|been terminated|been removed|looks truncated|incomplete youtube id|unviewable",
    ),
    (
        "refused_address",
        r"unsupported url scheme|file:// urls are disabled|unknown url type|redirection to url .* is not allowed",
    ),
    ("no_network", r"bytes read, \d+ more expected|timed out|connection (?:reset|refused|aborted)|giving up after"),
    ("no_format", r"requested format is not available|no video formats found|only images are available"),
    ("no_ffmpeg", r"ffmpeg (?:could not be found|is not installed|not found)"),
    ("unsupported", r"unsupported url|no suitable extractor|is not a valid url|no media found|no video could be found"),
)  # fmt: skip
_BY_STATUS: dict[int, Reason] = {
    401: "private",
    402: "private",
    403: "forbidden",
    404: "not_found",
    410: "gone",
    429: "rate_limited",
    451: "geo",
}


@dataclass(frozen=True)
class Failure:
    """Why a link gave no video.

    Attributes:
        reason: one of the JSON contract.
        advice: what can be done, as sentences.
        detail: what the site or the program said.
        status: of the HTTP answer; None where it was none.
        retry_after_s: how long the site asks to wait; None where it does not say.
        is_disk: whether the disk takes no more.
    """

    reason: Reason
    advice: str
    detail: str = ""
    status: int | None = None
    retry_after_s: float | None = None
    is_disk: bool = False

    @property
    def stops(self) -> bool:
        """Whether the other links would fail as well, or make it worse."""
        return self.is_disk or self.reason in STOPPING

    @property
    def word(self) -> str:
        """The reason, as part of a sentence."""
        return "a full disk" if self.is_disk else self.reason

    def __str__(self) -> str:
        """What was said, and what can be done."""
        said = self.detail.strip().rstrip(".")
        return f"{said}. {self.advice}" if said else self.advice


class FetchError(Exception):
    """Carries a `Failure` through the fetching of one link."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.reason}: {failure.detail}")
        self.failure = failure


def fail(reason: Reason, detail: str, *, advice: str | None = None) -> FetchError:
    """An error for a reason that is known, with its usual advice unless another is given."""
    return FetchError(Failure(reason, advice or _ADVICE[reason], detail))


def damaged(detail: str) -> FetchError:
    """An error for a video that is one, and cannot be read to its end."""
    advice = "The file is damaged or cut off at its site; run again later, or take the link out."
    return fail("other", detail, advice=advice)


def unreadable(fact: str, head: bytes) -> FetchError:
    """An error for what cannot be read as a video; how it begins tells a damaged one from what is none."""
    if (told := explain(fact)).is_disk:
        return FetchError(told)
    if _BEGINNINGS.match(head):
        return damaged(f"the video is damaged or cut off: {fact}")
    return fail("unsupported", f"what came is not a video: {fact}")


def explain(
    message: str,
    *,
    kind: Kind = "other",
    status: int | None = None,
    countries: Sequence[str] = (),
    retry_after_s: float | None = None,
) -> Failure:
    """Find the reason behind an error message, an HTTP status and what kind of error it was.

    Args:
        message: what the error said.
        kind: what the error was by its type.
        status: of the HTTP answer that was at the bottom of it, if any.
        countries: where the video is shown, where the site tells.
        retry_after_s: how long the site asks to wait.
    """
    detail = _tidy(message)
    if full := _FULL_DISK.search(detail):
        return Failure("other", FREE_SPACE, f"the disk takes no more: {full[0]}", is_disk=True)
    if status is None and (match := re.search(r"http error (\d{3})", detail, re.IGNORECASE)):
        status = int(match[1])  # after its last try yt-dlp keeps no more than the words
    reason = _find_reason(detail, kind, status, countries)
    advice = _ADVICE[reason]
    if reason == "geo" and countries:
        advice = f"The video is shown only in {', '.join(countries)}; take the link out, or run from there."
    if reason == "other" and status is not None and status >= 500:
        advice = "The site itself has a fault; run again later."
    if reason == "other":
        advice = next((told for pattern, told in _SPECIAL if re.search(pattern, detail, re.IGNORECASE)), advice)
    return Failure(reason, advice, detail, status, retry_after_s)


def _find_reason(detail: str, kind: Kind, status: int | None, countries: Sequence[str]) -> Reason:
    if kind == "refused":
        return "refused_address"
    if countries:
        return "geo"
    text = detail.lower().replace("’", "'")
    told: Reason | None = next((reason for reason, pattern in _TELLING if re.search(pattern, text)), None)
    if status is not None and told == "no_network":
        told = None  # the site answered
    if told:
        return told
    if status is not None:
        return _BY_STATUS.get(status, "other")
    by_kind: dict[Kind, Reason] = {"network": "no_network", "broken": "no_network", "unsupported": "unsupported"}
    return by_kind.get(kind, "other")


def _tidy(message: str) -> str:
    """The first sentence's worth of what yt-dlp says, without its colours and its own hints."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", message).strip()
    text = re.sub(r"^(?:ERROR:\s*)?(?:\[[\w:.+-]+\]\s*)?(?:Got error:\s*)?", "", text)
    text = re.split(r"; please report this issue|\. Use --cookies|\s+\(caused by|\. Use --list-formats", text)[0]
    return " ".join(text.split())[:300]
