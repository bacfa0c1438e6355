"""Reasons why a link fails, recognised from messages and statuses, each with advice."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from curate.redaction import redact_text
from curate.sources.containers import find_playlist

Reason = Literal[
    "not_found", "forbidden", "gone", "bot_check", "rate_limited", "geo", "age", "private", "drm", "live", "no_format",
    "no_network", "refused_address", "no_ffmpeg", "unsupported", "other",
]  # fmt: skip
Kind = Literal["network", "unsupported", "refused", "broken", "other"]

STOPPING: frozenset[Reason] = frozenset({"bot_check", "rate_limited"})  # more requests would make it worse
TRANSIENT: frozenset[Reason] = frozenset({*STOPPING, "forbidden", "no_network", "no_ffmpeg", "other"})  # may work later
ASK_AGAIN: frozenset[Reason] = frozenset({"forbidden", "gone"})  # media URLs expire

GET_FFMPEG = "Install ffmpeg: `sudo apt install ffmpeg`, or `brew install ffmpeg`."
GET_RUNTIME = "`pip install deno`, or install Node.js 22 or newer"
FREE_SPACE = "Free some space and run again; downloads resume."
_UPDATE = "Update with `pip install -U 'yt-dlp[default]'`"

_ADVICE: dict[Reason, str] = {
    "not_found": "The video was removed or the link is wrong; remove the link.",
    "forbidden": f"The site refused the file twice. {_UPDATE}, check that a JavaScript runtime is installed "
    f"({GET_RUNTIME}), and run again.",
    "gone": f"The site says the file is gone, also for a new media URL. {_UPDATE}, and check that a JavaScript runtime "
    f"is installed ({GET_RUNTIME}); otherwise remove the link.",
    "bot_check": "The site requires proof that you are not a bot. Wait some hours, or export the cookies of a browser "
    "that is signed in and pass them with --cookies FILE; accounts that download much may be suspended.",
    "rate_limited": "The site limits the number of requests. Run the same command again in an hour; downloads resume. "
    "--sleep 10 and --workers 1 stay below the limit.",
    "geo": "The video is not available in your country; remove the link, or run where it is available.",
    "age": "The video is age-restricted: pass the cookies of a signed-in account with --cookies FILE.",
    "private": "The video is for signed-in or paying viewers only; remove the link, or pass the cookies of an account "
    "that can see it with --cookies FILE.",
    "drm": "The video is copy-protected (DRM) and cannot be fetched; remove the link.",
    "live": "The video is live or has not started; run again when the recording is available.",
    "no_format": f"The site offers no video format, or hides the formats. {_UPDATE}, and check that a JavaScript "
    f"runtime is installed ({GET_RUNTIME}).",
    "no_network": "The site could not be reached, or the connection broke. Check the connection and run again; "
    "finished and partial files are kept.",
    "refused_address": "Only http and https links to public hosts are followed; --allow-private also allows private "
    "hosts, though never the metadata address of a cloud.",
    "no_ffmpeg": GET_FFMPEG,
    "unsupported": "Give the URL of a page with a video, starting with https://, or of a video file.",
    "other": f"{_UPDATE} and run again.",
}  # fmt: skip

# failures of reason "other" that a newer yt-dlp does not fix
_OTHER_ADVICE: tuple[tuple[str, str], ...] = (
    (r"redirect loop|redirect error", "The site redirects in a loop; remove the link."),
    (r"did not get any data blocks", "The site sent no data; run again later, or remove the link."),
)
FULL_DISK = re.compile(
    r"no space left on device|disk quota exceeded|read-only file system|file too large", re.IGNORECASE
)

# the first bytes of video files: MP4, Matroska, FLV, AVI, Ogg, MPEG, ASF, TS
_FILE_SIGNATURES = re.compile(
    rb"....(?:ftyp|moov|mdat|free|wide|skip)|\x1aE\xdf\xa3|FLV|RIFF....AVI|OggS|\x00\x00\x01[\xb3\xba]|0&\xb2u"
    rb"|G.{187}G",
    re.DOTALL,
)

# messages of sites and of yt-dlp; the first pattern that matches decides
_PATTERNS: tuple[tuple[Reason, str], ...] = (
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
    """Why a link failed.

    Attributes:
        reason: Reason of the JSON contract.
        advice: What the user can do, in sentences.
        detail: Message of the site or program.
        status: HTTP status; None without a response.
        retry_after_s: How long the site asks to wait; None where it does not.
        is_disk: Whether the disk is full.
    """

    reason: Reason
    advice: str
    detail: str = ""
    status: int | None = None
    retry_after_s: float | None = None
    is_disk: bool = False

    @property
    def stops(self) -> bool:
        """Whether to stop the batch: the other links would fail as well, or make it worse."""
        return self.is_disk or self.reason in STOPPING

    @property
    def word(self) -> str:
        """The reason for use in a sentence."""
        return "a full disk" if self.is_disk else self.reason

    def __str__(self) -> str:
        detail = self.detail.strip().rstrip(".")
        return f"{detail}. {self.advice}" if detail else self.advice


class FetchError(Exception):
    """Carries a `Failure`; the message, which goes to the log, contains no credentials."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.reason}: {redact_text(failure.detail)}")
        self.failure = failure


