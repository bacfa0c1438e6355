"""`sample-frames`: adds frames of videos to a dataset, each with its source and exact time."""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from curate.columns import PROBLEM_COLUMNS, Action, conform
from curate.dataset import Dataset
from curate.errors import DataError, UsageError, unknown_name
from curate.files import write_atomically
from curate.formatting import count_of, curate_command
from curate.media import IMAGES, VIDEOS
from curate.paths import refuse_links
from curate.progress import Progress, one_at_a_time, silent
from curate.result import Result
from curate.sources.frame_export import Recipe, Sampled, VideoSampler
from curate.sources.frame_selection import At, Time, format_times, parse_choice, read_times
from curate.sources.times import parse_seconds
from curate.sources.video import parse_read_options
from curate.sources.video_library import LocalVideo, VideoLibrary, add_frames, is_taken, taken_frames
from curate.store import Store

DROPPED_LIST = "media/dropped-frames.txt"
_COMMIT_EVERY_S = 30.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampledVideo:
    """One video: the number of its new frames, and the times of the first and last of them."""

    video_id: str
    frames: int
    first_s: float | None
    last_s: float | None


@dataclass(frozen=True)
class SampleResult(Result):
    """The result of `sample_frames`.

    Attributes:
        version: The dataset's current version.
        frames: Number of new images.
        videos: One entry per video, in the order of the arguments.
        dropped_duplicates, dropped_blurred: Number of chosen frames that were dropped.
        problems: Videos that broke off, could not be read, or have unusual pictures, as in an import.
    """

    version: int
    frames: int
    videos: tuple[SampledVideo, ...]
    dropped_duplicates: int
    dropped_blurred: int
    problems: tuple[dict[str, Any], ...]


