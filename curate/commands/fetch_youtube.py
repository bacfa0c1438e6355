"""`fetch-youtube`: download videos and clips into a dataset, with their provenance."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from curate.columns import VIDEO_COLUMNS, conform
from curate.dataset import Dataset
from curate.errors import MissingError, StoreError, UsageError
from curate.formatting import count_of
from curate.media import VIDEOS
from curate.paths import make_folder, refuse_links
from curate.progress import Progress, one_at_a_time, silent
from curate.result import Result
from curate.sources.youtube.archive import Archive, Record
from curate.sources.youtube.batch import BatchFetcher
from curate.sources.youtube.download import MIN_FREE_BYTES, Failed, Fetched, Outcome, Skipped
from curate.sources.youtube.failures import GET_RUNTIME
from curate.sources.youtube.ffmpeg import require_ffmpeg
from curate.sources.youtube.links import FetchRequest, collect_requests, find_list_notes, write_link_file
from curate.sources.youtube.options import FetchOptions, Licence, parse_options
from curate.sources.youtube.session import find_runtimes, youtube_id
from curate.store import Store

REMAINING = f"{VIDEOS}/not-fetched.txt"


@dataclass(frozen=True)
class FetchedVideo:
    """A video that was added to the dataset; start and end are None for a whole video, duration and height measured."""

    id: str
    url: str
    path: str
    start_s: float | None
    end_s: float | None
    duration_s: float
    height: int
    licence: str | None
    title: str | None
    uploader: str | None


@dataclass(frozen=True)
class SkippedLink:
    """A link that was skipped: its video exists already, a filter excludes it, or the batch stopped before it."""

    url: str
    reason: str


@dataclass(frozen=True)
class FailedLink:
    """A link that failed: the reason in one word, and what the user can do."""

    url: str
    reason: str
    advice: str


@dataclass(frozen=True)
class FetchResult(Result):
    """The outcome of every link.

    Attributes:
        fetched: Videos that are new in the dataset.
        skipped: Links that were skipped on purpose.
        failed: Links that failed.
    """

    fetched: tuple[FetchedVideo, ...]
    skipped: tuple[SkippedLink, ...]
    failed: tuple[FailedLink, ...]


def fetch_youtube(
    dataset: str | os.PathLike[str],
    urls: Sequence[str] = (),
    *,
    clip: Sequence[str] = (),
    from_file: str | os.PathLike[str] | None = None,
    max_height: int = 720,
    licence: Licence | None = None,
    max_duration: str | float | None = None,
    cookies: str | os.PathLike[str] | None = None,
    rate_limit: str | float | None = None,
    sleep: str | float | None = None,
    workers: int = 2,
    allow_private: bool = False,
    newest: int | None = None,
    progress: Progress = silent,
) -> FetchResult:
    """Download the videos behind links, whole or as clips. Videos that were fetched before are skipped.

    Formats without sound are preferred. A clip is cut exactly: from the first frame at or after its start to the last
    before its end. Each video is committed when it is finished; all videos of a call are one version.

    Args:
        dataset: Dataset folder; created if it does not exist.
        urls: Videos, playlists, or pages with videos.
        clip: "START-END", for every link that has no range of its own in `from_file`.
        from_file: File with one link per line, optionally followed by ranges; `#` starts a comment.
        max_height: Largest shorter side in pixels (the height of a wide video, the width of an upright one); the best
            format up to it is fetched.
        licence: "creative-commons" skips videos under other licences, and those without licence information.
        max_duration: Skip videos that are longer as a whole ("10min", "1:30:00"); unknown durations are fetched.
        cookies: Cookie file as browsers export it; only read.
        rate_limit: Bytes per second in total ("500K", "2M").
        sleep: Least time between the starts of two videos.
        workers: Videos fetched at once.
        allow_private: Also contact hosts that are not public.
        newest: Fetch only so many videos of each channel, its newest, or playlist, its first.
        progress: Callback for progress: megabytes of each file, seconds of each clip, and videos in total.

    Returns:
        The outcome of every link; one that fails does not stop the others.

    Raises:
        UsageError: An argument, or a line of the link file, is invalid.
        MissingError: ffmpeg is needed and missing, or the disk is full.
        StoreError: Another fetch is running in this dataset.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(dataset), re.IGNORECASE):
        raise UsageError("the dataset folder comes first", got=str(dataset), expected="DATASET URL…")
    options = parse_options(
        max_height=max_height,
        licence=licence,
        max_duration=max_duration,
        cookies=cookies,
        rate_limit=rate_limit,
        sleep=sleep,
        workers=workers,
        allow_private=allow_private,
        newest=newest,
    )
    requests = collect_requests(urls, clip, None if from_file is None else Path(from_file))
    store = Store(dataset)
    _check_requirements(store.root, requests)
    arguments = {
        "urls": list(urls),
        "clip": list(clip),
        "from_file": None if from_file is None else str(from_file),
        "max_height": max_height,
        "licence": licence,
        "max_duration": max_duration,
        "newest": newest,
    }
    with _lock_fetching(store.root):
        current = store.load() if store.exists() else Dataset(store.root)
        archive = Archive(store.root, current.videos["video_id"].tolist())
        recorder = _OutcomeRecorder(store, str(dataset), arguments, options, current)
        recorder.note(find_list_notes(requests))
        fetcher = BatchFetcher(store.root, archive, options, one_at_a_time(progress))
        try:
            with closing(fetcher.run(requests)) as outcomes:
                for outcome in outcomes:
                    recorder.add(outcome)
        finally:  # after Ctrl-C too: finished videos are committed, unfinished ones listed for the next run
            for outcome in fetcher.take_outcomes():
                recorder.add(outcome)
            recorder.write_remaining(requests, fetcher.unfinished())
    return recorder.result()


