"""What a link leads to, and its bytes, by way of yt-dlp; only this module and `guard` know it."""

import io
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

from yt_dlp.downloader import get_suitable_downloader
from yt_dlp.downloader.external import ExternalFD
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError
from yt_dlp.utils import ContentTooShortError, ExtractorError, GeoRestrictedError, UnsupportedError

from curate.sources.youtube.archive import id_from_link
from curate.sources.youtube.failures import FetchError, Kind, explain, fail
from curate.sources.youtube.found import Entry, Options, Video
from curate.sources.youtube.links import tidy_link
from curate.sources.youtube.network_policy import GuardedYoutubeDL, RefusedError, find_refusal
from curate.sources.youtube.partial_file import Begun, ChangedError

_LIVE_STATES = {"is_live": "it is live now", "is_upcoming": "it has not begun", "post_live": "it has only just ended"}
_DEEPEST = 6  # pages that only name another page
_PATIENCE_S = 20
_GENERIC = frozenset({"generic", "html5mediaembed", "quotedhtml"})  # their ids are made from the page's last word


class Session:
    """yt-dlp with our rules: no configuration of the user, no output, no address that is not public.

    A session belongs to one thread, except for `ask`.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._warnings: list[str] = []
        self._hook: Callable[[int, int | None], None] = lambda *_: None
        self._counted: int | None = 0  # bytes that the rate knows of; None until it is told how many came before
        self._ydl: Any = open_downloader(self._parameters(), options.allow_private)

    def close(self) -> None:
        """Let go of connections."""
        self._ydl.close()

    def look_up(self, link: str, extractor: str | None = None) -> Video | list[Entry]:
        """Ask the site what is behind a link: one video, or the entries of a playlist.

        Raises:
            FetchError: there is nothing that can be fetched.
        """
        found: Any = {"_type": "url", "url": link, "ie_key": extractor}
        with self._explaining():
            for _ in range(_DEEPEST):
                if found.get("_type") == "url_transparent":
                    found = self._ydl.process_ie_result(dict(found), download=False)
                elif found.get("_type") == "url":
                    found = self._ydl.extract_info(
                        found["url"], download=False, ie_key=found.get("ie_key"), process=False
                    )
                if not found:
                    raise fail("unsupported", "the page tells of no video")
                if found.get("_type", "video") not in ("url", "url_transparent"):
                    break
            if found.get("_type") in ("playlist", "multi_video"):
                return list(self._entries(link, found))
            return self._describe(link, self._choose(found), None)

    def look_up_entry(self, entry: Entry) -> Video | list[Entry]:
        """Ask for an entry of a playlist or page; nobody is asked where the page has said everything already.

        Raises:
            FetchError: there is nothing that can be fetched.
        """
        if entry.number is None:
            return self.look_up(entry.link, entry.extractor)
        info = entry.info
        if info is None:
            found = self.look_up(entry.link, entry.extractor)
            others = found if isinstance(found, list) else []
            info = next((one.info for one in others if one.number == entry.number), None)
        if info is None:
            raise fail("not_found", f"the page has no video {entry.number} any more")
        with self._explaining():
            return self._describe(entry.link, self._choose(info), entry.number)

    def download(self, video: Video, file: Path, tell: Callable[[int, int | None], None]) -> None:
        """Fetch the whole file; one that was begun before goes on where it stopped.

        Args:
            video: from `look_up`.
            file: what to write; until it is whole its name ends with `.part`.
            tell: told of bytes done and bytes in all.

        Raises:
            FetchError: it did not come.
        """
        self._warnings.clear()
        self._hook = tell
        self._counted = None if any(file.parent.glob(f"{file.name}*.part")) else 0
        for _ in range(2):
            begun = Begun(file.with_name(f"{file.name}.part")) if video.is_direct else None
            self._ydl.watch = begun.check if begun else None
            try:
                done = self._download(video, file)
                break
            except ChangedError:
                if begun:
                    begun.forget()
            finally:
                self._ydl.watch = None
        else:
            raise fail("no_network", "the site's file changes again and again")
        if not done:
            raise FetchError(explain(self._warnings[-1] if self._warnings else "the download failed"))

    def _download(self, video: Video, file: Path) -> bool:
        info = dict(video.info)
        with self._explaining():
            # yt-dlp would let ffmpeg itself on the network for live and rare protocols
            downloader: Any = get_suitable_downloader(info, self._ydl.params)  # pyright: ignore[reportArgumentType]
            if issubclass(downloader, ExternalFD):
                raise fail("unsupported", f"the video comes by {video.protocol}, which is not supported")
            try:
                return self._ydl.dl(str(file), info)[0]
            except Exception as error:
                if "ffmpeg could not be found" not in str(error):
                    raise
                told = "the stream is encrypted, or cut up, in a way that is not supported"
                raise fail("unsupported", told) from error  # it was to be let onto the network; see "ffmpeg_location"

    def ask(self, video: Video, address: str, first: int | None, last: int | None) -> Any:
        """Open an address that belongs to a video; raises what yt-dlp raises."""
        self._options.check_stop()
        headers = dict(video.info.get("http_headers") or {}) | {"Accept-Encoding": "identity"}
        if first is not None:
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
        self._refuse(address)
        return self._ydl.urlopen(Request(address, headers=headers))

    def explain(self, error: BaseException) -> FetchError:
        """The failure behind whatever `ask` raised."""
        return error if isinstance(error, FetchError) else self._explained(error)

    # ------------------------------------------------------------------ what is behind a link

    def _entries(self, link: str, found: Mapping[str, Any]) -> Iterator[Entry]:
        for number, item in enumerate(found.get("entries") or (), 1):
            self._options.check_stop()
            if not item:
                continue
            if item.get("_type") in ("url", "url_transparent") and item.get("url"):
                yield Entry(tidy_link(item["url"]), item.get("ie_key"))
            else:
                page = {name: found.get(name) for name in ("extractor", "extractor_key", "webpage_url")}
                yield Entry(link, None, number, {**page, **item})

    def _choose(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Everything about one video, its best format that is not too high at the top."""
        state = found.get("live_status") or ("is_live" if found.get("is_live") else None)
        if state in _LIVE_STATES and not (state == "post_live" and found.get("formats")):
            raise fail("live", _LIVE_STATES[state])
        return self._ydl.process_ie_result(dict(found), download=False)

    def _describe(self, link: str, info: Mapping[str, Any], number: int | None) -> Video:
        if info.get("is_live"):
            raise fail("live", _LIVE_STATES["is_live"])
        extractor = str(info.get("extractor_key") or info.get("extractor") or "generic").lower()
        page, site_id = info.get("webpage_url") or link, str(info["id"])
        video_id, origin = site_id, f"{extractor}:{site_id}"
        if extractor in _GENERIC:
            extractor, page = "generic", link
            video_id = origin = Entry(urldefrag(link).url, number=number).name
            site_id = id_from_link(video_id)
        self._refuse(str(info["url"]))
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
            whole_s=float(duration) if duration else None,
            size=info.get("filesize") or info.get("filesize_approx"),
            info=info,
        )

    def _pick_format(self, context: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The best format with a picture; `context` has them sorted, the best last."""
        pictures = [one for one in context["formats"] if one.get("vcodec") != "none" and one.get("protocol") != "mhtml"]
        low = [one for one in pictures if (one.get("height") or 0) <= self._options.max_height]
        known = [one for one in low if one.get("height")]
        if pictures and not low:
            heights = ", ".join(map(str, sorted({one["height"] for one in pictures})))
            told = f"no format is {self._options.max_height} pixels high or less; there are {heights}"
            raise fail("no_format", told, advice="Allow more with --max-height.")
        yield from (known or low)[-1:]

    # ------------------------------------------------------------------ yt-dlp

    def _parameters(self) -> dict[str, Any]:
        options = self._options
        return {
            "format": self._pick_format,
            # sound helps no detector: without it there is less to fetch and nothing to merge
            "format_sort": ["height", "vcodec:h264", "+hasaud", "ext:mp4"],
            "allow_multiple_video_streams": False,
            "quiet": True,
            "noprogress": True,
            "logger": _Quiet(self._warnings),
            "color": "never",
            "progress_hooks": [self._on_progress],
            "cachedir": str(options.cache),
            "cookiefile": io.StringIO(options.cookies) if options.cookies is not None else None,  # never written back
            "usenetrc": False,
            "noplaylist": True,  # a link to a video that also names a playlist means the video
            "geo_bypass": False,
            "enable_file_urls": False,
            "js_runtimes": {"deno": {}, "node": {}},
            "buffersize": 65536,  # the rate is kept between two blocks
            "noresizebuffer": True,
            "socket_timeout": _PATIENCE_S,
            "retries": 3,
            "fragment_retries": 3,
            "extractor_retries": 1,
            "retry_sleep_functions": {"http": self._sleep, "fragment": self._sleep, "extractor": self._sleep},
            "skip_unavailable_fragments": False,  # a video with a hole is not whole
            "updatetime": False,
            "hls_prefer_native": True,
            "external_downloader": None,
            "ffmpeg_location": str(options.cache / "none"),  # yt-dlp is not to run it: it would go where it likes
            "overwrites": True,
        }

    def _sleep(self, n: int) -> float:
        self._options.pause(n + 1)
        return 0.0

    def _on_progress(self, status: Mapping[str, Any]) -> None:
        self._options.check_stop()
        total = status.get("total_bytes") or status.get("total_bytes_estimate")
        done = int(status.get("downloaded_bytes") or 0)
        if self._counted is not None:
            self._options.take(max(0, done - self._counted))
        self._counted = done
        self._hook(done, int(total) if total else None)

    def _refuse(self, address: str) -> None:
        why = find_refusal(address, allow_private=self._options.allow_private)
        if why and not address.startswith("data:"):
            raise fail("refused_address", why)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (FetchError, ChangedError):
            raise
        except Exception as error:
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> FetchError:
        chain = list(_causes(error))
        for found in chain:
            if isinstance(found, FetchError | KeyboardInterrupt):
                return found if isinstance(found, FetchError) else fail("other", "interrupted")
        status, retry_after_s, countries = None, None, ()
        kind: Kind = "other"
        for found in chain:
            if isinstance(found, RefusedError):
                kind = "refused"
            elif isinstance(found, urllib.error.HTTPError) and "is not allowed" in str(found.msg):
                return fail("refused_address", "the site sends on to what is not http or https")
            elif isinstance(found, HTTPError):
                status = status or found.status
                retry_after_s = retry_after_s or _retry_after(found)
            elif isinstance(found, GeoRestrictedError) and found.countries:
                countries = tuple(found.countries)
            elif isinstance(found, UnsupportedError):
                kind = "unsupported"
            elif isinstance(found, TransportError | ContentTooShortError | ConnectionError) and kind == "other":
                kind = "network"
        told = next((one for one in chain if isinstance(one, RefusedError | ExtractorError | HTTPError)), error)
        message = getattr(told, "orig_msg", None) or getattr(told, "msg", None) or str(told) or type(told).__name__
        return FetchError(
            explain(str(message), kind=kind, status=status, countries=countries, retry_after_s=retry_after_s)
        )


def open_downloader(parameters: dict[str, Any], allow_private: bool) -> GuardedYoutubeDL:
    """A yt-dlp whose every request passes our check. Tests replace this to add a site of their own."""
    return GuardedYoutubeDL(parameters, allow_private=allow_private)


class _Quiet:
    """A logger that says nothing and keeps the warnings."""

    def __init__(self, warnings: list[str]) -> None:
        self._warnings = warnings

    def debug(self, message: str) -> None:
        """Say nothing."""

    info = debug

    def warning(self, message: str, **_: Any) -> None:
        """Keep it."""
        self._warnings.append(message)

    def error(self, message: str) -> None:
        """Keep it; an exception tells it too."""
        self._warnings.append(message)


def youtube_id(link: str) -> str | None:
    """The id in a link to one YouTube video, however it is written, without asking anyone; None for others."""
    from yt_dlp.extractor.youtube import YoutubeIE

    return YoutubeIE.get_temp_id(link) if YoutubeIE.suitable(link) else None


def is_broken_off(error: BaseException) -> bool:
    """Whether a request may be tried again: the connection broke off, or the server has a fault."""
    if isinstance(error, HTTPError):
        return error.status >= 500
    return isinstance(error, TransportError | IncompleteRead | ConnectionError | TimeoutError)


def find_runtimes() -> dict[str, tuple[str, bool]]:
    """JavaScript runtimes that yt-dlp finds: name → (version, whether it is new enough)."""
    from yt_dlp.utils._jsruntime import DenoJsRuntime, NodeJsRuntime

    found = {"deno": DenoJsRuntime().info, "node": NodeJsRuntime().info}
    return {name: (info.version, bool(info.supported)) for name, info in found.items() if info}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what was at the bottom of it; yt-dlp keeps that in three places."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = getattr(found, "exc_info", None) or (None, None, None)
        waiting += [inner[1], getattr(found, "cause", None), found.__cause__, found.__context__]


def _retry_after(error: HTTPError) -> float | None:
    text = error.response.headers.get("Retry-After")
    if not text:
        return None
    with suppress(ValueError):
        return max(0.0, float(text))
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return None
