"""`watch`."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from curate.cli.options import (
    Address,
    AsJson,
    Device,
    FocalPx,
    LastScore,
    MaxDistance,
    MinSide,
    ObjectHeight,
    Overwrite,
)
from curate.cli.output import progress_on_stderr, show
from curate.cli.table import Column, Table

if TYPE_CHECKING:
    from curate.commands.watch import WatchReady
    from curate.monitor.triggers.event import Event


def ready_lines(ready: "WatchReady") -> list[str]:
    """What is watched, with what, and where to look."""
    lines = [f"note: {note}" for note in ready.notes]
    lines.append(f"watching {ready.source} with {ready.model}: {ready.terms}")
    if ready.link is not None:
        lines.append(f"Open {ready.link}")
    return lines


def event_line(event: Mapping[str, Any]) -> str:
    """One event: when, what fired, and which object."""
    clock = event["time"].partition("T")[2].partition(".")[0]
    words = [clock, event["trigger"]]
    if event["class"] is not None:
        words.append(f"{event['class']} {event['score']:.2f} #{event['track_id']}")
    words += [str(event[name]) for name in ("detail", "source", "clip") if name in event]
    return "  ".join((f"{event['timestamp_s']:9.2f} s", *words))


def watch_lines(document: Mapping[str, Any]) -> RenderableType:
    """The counts, and how fast it was."""
    latency = document["latency_ms"]
    table = Table("", Column("frames"), "detections", "events", "frames/s", "latency p50", "p95", "p99")
    counts = (str(document[name]) for name in ("frames", "detections", "events"))
    times = ("–" if latency[name] is None else f"{latency[name]:.0f} ms" for name in ("p50", "p95", "p99"))
    table.add_row(*counts, f"{document['frames_per_s']:.1f}", *times)
    return table


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StateName(StrEnum):
    """What frames become in a dataset."""

    PROPOSED = "proposed"
    UNLABELLED = "unlabelled"


def watch(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Run folder, such as masks/runs/first, or ENGINE:NAME with --weights.",
            show_default=False,
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Video file, folder of videos, camera number, rtsp:// or http:// URL, or - for raw frames on stdin.",
            show_default=False,
        ),
    ],
    weights: Annotated[str | None, typer.Option(metavar="FILE", help="Checkpoint of ENGINE:NAME.")] = None,
    triggers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="YAML file of triggers and actions.", show_default="an event per tracked object"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the video with its boxes (.mp4); a folder if SOURCE is one."),
    ] = None,
    events: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the events as JSON lines.")] = None,
    detections: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all detections as Parquet.")] = None,
    collect: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="Add the frames of events to this dataset.")
    ] = None,
    collect_as: Annotated[
        StateName, typer.Option(help="Add these frames with the detected boxes as proposals, or without boxes.")
    ] = StateName.PROPOSED,
    score: LastScore = None,
    min_side: MinSide = None,
    max_distance: MaxDistance = None,
    object_height: ObjectHeight = None,
    focal_px: FocalPx = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show picture and events on a page, and print its link.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Port of the page.", show_default="5152, or a free one")
    ] = None,
    address: Address = "127.0.0.1",
    in_window: Annotated[bool, typer.Option("--show", help="Show the picture in a window; needs a display.")] = False,
    raw: Annotated[
        str | None,
        typer.Option(metavar="WxH@FPS", help="Layout of raw frames, such as 640x480@30 or 640x480@30@bgr24."),
    ] = None,
    began: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start time of a recording, ISO 8601; event times count from it.")
    ] = None,
    stop_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop this long after the first frame, such as 90s or 1h.")
    ] = None,
    stall: Annotated[
        float, typer.Option(metavar="S", help="Seconds without a frame after which a live source counts as stalled.")
    ] = 10.0,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Frames per detector call.", show_default="depends on the device")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.watch import watch as step

    with ExitStack() as stack:
        interrupted = stack.enter_context(_asked_to_stop())
        progress = stack.enter_context(progress_on_stderr())

        def ready(what: "WatchReady") -> None:
            for line in ready_lines(what):
                typer.echo(line, err=True)

        def told(event: "Event") -> None:
            say(event_line(event.as_json()))

        def say(line: str) -> None:
            with suppress(OSError, ValueError):  # a terminal that is gone must not end a watch
                typer.echo(line, err=True)

        result = step(
            run,
            source,
            weights=weights,
            triggers=triggers,
            out=out,
            events=events,
            detections=detections,
            collect=collect,
            collect_as=collect_as.value,
            score=score,
            min_side=min_side,
            max_distance=max_distance,
            object_height=object_height,
            focal_px=focal_px,
            serve=serve,
            port=port,
            address=address,
            show=in_window,
            raw=raw,
            began=began,
            stop_after=stop_after,
            stall=stall,
            batch=batch,
            device=device,
            overwrite=overwrite,
            on_ready=ready,
            on_event=told,
            on_problem=lambda problem: say(f"problem: {problem}"),
            stop=interrupted,
            progress=progress,
        )
    show(result, watch_lines, as_json=as_json)
    if interrupted() and not result.complete:  # of what is live nothing is missing then
        sys.stdout.flush()
        sys.exit(130)  # the document is told already


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C, SIGTERM or SIGHUP came, after which all files are finished; a second Ctrl-C breaks off."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    heard = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]  # as `nohup` has it
    before = {one: signal.signal(one, ask) for one in heard}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