def note_before(urls: Sequence[str] = (), *, from_file: str | os.PathLike[str] | None = None) -> str | None:
    """Return a warning if there are YouTube links but no JavaScript runtime, which YouTube needs; None otherwise.

    Invalid arguments are ignored here; `fetch_youtube` reports them.
    """
    requests: list[FetchRequest] = []
    with suppress(UsageError):
        requests = collect_requests(urls, (), None if from_file is None else Path(from_file))
    has_youtube = any(youtube_id(request.link) for request in requests)
    if not has_youtube or any(is_new_enough for _, is_new_enough in find_runtimes().values()):
        return None
    return f"No JavaScript runtime was found; without one YouTube may hide formats or answer 403. {GET_RUNTIME}."


class _OutcomeRecorder:
    """Collects the outcomes, and commits each finished video."""

    def __init__(
        self, store: Store, dataset: str, arguments: dict[str, Any], options: FetchOptions, current: Dataset
    ) -> None:
        self._root = store.root
        self._work = store.begin("fetch-youtube", arguments)
        self._dataset = Path(dataset)
        self._options = options
        self._paths = set(current.videos["path"].tolist())
        self._fetched: list[FetchedVideo] = []
        self._skipped: list[SkippedLink] = []
        self._failed: list[FailedLink] = []
        self._notes: list[str] = []
        self._retries: list[FetchRequest] = []
        self._done: set[FetchRequest] = set()

    def note(self, notes: Sequence[str]) -> None:
        self._notes += notes

    def add(self, outcome: Outcome) -> None:
        self._done.add(outcome.request)
        url = outcome.request.link
        match outcome:
            case Fetched():
                self._add_video(outcome)
            case Skipped(_, reason, retry):
                self._skipped.append(SkippedLink(url, reason))
                self._retries += [retry] if retry else []
            case Failed(_, failure, retry):
                failed = FailedLink(url, failure.reason, str(failure))
                self._failed += [failed] if failed not in self._failed else []  # the same for each clip
                self._retries += [retry] if retry else []

    def _add_video(self, fetched: Fetched) -> None:
        record, url = fetched.record, fetched.request.link
        if record.path in self._paths and not fetched.is_new:
            self._skipped.append(SkippedLink(url, f"already there: {self._dataset / record.path}"))
            return
        reason = self._options.find_skip_reason(record.row.get("licence"), record.whole_s)
        if reason and not fetched.is_new:
            self._skipped.append(SkippedLink(url, reason))
            return
        _, after = self._work.commit(lambda before: _with_video(before, record))
        self._paths = set(after.videos["path"].tolist())
        row = record.row
        self._fetched.append(
            FetchedVideo(
                id=record.site_id,
                url=url,
                path=(self._dataset / record.path).as_posix(),
                start_s=row["clip_start_s"],
                end_s=row["clip_end_s"],
                duration_s=row["duration_s"],
                height=row["height"],
                licence=row["licence"],
                title=row["title"],
                uploader=row["uploader"],
            )
        )
        self._notes += [fetched.note] if fetched.note else []
        self._notes += [] if fetched.is_new else [f"{row['video_id']} was on disk already and was added again."]

    def write_remaining(self, requests: Sequence[FetchRequest], unfinished: Sequence[FetchRequest]) -> None:
        """Write the link file for the next run; requests of earlier runs stay in it until they are done.

        Args:
            requests: All requests of this run.
            unfinished: Those without an outcome.
        """
        file = self._root / REMAINING
        shown = self._dataset / REMAINING
        remaining = [*self._retries, *unfinished]
        try:
            before = collect_requests((), (), file) if file.is_file() else []
        except UsageError as error:  # edited by someone else
            self._notes.append(f"{error} It was left as it is.")
            self._notes += (
                [f"{count_of(len(remaining), 'link')} left; run the same command again."] if remaining else []
            )
            return
        done = {*requests, *self._done}
        remaining = list(dict.fromkeys([*(request for request in before if request not in done), *remaining]))
        if not remaining:
            file.unlink(missing_ok=True)
            return
        how = f"{count_of(len(remaining), 'link')} left; run the same command again"
        try:
            write_link_file(file, remaining)
        except OSError as error:  # a full disk must not hide what was fetched, and why the rest was not
            self._notes.append(f"{how}. Their list cannot be written: {shown}: {error.strerror}.")
        else:
            self._notes.append(f"{how}, or with --from-file {shown}.")

    def result(self) -> FetchResult:
        return FetchResult(
            fetched=tuple(self._fetched),
            skipped=tuple(self._skipped),
            failed=tuple(self._failed),
            notes=tuple(self._notes),
        )


