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

from curate.cli.options import AsJson, FocalPx, MaxDistance, MinSide, ObjectHeight, Overwrite
from curate.cli.output import progress_on_stderr, show
from curate.cli.table import Column, Table
from curate.operating_point import DEFAULT_POINT

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
            metavar="RUN", help="The folder of a run, such as masks/runs/first; or ENGINE:NAME.", show_default=False
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A file, a folder of files, the number of a camera, rtsp://…, http://…, or - for raw frames.",
            show_default=False,
        ),
    ],
    weights: Annotated[str | None, typer.Option(metavar="FILE", help="The checkpoint, for ENGINE:NAME.")] = None,
    triggers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML: what is an event, what to do then. Default: each object, once."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The video with boxes, .mp4; for a folder of files, a folder.")
    ] = None,
    events: Annotated[Path | None, typer.Option(metavar="FILE", help="The events, JSON lines.")] = None,
    detections: Annotated[Path | None, typer.Option(metavar="FILE", help="All detections, Parquet.")] = None,
    collect: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="Gets the frames in which something fired.")
    ] = None,
    collect_as: Annotated[
        StateName, typer.Option(help="proposed: with what was found, to be corrected. unlabelled: without.")
    ] = StateName.PROPOSED,
    score: Annotated[
        float | None,
        typer.Option(help=f"Least score that counts; default: as evaluated last, else {DEFAULT_POINT.score:g}."),
    ] = None,
    min_side: MinSide = None,
    max_distance: MaxDistance = None,
    object_height: ObjectHeight = None,
    focal_px: FocalPx = None,
    serve: Annotated[bool, typer.Option("--serve", help="Picture and events on a page; prints its link.")] = False,
    port: Annotated[int | None, typer.Option(metavar="N", help="Of the page; default: 5152, or any free one.")] = None,
    address: Annotated[
        str, typer.Option(help="Where the page listens; another than this is for all who can reach this machine.")
    ] = "127.0.0.1",
    in_window: Annotated[
        bool, typer.Option("--show", help="The picture in a window, where there is a screen.")
    ] = False,
    raw: Annotated[
        str | None, typer.Option(metavar="WxH@FPS", help="Layout of raw frames: 640x480@30, 640x480@30@bgr24.")
    ] = None,
    began: Annotated[
        str | None, typer.Option(metavar="TIME", help="When a recording began, ISO 8601; events tell that time.")
    ] = None,
    stop_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="End so long after the first frame: 90s, 1h.")
    ] = None,
    stall: Annotated[
        float, typer.Option(metavar="S", help="Seconds without a frame after which a live source is stalled.")
    ] = 10.0,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Frames for the detector at once; default: what suits the device.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
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