def fail(reason: Reason, detail: str, *, advice: str | None = None) -> FetchError:
    """Make the error of a known reason; `advice` replaces the usual one."""
    return FetchError(Failure(reason, advice or _ADVICE[reason], detail))


def damaged(detail: str) -> FetchError:
    """Make the error of a video that is damaged or truncated on its site."""
    advice = "The file is damaged or truncated on its site; run again later, or remove the link."
    return fail("other", detail, advice=advice)


def unreadable(fact: str, head: bytes) -> FetchError:
    """Make the error of a file that cannot be read; its first bytes tell a damaged video from another kind of file."""
    if (failure := explain(fact)).is_disk:
        return FetchError(failure)
    if kind := find_playlist(head):
        return fail("unsupported", f"the file is a playlist ({kind}), not a video")
    if _FILE_SIGNATURES.match(head):
        return damaged(f"the video is damaged or truncated: {fact}")
    return fail("unsupported", f"the file is not a video: {fact}")


def explain(
    message: str,
    *,
    kind: Kind = "other",
    status: int | None = None,
    countries: Sequence[str] = (),
    retry_after_s: float | None = None,
) -> Failure:
    """Find the reason of an error.

    Args:
        message: Text of the error.
        kind: Kind of error by its type.
        status: HTTP status that caused it, if any.
        countries: Countries in which the video is available, where the site says so.
        retry_after_s: How long the site asks to wait.
    """
    detail = _tidy(message)
    if full := FULL_DISK.search(detail):
        return Failure("other", FREE_SPACE, f"the disk is full: {full[0]}", is_disk=True)
    if status is None and (match := re.search(r"http error (\d{3})", detail, re.IGNORECASE)):
        status = int(match[1])  # after its last attempt yt-dlp keeps only the text
    reason = _find_reason(detail, kind, status, countries)
    advice = _ADVICE[reason]
    if reason == "geo" and countries:
        advice = f"The video is available only in {', '.join(countries)}; remove the link, or run there."
    if reason == "other" and status is not None and status >= 500:
        advice = "The site has an internal error; run again later."
    if reason == "other":
        advice = next((known for pattern, known in _OTHER_ADVICE if re.search(pattern, detail, re.IGNORECASE)), advice)
    return Failure(reason, advice, detail, status, retry_after_s)


def _find_reason(detail: str, kind: Kind, status: int | None, countries: Sequence[str]) -> Reason:
    if kind == "refused":
        return "refused_address"
    if countries:
        return "geo"
    text = detail.lower().replace("’", "'")
    reason: Reason | None = next((reason for reason, pattern in _PATTERNS if re.search(pattern, text)), None)
    if reason and not (reason == "no_network" and status is not None):  # with a status, the site did respond
        return reason
    if status is not None:
        return _BY_STATUS.get(status, "other")
    by_kind: dict[Kind, Reason] = {"network": "no_network", "broken": "no_network", "unsupported": "unsupported"}
    return by_kind.get(kind, "other")


def _tidy(message: str) -> str:
    """Cut yt-dlp's message: no colours, prefixes or hints of its own, at most 300 characters."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", message).strip()
    text = re.sub(r"^(?:ERROR:\s*)?(?:\[[\w:.+-]+\]\s*)?(?:Got error:\s*)?", "", text)
    text = re.split(r"; please report this issue|\. Use --cookies|\s+\(caused by|\. Use --list-formats", text)[0]
    return " ".join(text.split())[:300]