def _with_video(before: Dataset, record: Record) -> Dataset:
    """Return the dataset with a video; it replaces one with the same ID or path."""
    row, videos = record.row, before.videos
    same = (videos["video_id"] == row["video_id"]) | (videos["path"] == row["path"])
    if (videos.loc[same, "sha256"] == row["sha256"]).any() and (videos.loc[same, "path"] == row["path"]).any():
        return before
    rows = conform({name: [value] for name, value in row.items()}, VIDEO_COLUMNS, place="videos")
    kept = videos[~same.to_numpy()]
    return before.replace(videos=pd.concat([kept, rows], ignore_index=True) if len(kept) else rows)


def _check_requirements(root: Path, requests: Sequence[FetchRequest]) -> None:
    """Check ffmpeg and disk space before the first request to a site."""
    if any(request.clip for request in requests):
        require_ffmpeg("a clip")
    folder = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise MissingError(
            "not enough disk space",
            place=root,
            got=f"{free / 1e9:.2f} GB free",
            expected=f"{MIN_FREE_BYTES / 1e9:.0f} GB or more",
            remedy="Free some space.",
        )


@contextmanager
def _lock_fetching(root: Path) -> Iterator[None]:
    """Exclude a second fetch, which would write to the same partial files."""
    from filelock import FileLock, Timeout

    folder = root / VIDEOS
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for inner in (".partial", ".archive"):
            refuse_links(root, f"{VIDEOS}/{inner}")
        make_folder(root, VIDEOS)
        with FileLock(folder / ".lock", timeout=0.5):
            try:
                yield
            finally:
                _remove_empty_folders(folder, created)
    except Timeout as error:
        raise StoreError(
            "another fetch is running in this dataset", place=root, remedy="Wait for it, or stop it."
        ) from error


def _remove_empty_folders(folder: Path, created: Sequence[Path]) -> None:
    """Remove empty folders; if nothing was fetched into a new dataset, it is removed too."""
    for name in (".partial", ".archive"):
        with suppress(OSError):
            (folder / name).rmdir()
    if folder in created and {path.name for path in folder.iterdir()} <= {".lock"}:
        shutil.rmtree(folder)
        with suppress(OSError):
            for empty in created[1:]:
                empty.rmdir()
