"""`fetch-youtube`: videos and clips behind links into a dataset, with where they come from."""

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
from curate.media import VIDEOS
from curate.progress import Progress, one_at_a_time, silent
from curate.result import Result
from curate.sources.youtube.archive import Archive, Record
from curate.sources.youtube.batch import Fetcher
from curate.sources.youtube.download import FREE_MARGIN, Failed, Got, Outcome, Skipped
from curate.sources.youtube.failures import GET_RUNTIME
from curate.sources.youtube.ffmpeg import require_ffmpeg
from curate.sources.youtube.links import Wish, collect_wishes, write_link_file
from curate.sources.youtube.options import Licence, Wanted, parse_wanted, unwanted
from curate.sources.youtube.session import find_runtimes, youtube_id
from curate.store import Store

REMAINING = f"{VIDEOS}/not-fetched.txt"


@dataclass(frozen=True)
class FetchedVideo:
    """A video that came into the dataset; start and end are None where it is whole, duration and height measured."""

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
    """A link that was left out: it is there already, a filter says no, or the batch stopped before it."""

    url: str
    reason: str


@dataclass(frozen=True)
class FailedLink:
    """A link that gave no video: one word for why, and what can be done."""

    url: str
    reason: str
    advice: str


@dataclass(frozen=True)
class FetchResult(Result):
    """What became of every link.

    Attributes:
        fetched: videos that are new in the dataset.
        skipped: what was left out on purpose.
        failed: what did not come.
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
    progress: Progress = silent,
) -> FetchResult:
    """Fetch what links lead to, whole or as clips; what was fetched before is not fetched again.

    Pictures only: where a site has them without sound, that is taken. A clip is cut to the frame, from the first at or
    after its start to the last before its end. Each finished video is kept at once; all of them are one version.

    Args:
        dataset: the dataset folder; created where it is not there.
        urls: videos, playlists, or pages with videos.
        clip: "START-END" each, of every link without a range of its own in the file.
        from_file: a file with one link a line, each with ranges of its own behind it if any; `#` starts a comment.
        max_height: in pixels; the best format up to it is taken.
        licence: "creative-commons" skips all that do not say they are.
        max_duration: skip videos that are longer as a whole ("10min", "1:30:00"); one of unknown length is fetched.
        cookies: a file of cookies as browsers export it; it is only read.
        rate_limit: bytes a second in all ("500K", "2M").
        sleep: seconds between the starts of two videos.
        workers: how many at once.
        allow_private: also contact hosts that are not public.
        progress: told megabytes of each file (seconds of each clip), and videos in all.

    Returns:
        What became of every link; one that fails does not stop the others.

    Raises:
        UsageError: an argument, or a line of the file, is not what it must be.
        MissingError: ffmpeg is needed and not there, or the disk is full.
        StoreError: another fetch is at work in this dataset.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(dataset), re.IGNORECASE):
        raise UsageError("the dataset folder comes first", got=str(dataset), expected="DATASET URL…")
    wanted = parse_wanted(
        max_height=max_height,
        licence=licence,
        max_duration=max_duration,
        cookies=cookies,
        rate_limit=rate_limit,
        sleep=sleep,
        workers=workers,
        allow_private=allow_private,
    )
    wishes = collect_wishes(urls, clip, None if from_file is None else Path(from_file))
    store = Store(dataset)
    _check_before(store.root, wishes)
    arguments = {
        "urls": list(urls),
        "clip": list(clip),
        "from_file": None if from_file is None else str(from_file),
        "max_height": max_height,
        "licence": licence,
        "max_duration": max_duration,
    }
    with _alone(store.root):
        current = store.load() if store.exists() else Dataset(store.root)
        archive = Archive(store.root, current.videos["video_id"].tolist())
        book = _Book(store, str(dataset), arguments, wanted, current)
        fetcher = Fetcher(store.root, archive, wanted, one_at_a_time(progress))
        try:
            with closing(fetcher.run(wishes)) as outcomes:
                for outcome in outcomes:
                    book.add(outcome)
        finally:  # after Ctrl-C too: what is finished stays, what is not is written down
            for outcome in fetcher.left_over():
                book.add(outcome)
            book.write_remaining(wishes, fetcher.unfinished())
    return book.result()


def note_before(urls: Sequence[str] = (), *, from_file: str | os.PathLike[str] | None = None) -> str | None:
    """What is worth knowing before anything is fetched: that a JavaScript runtime, which YouTube needs, is not there.

    None where there is nothing to say, and where the arguments are wrong, which `fetch_youtube` tells.
    """
    wishes: list[Wish] = []
    with suppress(UsageError):
        wishes = collect_wishes(urls, (), None if from_file is None else Path(from_file))
    if not any(youtube_id(wish.link) for wish in wishes) or any(good for _, good in find_runtimes().values()):
        return None
    return f"No JavaScript runtime was found; YouTube may hide formats or answer 403 without. {GET_RUNTIME}."


