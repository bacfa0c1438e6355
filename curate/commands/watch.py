"""`watch`: a trained model on a file, camera or stream; tracks, triggers, annotated video."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from curate.errors import MissingError, UsageError
from curate.inference.detector import choose_model, choose_terms, usual_batch
from curate.monitor.actions.dispatcher import Actions
from curate.monitor.outputs.collector import Collector
from curate.monitor.outputs.event_log import Announcer
from curate.monitor.outputs.files import WatchFiles
from curate.monitor.outputs.registry import Gear
from curate.monitor.outputs.window import Window, check_screen
from curate.monitor.session import Session, WatchClock
from curate.monitor.triggers.config import Rule, TriggerFile, read_triggers
from curate.monitor.triggers.event import Event
from curate.progress import Progress, silent
from curate.result import Result
from curate.serving.address import LOOPBACK, is_loopback, take_port
from curate.sources.feeds.live import STALL_S
from curate.sources.feeds.open import Source, choose_sources
from curate.sources.times import parse_seconds

USUAL_PORT = 5152
_EVERYTHING = TriggerFile(triggers=(Rule.model_validate({"name": "seen"}),))


@dataclass(frozen=True)
class LatencyMs:
    """Milliseconds from a decoded frame to the end of all that is done with it: half of the frames stay below p50."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True)
