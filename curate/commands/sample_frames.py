"""`sample-frames`: frames of videos into the dataset, each with its source and exact time."""

import os
import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from curate.columns import IMAGE_COLUMNS, PROBLEM_COLUMNS, VIDEO_COLUMNS, conform
from curate.dataset import Dataset
from curate.errors import DataError, UsageError, unknown_name
from curate.files import write_atomically
from curate.media import VIDEOS
from curate.progress import Progress, one_at_a_time, silent
from curate.result import Result
from curate.sources.frame_export import Recipe, Sampled, VideoSampler
from curate.sources.frame_selection import At, Choice, Time, format_times, parse_choice, read_times
from curate.sources.times import parse_seconds
from curate.sources.video_library import LocalVideo, VideoLibrary
from curate.store import Store

DROPPED_LIST = "media/dropped-frames.txt"
_COMMIT_EVERY_S = 30.0  # what is finished is kept so often


@dataclass(frozen=True)
class SampledVideo:
    """What came out of one video: how many new frames, and the times of the first and the last of them."""

    video_id: str
    frames: int
    first_s: float | None
    last_s: float | None


@dataclass(frozen=True)
class SampleResult(Result):
    """What a sampling did.

    Attributes:
        version: the current one now.
        frames: new images.
        videos: one entry a video, in the order asked for.
        dropped_duplicates, dropped_blurred: frames that were chosen and left out again.
        problems: videos that broke off or could not be read, as in an import.
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
    workers: int | None = None,
    progress: Progress = silent,
) -> SampleResult:
    """Take frames out of videos; they come in as unlabelled images. What was taken before is not taken again.

    Files with the same content are one video. A video that breaks off gives what comes before.

    Args:
        dataset: the dataset folder; created where it is not there.
        videos: ids of the dataset's videos, or files and folders, which then become videos of it. Default: all.
        every: seconds from one frame to the next ("2s", "1/3s"); 2 s unless another way is chosen.
        fps: frames a second, instead.
        at: a file of times, instead; one a line, after a video's id where it is meant for that video only.
        keyframes: the frames that the encoder stored whole, instead.
        scenes: the middle frame of every scene, instead; needs PySceneDetect.
        start: nothing before this time, from each video's first frame.
        end: nothing from this time on.
        max_frames: of each video at most so many, evenly spread.
        drop_duplicates: leave out frames of which at most so many of 64 bits of the difference hash differ from those
            of one that stays.
        drop_blurred: leave out the least sharp so many percent of each video.
        format: of the images.
        quality: of JPEG.
        max_side: scale larger frames down to this many pixels on the longer side.
        workers: videos at work at once; default: one for each core.
        progress: told how many videos are done, and how many frames of each at work.

    Raises:
        UsageError: the ways to choose do not fit one another, or a video is unknown.
        DataError: no video can be read.
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
    )
    if workers is not None and workers < 1:
        raise UsageError("the value is out of range", place="--workers", got=workers, expected="1 or more")
    store = Store(dataset)
    if store.root.exists() and not store.root.is_dir():
        raise UsageError("the dataset folder is a file", place=dataset)
    current = store.load() if store.exists() else Dataset(store.root)
    videos = [str(videos)] if isinstance(videos, str | os.PathLike) else [str(video) for video in videos]
    arguments = _arguments(locals())
    library = VideoLibrary(store.root, current)
    own_list = at is not None and Path(at).resolve() == (store.root / DROPPED_LIST).resolve()
    found = _find_videos(videos, recipe.choice, library, progress, own_list=own_list)
    work = _Work(store, arguments, found)
    work.run(recipe, current, workers or os.cpu_count() or 1, progress)
    return work.result(library.unreadable)


