"""`watch`."""

import os
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
    LastMinSide,
    LastScore,
    MaxDistance,
    ObjectHeight,
    Overwrite,
    SampleDepth,
    VideoRate,
    VideoStream,
)
from curate.cli.output import progress_on_stderr, say, show
from curate.cli.table import Column, Table

if TYPE_CHECKING:
    from curate.commands.watch import WatchReady
    from curate.monitor.permission import Answer, Request


def ready_lines(ready: "WatchReady") -> list[str]:
    """Notes, source and model, and the link of the page."""
    lines = [f"note: {note}" for note in ready.notes]
    lines.append(f"watching {ready.source} with {ready.model}: {ready.terms}")
    if ready.link is not None:
        lines.append(f"Open {ready.link}")
    return lines


def event_line(event: Mapping[str, Any]) -> str:
    """One event: its time, trigger and object."""
    clock = event["time"].partition("T")[2].partition(".")[0]
    words = [clock, event["trigger"]]
    if event["class"] is not None:
        words.append(f"{event['class']} {event['score']:.2f} #{event['track_id']}")
    words += [str(event[name]) for name in ("detail", "source", "clip") if name in event]
    return "  ".join((f"{event['timestamp_s']:9.2f} s", *words))


def watch_lines(document: Mapping[str, Any]) -> RenderableType:
    """Counts, speed and latency."""
    latency = document["latency_ms"]
    table = Table("", Column("frames"), "detections", "events", "frames/s", "latency p50", "p95", "p99")
    counts = (str(document[name]) for name in ("frames", "detections", "events"))
    times = ("–" if latency[name] is None else f"{latency[name]:.0f} ms" for name in ("p50", "p95", "p99"))
    table.add_row(*counts, f"{document['frames_per_s']:.1f}", *times)
    return table


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StateName(StrEnum):
    """State of collected frames in the dataset."""

    PROPOSED = "proposed"
    UNLABELLED = "unlabelled"


# the options, in the order of the help: what is watched, triggers, files, page, sources
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Run folder, such as masks/runs/first, or ENGINE:NAME with --weights.",
        show_default=False,
    ),
]
SourceText = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Video file, folder of videos, camera number, rtsp:// or http:// URL, or - for raw frames on stdin.",
        show_default=False,
    ),
]
Weights = Annotated[str | None, typer.Option(metavar="FILE", help="Checkpoint of ENGINE:NAME.")]
Triggers = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="YAML file of triggers and actions.", show_default="an event per tracked object"),
]
AllowCommands = Annotated[
    bool,
    typer.Option(
        "--allow-commands",
        help="Let the trigger file run commands, send to hosts and write more than logs and clips in this folder.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the video with its boxes (.mp4); a folder if SOURCE is one."),
]
Events = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the events as JSON lines; a live source's are appended.")
]
Detections = Annotated[Path | None, typer.Option(metavar="FILE", help="Write all detections as Parquet.")]
Collect = Annotated[Path | None, typer.Option(metavar="DATASET", help="Add the frames of events to this dataset.")]
CollectAs = Annotated[
    StateName, typer.Option(help="Add these frames with the detected boxes as proposals, or without boxes.")
]
Serve = Annotated[bool, typer.Option("--serve", help="Show picture and events on a page, and print its link.")]
Port = Annotated[int | None, typer.Option(metavar="N", help="Port of the page.", show_default="5152, or a free one")]
InWindow = Annotated[bool, typer.Option("--show", help="Show the picture in a window; needs a display.")]
RawLayout = Annotated[
    str | None,
    typer.Option(metavar="WxH@FPS", help="Layout of raw frames, such as 640x480@30 or 640x480@30@bgr24."),
]
Began = Annotated[
    str | None, typer.Option(metavar="TIME", help="Start time of a recording, ISO 8601; event times count from it.")
]
StopAfter = Annotated[
    str | None, typer.Option(metavar="TIME", help="Stop this long after the first frame, such as 90s or 1h.")
]
Stall = Annotated[
    float, typer.Option(metavar="S", help="Seconds without a frame after which a live source counts as stalled.")
]
Wait = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Longest wait for a live source that is not there yet, such as 10m; 0: none.",
        show_default="without limit",
    ),
]
Batch = Annotated[
    int | None, typer.Option(metavar="N", help="Frames per detector call.", show_default="depends on the device")
]


