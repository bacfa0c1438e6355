"""`watch`: run a trained model on a file, camera or stream, with tracks, triggers and an annotated video."""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from curate.engines.trained_model import find_model
from curate.errors import MissingError, UsageError
from curate.formatting import count_of, curate_command
from curate.monitor.actions.dispatcher import Actions
from curate.monitor.actions.webhook.database import SUFFIX as OUTBOX_SUFFIX
from curate.monitor.detections import choose_criteria
from curate.monitor.outputs.collector import Collector
from curate.monitor.outputs.event_log import EventPublisher
from curate.monitor.outputs.files import WatchFiles
from curate.monitor.outputs.output_set import OutputSet
from curate.monitor.outputs.window import Window, check_screen
from curate.monitor.permission import Answer, Request, require_permission
from curate.monitor.problems import Problems
from curate.monitor.session import Session, WatchClock
from curate.monitor.trigger_file import Trigger, TriggerFile, check_triggers, parse_triggers
from curate.monitor.triggers.event import Event
from curate.progress import Progress, silent
from curate.result import Result
from curate.serving.address import LOOPBACK, is_loopback, take_port
from curate.sources.feeds.live import STALL_S
from curate.sources.feeds.open import Source, choose_sources
from curate.sources.times import parse_seconds
from curate.sources.video import parse_read_options

DEFAULT_PORT = 5152
_DEFAULT_TRIGGERS = TriggerFile(triggers=(Trigger.model_validate({"name": "seen"}),))


