"""Records clips: the seconds before and after an event, as one video.

Frames are held in memory as JPEG, some megabytes for ten seconds; a thread encodes finished clips.
"""

import logging
import queue
import re
import threading
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from curate.errors import CurateError, UsageError, is_disk_full
from curate.images import decode_jpeg, encode_rgb
from curate.monitor.actions.config import Clip
from curate.monitor.outputs.thread import WatchedFrame
from curate.monitor.problems import Problems
from curate.monitor.triggers.event import Event
from curate.sources.video.writing import VideoWriter, keep_interrupted_videos

logger = logging.getLogger(__name__)
_JPEG_QUALITY = 92
_MAX_S = 60.0  # of one clip, however many events it shows
_TICK = Fraction(1, 90_000)
_RATE = Fraction(30)
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")
_MAX_NAME_CHARACTERS = 120
_FAILED = ("clip failed", "clips failed")


@dataclass
class _Plan:
    """The time range of a clip; it can be extended up to `max_until_s`."""

    path: Path
    from_s: float
    until_s: float
    max_until_s: float

    def include(self, event: Event, settings: Clip) -> bool:
        """Extend the clip to show an event; return False, without a change, where it cannot show all of it."""
        from_s, until_s = event.timestamp_s - settings.before_s, event.timestamp_s + settings.after_s
        if from_s < self.from_s or event.timestamp_s > self.until_s or until_s > self.max_until_s:
            return False
        self.until_s = max(self.until_s, until_s)
        return True


@dataclass
class _Recording:
    """A clip with its frames so far, as (seconds, JPEG)."""

    plan: _Plan
    frames: list[tuple[float, bytes]]


class ClipRecorder:
    """Records the clips of one source; see `curate.monitor.outputs.thread.Output`.

    An event during another event's clip in the same folder extends that clip where possible.

    Args:
        settings: Of the clips, by the name of their trigger.
        problems: Gets clips that cannot be written.

    Raises:
        UsageError: A folder cannot be created.
    """

    wants_boxes = True

    def __init__(self, settings: Mapping[str, Clip], problems: Problems) -> None:
        self._settings, self._problems = settings, problems
        self._before_s = max((one.before_s for one in settings.values()), default=0.0)
        for folder in sorted({one.folder for one in settings.values()}):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                if not is_disk_full(error):
                    raise UsageError(f"cannot create the folder for clips: {error.strerror}", place=folder) from error
                problems.add(f"clips {folder}: the folder cannot be created: {error.strerror}.")
            for kept in keep_interrupted_videos(folder):
                problems.report_kept(kept)
        self._plans: dict[Path, _Plan] = {}  # the latest of each folder
        self._reserved: set[Path] = set()  # names of clips that are not written yet
        self._frames: deque[tuple[float, bytes]] = deque()
        self._recordings: dict[str, _Recording] = {}
        self._finished: queue.Queue[_Recording | None] = queue.Queue()
        self._thread = threading.Thread(target=self._write_all, name="curate-clips", daemon=True)
        self._thread.start()

    def name_clip(self, event: Event) -> Event:
        """Return the event with the path of its clip, where its trigger saves one."""
        settings = self._settings.get(event.trigger)
        if settings is None:
            return event
        plan = self._plans.get(settings.folder)
        if plan is None or not plan.include(event, settings):
            path = _choose_name(settings.folder, event, self._reserved)
            self._reserved.add(path)
            plan = self._plans[settings.folder] = _make_plan(path, event, settings)
        return replace(event, clip=str(plan.path))

    def take(self, frame: WatchedFrame) -> None:
        """Add a frame; start and finish clips."""
        now_s = frame.detections.timestamp_s
        encoded = now_s, encode_rgb(frame.drawn, ".jpg", quality=_JPEG_QUALITY)
        self._frames.append(encoded)
        while self._frames[0][0] < now_s - self._before_s:
            self._frames.popleft()
        for recording in self._recordings.values():
            recording.frames.append(encoded)
        for event in frame.events:
            self._start(event)
        for path in [path for path, one in self._recordings.items() if one.plan.until_s <= now_s]:
            self._finished.put(self._recordings.pop(path))

    def close(self) -> None:
        """Finish all clips with the frames so far."""
        for recording in self._recordings.values():
            self._finished.put(recording)
        self._recordings = {}
        self._finished.put(None)
        self._thread.join()

    def _start(self, event: Event) -> None:
        settings = self._settings.get(event.trigger)
        if settings is None or event.clip is None:
            return
        recording = self._recordings.get(event.clip)
        if recording is not None:
            recording.plan.until_s = max(recording.plan.until_s, event.timestamp_s + settings.after_s)
            return
        frames = [frame for frame in self._frames if frame[0] >= event.timestamp_s - settings.before_s]
        self._recordings[event.clip] = _Recording(_make_plan(Path(event.clip), event, settings), frames)

    def _write_all(self) -> None:
        while (recording := self._finished.get()) is not None:
            path = recording.plan.path
            try:
                path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have deleted it, or the disk was full
                _write(recording)
                logger.info("clip %s: %d frames written", path, len(recording.frames))
            except (CurateError, OSError) as error:
                reason = error.fact if isinstance(error, CurateError) else error.strerror or str(error)
                logger.info("clip %s: not written: %s", path, reason)
                self._problems.count(f"clips {path.parent}", _FAILED, reason)
            self._reserved.discard(path)


def _make_plan(path: Path, event: Event, settings: Clip) -> _Plan:
    now_s = event.timestamp_s
    return _Plan(path, now_s - settings.before_s, now_s + settings.after_s, now_s + max(_MAX_S, settings.after_s))


def _write(recording: _Recording) -> None:
    writer = VideoWriter(recording.plan.path, time_base=_TICK, rate=_RATE, replace=False)
    ticks = [round((time_s - recording.frames[0][0]) / _TICK) for time_s, _ in recording.frames]
    durations = [*(later - tick for tick, later in pairwise(ticks)), round(1 / _RATE / _TICK)]
    try:
        for (_, jpeg), tick, duration in zip(recording.frames, ticks, durations, strict=True):
            writer.write(decode_jpeg(jpeg), tick, duration)
    finally:
        writer.close()


def _choose_name(folder: Path, event: Event, reserved: Collection[Path]) -> Path:
    words = (event.time, event.trigger, *(() if event.track_id is None else (str(event.track_id),)))
    stem = "_".join(_NOT_IN_NAMES.sub("-", word).strip("-.") for word in words)[:_MAX_NAME_CHARACTERS]
    names = (folder / f"{stem}{number}.mp4" for number in ("", *(f"-{place}" for place in range(2, 10_000))))
    return next(name for name in names if name not in reserved and not name.exists())
