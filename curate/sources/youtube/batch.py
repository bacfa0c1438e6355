"""Links to finished files: several at once, each by itself, none twice, and politely."""

import queue
import re
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curate.media import VIDEOS
from curate.progress import Progress
from curate.sources.youtube.archive import Archive, Key, Record, make_key
from curate.sources.youtube.download import Failed, FileFetcher, Got, Order, Outcome, Skipped
from curate.sources.youtube.failures import WORTH_ASKING_AGAIN, Failure, FetchError, explain, fail
from curate.sources.youtube.found import Entry, Options, Video
from curate.sources.youtube.links import Clip, Wish
from curate.sources.youtube.network_policy import find_refusal
from curate.sources.youtube.options import Wanted, unwanted
from curate.sources.youtube.session import Session, youtube_id
from curate.sources.youtube.throttle import Patience, StoppedError

_DEEPEST = 3  # playlists of playlists
_LINK = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|file:")


@dataclass(eq=False)
class _Job:
    """One link to be worked off.

    Attributes:
        entry: the link, as it was given or as a playlist tells it.
        clips: what of it has no outcome yet.
        later: the link that the next run would be given instead.
        depth: how many playlists it is in.
    """

    entry: Entry
    clips: list[Clip | None]
    later: str
    depth: int = 0

    def wish(self, clip: Clip | None) -> Wish:
        """What is reported."""
        return Wish(self.entry.link, clip)


