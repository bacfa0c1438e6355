"""Links to finished files: several at once, each by itself, none twice, and politely."""

import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from curate.media import VIDEOS
from curate.progress import Progress
from curate.sources.youtube.addresses import find_refusal
from curate.sources.youtube.archive import Archive, Key, Record, make_key
from curate.sources.youtube.failures import STOPPING, Failure, FetchError, fail
from curate.sources.youtube.found import Entry, Options, Video
from curate.sources.youtube.links import Clip, Wish
from curate.sources.youtube.one_file import FileFetcher, Order, Rules
from curate.sources.youtube.outcomes import Failed, Got, Outcome, Skipped, Wanted, unwanted
from curate.sources.youtube.session import Session, youtube_id

_PATIENCE = 3  # times to wait where a site answers 429
_FIRST_WAIT_S = 5.0
_LONGEST_WAIT_S = 120.0
_DEEPEST = 3  # playlists of playlists
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Job:
    link: str  # as it was given, or as the playlist tells it
    clips: tuple[Clip | None, ...]
    entry: Entry
    depth: int = 0

    @property
    def is_page(self) -> bool:
        """Whether the link leads to this video alone."""
        return self.entry.number is None


class _StoppedError(BaseException):
    """Ends a worker's job wherever it is; no `except Exception` on the way holds it up."""


def wait(seconds: float, stop: threading.Event) -> None:
    """Wait, unless everything stops."""
    stop.wait(seconds)


