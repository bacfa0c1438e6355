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
from curate.errors import DataError, StoreError, UsageError, unknown_name
from curate.media import IMAGES, VIDEOS, link_or_copy, write_image
from curate.progress import Progress
from curate.sources.video import VideoIndex, check_video

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"}
    | {".webm", ".wmv"}
)
_LONGEST_ID = 150  # bytes; file names of frames begin with the id


@dataclass(frozen=True)
class LocalVideo:
    """A video file in the dataset folder.

    Attributes:
        video_id: Its id.
        path: POSIX, relative to the dataset folder.
        sha256: Hash of its bytes when it was added.
        title: File name that it had when it was added just now; None if the dataset had it before.
    """

    video_id: str
    path: str
    sha256: str
    title: str | None = None

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
    """

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self._root = root
        table = dataset.videos
        rows = zip(table["video_id"].tolist(), table["path"].tolist(), table["sha256"].tolist(), strict=True)
        self.by_id = {row[0]: LocalVideo(*row) for row in rows}
        self._by_content = {video.sha256: video for video in self.by_id.values()}
        self.unreadable: dict[Path, str] = {}

    def find(self, names: Sequence[str], progress: Progress) -> list[LocalVideo]:
        """Find videos by id, file or folder, in that order and each once; without names, all videos.

        Files are linked into `media/videos`. A file with the content of a video that the dataset has is that video.
        Files that are not videos go to `unreadable`.

        Args:
            names: Ids, files and folders.
            progress: Callback for progress.

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
                video = place if isinstance(place, LocalVideo) else self._add(place)
                videos[video.video_id] = video
            except DataError as error:
                self.unreadable[Path(str(error.place))] = error.fact
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
        if not place.is_dir():
            if "/" not in name:
                raise unknown_name("video", name, self.by_id, place=self._root)
            raise UsageError("there is no such file or folder", place=place)
        return list_videos(place)

    def _add(self, file: Path) -> LocalVideo:
        check_video(file)
        try:
            digest = _hash(file)
        except OSError as error:
            raise DataError(f"the video cannot be read: {error.strerror}", place=file) from error
        try:
            if known := self._by_content.get(digest):
                _put(file, self._root / known.path, digest)  # if somebody has deleted it
                return known
            for video_id, path in self._free_names(file, digest):
                if _put(file, self._root / path, digest):
                    video = LocalVideo(video_id, path, digest, file.name)
                    self.by_id[video_id] = self._by_content[digest] = video
                    return video
        except OSError as error:
            place = error.filename2 or error.filename or file
            raise StoreError(f"the video cannot be linked or copied: {error.strerror}", place=place) from error
        raise StoreError("every name for the video is taken", place=file)

    def _free_names(self, file: Path, digest: str) -> Iterator[tuple[str, str]]:
        stem = re.sub(r"[^\w.-]+", "_", file.stem).strip("._").encode()[:_LONGEST_ID].decode(errors="ignore") or "video"
        suffix = file.suffix if file.parent.resolve() == (self._root / VIDEOS).resolve() else file.suffix.lower()
        for video_id in (stem, f"{stem}-{digest[:8]}"):
            if video_id not in self.by_id:
                yield video_id, f"{VIDEOS}/{video_id}{suffix}"


def list_videos(folder: Path) -> list[Path]:
    """The files with a video's suffix in a folder and its subfolders, sorted.

    Raises:
        UsageError: There are none.
    """
    inside = sorted(file for file in folder.rglob("[!.]*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
    if not inside:
        raise UsageError("the folder has no video", place=folder, expected=", ".join(sorted(VIDEO_SUFFIXES)))
    return inside


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


def _put(file: Path, target: Path, digest: str) -> bool:
    """Link or copy a file; False if another content has the name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        link_or_copy(os.path.realpath(file), str(target))
    except FileExistsError:
        return os.path.samefile(file, target) or _hash(target) == digest
    return True


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
