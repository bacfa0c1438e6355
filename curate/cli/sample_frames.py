"""`sample-frames`."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder
from curate.cli.output import counts_line, interruption_told, progress_on_stderr, show
from curate.cli.table import Table
from curate.formatting import count_of

_KEPT = "finished videos are kept. The same command does the rest."


class ImageFormat(StrEnum):
    """How frames are stored."""

    JPG = "jpg"
    PNG = "png"


def sample_table(document: Mapping[str, Any]) -> RenderableType:
    """How many frames each video gave."""
    table = Table(
        f"version {document['version']}: {count_of(document['frames'], 'new frame')}", "video", "frames", "from", "to"
    )
    for video in document["videos"]:
        times = ("–" if video[key] is None else f"{video[key]:.3f} s" for key in ("first_s", "last_s"))
        table.add_row(video["video_id"], str(video["frames"]), *times)
    dropped = {kind: document[f"dropped_{kind}"] for kind in ("duplicates", "blurred") if document[f"dropped_{kind}"]}
    return Group(table, *([Text(f"left out: {counts_line(dropped)}")] if dropped else []))


def sample_frames(
    dataset: DatasetFolder,
    videos: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VIDEO]...", help="Ids of its videos, or files and folders; default: all its videos."),
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="One frame each 2s (default), 0.5, 1/3s, 500ms.")
    ] = None,
    fps: Annotated[str | None, typer.Option(metavar="RATE", help="So many frames a second, such as 0.5.")] = None,
    at: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file of times: one, or VIDEO TIME, a line.")
    ] = None,
    keyframes: Annotated[bool, typer.Option("--keyframes", help="The frames that are stored whole.")] = False,
    scenes: Annotated[bool, typer.Option("--scenes", help="The middle frame of every scene.")] = False,
    start: Annotated[str, typer.Option(metavar="TIME", help="Nothing before; such as 10s or 1:02:03.5.")] = "0",
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Nothing from then on.")] = None,
    max_frames: Annotated[int | None, typer.Option(metavar="N", help="At most so many a video, spread evenly.")] = None,
    drop_duplicates: Annotated[
        int | None,
        typer.Option(
            metavar="BITS", help="Leave out what looks like a frame that stays: up to BITS of 64 differ; try 4."
        ),
    ] = None,
    drop_blurred: Annotated[
        float | None, typer.Option(metavar="PERCENT", help="Leave out the least sharp of each video.")
    ] = None,
    format: Annotated[ImageFormat, typer.Option(help="Of the images.")] = ImageFormat.JPG,
    quality: Annotated[int, typer.Option(help="Of JPEG, 1 to 100.")] = 90,
    max_side: Annotated[int | None, typer.Option(metavar="PX", help="Scale larger frames down.")] = None,
    workers: Annotated[int | None, typer.Option(help="Videos at work at once; default: one a core.")] = None,
    as_json: AsJson = False,
) -> None:
    from curate.commands.sample_frames import sample_frames as step

    with progress_on_stderr() as progress, interruption_told(_KEPT):
        result = step(
            dataset,
            videos or (),
            every=every,
            fps=fps,
            at=at,
            keyframes=keyframes,
            scenes=scenes,
            start=start,
            end=end,
            max_frames=max_frames,
            drop_duplicates=drop_duplicates,
            drop_blurred=drop_blurred,
            format=format.value,
            quality=quality,
            max_side=max_side,
            workers=workers,
            progress=progress,
        )
    show(result, sample_table, as_json=as_json)


def sample_brief(document: Mapping[str, Any]) -> str:
    return f"{count_of(document['frames'], 'new frame')} of {count_of(len(document['videos']), 'video')}"
