"""`sample-frames`."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from curate.cli.options import AsJson, DatasetFolder, SampleDepth, VideoRate, VideoStream
from curate.cli.output import counts_line, explain_interruption, progress_on_stderr, show
from curate.cli.table import Table
from curate.formatting import count_of

_KEPT = "finished videos are kept. Run the same command again to continue."


class ImageFormat(StrEnum):
    """File formats of frames."""

    JPG = "jpg"
    PNG = "png"


def sample_table(document: Mapping[str, Any]) -> RenderableType:
    """Number and times of the new frames of each video."""
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
        typer.Argument(metavar="VIDEO", help="Video ids, files or folders.", show_default="all videos of DATASET"),
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Interval between frames: 0.5, 1/3s, 500ms.", show_default="2s")
    ] = None,
    fps: Annotated[
        str | None, typer.Option(metavar="RATE", help="Frames per second, such as 0.5; replaces --every.")
    ] = None,
    at: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of times, one per line: TIME or VIDEO TIME.")
    ] = None,
    keyframes: Annotated[bool, typer.Option("--keyframes", help="Key frames only.")] = False,
    scenes: Annotated[bool, typer.Option("--scenes", help="The middle frame of each scene.")] = False,
    start: Annotated[str, typer.Option(metavar="TIME", help="Start, such as 10s or 1:02:03.5.")] = "0",
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="End, exclusive.", show_default="end of the video")
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option(metavar="N", help="Maximum number of frames per video, spread evenly.")
    ] = None,
    drop_duplicates: Annotated[
        int | None,
        typer.Option(metavar="BITS", help="Drop frames that differ from a kept one in at most BITS of 64; try 4."),
    ] = None,
    drop_blurred: Annotated[
        float | None, typer.Option(metavar="PERCENT", help="Drop the least sharp PERCENT of each video's frames.")
    ] = None,
    format: Annotated[ImageFormat, typer.Option(help="Image format.")] = ImageFormat.JPG,
    quality: Annotated[int, typer.Option(metavar="N", help="JPEG quality, 1-100.")] = 90,
    max_side: Annotated[
        int | None, typer.Option(metavar="PX", help="Downscale frames whose longer side exceeds this.")
    ] = None,
    stream: VideoStream = None,
    rate: VideoRate = None,
    depth: SampleDepth = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Videos processed in parallel.", show_default="one per core")
    ] = None,
    as_json: AsJson = False,
) -> None:
    from curate.commands.sample_frames import sample_frames as command

    with progress_on_stderr() as progress, explain_interruption(_KEPT):
        result = command(
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
            stream=stream,
            rate=rate,
            depth=depth,
            workers=workers,
            progress=progress,
        )
    show(result, sample_table, as_json=as_json)


def sample_brief(document: Mapping[str, Any]) -> str:
    return f"{count_of(document['frames'], 'new frame')} of {count_of(len(document['videos']), 'video')}"
