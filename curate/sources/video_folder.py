"""Finds the videos in a folder, by what the decoder opens."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.errors import DataError, UsageError
from curate.formatting import count_of
from curate.sources.video import check_video

# Files with these names are videos, however damaged: they are read, and a failure is reported as one.
_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"}
    | {".webm", ".wmv"}
)
_UNFINISHED = (".part", ".crdownload", ".download")  # beginnings of suffixes: yt-dlp, curl, browsers
_MAX_NAMED = 5


@dataclass(frozen=True)
class VideoFolder:
    """The files in a folder and its subfolders, without hidden ones.

    Attributes:
        path: The folder.
        videos: Files that are videos by their suffix or content, sorted.
        others: Files that are not videos, sorted.
        unfinished: Downloads that are still running or broke off, sorted.
    """

    path: Path
    videos: tuple[Path, ...]
    others: tuple[Path, ...]
    unfinished: tuple[Path, ...] = ()

    def note(self) -> str | None:
        """A sentence about the files that are left out; None if there are none."""
        parts = []
        if self.others:
            parts.append(
                f"{count_of(len(self.others), 'file')} that cannot be read as a video: {self._names(self.others)}"
            )
        if self.unfinished:
            parts.append(f"{count_of(len(self.unfinished), 'unfinished download')}: {self._names(self.unfinished)}")
        return f"{self.path}: left out {'; '.join(parts)}." if parts else None

    def _names(self, files: Sequence[Path]) -> str:
        if len(files) <= _MAX_NAMED:
            return ", ".join(str(file.relative_to(self.path)) for file in files)
        kinds = Counter(file.suffix.lower() or "no suffix" for file in files).most_common()
        return ", ".join(f"{kind} ({count})" for kind, count in kinds)


def find_videos(folder: Path, leave_out: Path | None = None) -> VideoFolder:
    """Look into every file whose suffix does not tell that it is a video.

    Args:
        folder: With its subfolders.
        leave_out: A subfolder that is passed over, such as that of the dataset.

    Raises:
        UsageError: There is no video.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not _is_hidden(file, folder))
    if leave_out is not None and folder.resolve() in leave_out.resolve().parents:
        files = [file for file in files if not file.resolve().is_relative_to(leave_out.resolve())]
    unfinished = tuple(file for file in files if file.suffix.lower().startswith(_UNFINISHED))
    finished = sorted({*files} - {*unfinished})
    videos = tuple(file for file in finished if file.suffix.lower() in _SUFFIXES or _is_video(file))
    found = VideoFolder(folder, videos, tuple(sorted({*finished} - {*videos})), unfinished)
    if not videos:
        got = [f"{count_of(len(finished), 'file')}, none of which can be read as a video"] if finished else []
        got += [count_of(len(unfinished), "unfinished download")] if unfinished else []
        raise UsageError("the folder has no video", place=folder, got="; ".join(got) or "no file")
    return found


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(name.startswith(".") for name in file.relative_to(folder).parts)


def _is_video(file: Path) -> bool:
    try:
        check_video(file)
    except DataError:
        return False
    return True
