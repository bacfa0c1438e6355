"""The videos of a dataset and their frames: local files become videos of it, frames become images of it."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curate.columns import IMAGE_COLUMNS, VIDEO_COLUMNS, conform
from curate.dataset import Dataset
from curate.errors import DataError, StoreError, UsageError, system_error, unknown_name
from curate.files import open_regular, suggest_file
from curate.media import IMAGES, VIDEOS, link_or_copy, write_image
from curate.paths import make_folder
from curate.progress import Progress
from curate.sources.video import VideoIndex, check_video
from curate.sources.video_folder import find_videos

_LONGEST_ID = 150  # bytes; file names of frames begin with the id


@dataclass(frozen=True)
class LocalVideo:
    """A video file in the dataset folder.

    Attributes:
        video_id: Its id.
        path: POSIX, relative to the dataset folder.
        sha256: Hash of its bytes when it was added.
        title: File name that it had when it was added just now; None if the dataset had it before.
        stream: Number of the video stream in the file, from 1; None: the container's best.
        origin: Id that it shares with other videos of one recording; None: see the videos table.
    """

    video_id: str
    path: str
    sha256: str
    title: str | None = None
    stream: int | None = None
    origin: str | None = None

    def check(self, root: Path) -> None:
        """Check that the file was not modified: it may be a hard link to a file that somebody writes to.

        A file that was added just now has been read for its hash, and is not read again.

        Raises:
            DataError: The content changed.
        """
        if self.title is None and _hash(root / self.path) != self.sha256:
            raise DataError("the file was modified after it was added to the dataset", place=root / self.path)


class VideoLibrary:
    """The videos of a dataset; adds local files to them.

    Args:
        root: The dataset folder.
        dataset: Its current version.

    Attributes:
        by_id: Video id → video.
        unreadable: Files that were named and are not videos → the reason.
        notes: Sentences about files in folders that are not videos.
    """

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self._root = root
        table = dataset.videos
        rows: Any = table.itertuples()
        videos = [
            LocalVideo(row.video_id, row.path, row.sha256, stream=_or_none(row.stream), origin=_or_none(row.origin))
            for row in rows
        ]
        self.by_id = {video.video_id: video for video in videos}
        self._by_content = {(video.sha256, video.stream): video for video in videos}
        self.unreadable: dict[Path, str] = {}
        self.notes: list[str] = []

    def find(self, names: Sequence[str], progress: Progress, *, stream: int | None = None) -> list[LocalVideo]:
        """Find videos by id, file or folder, in that order and each once; without names, all videos.

        Files are linked into `media/videos`. A file with the content of a video that the dataset has is that video.
        Files that are not videos go to `unreadable`. Each video stream of a file is a video of its own; those of one
        file share an origin, so that a split has them on one side.

        Args:
            names: Ids, files and folders.
            progress: Callback for progress.
            stream: Number of the video stream in each file, from 1; None: that of the video, else the container's best.

        Raises:
            UsageError: A name is not found, a folder has no video, or the dataset has none.
            DataError: None of the files is a video.
            StoreError: A file cannot be linked or copied.
        """
        if not names and not self.by_id:
            raise UsageError(
                "the dataset has no videos",
                place=self._root,
                remedy="Name a file or folder, or download videos with `curate fetch-youtube`.",
            )
        places = [place for name in names for place in self._places(name)] if names else list(self.by_id.values())
        videos: dict[str, LocalVideo] = {}
        for number, place in enumerate(places):
            progress("reading videos", number, len(places))
            try:
                if isinstance(place, LocalVideo):
                    video = place if stream in (None, place.stream) else self._add(self._root / place.path, stream)
                else:
                    video = self._add(place, stream)
                videos[video.video_id] = video
            except DataError as error:
                self.unreadable[Path(str(error.place))] = ". ".join(filter(None, (error.fact, error.remedy))).rstrip(
                    "."
                )
                if len(self.unreadable) == len(places):
                    raise
        progress("reading videos", len(places), len(places))
        return list(videos.values())

    def _places(self, name: str) -> Sequence[LocalVideo | Path]:
        """The video or file of that name, or the videos in that folder."""
        place = Path(name)
        if name in self.by_id:
            return [self.by_id[name]]
        if place.is_file():
            return [place]
        if place.exists() and not place.is_dir():
            raise UsageError("not a regular file", place=place, expected="a file or folder")
        if not place.is_dir():
            if "/" not in name and (self.by_id or not suggest_file(place)):
                raise unknown_name("video", name, self.by_id, place=self._root, remedy=suggest_file(place))
            raise UsageError("there is no such file or folder", place=place, remedy=suggest_file(place))
        inside = place.resolve().is_relative_to(self._root.resolve())
        found = find_videos(place, None if inside else self._root)
        self.notes += [note] if (note := found.note()) else []
        return found.videos

    def _add(self, file: Path, stream: int | None) -> LocalVideo:
        stream = check_video(file, stream)
        try:
            digest = _hash(file)
        except OSError as error:
            raise DataError(f"the video cannot be read: {error.strerror}", place=file) from error
        try:
            if known := self._by_content.get((digest, stream)):
                _put(file, self._root, known.path, digest)  # if somebody has deleted it
                return known
            for video_id, path in self._free_names(file, digest, stream):
                if _put(file, self._root, path, digest):
                    origin = None if stream is None else self._origin_of_streams(file, digest)
                    video = LocalVideo(video_id, path, digest, file.name, stream, origin)
                    self.by_id[video_id] = self._by_content[digest, stream] = video
                    return video
        except OSError as error:
            place, fact = error.filename2 or error.filename or file, "the video cannot be linked or copied"
            raise system_error(error, fact, place=place, kind=StoreError) from error
        raise StoreError("every name for the video is taken", place=file)

    def _free_names(self, file: Path, digest: str, stream: int | None) -> Iterator[tuple[str, str]]:
        stem = _as_id(file.stem) + ("" if stream is None else f"-stream{stream}")
        suffix = file.suffix if file.parent.resolve() == (self._root / VIDEOS).resolve() else file.suffix.lower()
        for video_id in (stem, f"{stem}-{digest[:8]}"):
            if video_id not in self.by_id:
                yield video_id, f"{VIDEOS}/{video_id}{suffix}"

    def _origin_of_streams(self, file: Path, digest: str) -> str:
        """The id that the file's best stream has, or will have."""
        best = self._by_content.get((digest, None))
        return _as_id(file.stem) if best is None else best.origin or best.video_id


