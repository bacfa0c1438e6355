"""Video files of one's own: found in folders, linked into the dataset, and described."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.dataset import Dataset
from curate.errors import DataError, StoreError, UsageError, unknown_name
from curate.media import VIDEOS, link_or_copy
from curate.progress import Progress
from curate.sources.video import VideoIndex, check_video

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"}
    | {".webm", ".wmv"}
)
_LONGEST_ID = 150  # bytes; the names of frames begin with it


@dataclass(frozen=True)
class LocalVideo:
    """A video file in the dataset folder.

    Attributes:
        video_id: its id.
        path: POSIX, relative to the dataset folder.
        sha256: of its bytes, when it came in.
        title: the name that it came with just now; None for one that was there before.
    """

    video_id: str
    path: str
    sha256: str
    title: str | None = None

    def check(self, root: Path) -> None:
        """Make sure that the file is what came in: it is a link, and somebody may have written into it.

        One that came in just now was read for its hash, and is not read again.

        Raises:
            DataError: it is another.
        """
        if self.title is None and _hash(root / self.path) != self.sha256:
            raise DataError("the file has been changed since it came into the dataset", place=root / self.path)


class VideoLibrary:
    """The videos of a dataset, and files that join them.

    Args:
        root: the dataset folder.
        dataset: as it is now.

    Attributes:
        by_id: the videos by their ids.
        unreadable: files that were named and are no videos, with why.
    """

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self._root = root
        table = dataset.videos
        rows = zip(table["video_id"].tolist(), table["path"].tolist(), table["sha256"].tolist(), strict=True)
        self.by_id = {row[0]: LocalVideo(*row) for row in rows}
        self._by_content = {video.sha256: video for video in self.by_id.values()}
        self.unreadable: dict[Path, str] = {}

    def find(self, names: Sequence[str], progress: Progress) -> list[LocalVideo]:
        """The videos that are named by id, file or folder, in that order and each once; none named: all.

        Files are linked into `media/videos`; one that is there already, by content, is that one. What is no video is
        noted and left where it is.

        Raises:
            UsageError: something is not there, a folder holds no video, or there are none at all.
            DataError: none of the files is a video.
            StoreError: a file cannot be linked or copied.
        """
        if not names and not self.by_id:
            raise UsageError(
                "the dataset has no videos",
                place=self._root,
                remedy="Name a file or a folder, or fetch some with `curate fetch-youtube`.",
            )
        places = [place for name in names for place in self._places(name)] if names else list(self.by_id.values())
        found: dict[str, LocalVideo] = {}
        for number, place in enumerate(places):
            progress("reading videos", number, len(places))
            try:
                video = place if isinstance(place, LocalVideo) else self._take_in(place)
                found[video.video_id] = video
            except DataError as error:
                self.unreadable[Path(str(error.place))] = error.fact
                if len(self.unreadable) == len(places):
                    raise
        progress("reading videos", len(places), len(places))
        return list(found.values())

    def _places(self, name: str) -> Sequence[LocalVideo | Path]:
        """A video, or files: the one that is named, or those in a folder, by their suffixes and sorted."""
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

    def _take_in(self, file: Path) -> LocalVideo:
        check_video(file)
        try:
            digest = _hash(file)
        except OSError as error:
            raise DataError(f"the video cannot be read: {error.strerror}", place=file) from error
        try:
            if known := self._by_content.get(digest):
                _put(file, self._root / known.path, digest)  # in case that somebody has deleted it
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
    """The videos in a folder and in all folders in it, by their suffixes and sorted.

    Raises:
        UsageError: there is none.
    """
    inside = sorted(file for file in folder.rglob("[!.]*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
    if not inside:
        raise UsageError("the folder holds no video", place=folder, expected=", ".join(sorted(VIDEO_SUFFIXES)))
    return inside


def describe(index: VideoIndex) -> dict[str, Any]:
    """What a file itself tells, as columns of the videos table."""
    return {
        "width": index.width,
        "height": index.height,
        "fps": index.fps,
        "frames": index.frames,
        "duration_s": index.duration_s,
        "codec": index.codec,
    }


def _put(file: Path, target: Path, digest: str) -> bool:
    """Link or copy; False where another content has the name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        link_or_copy(os.path.realpath(file), str(target))
    except FileExistsError:
        return os.path.samefile(file, target) or _hash(target) == digest
    return True


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
