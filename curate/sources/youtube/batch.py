"""Many links: fetched by a few workers, each independently, each video once, and politely."""

import logging
import os
import queue
import re
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curate.progress import Progress
from curate.redaction import redact_text, redact_url
from curate.sources.hosts import find_refusal
from curate.sources.youtube.archive import Archive, Key, Record, make_key
from curate.sources.youtube.download import Failed, Fetched, FileFetcher, FileJob, Outcome, Skipped
from curate.sources.youtube.failures import ASK_AGAIN, Failure, FetchError, explain, fail
from curate.sources.youtube.links import Clip, FetchRequest
from curate.sources.youtube.options import FetchOptions
from curate.sources.youtube.session import Session, SessionOptions, youtube_id
from curate.sources.youtube.throttle import StoppedError, Throttle
from curate.sources.youtube.video_info import Entry, Video

logger = logging.getLogger(__name__)
_MAX_DEPTH = 3  # of playlists in playlists
_MAX_STOP_S = 3.0  # that downloads have to notice a stop
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|file:")


@dataclass(eq=False)
class _LinkJob:
    """One link for a worker.

    Attributes:
        entry: The link, as given or from a playlist.
        clips: Clips without an outcome so far.
        retry_link: The link to give the next run.
        depth: Number of playlists around it.
    """

    entry: Entry
    clips: list[Clip | None]
    retry_link: str
    depth: int = 0

    def request(self, clip: Clip | None) -> FetchRequest:
        """The request to report."""
        return FetchRequest(self.entry.link, clip)


