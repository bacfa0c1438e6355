"""One video, or one clip of it, from its site to a finished file: downloaded, measured, named, recorded."""

import hashlib
import logging
import math
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from curate.errors import DataError
from curate.media import VIDEOS
from curate.paths import make_folder
from curate.progress import Progress
from curate.sources.containers import HEAD_BYTES
from curate.sources.video import VideoIndex, index_video
from curate.sources.video_library import describe
from curate.sources.youtube.archive import Archive, Key, Record
from curate.sources.youtube.failures import (
    ASK_AGAIN,
    TRANSIENT,
    Failure,
    FetchError,
    damaged,
    explain,
    fail,
    unreadable,
)
from curate.sources.youtube.ffmpeg import CutError, cut, find_ffmpeg, remux
from curate.sources.youtube.ffmpeg_relay import Upstream, open_relay
from curate.sources.youtube.links import Clip, FetchRequest
from curate.sources.youtube.options import FetchOptions
from curate.sources.youtube.session import Session
from curate.sources.youtube.throttle import Throttle
from curate.sources.youtube.video_info import Video
from curate.sources.youtube.ytdlp_errors import explain_error, is_retryable

PARTIAL = f"{VIDEOS}/.partial"
MIN_FREE_BYTES = 1_000_000_000
"""Disk space that must stay free."""

logger = logging.getLogger(__name__)
_CLIP_TOLERANCE_S = 0.5
_WHOLE_TOLERANCE_S = 1.5  # sites give whole seconds


