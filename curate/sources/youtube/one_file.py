"""One video, or one clip of it, from its site to a finished file: fetched, measured, named, noted."""

import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from curate.errors import DataError
from curate.media import VIDEOS
from curate.progress import Progress
from curate.sources.local import describe
from curate.sources.video import VideoIndex, index_video
from curate.sources.youtube.archive import Archive, Key, Record, id_from_link
from curate.sources.youtube.cutting import cut, find_ffmpeg, remux
from curate.sources.youtube.failures import WORTH_ASKING_AGAIN, FetchError, fail
from curate.sources.youtube.found import Video
from curate.sources.youtube.links import Clip
from curate.sources.youtube.outcomes import Got, Wanted
from curate.sources.youtube.relay import Source, open_relay
from curate.sources.youtube.session import Session, is_broken_off

PARTIAL = f"{VIDEOS}/.partial"
FREE_MARGIN = 1_000_000_000  # bytes that must stay free

_DURATION_GRACE_S = 0.5
_SITE_GRACE_S = 1.5  # sites tell whole seconds


@dataclass(frozen=True)
class Rules:
    """How the workers behave towards sites and towards each other.

    Attributes:
        stop: set when all work is to end.
        check_stop: raises then.
        pause: waits so many seconds, and raises then.
        patiently: calls a function, again after a while where the site answers 429.
    """

    stop: threading.Event
    check_stop: Callable[[], None]
    pause: Callable[[float], None]
    patiently: Callable[[Callable[[], tuple[Path, bool]]], tuple[Path, bool]]


@dataclass(frozen=True, eq=False)
class Order:
    """One file to be made.

    Attributes:
        link: as it was given.
        is_page: whether the link leads to this video alone, so that it is known again without asking.
        video: what the site tells.
        clip: None for the whole.
        key: under which the archive keeps it.
    """

    link: str
    is_page: bool
    video: Video
    clip: Clip | None
    key: Key

    @property
    def site_id(self) -> str:
        """The id that names the file; for generic pages, where ids repeat, made from the link."""
        return id_from_link(self.video.id) if self.video.extractor == "generic" else self.video.id