class BatchFetcher:
    """Fetches links with a few workers.

    Args:
        root: Dataset folder.
        archive: What was fetched before.
        options: For every link.
        progress: Callback for the progress of each file and of all videos; called from several threads.
    """

    def __init__(self, root: Path, archive: Archive, options: FetchOptions, progress: Progress) -> None:
        self._root = root
        self._archive = archive
        self._options = options
        self._progress = progress
        self._throttle = Throttle(options.sleep_s, options.rate_limit, self._report)
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_LinkJob | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._open: dict[_LinkJob, None] = {}  # an ordered set
        self._total = 0
        self._started: dict[Key, str] = {}  # link that fetches the key
        self._stopped_by: Failure | None = None
        self._files = FileFetcher(root, archive, options, self._throttle, progress)

    def run(self, requests: Sequence[FetchRequest]) -> Generator[Outcome]:
        """Yield the outcome of each request as it is known. Closing the generator stops the workers."""
        known = {request: self._archive.find_link(request, self._options.max_height) for request in requests}
        unknown = [request for request in requests if known[request] is None]
        for link in dict.fromkeys(request.link for request in unknown):
            self._add(_LinkJob(Entry(link), [request.clip for request in unknown if request.link == link], link))
        for request, record in known.items():  # known links need no network
            if record:
                yield self._claim(record.key, request) or Fetched(request, record, is_new=False)
        if not unknown:
            return
        self._report("")
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self._options.workers)]
        for worker in workers:
            worker.start()
        try:
            while self._open:
                try:
                    yield self._outcomes.get(timeout=0.05)
                except queue.Empty:
                    continue
            yield from self.take_outcomes()
        finally:
            self._throttle.stop.set()
            for _ in workers:
                self._jobs.put(None)
            deadline = time.monotonic() + _MAX_STOP_S
            for worker in workers:
                worker.join(max(0.0, deadline - time.monotonic()))

    def take_outcomes(self) -> Iterator[Outcome]:
        """Yield outcomes that became known after `run` was closed."""
        while True:
            try:
                yield self._outcomes.get_nowait()
            except queue.Empty:
                return

    def unfinished(self) -> list[FetchRequest]:
        """Requests without an outcome, for the next run."""
        with self._lock:
            return [FetchRequest(job.retry_link, clip) for job in self._open for clip in job.clips]

    # ------------------------------------------------------------------ workers

    def _work(self) -> None:
        session: Session | None = None
        while (job := self._jobs.get()) is not None and not self._throttle.stop.is_set():
            try:
                session = session or self._open_session()
                for outcome in self._fetch_link(session, job):
                    self._outcomes.put(outcome)
                    job.clips.remove(outcome.request.clip)
            except StoppedError:
                break
            except BaseException as error:  # a bug of ours or of a library must not stop the other links
                logger.info("%s: unexpected error: %s", redact_url(job.entry.name), redact_text(traceback.format_exc()))
                failure = explain(f"{type(error).__name__}: {error}")
                for outcome in self._fail(job, list(job.clips), failure):
                    self._outcomes.put(outcome)
            with self._lock:
                del self._open[job]
            self._report("")
        if session:
            session.close()

    def _open_session(self) -> Session:
        return Session(
            SessionOptions(
                max_height=self._options.max_height,
                cookies=self._options.cookies,
                allow_private=self._options.allow_private,
                newest=self._options.newest,
                cache=_player_cache(),
                pause_after_failure=self._throttle.pause_after_failure,
                count_bytes=self._throttle.count_bytes,
                check_stop=self._throttle.check_stop,
            )
        )

    def _report(self, note: str) -> None:
        with self._lock:
            total, done = self._total, self._total - len(self._open)
        self._progress("videos", done, total, note)

    def _add(self, job: _LinkJob) -> None:
        with self._lock:
            self._open[job] = None
            self._total += 1
        self._jobs.put(job)

    def _claim(self, key: Key, request: FetchRequest) -> Skipped | None:
        """Claim a video for a request; the outcome if another link has claimed it."""
        with self._lock:
            other = self._started.get(key)
            self._started.setdefault(key, request.link)
        return None if other is None else Skipped(request, f"the same video as {other}")

    # ------------------------------------------------------------------ one link

    def _fetch_link(self, session: Session, job: _LinkJob) -> Iterator[Outcome]:
        """Yield the outcome of each clip of a job; entries of a playlist become jobs of their own."""
        try:
            self._check_link(job)
            for clip in list(job.clips):
                record = self._find_known(job, clip)
                if record:
                    record = self._archive.add_link(record, job.entry.name)
                    request = job.request(clip)
                    yield self._claim(record.key, request) or Fetched(request, record, is_new=False)
            if not job.clips:
                return
            if self._stopped_by:
                yield from self._skip(job, list(job.clips))
                return
            self._throttle.wait_for_turn()
            result = self._look_up(session, job.entry)
        except FetchError as error:
            yield from self._fail(job, list(job.clips), error.failure)
            return
        if isinstance(result, list):
            if job.depth > _MAX_DEPTH or not result:
                yield from self._fail(job, list(job.clips), fail("unsupported", "the page has no video").failure)
                return
            logger.info("%s: %d entries", redact_url(job.entry.name), len(result))
            for entry in result:
                retry_link = entry.link if _URL.match(entry.link) else job.retry_link
                self._add(_LinkJob(entry, list(job.clips), retry_link, job.depth + 1))
            return
        for clip in list(job.clips):
            if self._stopped_by:
                yield from self._skip(job, [clip])
                continue
            try:
                yield self._fetch_clip(session, job, result, clip)
            except FetchError as error:
                yield from self._fail(job, [clip], error.failure)

    def _check_link(self, job: _LinkJob) -> None:
        link = job.entry.link
        if not _URL.match(link):
            if job.depth:
                return  # a playlist's name for an entry, which yt-dlp turns into URLs that are checked
            raise fail("unsupported", f"{link!r} is not a link")
        reason = find_refusal(link, allow_private=self._options.allow_private)
        if reason:
            raise fail("refused_address", reason)

    def _find_known(self, job: _LinkJob, clip: Clip | None) -> Record | None:
        record = self._archive.find_link(FetchRequest(job.entry.name, clip), self._options.max_height)
        video_id = None if record else youtube_id(job.entry.link)
        if not video_id:
            return record
        return self._archive.find(make_key("youtube", video_id, clip, self._options.max_height))

    def _look_up(self, session: Session, entry: Entry) -> Video | list[Entry]:
        """Look up a link; a second time if the site refuses."""
        try:
            return self._throttle.retry_when_limited(lambda: session.look_up_entry(entry))
        except FetchError as error:
            if error.failure.reason not in ASK_AGAIN:
                raise
            logger.info("%s: %s; asking the site again", redact_url(entry.name), error)
        return self._throttle.retry_when_limited(lambda: session.look_up_entry(replace(entry, info=None)))

    def _fail(self, job: _LinkJob, clips: Sequence[Clip | None], failure: Failure) -> Iterator[Outcome]:
        logger.info("%s: failed: %s: %s", redact_url(job.entry.name), failure.reason, redact_text(failure.detail))
        if failure.stops:
            self._stopped_by = self._stopped_by or failure
        for number, clip in enumerate(clips):
            if number and failure.stops:
                yield from self._skip(job, [clip])
            else:
                retry = FetchRequest(job.retry_link, clip) if failure.stops else None
                yield Failed(job.request(clip), failure, retry)

    def _skip(self, job: _LinkJob, clips: Sequence[Clip | None]) -> Iterator[Outcome]:
        reason = self._stopped_by.word if self._stopped_by else "once"
        for clip in clips:
            retry = FetchRequest(job.retry_link, clip)
            yield Skipped(job.request(clip), f"not tried: the batch stopped at {reason}", retry)

    def _fetch_clip(self, session: Session, job: _LinkJob, video: Video, clip: Clip | None) -> Outcome:
        request = job.request(clip)
        key = make_key(video.extractor, video.id, clip or video.section, self._options.max_height)
        if same := self._claim(key, request):
            return same
        if record := self._archive.find(key):
            return Fetched(request, self._archive.add_link(record, job.entry.name), is_new=False)
        if reason := self._options.find_skip_reason(video.licence, video.duration_s):
            return Skipped(request, reason)
        file_job = FileJob(request, job.entry.name, video, key)
        return self._files.fetch(session, file_job, lambda: self._look_up_again(session, job))

    def _look_up_again(self, session: Session, job: _LinkJob) -> Video:
        result = self._throttle.retry_when_limited(lambda: session.look_up_entry(replace(job.entry, info=None)))
        if isinstance(result, list):
            raise fail("not_found", "the link now leads to a playlist")
        return result


def _player_cache() -> Path:
    """Folder for what yt-dlp learns about players: code, which is never taken from a dataset of somebody else."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curate" / "yt-dlp"