@dataclass(frozen=True)
class LatencyMs:
    """Percentiles in milliseconds of the time from a decoded frame until all outputs have it; None without frames."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True)
class WatchResult(Result):
    """The outcome of a watch.

    Attributes:
        frames: Frames that the detector saw.
        detections: Detections above the score threshold and in the range of interest.
        events: Events, those about the source included.
        frames_per_s: Speed from the first frame on.
        latency_ms: Latency of the frames.
        complete: Whether every recording was watched to its end; live sources do not count.
        problems: Problems with sources, outputs and actions, one sentence each.
    """

    frames: int
    detections: int
    events: int
    frames_per_s: float
    latency_ms: LatencyMs
    complete: bool
    problems: tuple[str, ...]


@dataclass(frozen=True)
class WatchReady:
    """What is known before the first frame.

    Attributes:
        source: What is watched.
        model: Name of the model.
        terms: Score threshold and range of interest, as text.
        link: Link to the page; None without `serve`.
        notes: Warnings, one sentence each.
    """

    source: str
    model: str
    terms: str
    link: str | None
    notes: tuple[str, ...]


def watch(
    run: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    triggers: str | os.PathLike[str] | None = None,
    allow_commands: bool = False,
    out: str | os.PathLike[str] | None = None,
    events: str | os.PathLike[str] | None = None,
    detections: str | os.PathLike[str] | None = None,
    collect: str | os.PathLike[str] | None = None,
    collect_as: Literal["proposed", "unlabelled"] = "proposed",
    score: float | None = None,
    min_side: float | None = None,
    max_distance: float | None = None,
    object_height: float | None = None,
    focal_px: float | None = None,
    serve: bool = False,
    port: int | None = None,
    address: str = LOOPBACK,
    show: bool = False,
    raw: str | None = None,
    began: str | None = None,
    stop_after: str | float | None = None,
    stall: float = STALL_S,
    wait: str | float | None = None,
    stream: int | None = None,
    rate: str | float | None = None,
    depth: int | None = None,
    batch: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    ask: Callable[[Request], Answer] | None = None,
    on_ready: Callable[[WatchReady], None] = lambda _: None,
    on_event: Callable[[Event], None] = lambda _: None,
    on_problem: Callable[[str], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> WatchResult:
    """Run a trained model on a video: every frame of a recording, the latest frame of a live source.

    Detections count as in `evaluate`: scores from `score` on, in the range of interest. The defaults are those of the
    run's last evaluation on val. Without a trigger file each tracked object is one event.

    Args:
        run: Folder of a run, or ENGINE:NAME with `weights`.
        source: A file, a folder of files, the number of a camera, a stream URL, or `-` for raw frames on stdin.
        weights: Checkpoint for ENGINE:NAME.
        triggers: YAML file with triggers and their actions.
        allow_commands: Whether the trigger file may run commands, send to hosts and write more than logs and clips
            below the working folder.
        out: File for the annotated video, H.264 in MP4; a folder if the source is a folder.
        events: File for the events, JSON lines.
        detections: File for all detections, Parquet.
        collect: Dataset that gets the frames in which a trigger fired.
        collect_as: "proposed" adds the detections as proposed boxes, "unlabelled" does not.
        score: Lowest score that counts.
        min_side: Range of interest: shortest side in pixels. Alternatively `max_distance`.
        max_distance: Range of interest in metres; needs `object_height` and `focal_px`.
        object_height: Height of the objects in metres.
        focal_px: Focal length of the camera in pixels.
        serve: Serve a page with picture and events.
        port: Port of the page; default 5152, or a free one if it is taken.
        address: Address of the page. Anything but loopback is reachable from the network, for all who have the link.
        show: Show the video in a window.
        raw: Layout of raw frames: WIDTHxHEIGHT@FPS, optionally followed by @bgr24 or @gray.
        began: Start of a recording, ISO 8601; sets the time of events and quiet hours.
        stop_after: Seconds after the first frame after which the watch ends, or a text such as "1h".
        stall: Seconds without a frame after which a live source counts as stalled.
        wait: Longest wait for the first frame of a live source, in seconds or as a text such as "10m"; None: without
            limit, 0: a source that is not there is an error at once.
        stream: Number of the video stream in a file, from 1. Default: the container's best.
        rate: Frames per second of files without time stamps, such as raw .h264. Default: what the file tells, else 25.
        depth: Bits that grey or RGB samples of 16 bits really use. Default: all.
        batch: Frames per call of the detector; default 1 for live sources, else chosen for the device.
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1".
        overwrite: Replace existing videos and tables, and the events of a recording. Events of a live source always
            continue in their file; without `overwrite` its videos and tables get names beside existing ones.
        ask: Asks whether the trigger file may do what needs `allow_commands`; None: it may not.
        on_ready: Called once before the first frame.
        on_event: Called with each event.
        on_problem: Called with each problem while the watch runs, such as a webhook whose receiver is down.
        stop: Called ten times per second; true ends the watch and finishes all files.
        progress: Callback for progress.

    Returns:
        Counts, speed and problems.

    Raises:
        UsageError: Options contradict each other, the trigger file needs permission, an output file exists, or source
            or run do not exist.
        DataError: The source cannot be opened, the checkpoint cannot be read, or an output cannot be written.
        MissingError: The run's library, the device or a package is missing.
    """
    _load_packages()
    trigger_file, powers = _DEFAULT_TRIGGERS, None
    if triggers is not None:
        trigger_file = parse_triggers(triggers)
        powers = require_permission(Path(triggers), trigger_file, allowed=allow_commands, ask=ask)
    reading = parse_read_options(stream=stream, rate=rate, depth=depth)
    folder_notes: list[str] = []
    sources = choose_sources(str(source), raw=raw, stall_s=stall, reading=reading, on_note=folder_notes.append)
    model = find_model(str(run), None if weights is None else str(weights))
    terms = choose_criteria(
        model.run,
        score=score,
        min_side=min_side,
        max_distance=max_distance,
        object_height=object_height,
        focal_px=focal_px,
    )
    files = WatchFiles.checked(sources, str(source), out, events, detections, overwrite=overwrite)
    _check_options(batch=batch, collect_as=collect_as, port=port, serve=serve, show=show)
    clock = WatchClock(began, is_recorded=all(one.is_recorded for one in sources), sources=len(sources))
    wait_s = math.inf if wait is None else float(parse_seconds(wait, place="--wait"))
    stop_after_s = None if stop_after is None else float(parse_seconds(stop_after, place="--stop-after"))
    with ExitStack() as stack:
        listener = stack.enter_context(closing(take_port(address, port, usual=DEFAULT_PORT))) if serve else None
        detector = model.load(device)
        class_names = [entry.name for entry in detector.classes]
        trigger_file = check_triggers(triggers or "", trigger_file, class_names)
        problems = Problems(on_problem)
        outputs = OutputSet(files, class_names, sources, problems, _common_name(sources, str(source)), model.name)
        outputs.open_files(stack)
        if listener is not None:
            outputs.open_page(stack, listener, address)
        if show:
            outputs.window = stack.enter_context(closing(Window(f"curate: {sources[0].name}")))
        if collect is not None:
            arguments = {"run": model.name, "source": outputs.name, "score": terms.score}
            arguments["triggers"] = None if triggers is None else str(triggers)
            proposes = collect_as == "proposed"
            collector = Collector(Path(collect), arguments, class_names, proposes=proposes, reading=reading)
            stack.enter_context(outputs.closing(collector))
            outputs.collector = collector
        actions = Actions(
            ((trigger, action) for trigger, _, action in trigger_file.all_actions()),
            trigger_file.hosts,
            outbox=Path(triggers or "watch").with_suffix(OUTBOX_SUFFIX),
            problems=problems,
        )
        stack.callback(actions.close)
        session = Session(
            detector=detector,
            score=terms.score,
            interest=terms.interest,
            trigger_file=trigger_file,
            outputs=outputs,
            publisher=EventPublisher(
                actions.start, *outputs.event_listeners, on_event, problems=problems, log=outputs.log
            ),
            problems=problems,
            clock=clock,
            batch=batch or _default_batch_size(device),
            stop_after_s=stop_after_s,
            wait_s=wait_s,
            stop=stop,
            progress=progress,
        )
        on_ready(
            WatchReady(
                source=outputs.name,
                model=model.name,
                terms=str(terms),
                link=outputs.page.link() if outputs.page else None,
                notes=(
                    *([powers] if powers else []),
                    *folder_notes,
                    *files.notes,
                    *_warn_about_address(address, serve=serve),
                    *clock.notes(trigger_file),
                    *(trigger_file.notes() if triggers else ()),
                ),
            )
        )
        session.watch(sources)
        if outputs.log is not None and session.counts.frames:
            outputs.log.finish()
        notes: list[str] = []
        if outputs.collector is not None:
            with outputs.closing(outputs.collector):
                pass  # so that its images are counted
            notes.append(_describe_collected(outputs.collector, Path(str(collect))))
        actions.close(on_pending=lambda pending: progress("waiting for actions", 0, pending))
    return _make_result(session, problems.lines(), notes)


def _check_options(*, batch: int | None, collect_as: str, port: int | None, serve: bool, show: bool) -> None:
    if batch is not None and batch < 1:
        raise UsageError("invalid value", place="--batch", got=batch, expected="1 or more")
    if collect_as not in ("proposed", "unlabelled"):
        raise UsageError("invalid value", place="--collect-as", got=collect_as, expected="proposed or unlabelled")
    if port is not None and not serve:
        raise UsageError("applies only with --serve", place="--port", got=port)
    if show:
        check_screen()


def _common_name(sources: Sequence[Source], source: str) -> str:
    return sources[0].name if len(sources) == 1 else source


def _warn_about_address(address: str, *, serve: bool) -> list[str]:
    if not serve or is_loopback(address):
        return []
    return [f"The page on {address} is reachable from the network, unencrypted; anyone with the link sees the picture."]


def _describe_collected(collector: Collector, dataset: Path) -> str:
    if not collector.images:
        return f"No new frame was added to {dataset}."
    frames = count_of(collector.images, "frame")
    return f"Added {frames} to {dataset}, version {collector.version}. To label: {curate_command('label', dataset)}."


def _make_result(session: Session, problems: tuple[str, ...], notes: Sequence[str]) -> WatchResult:
    percentiles = (session.latencies.percentile_ms(percent) for percent in (50, 95, 99))
    return WatchResult(
        frames=session.counts.frames,
        detections=session.counts.detections,
        events=session.publisher.count,
        frames_per_s=session.frames_per_s,
        latency_ms=LatencyMs(*percentiles),
        complete=session.complete,
        problems=problems,
        notes=(*problems, *notes),
    )


def _default_batch_size(device: str) -> int:
    """The number of frames of a file to process at once: several keep a GPU busy; a CPU gains nothing."""
    if device == "cpu":
        return 1
    from curate.engines.training.device import select_device

    return 8 if select_device(device).type == "cuda" else 1


def _load_packages() -> None:
    """Import what tracking and drawing need: both take a second, which the first frame must not wait for."""
    for module in ("scipy.optimize", "supervision"):
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            package = (error.name or module).partition(".")[0]
            remedy = "pip install 'curate-vision[watch]'"
            raise MissingError(f"the package {package} is not installed", place="watch", remedy=remedy) from error