def watch(
    run: Run,
    source: SourceText,
    weights: Weights = None,
    triggers: Triggers = None,
    allow_commands: AllowCommands = False,
    out: Out = None,
    events: Events = None,
    detections: Detections = None,
    collect: Collect = None,
    collect_as: CollectAs = StateName.PROPOSED,
    score: LastScore = None,
    min_side: LastMinSide = None,
    max_distance: MaxDistance = None,
    object_height: ObjectHeight = None,
    focal_px: FocalPx = None,
    serve: Serve = False,
    port: Port = None,
    address: Address = "127.0.0.1",
    in_window: InWindow = False,
    raw: RawLayout = None,
    began: Began = None,
    stop_after: StopAfter = None,
    stall: Stall = 10.0,
    wait: Wait = None,
    stream: VideoStream = None,
    rate: VideoRate = None,
    depth: SampleDepth = None,
    batch: Batch = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    from curate.commands.watch import watch as command

    with ExitStack() as stack:
        is_stopped = stack.enter_context(_stop_on_signal())
        progress = stack.enter_context(progress_on_stderr())

        def print_ready(ready: "WatchReady") -> None:
            for line in ready_lines(ready):
                say(line)

        def print_line(line: str) -> None:
            with suppress(OSError, ValueError):  # a closed terminal must not end a watch
                say(line)

        result = command(
            run,
            source,
            weights=weights,
            triggers=triggers,
            allow_commands=allow_commands,
            ask=ask_for_permission if sys.stdin.isatty() and sys.stderr.isatty() else None,
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
            wait=wait,
            stream=stream,
            rate=rate,
            depth=depth,
            batch=batch,
            device=device,
            overwrite=overwrite,
            on_ready=print_ready,
            on_event=lambda event: print_line(event_line(event.as_json())),
            on_problem=lambda problem: print_line(f"problem: {problem}"),
            stop=is_stopped,
            progress=progress,
        )
    show(result, watch_lines, as_json=as_json)
    if is_stopped() and not result.complete:  # a live source is always complete
        sys.stdout.flush()
        sys.exit(130)  # the document is printed already


def ask_for_permission(request: "Request") -> "Answer":
    """Ask at the terminal what a trigger file may do; anything but yes and always is no."""
    from curate.monitor.permission import Answer

    say(request.sentence)
    for command in request.commands:
        say(f"  runs: {command}")
    try:
        with _end_on_signal():
            given = typer.prompt("Allow this? [y]es, [a]lways, [N]o", default="n", show_default=False, err=True)
    except typer.Abort:  # the terminal was closed
        return Answer.NO
    answers = {"y": Answer.ONCE, "yes": Answer.ONCE, "a": Answer.ALWAYS, "always": Answer.ALWAYS}
    return answers.get(given.strip().lower(), Answer.NO)


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """A function that returns whether Ctrl-C, SIGTERM or SIGHUP came. A second Ctrl-C raises KeyboardInterrupt."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.set()

    with _handle_signals(stop):
        yield stopped.is_set


@contextmanager
def _end_on_signal() -> Iterator[None]:
    """Let the first signal end the program, as long as nothing has begun."""

    def end(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            os.write(2, b"\n")  # below the question; the signal may have come while stderr was written to
        raise typer.Exit(128 + number)  # as shells report it

    with _handle_signals(end):
        yield


@contextmanager
def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    # `nohup` ignores SIGHUP, and so it stays
    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
