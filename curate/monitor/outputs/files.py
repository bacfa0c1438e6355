"""The files that a watch writes, checked before it starts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curate.errors import UsageError
from curate.files import check_output_files
from curate.growing_files import check_appendable, free_name
from curate.sources.feeds.open import Source
from curate.sources.video.writing import SUFFIX, check_place

PathOption = str | os.PathLike[str] | None


@dataclass(frozen=True)
class WatchFiles:
    """Paths of the output files; None where an option is not used.

    Attributes:
        videos: `--out`: the annotated video of each source, in their order.
        events: `--events`, JSON lines.
        detections: `--detections`, Parquet.
        replace: `--overwrite`: whether existing videos and tables are replaced, and the events of a recording.
        are_live: Whether the source is live.
        notes: What is written under another name than given, in sentences.
    """

    videos: tuple[Path, ...] | None
    events: Path | None
    detections: Path | None
    replace: bool = False
    are_live: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def checked(
        cls,
        sources: Sequence[Source],
        text: str,
        out: PathOption,
        events: PathOption,
        detections: PathOption,
        *,
        overwrite: bool,
    ) -> "WatchFiles":
        """Choose the paths, and check that they can be written.

        A live source is watched again and again with the same command: its events continue, its videos and tables get
        names beside those of earlier watches.

        Args:
            sources: What is watched.
            text: SOURCE as given, the folder where several files are watched.
            out, events, detections: The options.
            overwrite: Whether existing files are replaced.

        Raises:
            UsageError: A file exists or is also the input, a folder does not exist, or two options name one file.
        """
        videos = None if out is None else _video_files(sources, text, Path(out))
        are_live = not all(one.is_recorded for one in sources)
        files = cls(
            videos,
            None if events is None else Path(events),
            None if detections is None else Path(detections),
            overwrite,
            are_live,
        )
        named = [("--out", video) for video in videos or ()]
        named += [(o, file) for o, file in (("--events", files.events), ("--detections", files.detections)) if file]
        inputs = {one.file.resolve() for one in sources if one.file is not None}
        checked: set[Path] = set()
        for option, file in named:
            if file.resolve() in inputs:
                raise UsageError("output file is also the input", place=option, got=file)
            if file.resolve() in checked:
                raise UsageError("two output files have the same path", place=option, got=file)
            checked.add(file.resolve())
            _check(option, file, overwrite=overwrite or are_live)
        if are_live and files.events is not None:
            _check_events(files.events)
        return files._beside_earlier_ones() if are_live and not overwrite else files

    def _beside_earlier_ones(self) -> "WatchFiles":
        videos = None if self.videos is None else tuple(map(free_name, self.videos))
        detections = None if self.detections is None else free_name(self.detections)
        pairs = [*zip(self.videos or (), videos or (), strict=True), (self.detections, detections)]
        notes = tuple(f"{before} exists; this watch writes {now}." for before, now in pairs if before != now)
        return replace(self, videos=videos, detections=detections, notes=notes)


def _video_files(sources: Sequence[Source], text: str, out: Path) -> tuple[Path, ...]:
    """For a single source the file itself; for a folder one file per video, at the same place in the other folder."""
    folder = Path(text)
    if len(sources) == 1 and sources[0].file != folder and sources[0].file is not None and out.suffix != SUFFIX:
        return _in_folder(sources, folder, out)
    if len(sources) == 1:
        check_place(out)
        return (out,)
    if out.suffix == SUFFIX:
        rule = f"a folder for {len(sources)} videos"
        raise UsageError("one output file for several videos", place="--out", got=out, expected=rule)
    return _in_folder(sources, folder, out)


def _in_folder(sources: Sequence[Source], folder: Path, out: Path) -> tuple[Path, ...]:
    if out.exists() and not out.is_dir():
        raise UsageError("this is a file", place="--out", got=out, expected="a folder for the videos")
    inside = [one.file.relative_to(folder) for one in sources if one.file is not None]
    stems = [path.with_suffix("") for path in inside]
    # a.mov and a.mkv must not become one file
    names = [
        stem.with_name(stem.name + SUFFIX) if stems.count(stem) == 1 else path.with_name(path.name + SUFFIX)
        for stem, path in zip(stems, inside, strict=True)
    ]
    return tuple(out / name for name in names)


def _check(option: str, file: Path, *, overwrite: bool) -> None:
    check_output_files(file, overwrite=overwrite)
    if option == "--out":
        _make_folder(file.parent, option)
    elif not file.parent.is_dir():
        raise UsageError("folder does not exist", place=file.parent, remedy="Create it first.")


def _check_events(file: Path) -> None:
    try:
        check_appendable(file)
    except OSError as error:
        raise UsageError(f"cannot write the file: {error.strerror}", place=file) from error


def _make_folder(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot create the folder: {error.strerror}", place=option, got=folder) from error