class FileFetcher:
    """Makes files in one dataset folder.

    Args:
        root: the dataset folder.
        archive: of that folder.
        wanted: what of each link.
        rules: how to behave.
        progress: told how far each file is; called from several threads.
    """

    def __init__(self, root: Path, archive: Archive, wanted: Wanted, rules: Rules, progress: Progress) -> None:
        self._root = root
        self._archive = archive
        self._wanted = wanted
        self._rules = rules
        self._progress = progress

    def fetch(self, session: Session, order: Order, ask_again: Callable[[], Video]) -> Got:
        """Fetch one file; where its address has expired, ask once for a new one.

        Raises:
            FetchError: it did not come.
        """
        self._check_feasible(order)
        name = self._archive.name(order.key, order.site_id)
        for file in (self._root / VIDEOS).glob(f"{name}.*"):  # ids hold no wildcards
            told = f"{file.name} is there already, but is not what was fetched"
            raise fail("other", told, advice="Move it away or delete it, then run again.")
        folder = self._root / PARTIAL / order.key.digest
        folder.mkdir(parents=True, exist_ok=True)
        patiently = self._rules.patiently
        try:
            file, is_sure = patiently(lambda: self._bytes(session, order, order.video, folder, name))
        except FetchError as error:
            if error.failure.reason not in WORTH_ASKING_AGAIN:
                raise
            video = ask_again()
            file, is_sure = patiently(lambda: self._bytes(session, order, video, folder, name))
        try:
            return self._finish(order, file, name, is_sure=is_sure)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _check_feasible(self, order: Order) -> None:
        video, clip = order.video, order.clip
        if (clip or "m3u8" in video.protocol) and find_ffmpeg() is None:
            raise fail("no_ffmpeg", "ffmpeg is not there, and clips and HLS streams need it")
        if clip and video.whole_s and clip.start_s >= video.whole_s:
            raise _beyond_the_end(clip, video.whole_s)
        free = shutil.disk_usage(self._root).free
        needed = FREE_MARGIN + (video.size or 0 if clip is None else 0)
        if free < needed:
            told = f"the disk has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are needed"
            raise fail("other", told, advice="Free some space and run again.")

    def _bytes(self, session: Session, order: Order, video: Video, folder: Path, name: str) -> tuple[Path, bool]:
        """Bring the bytes into the partial folder; the whole file, and whether it is surely all that there was."""
        self._rules.check_stop()
        kind = re.sub(r"\W+", "_", video.format_id)[:40]
        suffix = str(video.info.get("ext") or "").lower()
        suffix = suffix if re.fullmatch(r"[a-z0-9]{1,5}", suffix) else "mp4"
        is_direct = video.protocol in ("http", "https")
        is_playlist = "m3u8" in video.protocol and not video.info.get("hls_media_playlist_data")
        if order.clip and (is_direct or is_playlist):
            out = folder / f"clip.{kind}.mp4"
            said = self._cut_remote(session, video, order.clip, out, name)
            if said is None:
                return out, True
            if not is_direct:
                raise fail("other", f"ffmpeg cannot cut it: {said}")
            # a server that cannot begin in the middle: the whole, then
        file = folder / f"{kind}.{suffix}"
        told_total: int | None = None

        def tell(done: int, total: int | None) -> None:
            nonlocal told_total
            told_total = total
            note = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
            self._progress(name, done, total or max(done, 1), note)

        session.download(video, file, tell)
        if order.clip:
            return self._cut_local(file, order.clip, folder / f"clip.{kind}.mp4"), True
        if not is_direct and find_ffmpeg():  # pieces of a stream, one after the other
            whole = folder / f"whole.{kind}.mp4"
            said = remux(file, whole, stop=self._rules.stop)
            self._rules.check_stop()
            return (file if said else whole), True
        return file, not is_direct or told_total is not None

    def _cut_local(self, file: Path, clip: Clip, out: Path) -> Path:
        said = cut(f"file:{file}", clip, out, stop=self._rules.stop, tell=lambda _: None)
        self._rules.check_stop()
        if said:
            raise fail("other", f"ffmpeg cannot cut it: {said}")
        return out

    def _cut_remote(self, session: Session, video: Video, clip: Clip, out: Path, name: str) -> str | None:
        """Let ffmpeg fetch what it needs for a clip, through the relay; what it says went wrong, or None."""
        length_s = float(clip.end_s - clip.start_s)

        def tell(done_s: float) -> None:
            done_s = min(done_s, length_s)
            self._progress(name, round(done_s * 1000), round(length_s * 1000), f"{done_s:.0f} of {length_s:.0f} s")

        source = Source(
            ask=lambda address, first, last: session.ask(video, address, first, last),
            is_broken=is_broken_off,
            chunk_size=(video.info.get("downloader_options") or {}).get("http_chunk_size"),
            take=self._pace(),
            pause=lambda failed: self._rules.pause(min(2.0 ** (failed - 1), 10)),
        )
        with open_relay(source) as relay:
            address = relay.address(str(video.info["url"]))
            is_playlist = "m3u8" in video.protocol
            said = cut(address, clip, out, is_playlist=is_playlist, stop=self._rules.stop, tell=tell)
            self._rules.check_stop()
            if relay.trouble:  # a clip with a hole is not whole, whatever ffmpeg made of it
                raise session.explain(relay.trouble) from relay.trouble
        return said

    def _pace(self) -> Callable[[int], None]:
        """Something to tell of bytes, which waits to keep below the rate."""
        rate, began, taken = self._wanted.rate_limit, time.monotonic(), 0

        def take(size: int) -> None:
            nonlocal taken
            self._rules.check_stop()
            taken += size
            early_s = taken * self._wanted.workers / rate - (time.monotonic() - began) if rate else 0
            if early_s > 0:
                self._rules.stop.wait(early_s)

        return take

    def _finish(self, order: Order, file: Path, name: str, *, is_sure: bool) -> Got:
        """Look whether the file is a video, give it its name, and note it in the archive."""
        video, clip = order.video, order.clip
        try:
            index = index_video(file)
        except DataError as error:
            if clip:
                raise _beyond_the_end(clip, video.whole_s) from error
            raise fail("unsupported", f"what came is not a video: {error.fact}") from error
        if index.fault and not is_sure:
            raise fail("no_network", f"the file broke off: {index.fault}")
        path = f"{VIDEOS}/{name}{file.suffix}"
        notes = self._compare(index, order)
        end_s = float(clip.end_s) if clip else None
        if clip and notes:
            end_s = min(float(clip.end_s), float(clip.start_s) + index.duration_s)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            os.fsync(opened.fileno())
        row = {
            "video_id": name,
            "path": path,
            "origin": order.key.origin,
            "link": video.link,
            "title": video.title,
            "uploader": video.uploader,
            "licence": video.licence,
            "upload_date": video.upload_date,
            "clip_start_s": float(clip.start_s) if clip else None,
            "clip_end_s": end_s,
            "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
            **describe(index),
            "sha256": digest,
        }
        links = (order.link,) if order.is_page else ()
        record = Record(order.key, links, file.stat().st_size, video.whole_s, order.site_id, row)
        self._archive.write(record)  # before the rename: a kill in between costs a little work, and nothing is lost
        os.replace(file, self._root / path)
        if index.fault:
            notes.append(f"the file is damaged: {index.fault}")
        if index.height > self._wanted.max_height:
            notes.append(f"{index.height} pixels high, more than asked, which the site did not tell")
        return Got(order.link, record, True, f"{name}: {'; '.join(notes)}." if notes else None)

    @staticmethod
    def _compare(index: VideoIndex, order: Order) -> list[str]:
        """The measured duration against the asked one, or against what the site tells."""
        clip, whole_s = order.clip, order.video.whole_s
        if clip:
            return _differ(index, float(clip.end_s - clip.start_s), _DURATION_GRACE_S)
        return _differ(index, whole_s, _SITE_GRACE_S) if whole_s else []


def _differ(index: VideoIndex, asked_s: float, grace_s: float) -> list[str]:
    frame_s = index.duration_s / max(index.frames, 1)
    is_alike = abs(index.duration_s - asked_s) <= grace_s + frame_s
    return [] if is_alike else [f"{index.duration_s:.2f} s long instead of {asked_s:.2f} s"]


def _beyond_the_end(clip: Clip, whole_s: float | None) -> FetchError:
    length = f", which is {whole_s:g} s long" if whole_s else ""
    return fail("other", f"the clip {clip} lies beyond the end of the video{length}",
                advice="Give an earlier clip.")  # fmt: skip