class Fetcher:
    """Fetches links with a few workers.

    Args:
        root: the dataset folder.
        archive: what was fetched before.
        wanted: what of each link.
        progress: told bytes of each file, and videos in all; called from several threads.
    """

    def __init__(self, root: Path, archive: Archive, wanted: Wanted, progress: Progress) -> None:
        self._root = root
        self._archive = archive
        self._wanted = wanted
        self._progress = progress
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._waiting = 0
        self._done = 0
        self._total = 0
        self._begun: set[Key] = set()
        self._halted: Failure | None = None
        self._next_start = 0.0
        rules = Rules(self._stop, self._check_stop, self._pause, self._patiently)
        self._files = FileFetcher(root, archive, wanted, rules, progress)

    def run(self, wishes: Sequence[Wish]) -> Generator[Outcome]:
        """Yield what became of each wish, as it becomes known. Close it early to stop the workers."""
        rest = []
        for wish in wishes:  # known links need no network
            record = self._archive.find_link(wish, self._wanted.max_height)
            if record is None:
                rest.append(wish)
            elif self._begin(record.key):
                yield Got(wish.link, record, False)
        for link in dict.fromkeys(wish.link for wish in rest):
            clips = tuple(wish.clip for wish in rest if wish.link == link)
            self._add(_Job(link, clips, Entry(link)))
        if not rest:
            return
        self._progress("videos", 0, len(rest))
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self._wanted.workers)]
        for worker in workers:
            worker.start()
        try:
            while self._waiting:
                try:
                    yield self._outcomes.get(timeout=0.05)
                except queue.Empty:
                    continue
            yield from self.left_over()
        finally:
            self._stop.set()
            for _ in workers:
                self._jobs.put(None)
            deadline = time.monotonic() + 3
            for worker in workers:
                worker.join(max(0.0, deadline - time.monotonic()))

    def left_over(self) -> Iterator[Outcome]:
        """What became known after `run` was closed."""
        while True:
            try:
                yield self._outcomes.get_nowait()
            except queue.Empty:
                return

    # ------------------------------------------------------------------ workers

    def _work(self) -> None:
        session: Session | None = None
        while (job := self._jobs.get()) is not None and not self._stop.is_set():
            try:
                session = session or self._open_session()
                for outcome in self._do(session, job):
                    self._outcomes.put(outcome)
            except _StoppedError:
                break
            except Exception as error:  # a fault of ours or of a library; the other links go on
                self._outcomes.put(Failed(job.link, fail("other", f"{type(error).__name__}: {error}").failure))
            with self._lock:
                self._waiting -= 1
                self._done += 1
                done, total = self._done, self._total
            self._progress("videos", done, total)
        if session:
            session.close()

    def _open_session(self) -> Session:
        wanted = self._wanted
        return Session(
            Options(
                max_height=wanted.max_height,
                cookies=wanted.cookies,
                rate_limit=wanted.rate_limit / wanted.workers if wanted.rate_limit else None,
                allow_private=wanted.allow_private,
                cache=self._root / VIDEOS / ".cache",
                pause=lambda failed: self._pause(min(2.0 ** (failed - 1), 10)),
                check_stop=self._check_stop,
            )
        )

    def _add(self, job: _Job) -> None:
        with self._lock:
            self._waiting += 1
            self._total += 1
        self._jobs.put(job)

    def _begin(self, key: Key) -> bool:
        """Whether nobody works on it yet."""
        with self._lock:
            is_first = key not in self._begun
            self._begun.add(key)
        return is_first

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _pause(self, seconds: float) -> None:
        self._check_stop()
        wait(seconds, self._stop)
        self._check_stop()

    def _take_turn(self) -> None:
        """Keep the starts of two videos apart by `sleep_s`."""
        if not self._wanted.sleep_s:
            return
        with self._lock:
            now = time.monotonic()
            mine = max(now, self._next_start)
            self._next_start = mine + self._wanted.sleep_s
        self._pause(mine - now)

    # ------------------------------------------------------------------ one link

    def _do(self, session: Session, job: _Job) -> Iterator[Outcome]:
        clips = list(job.clips)
        try:
            self._refuse(job)
            for clip in job.clips:
                record = self._find_known(job, clip)
                if record is None:
                    continue
                clips.remove(clip)
                if self._begin(record.key):
                    yield Got(job.link, self._archive.add_link(record, job.link), False)
            if not clips:
                return
            if self._halted:
                yield from self._not_tried(job, clips)
                return
            self._take_turn()
            found = self._patiently(lambda: session.look_up_entry(job.entry))
        except FetchError as error:
            yield from self._failed(job, clips, error.failure)
            return
        if isinstance(found, list):
            if job.depth > _DEEPEST or not found:
                yield from self._failed(job, clips, fail("unsupported", "the page tells of no video").failure)
            for entry in found if job.depth <= _DEEPEST else ():
                self._add(_Job(entry.link, tuple(clips), entry, job.depth + 1))
            return
        for number, clip in enumerate(clips):
            if self._halted:
                yield from self._not_tried(job, clips[number:])
                return
            try:
                yield from self._get(session, job, found, clip)
            except FetchError as error:
                yield from self._failed(job, [clip], error.failure)

    def _refuse(self, job: _Job) -> None:
        if not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://|file:", job.link):
            if job.depth:
                return  # a playlist's name for an entry, for yt-dlp only; what it asks for is looked at then
            raise fail("unsupported", f"{job.link!r} is no link")
        why = find_refusal(job.link, allow_private=self._wanted.allow_private)
        if why:
            raise fail("refused_address", why)

    def _find_known(self, job: _Job, clip: Clip | None) -> Record | None:
        if not job.is_page:
            return None
        found = self._archive.find_link(Wish(job.link, clip), self._wanted.max_height)
        video_id = None if found else youtube_id(job.link)
        return self._archive.find(make_key("youtube", video_id, clip, self._wanted.max_height)) if video_id else found

    def _failed(self, job: _Job, clips: Sequence[Clip | None], failure: Failure) -> Iterator[Outcome]:
        if failure.reason in STOPPING:
            self._halted = self._halted or failure
        is_for_later = failure.reason in STOPPING
        yield Failed(job.link, failure, Wish(job.link, clips[0]) if is_for_later and clips else None)
        if is_for_later:
            yield from self._not_tried(job, clips[1:])

    def _not_tried(self, job: _Job, clips: Sequence[Clip | None]) -> Iterator[Outcome]:
        why = self._halted.reason if self._halted else "stopped"
        for clip in clips:
            yield Skipped(job.link, f"not tried: the batch stopped at {why}", Wish(job.link, clip))

    def _patiently(self, attempt: Callable[[], _T]) -> _T:
        """Try, and where the site answers 429, wait as long as it asks, or twice as long each time."""
        for tried in range(_PATIENCE + 1):
            try:
                return attempt()
            except FetchError as error:
                seconds = error.failure.retry_after_s
                if seconds is None:
                    seconds = _FIRST_WAIT_S * 2**tried
                if error.failure.status != 429 or tried == _PATIENCE or seconds > _LONGEST_WAIT_S:
                    raise
                self._pause(seconds)
        raise AssertionError("unreachable")

    def _get(self, session: Session, job: _Job, video: Video, clip: Clip | None) -> Iterator[Outcome]:
        key = make_key(video.extractor, video.id, clip, self._wanted.max_height)
        if not self._begin(key):
            return
        record = self._archive.find(key)
        if record:
            yield Got(job.link, self._archive.add_link(record, job.link) if job.is_page else record, False)
        elif why := unwanted(self._wanted, video.licence, video.whole_s):
            yield Skipped(job.link, why)
        else:
            order = Order(job.link, job.is_page, video, clip, key)
            yield self._files.fetch(session, order, lambda: self._again(session, job))

    def _again(self, session: Session, job: _Job) -> Video:
        found = self._patiently(lambda: session.look_up_entry(job.entry))
        if isinstance(found, list):
            raise fail("not_found", "the link now leads to a list")
        return found
