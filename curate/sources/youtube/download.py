"""One video, or one clip of it, from its site to a finished file: fetched, measured, named, noted."""

import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from curate.errors import DataError
from curate.media import VIDEOS
from curate.progress import Progress
from curate.sources.video import VideoIndex, index_video
from curate.sources.video_library import describe
from curate.sources.youtube.archive import Archive, Key, Record
from curate.sources.youtube.failures import (
    PASSING,
    WORTH_ASKING_AGAIN,
    Failure,
    FetchError,
    damaged,
    explain,
    fail,
    unreadable,
)
from curate.sources.youtube.ffmpeg import CutError, cut, find_ffmpeg, remux
from curate.sources.youtube.ffmpeg_relay import HEAD_SIZE, Source, open_relay
from curate.sources.youtube.found import Video
from curate.sources.youtube.links import Clip, Wish
from curate.sources.youtube.options import Wanted
from curate.sources.youtube.session import Session, is_broken_off
from curate.sources.youtube.throttle import Patience


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


PARTIAL = f"{VIDEOS}/.partial"
FREE_MARGIN = 1_000_000_000  # bytes that must stay free

_DURATION_GRACE_S = 0.5
_SITE_GRACE_S = 1.5  # sites tell whole seconds


@dataclass(frozen=True, eq=False)
class Order:
    """One file to be made.

    Attributes:
        wish: as it was asked for.
        name: the link under which the archive knows the video again without asking.
        video: what the site tells.
        key: under which the archive keeps it.
    """

    wish: Wish
    name: str
    video: Video
    key: Key


