"""A site through yt-dlp: what is behind a link, and its bytes.

Only this module, `network_policy` and `ytdlp_errors` import yt-dlp.
"""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

from yt_dlp.downloader import get_suitable_downloader
from yt_dlp.networking import Request

from curate.documents.json_reader import read_json
from curate.errors import DataError
from curate.files import write_atomically
from curate.redaction import redact_url
from curate.sources.hosts import find_refusal
from curate.sources.youtube.archive import make_id
from curate.sources.youtube.failures import FetchError, explain, fail
from curate.sources.youtube.links import list_link
from curate.sources.youtube.network_policy import GuardedYoutubeDL, YtdlpLogger
from curate.sources.youtube.video_info import LISTS, Entry, Video, as_clip, find_entries, shorter_side_px, take_section
from curate.sources.youtube.ytdlp_errors import explain_error

logger = logging.getLogger(__name__)
_LIVE_STATES = {"is_live": "it is live", "is_upcoming": "it has not started", "post_live": "it has only just ended"}
_MAX_INDIRECTIONS = 6  # pages that only refer to another page
_TIMEOUT_S = 20
_DOWNLOADERS = {"BunnyCdnFD", "DashSegmentsFD", "F4mFD", "HlsFD", "HttpFD", "IsmFD", "SoopVodFD"}
_GENERIC = frozenset({"generic", "html5mediaembed", "quotedhtml"})  # their IDs are the last word of the page's URL


@dataclass(frozen=True)
class SessionOptions:
    """How to reach sites.

    Attributes:
        max_height: Largest shorter side in pixels.
        cookies: Text of a cookie file.
        allow_private: Whether hosts that are not public may be contacted.
        newest: Most entries of a playlist, from its first on; None for all.
        cache: Folder for what yt-dlp learns about a site's player.
        pause_after_failure: Waits before another attempt, given the number of failures.
        count_bytes: Called with the number of received bytes; may wait, to stay below a rate.
        check_stop: Raises if all work is to end.
    """

    max_height: int
    cookies: str | None
    allow_private: bool
    newest: int | None
    cache: Path
    pause_after_failure: Callable[[int], None]
    count_bytes: Callable[[int], None]
    check_stop: Callable[[], None]