def _arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the version file keeps: the arguments that say which frames."""
    names = (
        *("videos", "every", "fps", "at", "keyframes", "scenes", "start", "end", "max_frames"),
        *("drop_duplicates", "drop_blurred", "format", "quality", "max_side"),
    )
    return {name: list(given[name]) if name == "videos" else given[name] for name in names}


def _find_videos(
    videos: Sequence[str], choice: Choice, library: VideoLibrary, progress: Progress, *, own_list: bool
) -> list[LocalVideo]:
    """The videos to look at; without any named, those that times name, if each names one.

    Times of frames that were dropped (`own_list`) may be of videos that an undo took away; others may not.
    """
    named = {video_id for video_id, _ in choice.times} if isinstance(choice, At) else {None}
    there = library.by_id.keys() | {Path(video).stem for video in videos}
    unknown = sorted(name for name in named if name is not None and name not in there)
    if unknown and not own_list:
        raise unknown_name("video", unknown[0], library.by_id, place="--at")
    if not videos and None not in named:
        videos = sorted(name for name in named if name is not None and name not in unknown)
    return library.find(videos, progress)


class _Work:
    """All videos of one sampling: several at once, kept in the dataset as they finish."""

    def __init__(self, store: Store, arguments: Mapping[str, Any], videos: Sequence[LocalVideo]) -> None:
        self._store, self._videos = store, videos
        self._kept = store.begin("sample-frames", arguments)
        self._done: dict[str, Sampled] = {}
        self._waiting = list(videos)  # not yet in the dataset
        self._version = 0

    def run(self, recipe: Recipe, current: Dataset, workers: int, progress: Progress) -> None:
        """Sample every video; after Ctrl-C, those that were finished are kept."""
        stop, taken, total = threading.Event(), _taken_frames(current), len(self._videos)
        # of many videos each gets a core; a few share them through their decoders' own threads
        threads, progress = 1 if total >= workers else 0, one_at_a_time(progress)
        sampler = VideoSampler(self._store.root, recipe, threads=threads, stop=stop, progress=progress)
        with ThreadPoolExecutor(min(workers, total)) as pool:
            waiting: set[Future[Sampled]] = {
                pool.submit(sampler.sample, video, taken.get(video.video_id, frozenset())) for video in self._videos
            }
            committed = time.monotonic()
            try:
                while waiting:
                    progress("sampling videos", total - len(waiting), total)
                    finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for sampled in (future.result() for future in finished):
                        self._done[sampled.video.video_id] = sampled
                    if time.monotonic() - committed > _COMMIT_EVERY_S:
                        self._commit(self._finished_in_order())
                        committed = time.monotonic()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                self._commit([video for video in self._waiting if video.video_id in self._done])
                raise
        progress("sampling videos", total, total)
        self._commit(self._finished_in_order())

    def _finished_in_order(self) -> list[LocalVideo]:
        """Up to the first that is not finished: so images get the same ids whichever video is done first."""
        return list(takewhile(lambda video: video.video_id in self._done, self._waiting))

    def _commit(self, videos: Sequence[LocalVideo]) -> None:
        """Bring finished videos into the dataset; all parts of one sampling are one version."""
        finished = [self._done[video.video_id] for video in videos]
        self._waiting = [video for video in self._waiting if video not in videos]
        if len(finished) == len(self._videos) and not any(one.facts for one in finished):
            raise DataError(finished[0].fault or "it cannot be read", place=self._store.root / finished[0].video.path)

        def change(now: Dataset) -> Dataset:
            _list_dropped(self._store.root / DROPPED_LIST, finished)  # here, where nobody else writes it
            return _join(now, finished)

        self._version, _ = self._kept.commit(change)

    def result(self, unreadable: Mapping[Path, str]) -> SampleResult:
        """What came out, with files that did not come in at all."""
        sampled = [self._done[video.video_id] for video in self._videos]
        duplicates, blurred = (sum(len(getattr(one, kind)) for one in sampled) for kind in ("duplicates", "blurred"))
        root = self._store.root
        problems = [_problem(one) | {"file": f"{root}/{one.video.path}"} for one in sampled if one.fault]
        problems += [_unreadable(str(file), fact) for file, fact in unreadable.items()]
        return SampleResult(
            version=self._version,
            frames=sum(len(one.rows) for one in sampled),
            videos=tuple(_summary(one) for one in sampled),
            dropped_duplicates=duplicates,
            dropped_blurred=blurred,
            problems=tuple(problems),
            notes=(
                *(f"{one['file']}: {one['detail']}." for one in problems),
                *self._note_dropped(duplicates + blurred),
                *(() if any(one.chosen for one in sampled) else ("No frame of the videos is where it was asked for.",)),
            ),
        )

    def _note_dropped(self, dropped: int) -> list[str]:
        file = self._store.root / DROPPED_LIST
        way_back = (
            f"`{shlex.join(['curate', 'sample-frames', str(self._store.root), '--at', str(file)])}` brings them back"
        )
        return [f"{dropped} frames were left out again; {way_back}."] if dropped else []


def _taken_frames(dataset: Dataset) -> dict[str, frozenset[int]]:
    """Video id → positions of its frames that are images already."""
    frames = dataset.images[dataset.images["frame_index"].notna() & dataset.images["video_id"].notna()]
    return {str(name): frozenset(group.astype(int)) for name, group in frames.groupby("video_id")["frame_index"]}


def _join(now: Dataset, finished: Sequence[Sampled]) -> Dataset:
    """Add new frames, videos and problems; what somebody else has added since is not added twice."""
    taken = _taken_frames(now)
    for one in finished:
        others = taken.get(one.video.video_id, frozenset())
        one.rows = [row for row in one.rows if row["frame_index"] not in others]
    rows = [row for one in finished for row in one.rows]
    held = set(now.videos["video_id"])
    videos = [{**vars(one.video), **one.facts} for one in finished if one.facts and one.video.video_id not in held]
    changes: dict[str, pd.DataFrame] = {}
    if rows:
        images = conform(
            pd.DataFrame(rows).assign(image_id=now.next_ids.image + np.arange(len(rows))), IMAGE_COLUMNS, place="frames"
        )
        changes["images"] = pd.concat([now.images, images], ignore_index=True)
    if videos:
        changes["videos"] = pd.concat([now.videos, conform(videos, VIDEO_COLUMNS, place="videos")], ignore_index=True)
    problems = _merge_problems(now.problems, finished)
    if problems is not now.problems:
        changes["problems"] = problems
    return now.replace(**changes)


def _merge_problems(known: pd.DataFrame, finished: Sequence[Sampled]) -> pd.DataFrame:
    """What is told of a file once stays told, in the words of that time: its bytes do not change."""
    told = set(known.loc[known["source"] == VIDEOS, "file"])
    fresh = [problem for problem in map(_problem, finished) if problem["detail"] and problem["file"] not in told]
    return pd.concat([known, conform(fresh, PROBLEM_COLUMNS)], ignore_index=True) if fresh else known


def _problem(one: Sampled) -> dict[str, Any]:
    if not one.facts:
        return _unreadable(Path(one.video.path).name, one.fault or "")
    where = {"source": VIDEOS, "file": Path(one.video.path).name, "line": None, "object": None}
    return {**where, "kind": "video_breaks_off", "detail": one.fault, "action": "noted"}


def _unreadable(file: str, fact: str) -> dict[str, Any]:
    where = {"source": VIDEOS, "file": file, "line": None, "object": None}
    return {**where, "kind": "unreadable_video", "detail": fact, "action": "quarantined"}


def _summary(one: Sampled) -> SampledVideo:
    times = [row["timestamp_s"] for row in one.rows]
    return SampledVideo(one.video.video_id, len(times), min(times, default=None), max(times, default=None))


def _list_dropped(file: Path, finished: Sequence[Sampled]) -> None:
    """Add the times of dropped frames to a list that `--at` reads. Nothing is taken from it: an undo may need it."""
    known = {(name or "", time_s) for name, time_s in read_times(file).times} if file.exists() else set()
    dropped = {(one.video.video_id, time_s) for one in finished for time_s in (*one.duplicates, *one.blurred)}
    if not dropped <= known:
        write_atomically(file, lambda out: out.write(format_times(sorted(known | dropped)).encode()))