class Fetcher:
    """Fetches links with a few workers.

    Args:
        root: the dataset folder.
        archive: what was fetched before.
        wanted: what of each link.
        progress: told how far each file is, and videos in all; called from several threads.
    """

    def __init__(self, root: Path, archive: Archive, wanted: Wanted, progress: Progress) -> None:
        self._root = root
        self._archive = archive
        self._wanted = wanted
        self._progress = progress
        self._patience = Patience(wanted.sleep_s, wanted.rate_limit, self._tell)
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._open: dict[_Job, None] = {}  # a set that keeps the order
        self._total = 0
        self._begun: dict[Key, str] = {}
        self._halted: Failure | None = None
        self._files = FileFetcher(root, archive, wanted, self._patience, progress)

    def run(self, wishes: Sequence[Wish]) -> Generator[Outcome]:
        """Yield what became of each wish, as it becomes known. Close it early to stop the workers."""
        known = {wish: self._archive.find_link(wish, self._wanted.max_height) for wish in wishes}
        rest = [wish for wish in wishes if known[wish] is None]
        for link in dict.fromkeys(wish.link for wish in rest):
            self._add(_Job(Entry(link), [wish.clip for wish in rest if wish.link == link], link))
        for wish, record in known.items():  # known links need no network
            if record:
                yield self._begin(record.key, wish) or Got(wish, record, False)
        if not rest:
            return
        self._tell("")
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self._wanted.workers)]
        for worker in workers:
            worker.start()
        try:
            while self._open:
                try:
                    yield self._outcomes.get(timeout=0.05)
                except queue.Empty:
                    continue
            yield from self.left_over()
        finally:
            self._patience.stop.set()
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

    def unfinished(self) -> list[Wish]:
        """What has no outcome, and is to be asked for by the next run."""
        with self._lock:
            return [Wish(job.later, clip) for job in self._open for clip in job.clips]

    # ------------------------------------------------------------------ workers

    def _work(self) -> None:
        session: Session | None = None
        while (job := self._jobs.get()) is not None and not self._patience.stop.is_set():
            try:
                session = session or self._open_session()
                for outcome in self._do(session, job):
                    self._outcomes.put(outcome)
                    job.clips.remove(outcome.wish.clip)
            except StoppedError:
                break
            except BaseException as error:  # a fault of ours or of a library; the other links go on
                failure = explain(f"{type(error).__name__}: {error}")
                for outcome in self._failed(job, list(job.clips), failure):
                    self._outcomes.put(outcome)
            with self._lock:
                del self._open[job]
            self._tell("")
        if session:
            session.close()

    def _open_session(self) -> Session:
        return Session(
            Options(
                max_height=self._wanted.max_height,
                cookies=self._wanted.cookies,
                allow_private=self._wanted.allow_private,
                cache=self._root / VIDEOS / ".cache",
                pause=self._patience.pause_after,
                take=self._patience.take,
                check_stop=self._patience.check_stop,
            )
        )

    def _tell(self, note: str) -> None:
        with self._lock:
            total, done = self._total, self._total - len(self._open)
        self._progress("videos", done, total, note)

    def _add(self, job: _Job) -> None:
        with self._lock:
            self._open[job] = None
            self._total += 1
        self._jobs.put(job)

    def _begin(self, key: Key, wish: Wish) -> Skipped | None:
        """Take a video in hand; where another link has it already, that is what becomes of this one."""
        with self._lock:
            other = self._begun.get(key)
            self._begun.setdefault(key, wish.link)
        return None if other is None else Skipped(wish, f"the same video as {other}")

    # ------------------------------------------------------------------ one link

    def _do(self, session: Session, job: _Job) -> Iterator[Outcome]:
        """What becomes of each of a job's clips; those of a playlist pass to jobs of their own."""
        try:
            self._refuse(job)
            for clip in list(job.clips):
                record = self._find_known(job, clip)
                if record:
                    known = self._archive.add_link(record, job.entry.name)
                    yield self._begin(record.key, job.wish(clip)) or Got(job.wish(clip), known, False)
            if not job.clips:
                return
            if self._halted:
                yield from self._not_tried(job, list(job.clips))
                return
            self._patience.take_turn()
            found = self._look_up(session, job.entry)
        except FetchError as error:
            yield from self._failed(job, list(job.clips), error.failure)
            return
        if isinstance(found, list):
            if job.depth > _DEEPEST or not found:
                yield from self._failed(job, list(job.clips), fail("unsupported", "the page tells of no video").failure)
                return
            for entry in found:
                later = entry.link if _LINK.match(entry.link) else job.later
                self._add(_Job(entry, list(job.clips), later, job.depth + 1))
            return
        for clip in list(job.clips):
            if self._halted:
                yield from self._not_tried(job, [clip])
                continue
            try:
                yield self._get(session, job, found, clip)
            except FetchError as error:
                yield from self._failed(job, [clip], error.failure)

    def _refuse(self, job: _Job) -> None:
        link = job.entry.link
        if not _LINK.match(link):
            if job.depth:
                return  # a playlist's name for an entry, for yt-dlp only; what it asks for is looked at then
            raise fail("unsupported", f"{link!r} is no link")
        why = find_refusal(link, allow_private=self._wanted.allow_private)
        if why:
            raise fail("refused_address", why)

    def _find_known(self, job: _Job, clip: Clip | None) -> Record | None:
        found = self._archive.find_link(Wish(job.entry.name, clip), self._wanted.max_height)
        video_id = None if found else youtube_id(job.entry.link)
        return self._archive.find(make_key("youtube", video_id, clip, self._wanted.max_height)) if video_id else found

    def _look_up(self, session: Session, entry: Entry) -> Video | list[Entry]:
        """Ask what is behind a link; where the site refuses, once more."""
        try:
            return self._patience.patiently(lambda: session.look_up_entry(entry))
        except FetchError as error:
            if error.failure.reason not in WORTH_ASKING_AGAIN:
                raise
        return self._patience.patiently(lambda: session.look_up_entry(replace(entry, info=None)))

    def _failed(self, job: _Job, clips: Sequence[Clip | None], failure: Failure) -> Iterator[Outcome]:
        if failure.stops:
            self._halted = self._halted or failure
        for number, clip in enumerate(clips):
            if number and failure.stops:
                yield from self._not_tried(job, [clip])
            else:
                yield Failed(job.wish(clip), failure, Wish(job.later, clip) if failure.stops else None)

    def _not_tried(self, job: _Job, clips: Sequence[Clip | None]) -> Iterator[Outcome]:
        why = self._halted.word if self._halted else "once"
        for clip in clips:
            yield Skipped(job.wish(clip), f"not tried: the batch stopped at {why}", Wish(job.later, clip))

    def _get(self, session: Session, job: _Job, video: Video, clip: Clip | None) -> Outcome:
        wish = job.wish(clip)
        key = make_key(video.extractor, video.id, clip, self._wanted.max_height)
        if same := self._begin(key, wish):
            return same
        if record := self._archive.find(key):
            return Got(wish, self._archive.add_link(record, job.entry.name), False)
        if why := unwanted(self._wanted, video.licence, video.whole_s):
            return Skipped(wish, why)
        return self._files.fetch(session, Order(wish, job.entry.name, video, key), lambda: self._again(session, job))

    def _again(self, session: Session, job: _Job) -> Video:
        found = self._patience.patiently(lambda: session.look_up_entry(replace(job.entry, info=None)))
        if isinstance(found, list):
            raise fail("not_found", "the link now leads to a list")
        return found