def _or_none(value: Any) -> Any:
    return None if pd.isna(value) else value


def _as_id(stem: str) -> str:
    return re.sub(r"[^\w.-]+", "_", stem).strip("._").encode()[:_LONGEST_ID].decode(errors="ignore") or "video"


def describe(index: VideoIndex) -> dict[str, Any]:
    """The columns of the videos table that are read from the file."""
    return {
        "width": index.width,
        "height": index.height,
        "fps": index.fps,
        "frames": index.frames,
        "duration_s": index.duration_s,
        "codec": index.codec,
    }


# ── frames ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_frame(
    root: Path,
    video_id: str,
    frame_index: int,
    time_s: Fraction | float,
    data: bytes,
    *,
    suffix: str,
    width: int,
    height: int,
) -> dict[str, Any]:
    """Write a frame as an image file of the dataset.

    Args:
        root: The dataset folder.
        video_id: Video of the frame; also the image's source.
        frame_index: Position in the video, from 0.
        time_s: Seconds from the video's first frame.
        data: The encoded image.
        suffix: Of the image file, such as ".jpg".
        width: Of the image, in pixels.
        height: Of the image, in pixels.

    Returns:
        A row of the images table, without its id.

    Raises:
        StoreError: The file cannot be written.
    """
    digest = hashlib.sha256(data).hexdigest()
    path = f"{IMAGES}/{video_id}/{video_id}_{int(time_s * 1000):08d}ms{suffix}"
    return {
        "path": write_image(root, path, data, digest),
        "width": width,
        "height": height,
        "source": video_id,
        "video_id": video_id,
        "frame_index": frame_index,
        "timestamp_s": float(time_s),
        "sha256": digest,
    }


def taken_frames(dataset: Dataset) -> dict[str, frozenset[int]]:
    """Video id → indices of its frames that are images of the dataset."""
    frames = dataset.images[dataset.images["frame_index"].notna() & dataset.images["video_id"].notna()]
    return {str(name): frozenset(group.astype(int)) for name, group in frames.groupby("video_id")["frame_index"]}


def is_taken(taken: Mapping[str, frozenset[int]], row: Mapping[str, Any]) -> bool:
    """Whether a row of `write_frame` is a frame in `taken`."""
    return row["frame_index"] in taken.get(row["video_id"], ())


def add_frames(
    dataset: Dataset, frames: Sequence[Mapping[str, Any]], videos: Sequence[tuple[LocalVideo, Mapping[str, Any]]]
) -> tuple[Dataset, pd.DataFrame]:
    """Add frames as unlabelled images, and their videos if the dataset does not have them.

    Args:
        dataset: Is not changed.
        frames: Rows of `write_frame` for frames that are not taken.
        videos: Videos, each with what `describe` returns.

    Returns:
        The dataset, and the new rows of its images table.
    """
    ids = dataset.next_ids.image + np.arange(len(frames))
    images = conform(pd.DataFrame(frames).assign(image_id=ids), IMAGE_COLUMNS, place="frames")
    known = set(dataset.videos["video_id"])
    rows = [{**vars(video), **facts} for video, facts in videos if video.video_id not in known]
    changes: dict[str, pd.DataFrame] = {}
    if len(images):
        changes["images"] = pd.concat([dataset.images, images], ignore_index=True)
    if rows:
        changes["videos"] = pd.concat([dataset.videos, conform(rows, VIDEO_COLUMNS, place="videos")], ignore_index=True)
    return dataset.replace(**changes), images


def _put(file: Path, root: Path, path: str, digest: str) -> bool:
    """Link or copy a file to `root/path`; False if another content has the name."""
    target = root / path
    make_folder(root, path.rpartition("/")[0])
    try:
        link_or_copy(os.path.realpath(file), str(target))
    except FileExistsError:
        if os.path.samefile(file, target):
            return True
        return file.stat().st_size == target.stat().st_size and _hash(target) == digest
    return True


def _hash(file: Path) -> str:
    with open_regular(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