@dataclass(frozen=True)
class Fetched:
    """A video that is on disk; `is_new` if it was fetched in this run."""

    request: FetchRequest
    record: Record
    is_new: bool
    note: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A request that was skipped on purpose; `retry` is the request for the next run."""

    request: FetchRequest
    reason: str
    retry: FetchRequest | None = None


@dataclass(frozen=True)
class Failed:
    """A request that failed; `retry` is the request for the next run."""

    request: FetchRequest
    failure: Failure
    retry: FetchRequest | None = None


Outcome = Fetched | Skipped | Failed


@dataclass(frozen=True, eq=False)
class FileJob:
    """One file to be made.

    Attributes:
        request: As given by the user.
        name: Link under which the archive finds the video again without a request.
        video: What the site says.
        key: Key in the archive.
    """

    request: FetchRequest
    name: str
    video: Video
    key: Key

    @property
    def clip(self) -> Clip | None:
        """The clip to cut: that of the request, else that of the link; None for the whole video."""
        return self.request.clip or self.video.section


class FileFetcher:
    """Makes files in one dataset folder.

    Args:
        root: Dataset folder.
        archive: Its archive.
        options: For every link.
        throttle: Shared by all workers.
        progress: Callback for the progress of each file; called from several threads.
    """

    def __init__(
        self, root: Path, archive: Archive, options: FetchOptions, throttle: Throttle, progress: Progress
    ) -> None:
        self._root = root
        self._archive = archive
        self._options = options
        self._throttle = throttle
        self._progress = progress

    def fetch(self, session: Session, job: FileJob, look_up_again: Callable[[], Video]) -> Fetched:
        """Fetch one file; if its media URL has expired, ask the site once for a new one.

        Raises:
            FetchError: The file could not be fetched.
        """
        self._check_feasible(job)
        name = self._archive.choose_name(job.key, job.video.site_id)
        for file in (self._root / VIDEOS).glob(f"{name}.*"):  # names contain no wildcards
            detail = f"{file.name} already exists, and is not the file that was fetched"
            raise fail("other", detail, advice="Move it away or delete it, then run again.")
        folder = make_folder(self._root, f"{PARTIAL}/{job.key.digest}")
        for file in folder.iterdir():
            if file.is_symlink() or not file.is_file():  # a download would be written through it
                file.unlink()
        try:
            try:
                file, is_complete = self._make(session, job, job.video, folder, name)
            except FetchError as error:
                if error.failure.reason not in ASK_AGAIN:
                    raise
                logger.info("%s: %s; asking the site for a new media URL", name, error)
                file, is_complete = self._make(session, job, look_up_again(), folder, name)
            fetched = self._finish(job, file, is_complete, name)
        except (FetchError, OSError) as error:
            failure = error.failure if isinstance(error, FetchError) else explain(str(error))
            if isinstance(error, OSError) and not failure.is_disk:
                raise
            if failure.reason not in TRANSIENT or not any(folder.glob("*.part")):  # nothing to resume
                shutil.rmtree(folder, ignore_errors=True)
            if failure.is_disk:
                failure = replace(failure, detail=f"{self._root / VIDEOS}: {failure.detail}")
            raise FetchError(failure) from error
        finally:
            with suppress(OSError):  # not empty: the next run resumes it
                folder.rmdir()
        shutil.rmtree(folder, ignore_errors=True)
        logger.info("%s: finished, %d bytes", name, fetched.record.size)
        return fetched

    def _make(self, session: Session, job: FileJob, video: Video, folder: Path, name: str) -> tuple[Path, bool]:
        return self._throttle.retry_when_limited(lambda: self._make_once(session, job, video, folder, name))

    def _check_feasible(self, job: FileJob) -> None:
        video, clip = job.video, job.clip
        if (clip or video.is_hls) and find_ffmpeg() is None:
            raise fail("no_ffmpeg", "ffmpeg was not found; clips and HLS streams need it")
        if clip and video.duration_s and clip.start_s >= video.duration_s:
            raise _beyond_end(clip, video.duration_s)
        free = shutil.disk_usage(self._root).free
        needed = MIN_FREE_BYTES + (video.size or 0 if clip is None else 0)
        if free < needed:
            detail = f"{free / 1e9:.1f} GB of disk space are free, {needed / 1e9:.1f} GB are needed"
            raise fail("other", detail, advice="Free some space and run again.")

    def _make_once(self, session: Session, job: FileJob, video: Video, folder: Path, name: str) -> tuple[Path, bool]:
        """Make the file in the partial folder; returns it, and whether it is known to be complete."""
        self._throttle.check_stop()
        self._throttle.wait_until(video.available_at, name)  # whichever way the bytes will come
        clip = job.clip
        kind = re.sub(r"\W+", "_", video.format_id)[:40]
        suffix = str(video.info.get("ext") or "").lower()
        suffix = suffix if re.fullmatch(r"[a-z0-9]{1,5}", suffix) else "mp4"
        is_playlist = video.is_hls and not video.info.get("hls_media_playlist_data")
        out = folder / f"clip.{kind}.mp4"
        if clip and (video.is_direct or is_playlist) and self._cut_remote(session, video, clip, out, name):
            return out, True
        file = folder / f"{kind}.{suffix}"
        has_known_size = self._download(session, video, file, name)
        if clip:
            self._cut_local(file, video, clip, out, name)
            return out, True
        whole = folder / f"whole.{kind}.mp4"
        if not video.is_direct and find_ffmpeg():  # segments of a stream, concatenated
            with suppress(CutError):
                remux(file, whole, stop=self._throttle.stop)
                return whole, True
            self._throttle.check_stop()
        return file, not video.is_direct or has_known_size

    def _download(self, session: Session, video: Video, file: Path, name: str) -> bool:
        """Download the whole file; returns whether its size was known, so that it is complete."""
        total: int | None = None

        def report(done: int, known_total: int | None) -> None:
            nonlocal total
            total = known_total
            shown_total = -(-known_total // 10**6) if known_total else done // 10**6 + 1
            self._progress(name, done // 10**6, shown_total, "MB")

        for was_partial in (any(file.parent.glob(f"{file.name}*")), False):
            session.download(video, file, report)
            if not was_partial or _is_sound(file):
                break
            logger.info("%s: the resumed file is damaged, downloading it from the start", name)
            for partial in file.parent.glob(f"{file.name}*"):  # belonged to another file
                partial.unlink()
        size = -(-file.stat().st_size // 10**6)
        self._progress(name, size, size, "MB")
        return total is not None

    def _cut_local(self, file: Path, video: Video, clip: Clip, out: Path, name: str) -> None:
        """Cut a clip from a downloaded file."""
        try:
            index_video(file)
        except DataError as error:
            raise unreadable(error.fact, _read_head(file)) from error
        try:
            report = self._report_seconds(clip, name)
            frames = cut(file, clip, out, stop=self._throttle.stop, report=report)
        except CutError as error:
            self._throttle.check_stop()
            raise FetchError(explain(f"ffmpeg cannot cut the clip: {error}")) from error
        if not frames:
            raise _no_frames(clip, video.duration_s)

    def _cut_remote(self, session: Session, video: Video, clip: Clip, out: Path, name: str) -> bool:
        """Let ffmpeg fetch what it needs for a clip, through the relay; False if the site serves whole files only."""
        upstream = Upstream(
            request=lambda url, first, last: session.request(video, url, first, last),
            is_retryable=is_retryable,
            chunk_size=(video.info.get("downloader_options") or {}).get("http_chunk_size"),
            count_bytes=self._throttle.count_bytes,
            pause_after_failure=self._throttle.pause_after_failure,
        )
        frames, cut_error = 0, None
        with open_relay(upstream) as relay:
            url = relay.url_for(str(video.info["url"]))
            report = self._report_seconds(clip, name)
            try:
                frames = cut(
                    url, clip, out, proxy=relay.base, is_playlist=video.is_hls, stop=self._throttle.stop, report=report
                )
            except CutError as error:
                cut_error = error
            self._throttle.check_stop()
            if video.is_direct and relay.lacks_ranges and (cut_error or relay.error):
                logger.info("%s: the site serves whole files only, downloading it to cut the clip", name)
                return False
            if relay.error:  # the clip has a gap, whatever ffmpeg made of it
                raise explain_error(relay.error) from relay.error
            head = relay.head
        if cut_error:
            raise unreadable(str(cut_error), head) from cut_error
        if not frames:
            raise _no_frames(clip, video.duration_s)
        return True

    def _report_seconds(self, clip: Clip, name: str) -> Callable[[float], None]:
        total = math.ceil(float(clip.end_s - clip.start_s))
        return lambda done_s: self._progress(name, min(round(done_s), total), total, "s")

    def _finish(self, job: FileJob, file: Path, is_complete: bool, name: str) -> Fetched:
        """Check that the file is a video, record it in the archive, and move it to its place."""
        video, clip = job.video, job.clip
        try:
            index = index_video(file)
        except DataError as error:
            raise unreadable(error.fact, _read_head(file)) from error
        if index.fault and not is_complete:
            raise fail("no_network", f"the download is incomplete: {index.fault}")
        path = f"{VIDEOS}/{name}{file.suffix}"
        notes = _compare_duration(index, job)
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
        record = Record(job.key, (job.name,), file.stat().st_size, video.duration_s, video.site_id, row)
        self._archive.write(record)  # before the rename: a kill in between costs a download, and loses nothing
        os.replace(file, self._root / path)
        if index.fault:
            notes.append(f"the file is damaged: {index.fault}")
        if min(index.width, index.height) > self._options.max_height:
            size = f"{index.width}×{index.height} pixels"
            notes.append(f"{size}, shorter side above --max-height; the site did not give the size")
        return Fetched(job.request, record, is_new=True, note=f"{name}: {'; '.join(notes)}." if notes else None)


def _compare_duration(index: VideoIndex, job: FileJob) -> list[str]:
    """Compare the measured duration with the requested one, or with that of the site."""
    clip, duration_s = job.clip, job.video.duration_s
    if clip:  # the clip's clock starts at its start; the first frame may come later
        return _describe_difference(_end_s(index), float(clip.end_s - clip.start_s), _CLIP_TOLERANCE_S, index)
    return _describe_difference(index.duration_s, duration_s, _WHOLE_TOLERANCE_S, index) if duration_s else []


def _describe_difference(measured_s: float, expected_s: float, tolerance_s: float, index: VideoIndex) -> list[str]:
    frame_s = index.duration_s / max(index.frames, 1)
    is_equal = abs(measured_s - expected_s) <= tolerance_s + frame_s
    return [] if is_equal else [f"{measured_s:.2f} s long instead of {expected_s:.2f} s"]


def _end_s(index: VideoIndex) -> float:
    """End of the last frame on the file's own clock."""
    return float(int(index.pts[0]) * index.time_base) + index.duration_s


def _is_sound(file: Path) -> bool:
    try:
        return index_video(file).fault is None
    except DataError:
        return False


def _read_head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEAD_BYTES)


def _no_frames(clip: Clip, duration_s: float | None) -> FetchError:
    if duration_s and clip.start_s + 1 < duration_s:
        return damaged(f"no frame of the clip {clip} can be read")
    return _beyond_end(clip, duration_s)


def _beyond_end(clip: Clip, duration_s: float | None) -> FetchError:
    length = f", which is {duration_s:g} s long" if duration_s else ""
    detail = f"the clip {clip} is beyond the end of the video{length}"
    return fail("other", detail, advice="Request an earlier clip.")