def sample_frames(
    dataset: str | os.PathLike[str],
    videos: Sequence[str] = (),
    *,
    every: Time | None = None,
    fps: Time | None = None,
    at: str | os.PathLike[str] | None = None,
    keyframes: bool = False,
    scenes: bool = False,
    start: Time = 0,
    end: Time | None = None,
    max_frames: int | None = None,
    drop_duplicates: int | None = None,
    drop_blurred: float | None = None,
    format: Literal["jpg", "png"] = "jpg",
    quality: int = 90,
    max_side: int | None = None,
    stream: int | None = None,
    rate: Time | None = None,
    depth: int | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> SampleResult:
    """Add frames of videos as unlabelled images. Frames that the dataset has already are not added again.

    Files with the same content are one video. A damaged video gives the frames before the damage.

    Args:
        dataset: The dataset folder; created if it does not exist.
        videos: Ids of the dataset's videos, or files and folders, which become videos of it. Default: all its videos.
        every: Seconds between frames ("2s", "1/3s"). Default: 2 s, unless another rule is given.
        fps: Frames per second; replaces `every`.
        at: File of times, one per line, optionally after the id of the video it is for; replaces `every`.
        keyframes: Take the keyframes; replaces `every`.
        scenes: Take the middle frame of every scene; replaces `every`. Needs PySceneDetect.
        start: Skip frames before this time, from each video's first frame.
        end: Skip frames from this time on.
        max_frames: At most this many frames per video, evenly spread.
        drop_duplicates: Drop frames whose difference hash is at most this many bits (of 64) from that of a kept frame.
        drop_blurred: Percentage of each video's frames to drop, least sharp first.
        format: Image format.
        quality: JPEG quality, 1 to 100.
        max_side: Scale larger frames down to this many pixels on the longer side.
        stream: Number of the video stream in each file, from 1. Default: the container's best.
        rate: Frames per second of files without time stamps, such as raw .h264. Default: what the file tells, else 25.
        depth: Bits that grey or RGB samples of 16 bits really use. Default: all.
        workers: Number of videos processed at once. Default: one per core.
        progress: Callback for progress: videos finished, and frames read of each video in work.

    Raises:
        UsageError: The options do not fit one another, or a video is unknown.
        DataError: No video can be read.
    """
    recipe = Recipe(
        choice=parse_choice(every=every, fps=fps, at=at, keyframes=keyframes, scenes=scenes, start=start),
        start_s=parse_seconds(start, place="--start"),
        end_s=None if end is None else parse_seconds(end, place="--end"),
        max_frames=max_frames,
        drop_duplicates=drop_duplicates,
        drop_blurred=drop_blurred,
        suffix=f".{format}",
        quality=quality,
        max_side_px=max_side,
        reading=parse_read_options(stream=stream, rate=rate, depth=depth),
    )
    if workers is not None and workers < 1:
        raise UsageError("the value is out of range", place="--workers", got=workers, expected="1 or more")
    store = Store(dataset)
    if store.root.exists() and not store.root.is_dir():
        raise UsageError("the dataset folder is a file", place=dataset)
    refuse_links(store.root, IMAGES)
    current = store.load() if store.exists() else Dataset(store.root)
    videos = [str(videos)] if isinstance(videos, str | os.PathLike) else [str(video) for video in videos]
    arguments = _arguments(locals())
    library = VideoLibrary(store.root, current)
    own_list = at is not None and Path(at).resolve() == (store.root / DROPPED_LIST).resolve()
    work = _Work(store, arguments, _find_videos(videos, recipe, library, progress, own_list=own_list))
    work.run(recipe, current, workers or os.cpu_count() or 1, progress)
    return work.result(library)


def _arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for the version file: those that decide which frames are taken."""
    names = (
        *("videos", "every", "fps", "at", "keyframes", "scenes", "start", "end", "max_frames"),
        *("drop_duplicates", "drop_blurred", "format", "quality", "max_side", "stream", "rate", "depth"),
    )
    return {name: list(given[name]) if name == "videos" else given[name] for name in names}


def _find_videos(
    videos: Sequence[str], recipe: Recipe, library: VideoLibrary, progress: Progress, *, own_list: bool
) -> list[LocalVideo]:
    """The videos to sample: `videos`; if empty and all times have a video id, the videos of the times.

    The list of dropped frames (`own_list`) may name videos that an undo has removed; other lists may not.
    """
    choice = recipe.choice
    named = {video_id for video_id, _ in choice.times} if isinstance(choice, At) else {None}
    known = library.by_id.keys() | {Path(video).stem for video in videos}
    unknown = sorted(name for name in named if name is not None and name not in known)
    if unknown and not own_list:
        raise unknown_name("video", unknown[0], library.by_id, place="--at")
    if not videos and None not in named:
        videos = sorted(name for name in named if name is not None and name not in unknown)
    return library.find(videos, progress, stream=recipe.reading.stream)


class _Work:
    """Samples videos, several at once, and commits them as they finish."""

    def __init__(self, store: Store, arguments: Mapping[str, Any], videos: Sequence[LocalVideo]) -> None:
        self._store, self._videos = store, videos
        self._work = store.begin("sample-frames", arguments)
        self._done: dict[str, Sampled] = {}
        self._uncommitted = list(videos)
        self._version = 0

    def run(self, recipe: Recipe, current: Dataset, workers: int, progress: Progress) -> None:
        """Sample every video; after Ctrl-C, commit those that are finished."""
        stop, taken, total = threading.Event(), taken_frames(current), len(self._videos)
        # with many videos each gets a core; with few, decoders use threads of their own
        threads, progress = 1 if total >= workers else 0, one_at_a_time(progress)
        sampler = VideoSampler(self._store.root, recipe, threads=threads, stop=stop, progress=progress)
        with ThreadPoolExecutor(min(workers, total)) as pool:
            running: set[Future[Sampled]] = {
                pool.submit(sampler.sample, video, taken.get(video.video_id, frozenset())) for video in self._videos
            }
            committed = time.monotonic()
            try:
                while running:
                    progress("sampling videos", total - len(running), total)
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for sampled in (future.result() for future in finished):
                        self._done[sampled.video.video_id] = sampled
                        cause = f", stopped: {sampled.fault}" if sampled.fault else ""
                        logger.info("%s: %s%s", sampled.video.path, count_of(len(sampled.rows), "new frame"), cause)
                    if time.monotonic() - committed > _COMMIT_EVERY_S:
                        self._commit(self._finished_in_order())
                        committed = time.monotonic()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                self._commit([video for video in self._uncommitted if video.video_id in self._done])
                raise
        progress("sampling videos", total, total)
        self._commit(self._finished_in_order())

    def _finished_in_order(self) -> list[LocalVideo]:
        """The finished videos up to the first unfinished one, so that image ids do not depend on timing."""
        return list(takewhile(lambda video: video.video_id in self._done, self._uncommitted))

    def _commit(self, videos: Sequence[LocalVideo]) -> None:
        """Add finished videos to the dataset; all commits of one sampling become one version."""
        finished = [self._done[video.video_id] for video in videos]
        self._uncommitted = [video for video in self._uncommitted if video not in videos]
        if len(finished) == len(self._videos) and not any(one.facts for one in finished):
            raise DataError(finished[0].fault or "it cannot be read", place=self._store.root / finished[0].video.path)

        def change(now: Dataset) -> Dataset:
            _list_dropped(self._store.root / DROPPED_LIST, finished)  # under the lock
            return _join(now, finished)

        self._version, _ = self._work.commit(change)

    def result(self, library: VideoLibrary) -> SampleResult:
        """The result, including files that could not be read or are not videos."""
        sampled = [self._done[video.video_id] for video in self._videos]
        duplicates, blurred = (sum(len(getattr(one, kind)) for one in sampled) for kind in ("duplicates", "blurred"))
        root = self._store.root
        problems = [row | {"file": f"{root}/{one.video.path}"} for one in sampled for row in _problems(one)]
        problems += [_unreadable(str(file), fact) for file, fact in library.unreadable.items()]
        return SampleResult(
            version=self._version,
            frames=sum(len(one.rows) for one in sampled),
            videos=tuple(_summary(one) for one in sampled),
            dropped_duplicates=duplicates,
            dropped_blurred=blurred,
            problems=tuple(problems),
            notes=(
                *_problem_lines(problems),
                *library.notes,
                *self._note_dropped(duplicates + blurred),
                *(() if any(one.chosen for one in sampled) else ("The videos have no frames at the requested times.",)),
            ),
        )

    def _note_dropped(self, dropped: int) -> list[str]:
        file = self._store.root / DROPPED_LIST
        command = curate_command("sample-frames", self._store.root, "--at", file)
        return [f"Dropped: {count_of(dropped, 'frame')}; {command} adds them."] if dropped else []


def _join(now: Dataset, finished: Sequence[Sampled]) -> Dataset:
    """Add new frames, videos and problems; frames that another process has added since are skipped."""
    taken = taken_frames(now)
    for one in finished:
        one.rows = [row for row in one.rows if not is_taken(taken, row)]
    rows = [row for one in finished for row in one.rows]
    after, _ = add_frames(now, rows, [(one.video, one.facts) for one in finished if one.facts])
    problems = _merge_problems(now.problems, finished)
    return after if problems is now.problems else after.replace(problems=problems)


def _merge_problems(known: pd.DataFrame, finished: Sequence[Sampled]) -> pd.DataFrame:
    """Add problems of files that have none yet; the bytes of a file do not change, and neither do its problems."""
    old = known[known["source"] == VIDEOS]
    reported = set(zip(old["file"], old["kind"], strict=True))
    rows = [row for one in finished for row in _problems(one)]
    fresh = [row for row in rows if (row["file"], row["kind"]) not in reported]
    return pd.concat([known, conform(fresh, PROBLEM_COLUMNS)], ignore_index=True) if fresh else known


def _problems(one: Sampled) -> list[dict[str, Any]]:
    file = Path(one.video.path).name
    if not one.facts:
        return [_unreadable(file, one.fault or "")]
    faults = [_problem_row(file, "video_breaks_off", one.fault, "noted")] if one.fault else []
    return [*faults, *(_problem_row(file, kind, detail, "noted") for kind, detail in one.remarks)]


def _problem_lines(problems: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per fact; one that holds for several videos names the first and their number."""
    files: dict[str, list[str]] = {}
    for problem in problems:
        files.setdefault(problem["detail"], []).append(problem["file"])
    return [f"{of[0]}{f' and {len(of) - 1} more' if len(of) > 1 else ''}: {detail}." for detail, of in files.items()]


def _unreadable(file: str, fact: str) -> dict[str, Any]:
    return _problem_row(file, "unreadable_video", fact, "quarantined")


def _problem_row(file: str, kind: str, detail: str, action: Action) -> dict[str, Any]:
    where = {"source": VIDEOS, "file": file, "line": None, "object": None}
    return {**where, "kind": kind, "detail": detail, "action": action}


def _summary(one: Sampled) -> SampledVideo:
    times = [row["timestamp_s"] for row in one.rows]
    return SampledVideo(one.video.video_id, len(times), min(times, default=None), max(times, default=None))


def _list_dropped(file: Path, finished: Sequence[Sampled]) -> None:
    """Add the times of dropped frames to a file for `--at`. Times are never removed: an undo may need them."""
    known = {(name or "", time_s) for name, time_s in read_times(file).times} if file.exists() else set()
    dropped = {(one.video.video_id, time_s) for one in finished for time_s in (*one.duplicates, *one.blurred)}
    if not dropped <= known:
        write_atomically(file, lambda out: out.write(format_times(sorted(known | dropped)).encode()))