class _Book:
    """Keeps account of the outcomes, and commits each finished video."""

    def __init__(self, store: Store, dataset: str, arguments: dict[str, Any], wanted: Wanted, current: Dataset) -> None:
        self._root = store.root
        self._work = store.begin("fetch-youtube", arguments)
        self._dataset = Path(dataset)
        self._wanted = wanted
        self._paths = set(current.videos["path"].tolist())
        self._fetched: list[FetchedVideo] = []
        self._skipped: list[SkippedLink] = []
        self._failed: list[FailedLink] = []
        self._notes: list[str] = []
        self._later: list[Wish] = []
        self._answered: set[Wish] = set()

    def add(self, outcome: Outcome) -> None:
        """Take note of what became of a link."""
        self._answered.add(outcome.wish)
        url = outcome.wish.link
        match outcome:
            case Got():
                self._add_video(outcome)
            case Skipped(_, reason, later):
                self._skipped.append(SkippedLink(url, reason))
                self._later += [later] if later else []
            case Failed(_, failure, later):
                failed = FailedLink(url, failure.reason, str(failure))
                self._failed += [failed] if failed not in self._failed else []  # the same for each clip
                self._later += [later] if later else []

    def _add_video(self, got: Got) -> None:
        record, url = got.record, got.wish.link
        if record.path in self._paths and not got.is_new:
            self._skipped.append(SkippedLink(url, f"already there: {self._dataset / record.path}"))
            return
        if not got.is_new and (why := unwanted(self._wanted, record.row.get("licence"), record.whole_s)):
            self._skipped.append(SkippedLink(url, why))
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
        self._notes += [got.note] if got.note else []
        self._notes += [] if got.is_new else [f"{row['video_id']} was on disk already and was taken in again."]

    def write_remaining(self, asked: Sequence[Wish], unfinished: Sequence[Wish]) -> None:
        """Write what is for the next run into a link file, with what an earlier run left there and this one did not do.

        Args:
            asked: what was asked for in this run.
            unfinished: what of it has no outcome.
        """
        file = self._root / REMAINING
        shown = self._dataset / REMAINING
        later = [*self._later, *unfinished]
        try:
            before = collect_wishes((), (), file) if file.exists() else []
        except UsageError as error:  # somebody else's words are in it
            self._notes.append(f"{error} It was left as it is.")
            self._notes += [f"{len(later)} are for later; the same command goes on."] if later else []
            return
        done = {*asked, *self._answered}
        later = list(dict.fromkeys([*(wish for wish in before if wish not in done), *later]))
        if later:
            write_link_file(file, later)
            self._notes.append(f"{len(later)} are for later; the same command, or --from-file {shown}, goes on.")
        else:
            file.unlink(missing_ok=True)

    def result(self) -> FetchResult:
        """Everything that was noted."""
        return FetchResult(
            fetched=tuple(self._fetched),
            skipped=tuple(self._skipped),
            failed=tuple(self._failed),
            notes=tuple(self._notes),
        )


def _with_video(before: Dataset, record: Record) -> Dataset:
    """The dataset with a video, in place of what it held under the same id."""
    row, videos = record.row, before.videos
    same = (videos["video_id"] == row["video_id"]) | (videos["path"] == row["path"])
    if (videos.loc[same, "sha256"] == row["sha256"]).any() and (videos.loc[same, "path"] == row["path"]).any():
        return before
    rows = conform({name: [value] for name, value in row.items()}, VIDEO_COLUMNS, place="videos")
    kept = videos[~same.to_numpy()]
    return before.replace(videos=pd.concat([kept, rows], ignore_index=True) if len(kept) else rows)


def _check_before(root: Path, wishes: Sequence[Wish]) -> None:
    """What is known to be needed before anything is asked of any site."""
    if any(wish.clip for wish in wishes):
        require_ffmpeg("a clip")
    folder = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if free < FREE_MARGIN:
        raise MissingError(
            "the disk is nearly full",
            place=root,
            got=f"{free / 1e9:.2f} GB free",
            expected=f"{FREE_MARGIN / 1e9:.0f} GB or more",
            remedy="Free some space.",
        )


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep a second fetch out: two would write into the same unfinished files."""
    from filelock import FileLock, Timeout

    folder = root / VIDEOS
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0.5):
            try:
                yield
            finally:
                _remove_empty(folder, made)
    except Timeout as error:
        raise StoreError("another fetch is at work here", place=root, remedy="Wait for it, or end it.") from error


def _remove_empty(folder: Path, made: Sequence[Path]) -> None:
    """Remove folders that hold nothing; where nothing was fetched into a new dataset, there is none then."""
    for name in (".partial", ".archive"):
        with suppress(OSError):
            (folder / name).rmdir()
    if folder in made and {path.name for path in folder.iterdir()} <= {".lock", ".cache"}:
        shutil.rmtree(folder)
        with suppress(OSError):
            for empty in made[1:]:
                empty.rmdir()