class WatchResult(Result):
    """What a watch saw.

    Attributes:
        frames: that went through the detector.
        detections: that count: sure enough, and in the range of interest.
        events: that fired, trouble with the source included.
        frames_per_s: from the first frame on.
        latency_ms: of the frames.
        complete: whether every recording was watched to its end; what is live has none.
        problems: what is wrong with a source or an action, a sentence each.
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
    """What is known before the first frame: what is watched, with what, where the page opens if there is one."""

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
    batch: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    on_ready: Callable[[WatchReady], None] = lambda _: None,
    on_event: Callable[[Event], None] = lambda _: None,
    on_problem: Callable[[str], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> WatchResult:
    """Watch a video with a trained model; every frame of a file, of what is live the newest.

    What counts is what `evaluate` counts: scores from `score` on, in the range of interest. Where neither is given,
    they are those of the run's last evaluation on val. Without a file of triggers each object is an event, once.

    Args:
        run: a run's folder, or ENGINE:NAME with `weights`.
        source: a file, a folder of files, the number of a camera, an address, or `-` for raw frames on stdin.
        weights: a checkpoint, for ENGINE:NAME.
        triggers: a YAML file that says what is an event, and what to do then.
        out: a file for the video with boxes, H.264 in MP4; for a folder of files, a folder.
        events: a file for the events, JSON lines.
        detections: a file for all detections, Parquet.
        collect: a dataset that gets the frames in which something fired.
        collect_as: whether what was found comes along for correction.
        score: least score.
        min_side: least shorter side in pixels; or, with the next two, `max_distance` in metres.
        max_distance: the farthest that counts.
        object_height: metres.
        focal_px: of the camera, in pixels.
        serve: show picture and events on a page.
        port: of the page; without it 5152, or any that is free.
        address: to listen on. Another than the loopback is for all who reach this machine and have the link.
        show: show the picture in a window.
        raw: layout of raw frames: WIDTHxHEIGHT@FPS, and @bgr24 or @gray behind it.
        began: when a recording began, ISO 8601; events then tell that time, and quiet hours go by it.
        stop_after: seconds after the first frame.
        stall: seconds without a frame after which a live source counts as stalled.
        batch: frames for the detector at once; default: one of what is live, else what suits the device.
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1".
        overwrite: replace files that are there.
        on_ready: told once before the first frame.
        on_event: told of each event.
        on_problem: told of what goes wrong meanwhile, such as a webhook whose receiver is down.
        stop: asked ten times a second whether to end; what was written is finished then.
        progress: told how many frames are done.

    Raises:
        UsageError: options that do not fit one another, files that are there, a source or run that is not.
        DataError: the source cannot be opened, the model's file not be read, an output not be written.
        MissingError: the run's library, the device or a package is not there.
    """
    _check_packages()
    sources = choose_sources(str(source), raw=raw, stall_s=stall)
    model = choose_model(str(run), None if weights is None else str(weights))
    terms = choose_terms(
        model, score=score, min_side=min_side, max_distance=max_distance, object_height=object_height, focal_px=focal_px
    )
    files = WatchFiles.checked(sources, str(source), out, events, detections, overwrite=overwrite)
    _check_options(batch=batch, collect_as=collect_as, port=port, serve=serve, show=show)
    clock = WatchClock(began, knows_end=all(one.is_recorded for one in sources), sources=len(sources))
    ends_after_s = None if stop_after is None else float(parse_seconds(stop_after, place="--stop-after"))
    with ExitStack() as stack:
        taken = stack.enter_context(closing(take_port(address, port, usual=USUAL_PORT))) if serve else None
        detector = model.load(device)
        names = [entry.name for entry in detector.classes]
        rules = _EVERYTHING if triggers is None else read_triggers(triggers, names)
        gear = Gear.opened(stack, files, names, sources, _common_name(sources, str(source)), model.name)
        if taken is not None:
            gear.serve(stack, taken, address)
        if show:
            gear.window = stack.enter_context(closing(Window(f"curate: {sources[0].name}")))
        if collect is not None:
            arguments = {"run": model.name, "source": _common_name(sources, str(source)), "score": terms.score}
            arguments["triggers"] = None if triggers is None else str(triggers)
            collector = Collector(Path(collect), arguments, names, proposes=collect_as == "proposed")
            gear.collector = stack.enter_context(closing(collector))
        actions = Actions(rules, undelivered=Path(triggers or "watch").with_suffix(".undelivered.jsonl"))
        stack.callback(actions.close)
        session = Session(
            detector=detector,
            score=terms.score,
            interest=terms.interest,
            rules=rules,
            gear=gear,
            announcer=Announcer(actions.start, *gear.listeners, on_event),
            clock=clock,
            batch=batch or usual_batch(device),
            ends_after_s=ends_after_s,
            stop=stop,
            progress=progress,
            running_problems=actions.kinds,
            on_problem=on_problem,
        )
        on_ready(
            WatchReady(
                source=_common_name(sources, str(source)),
                model=model.name,
                terms=str(terms),
                link=gear.page.link() if gear.page else None,
                notes=(
                    *_warn_of(address, serve=serve),
                    *clock.notes(rules),
                    *(rules.notes() if triggers else ()),
                ),
            )
        )
        session.watch(sources)
        if gear.collector is not None:
            gear.collector.close()
            session.notes.append(_tell_collected(gear.collector, Path(str(collect))))
        actions.close(told=lambda pending: progress("waiting for actions", 0, pending))
        session.note(*session.announcer.problems, *actions.problems())
    return _result(session)


def _check_options(*, batch: int | None, collect_as: str, port: int | None, serve: bool, show: bool) -> None:
    if batch is not None and batch < 1:
        raise UsageError("the value is out of range", place="--batch", got=batch, expected="1 or more")
    if collect_as not in ("proposed", "unlabelled"):
        raise UsageError("unknown state", place="--collect-as", got=collect_as, expected="proposed or unlabelled")
    if port is not None and not serve:
        raise UsageError("there is no page", place="--port", got=port, expected="--serve too")
    if show:
        check_screen()


def _common_name(sources: Sequence[Source], source: str) -> str:
    return sources[0].name if len(sources) == 1 else source


def _warn_of(address: str, *, serve: bool) -> list[str]:
    if not serve or is_loopback(address):
        return []
    return [
        f"The page listens on {address}: whoever reaches this machine and has the link sees the picture. "
        "Nothing is encrypted on the way."
    ]


def _tell_collected(collector: Collector, dataset: Path) -> str:
    if not collector.images:
        return f"No new frame came into {dataset}."
    images = "1 frame" if collector.images == 1 else f"{collector.images} frames"
    return f"{images} came into {dataset}, version {collector.version}. To label: curate label {dataset}"


def _result(session: Session) -> WatchResult:
    percentiles = (session.latencies.percentile_ms(percent) for percent in (50, 95, 99))
    return WatchResult(
        frames=session.counts.frames,
        detections=session.counts.detections,
        events=session.announcer.count,
        frames_per_s=session.frames_per_s,
        latency_ms=LatencyMs(*percentiles),
        complete=session.complete,
        problems=tuple(session.problems),
        notes=(*session.problems, *session.notes),
    )


def _check_packages() -> None:
    for package in ("scipy", "supervision"):
        if find_spec(package) is None:
            remedy = "pip install 'curate-vision[watch]'"
            raise MissingError(f"the package {package} is not installed", place="watch", remedy=remedy)