class FileFetcher:
    """Makes files in one dataset folder.

    Args:
        root: the dataset folder.
        archive: of that folder.
        wanted: what of each link.
        patience: how to wait.
        progress: told how far each file is; called from several threads.
    """

    def __init__(self, root: Path, archive: Archive, wanted: Wanted, patience: Patience, progress: Progress) -> None:
        self._root = root
        self._archive = archive
        self._wanted = wanted
        self._patience = patience
        self._progress = progress

    def fetch(self, session: Session, order: Order, ask_again: Callable[[], Video]) -> Got:
        """Fetch one file; where its address has expired, ask once for a new one.

        Raises:
            FetchError: it did not come.
        """
        self._check_feasible(order)
        name = self._archive.name(order.key, order.video.site_id)
        for file in (self._root / VIDEOS).glob(f"{name}.*"):  # ids hold no wildcards
            told = f"{file.name} is there already, but is not what was fetched"
            raise fail("other", told, advice="Move it away or delete it, then run again.")
        folder = self._root / PARTIAL / order.key.digest
        folder.mkdir(parents=True, exist_ok=True)
        try:
            try:
                made = self._make(session, order, order.video, folder, name)
            except FetchError as error:
                if error.failure.reason not in WORTH_ASKING_AGAIN:
                    raise
                made = self._make(session, order, ask_again(), folder, name)
            got = self._finish(order, *made, name)
        except FetchError as error:
            if error.failure.reason not in PASSING or not any(folder.glob("*.part")):  # nothing to go on from
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            with suppress(OSError):  # something for the next run is in it
                folder.rmdir()
        shutil.rmtree(folder, ignore_errors=True)
        return got

    def _make(self, session: Session, order: Order, video: Video, folder: Path, name: str) -> tuple[Path, bool]:
        return self._patience.patiently(lambda: self._bytes(session, order, video, folder, name))

    def _check_feasible(self, order: Order) -> None:
        video, clip = order.video, order.wish.clip
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
        self._patience.check_stop()
        clip = order.wish.clip
        kind = re.sub(r"\W+", "_", video.format_id)[:40]
        suffix = str(video.info.get("ext") or "").lower()
        suffix = suffix if re.fullmatch(r"[a-z0-9]{1,5}", suffix) else "mp4"
        is_playlist = "m3u8" in video.protocol and not video.info.get("hls_media_playlist_data")
        out = folder / f"clip.{kind}.mp4"
        if clip and (video.is_direct or is_playlist) and self._cut_remote(session, video, clip, out, name):
            return out, True
        file = folder / f"{kind}.{suffix}"
        is_told = self._download(session, video, file, name)
        if clip:
            self._cut_local(file, video, clip, out, name)
            return out, True
        whole = folder / f"whole.{kind}.mp4"
        if not video.is_direct and find_ffmpeg():  # pieces of a stream, one after the other
            with suppress(CutError):
                remux(file, whole, stop=self._patience.stop)
                return whole, True
            self._patience.check_stop()
        return file, not video.is_direct or is_told

    def _download(self, session: Session, video: Video, file: Path, name: str) -> bool:
        """Bring the whole file; whether its size was told, so that it is surely all that there was."""
        total: int | None = None

        def tell(done: int, told: int | None) -> None:
            nonlocal total
            total = told
            self._progress(name, done // 10**6, -(-told // 10**6) if told else done // 10**6 + 1, "MB")

        for was_begun in (any(file.parent.glob(f"{file.name}*")), False):
            session.download(video, file, tell)
            if not was_begun or _is_sound(file):
                break
            for leftover in file.parent.glob(f"{file.name}*"):  # what was there did not belong to it
                leftover.unlink()
        size = -(-file.stat().st_size // 10**6)
        self._progress(name, size, size, "MB")
        return total is not None

    def _cut_local(self, file: Path, video: Video, clip: Clip, out: Path, name: str) -> None:
        """Cut a clip from a file that came whole."""
        try:
            index_video(file)
        except DataError as error:
            raise unreadable(error.fact, _read_head(file)) from error
        try:
            frames = cut(f"file:{file}", clip, out, stop=self._patience.stop, tell=self._tell_seconds(clip, name))
        except CutError as error:
            self._patience.check_stop()
            raise FetchError(explain(f"ffmpeg cannot cut it: {error}")) from error
        if not frames:
            raise _no_frames(clip, video.whole_s)

    def _cut_remote(self, session: Session, video: Video, clip: Clip, out: Path, name: str) -> bool:
        """Let ffmpeg fetch what it needs for a clip, through the relay; False where the site has only whole files."""
        source = Source(
            ask=lambda address, first, last: session.ask(video, address, first, last),
            is_broken=is_broken_off,
            chunk_size=(video.info.get("downloader_options") or {}).get("http_chunk_size"),
            take=self._patience.take,
            pause=self._patience.pause_after,
        )
        frames, fault = 0, None
        with open_relay(source) as relay:
            address = relay.address(str(video.info["url"]))
            is_playlist = "m3u8" in video.protocol
            tell = self._tell_seconds(clip, name)
            try:
                frames = cut(address, clip, out, is_playlist=is_playlist, stop=self._patience.stop, tell=tell)
            except CutError as error:
                fault = error
            self._patience.check_stop()
            if video.is_direct and relay.lacks_ranges and (fault or relay.trouble):
                return False
            if relay.trouble:  # a clip with a hole is not whole, whatever ffmpeg made of it
                raise session.explain(relay.trouble) from relay.trouble
            head = relay.head
        if fault:
            raise unreadable(str(fault), head) from fault
        if not frames:
            raise _no_frames(clip, video.whole_s)
        return True

    def _tell_seconds(self, clip: Clip, name: str) -> Callable[[float], None]:
        length_s = float(clip.end_s - clip.start_s)
        total = math.ceil(length_s)
        return lambda done_s: self._progress(name, min(round(done_s), total), total, "s")

    def _finish(self, order: Order, file: Path, is_sure: bool, name: str) -> Got:
        """Look whether the file is a video, give it its name, and note it in the archive."""
        video, clip = order.video, order.wish.clip
        try:
            index = index_video(file)
        except DataError as error:
            raise unreadable(error.fact, _read_head(file)) from error
        if index.fault and not is_sure:
            raise fail("no_network", f"the file broke off: {index.fault}")
        path = f"{VIDEOS}/{name}{file.suffix}"
        notes = _compare(index, order)
        end_s = float(clip.end_s) if clip else None
        if clip and notes:
            end_s = float(clip.start_s) + _end_s(index)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            os.fsync(opened.fileno())
        row = {
            "video_id": name,
            "path": path,
            "origin": video.origin,
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
        record = Record(order.key, (order.name,), file.stat().st_size, video.whole_s, video.site_id, row)
        self._archive.write(record)  # before the rename: a kill in between costs a little work, and nothing is lost
        os.replace(file, self._root / path)
        if index.fault:
            notes.append(f"the file is damaged: {index.fault}")
        if index.height > self._wanted.max_height:
            notes.append(f"{index.height} pixels high, more than asked, which the site did not tell")
        return Got(order.wish, record, True, f"{name}: {'; '.join(notes)}." if notes else None)


def _compare(index: VideoIndex, order: Order) -> list[str]:
    """The measured duration against the asked one, or against what the site tells."""
    clip, whole_s = order.wish.clip, order.video.whole_s
    if clip:  # its clock starts where the clip does; the first frame may come later
        return _differ(_end_s(index), float(clip.end_s - clip.start_s), _DURATION_GRACE_S, index)
    return _differ(index.duration_s, whole_s, _SITE_GRACE_S, index) if whole_s else []


def _differ(measured_s: float, asked_s: float, grace_s: float, index: VideoIndex) -> list[str]:
    frame_s = index.duration_s / max(index.frames, 1)
    is_alike = abs(measured_s - asked_s) <= grace_s + frame_s
    return [] if is_alike else [f"{measured_s:.2f} s long instead of {asked_s:.2f} s"]


def _end_s(index: VideoIndex) -> float:
    """When the last frame ends, on the file's own clock."""
    return float(int(index.pts[0]) * index.time_base) + index.duration_s


def _is_sound(file: Path) -> bool:
    try:
        return index_video(file).fault is None
    except DataError:
        return False


def _read_head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEAD_SIZE)


def _no_frames(clip: Clip, whole_s: float | None) -> FetchError:
    if whole_s and clip.start_s + 1 < whole_s:
        return damaged(f"no frame of the clip {clip} can be read")
    return _beyond_the_end(clip, whole_s)


def _beyond_the_end(clip: Clip, whole_s: float | None) -> FetchError:
    length = f", which is {whole_s:g} s long" if whole_s else ""
    return fail("other", f"the clip {clip} lies beyond the end of the video{length}",
                advice="Give an earlier clip.")  # fmt: skip
