"""The files that a watch writes, checked before the long work."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.errors import UsageError
from curate.files import check_output_files
from curate.sources.feeds.open import Source
from curate.sources.video.writing import SUFFIX, check_place

Place = str | os.PathLike[str] | None


@dataclass(frozen=True)
class WatchFiles:
    """Where everything goes; None where nothing is wanted.

    Attributes:
        videos: the annotated video of each source, in their order.
        events: JSON lines.
        detections: Parquet.
    """

    videos: tuple[Path, ...] | None
    events: Path | None
    detections: Path | None

    @classmethod
    def checked(
        cls, sources: Sequence[Source], text: str, out: Place, events: Place, detections: Place, *, overwrite: bool
    ) -> "WatchFiles":
        """Decide, and see that it can be done.

        Raises:
            UsageError: a file is there, or is watched itself; a folder is not there; two are the same.
        """
        videos = None if out is None else _video_files(sources, text, Path(out))
        files = cls(videos, _path(events), _path(detections))
        named = [("--out", video) for video in videos or ()]
        named += [(o, file) for o, file in (("--events", files.events), ("--detections", files.detections)) if file]
        watched = {one.file.resolve() for one in sources if one.file is not None}
        seen: set[Path] = set()
        for option, file in named:
            if file.resolve() in watched:
                raise UsageError("it is watched itself", place=option, got=file, expected="another file")
            if file.resolve() in seen:
                raise UsageError("two files with one name", place=option, got=file)
            seen.add(file.resolve())
            _check(option, file, overwrite=overwrite)
        return files


def _path(place: Place) -> Path | None:
    return None if place is None else Path(place)


def _video_files(sources: Sequence[Source], text: str, out: Path) -> tuple[Path, ...]:
    """For one source the file itself; for a folder a file for each, at the same place in another folder."""
    folder = Path(text)
    if len(sources) == 1 and sources[0].file != folder and sources[0].file is not None and out.suffix != SUFFIX:
        return _in_folder(sources, folder, out)
    if len(sources) == 1:
        check_place(out)
        return (out,)
    if out.suffix == SUFFIX:
        raise UsageError(
            "one file for several videos", place="--out", got=out, expected=f"a folder for {len(sources)} of them"
        )
    return _in_folder(sources, folder, out)


def _in_folder(sources: Sequence[Source], folder: Path, out: Path) -> tuple[Path, ...]:
    if out.exists() and not out.is_dir():
        raise UsageError("a file is there", place="--out", got=out, expected="a folder for the videos")
    inside = [one.file.relative_to(folder) for one in sources if one.file is not None]
    stems = [path.with_suffix("") for path in inside]
    # a.mov and a.mkv do not become one
    names = [
        stem.with_name(stem.name + SUFFIX) if stems.count(stem) == 1 else path.with_name(path.name + SUFFIX)
        for stem, path in zip(stems, inside, strict=True)
    ]
    return tuple(out / name for name in names)


def _check(option: str, file: Path, *, overwrite: bool) -> None:
    check_output_files(file, overwrite=overwrite)
    if option == "--out":
        _make(file.parent, option)
    elif not file.parent.is_dir():
        raise UsageError("there is no such folder", place=file.parent, remedy="Make it first.")


def _make(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder cannot be made: {error.strerror}", place=option, got=folder) from error