class Session:
    """yt-dlp under our rules: no user configuration, no output, no hosts that are not public.

    A session belongs to one thread, except for `request`.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._options = options
        self._warnings: list[str] = []
        self._report: Callable[[int, int | None], None] = lambda *_: None
        self._counted: int | None = (
            0  # bytes counted for the rate limit; None until the size of a partial file is known
        )
        self._ydl: Any = open_downloader(self._make_parameters(), options.allow_private)

    def close(self) -> None:
        """Close connections."""
        self._ydl.close()

    def look_up(self, link: str, extractor: str | None = None) -> Video | list[Entry]:
        """Ask the site what is behind a link: one video, or the entries of a playlist.

        Raises:
            FetchError: There is nothing to fetch.
        """
        logger.info("%s: asking the site", redact_url(link))
        info: Any = {"_type": "url", "url": link, "ie_key": extractor}
        section: tuple[float, float | None] | None = None
        with self._explaining():
            for _ in range(_MAX_INDIRECTIONS):
                section = take_section(info) or section
                if info.get("_type") == "url_transparent":
                    info = self._ydl.process_ie_result(dict(info), download=False)
                elif info.get("_type") == "url":
                    info = self._ydl.extract_info(info["url"], download=False, ie_key=info.get("ie_key"), process=False)
                if not info:
                    raise fail("unsupported", "the page has no video")
                if info.get("_type", "video") not in ("url", "url_transparent"):
                    break
            if info.get("_type") in LISTS:
                return list(find_entries(link, self._flatten(info), self._options.newest, self._options.check_stop))
            video = self._describe(link, self._choose_format(info), None)
        return replace(video, section=as_clip(section, video.duration_s)) if section else video

    def look_up_entry(self, entry: Entry) -> Video | list[Entry]:
        """Look up an entry of a playlist or page, without a request where the page has described it already.

        Raises:
            FetchError: There is nothing to fetch.
        """
        if entry.number is None:
            return self.look_up(entry.link, entry.extractor)
        info = entry.info
        if info is None:
            found = self.look_up(entry.link, entry.extractor)
            siblings = found if isinstance(found, list) else []
            info = next((one.info for one in siblings if one.number == entry.number), None)
        if info is None:
            raise fail("not_found", f"the page no longer has a video {entry.number}")
        with self._explaining():
            return self._describe(entry.link, self._choose_format(info), entry.number)

    def download(self, video: Video, file: Path, report: Callable[[int, int | None], None]) -> None:
        """Download the whole file; a partial one is resumed.

        Args:
            video: From `look_up`.
            file: Where to write; until it is complete its name ends with `.part`.
            report: Called with bytes done and bytes in total.

        Raises:
            FetchError: The download failed.
        """
        self._warnings.clear()
        self._report = report
        is_partial = any(file.parent.glob(f"{file.name}*.part"))
        self._counted = None if is_partial else 0
        logger.info("%s: %s download", file.name, "resuming the" if is_partial else "starting the")
        for _ in range(2):
            partial = _PartialFile(file.with_name(f"{file.name}.part")) if video.is_direct else None
            self._ydl.on_response = partial.check if partial else None
            try:
                is_complete = self._download(video, file)
                break
            except _FileChangedError:
                logger.info("%s: the site's file has changed, starting again", file.name)
                if partial:
                    partial.delete()
            finally:
                self._ydl.on_response = None
        else:
            raise fail("no_network", "the site's file keeps changing")
        if not is_complete:
            raise FetchError(explain(self._warnings[-1] if self._warnings else "the download failed"))

    def request(self, video: Video, url: str, first: int | None, last: int | None) -> Any:
        """Open a URL that belongs to a video, from byte `first` to `last`; raises what yt-dlp raises."""
        self._options.check_stop()
        headers = dict(video.info.get("http_headers") or {}) | {"Accept-Encoding": "identity"}
        if first is not None:
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
        self._check_url(url)
        return self._ydl.urlopen(Request(url, headers=headers))

    def _download(self, video: Video, file: Path) -> bool:
        info = dict(video.info)
        with self._explaining():
            # for live and rare protocols yt-dlp runs programs, such as ffmpeg and mpv, which would reach any host
            downloader: Any = get_suitable_downloader(info, self._ydl.params)  # pyright: ignore[reportArgumentType]
            if downloader.__name__ not in _DOWNLOADERS:
                raise fail("unsupported", f"the protocol {video.protocol} is not supported")
            try:
                return self._ydl.dl(str(file), info)[0]
            except Exception as error:
                if "ffmpeg could not be found" not in str(error):
                    raise
                # yt-dlp wanted ffmpeg to download it, see "ffmpeg_location"
                raise fail("unsupported", "the stream is encrypted or split in a way that is not supported") from error

    # ------------------------------------------------------------------ what is behind a link

    def _flatten(self, info: dict[str, Any]) -> dict[str, Any]:
        """Replace the tabs of a channel by the list of all its videos, which alone knows the newest of them."""
        channel = str(info.get("channel_id") or "")
        if self._options.newest is None or not channel.startswith("UC"):
            return info
        entries = info.get("entries")
        if not isinstance(entries, list) or not any(one and one.get("_type") in LISTS for one in entries):
            return info
        uploads = list_link(f"UU{channel[2:]}")
        return self._ydl.extract_info(uploads, download=False, process=False) or info

    def _choose_format(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return all data of one video, with its best format up to the largest size at the top level."""
        state = info.get("live_status") or ("is_live" if info.get("is_live") else None)
        if state in _LIVE_STATES and not (state == "post_live" and info.get("formats")):
            raise fail("live", _LIVE_STATES[state])
        return self._ydl.process_ie_result(dict(info), download=False)

    def _describe(self, link: str, info: dict[str, Any], number: int | None) -> Video:
        if info.get("is_live"):
            raise fail("live", _LIVE_STATES["is_live"])
        extractor = str(info.get("extractor_key") or info.get("extractor") or "generic").lower()
        page, site_id = info.get("webpage_url") or link, str(info["id"])
        video_id, origin = site_id, f"{extractor}:{site_id}"
        if extractor in _GENERIC:
            extractor, page = "generic", link
            video_id = origin = Entry(urldefrag(link).url, number=number).name
            site_id = make_id(video_id)
        self._check_url(str(info["url"]))
        day = str(info.get("upload_date") or "")
        duration = info.get("duration")
        return Video(
            extractor=extractor,
            id=video_id,
            site_id=site_id,
            origin=origin,
            link=page,
            title=info.get("title"),
            uploader=info.get("uploader") or info.get("channel"),
            licence=info.get("license"),
            upload_date=date(int(day[:4]), int(day[4:6]), int(day[6:])).isoformat() if len(day) == 8 else None,
            duration_s=float(duration) if duration else None,
            size=info.get("filesize") or info.get("filesize_approx"),
            available_at=float(info.pop("available_at", None) or 0),  # yt-dlp's own wait cannot be interrupted
            info=info,
        )

    def _select_format(self, context: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Yield the best format with a picture; `context` has the formats sorted, best last."""
        with_picture = [
            one for one in context["formats"] if one.get("vcodec") != "none" and one.get("protocol") != "mhtml"
        ]
        low_enough = [one for one in with_picture if (shorter_side_px(one) or 0) <= self._options.max_height]
        known_size = [one for one in low_enough if shorter_side_px(one)]
        if with_picture and not low_enough:
            sides = ", ".join(map(str, sorted({shorter_side_px(one) or 0 for one in with_picture})))
            detail = f"no format has a shorter side of {self._options.max_height} pixels or less; available: {sides}"
            raise fail("no_format", detail, advice="Allow more with --max-height.")
        yield from (known_size or low_enough)[-1:]

    # ------------------------------------------------------------------ yt-dlp

    def _make_parameters(self) -> dict[str, Any]:
        options = self._options
        return {
            "format": self._select_format,
            # detectors need no sound: without it there is less to download and nothing to merge
            "format_sort": ["res", "vcodec:h264", "+hasaud", "ext:mp4"],
            "allow_multiple_video_streams": False,
            "quiet": True,
            "noprogress": True,
            "logger": YtdlpLogger(self._warnings),
            "color": "never",
            "progress_hooks": [self._on_progress],
            "cachedir": str(options.cache),
            "cookiefile": io.StringIO(options.cookies) if options.cookies is not None else None,  # never written back
            "usenetrc": False,
            "noplaylist": True,  # a link to a video that also names a playlist means the video
            "geo_bypass": False,
            "enable_file_urls": False,
            "js_runtimes": {"deno": {}, "node": {}},
            "buffersize": 65536,  # the rate limit is applied between two blocks
            "noresizebuffer": True,
            "socket_timeout": _TIMEOUT_S,
            "retries": 3,
            "fragment_retries": 3,
            "extractor_retries": 1,
            "retry_sleep_functions": {"http": self._sleep, "fragment": self._sleep, "extractor": self._sleep},
            "skip_unavailable_fragments": False,  # a video with a gap is not complete
            "updatetime": False,
            "hls_prefer_native": True,
            "external_downloader": None,
            "ffmpeg_location": str(options.cache / "none"),  # yt-dlp must not run ffmpeg, which checks no addresses
            "overwrites": True,
        }

    def _sleep(self, n: int) -> float:
        logger.info("attempt %d failed; retrying", n + 1)
        self._options.pause_after_failure(n + 1)
        return 0.0

    def _on_progress(self, status: Mapping[str, Any]) -> None:
        self._options.check_stop()
        total = status.get("total_bytes") or status.get("total_bytes_estimate")
        done = int(status.get("downloaded_bytes") or 0)
        if self._counted is not None:
            self._options.count_bytes(max(0, done - self._counted))
        self._counted = done
        self._report(done, int(total) if total else None)

    def _check_url(self, url: str) -> None:
        reason = find_refusal(url, allow_private=self._options.allow_private)
        if reason and not url.startswith("data:"):
            raise fail("refused_address", reason)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (FetchError, _FileChangedError):
            raise
        except Exception as error:
            raise explain_error(error) from error


class _FileChangedError(Exception):
    """The site's file is no longer the one that the partial file belongs to."""


class _PartialFile:
    """A partial file, with a note beside it that identifies the site's file.

    A server that has another file by now answers a request for the rest all the same, and two files would become one.

    Args:
        part: The partial file; deleted if its note is missing.
    """

    def __init__(self, part: Path) -> None:
        self._part = part
        self._note = part.with_name(part.name + ".json")
        if not self._note.exists():
            part.unlink(missing_ok=True)

    def check(self, response: Any) -> None:
        """Compare a response with the note; the first response is written to it.

        Raises:
            _FileChangedError: The response is for another file.
        """
        identity = _identify(response)
        if not self._part.exists():
            write_atomically(self._note, lambda file: file.write(json.dumps(identity).encode()))
            return
        try:
            known = read_json(self._note, "note of a partial file", dict[str, str | None])
        except DataError:  # then nothing is known about the file that it belongs to
            known = dict.fromkeys(identity, "")
        if any(known.get(name) is not None and identity[name] != known[name] for name in identity if identity[name]):
            response.close()
            raise _FileChangedError

    def delete(self) -> None:
        """Delete file and note."""
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _identify(response: Any) -> dict[str, str | None]:
    """The headers that tell one state of a file from another."""
    part = re.match(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range") or "")
    return {
        "etag": response.headers.get("ETag"),
        "last_modified": response.headers.get("Last-Modified"),
        "total": part[1] if part else response.headers.get("Content-Length") if response.status == 200 else None,
    }


def open_downloader(parameters: dict[str, Any], allow_private: bool) -> GuardedYoutubeDL:
    """Make a yt-dlp whose every request is checked. Tests replace this to add a site of their own."""
    return GuardedYoutubeDL(parameters, allow_private=allow_private)


def youtube_id(link: str) -> str | None:
    """Return the ID in a link to one YouTube video, in any spelling, without a request; None for other links."""
    from yt_dlp.extractor.youtube import YoutubeIE

    return YoutubeIE.get_temp_id(link) if YoutubeIE.suitable(link) else None


def find_runtimes() -> dict[str, tuple[str, bool]]:
    """Return the JavaScript runtimes that yt-dlp finds: name → (version, whether it is new enough)."""
    from yt_dlp.utils._jsruntime import DenoJsRuntime, NodeJsRuntime

    runtimes = {"deno": DenoJsRuntime().info, "node": NodeJsRuntime().info}
    return {name: (info.version, bool(info.supported)) for name, info in runtimes.items() if info}
