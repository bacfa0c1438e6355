"""Clips of what happened: some seconds before an event and after it.

Frames wait as JPEG, so that ten seconds take some megabytes; a thread makes videos of them.
"""

import queue
import re
import threading
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from curate.errors import CurateError, UsageError
from curate.images import decode_jpeg, encode_rgb
from curate.monitor.actions.config import Clip
from curate.monitor.outputs.thread import Shown
from curate.monitor.problems import Troubles
from curate.monitor.triggers.event import Event
from curate.sources.video.writing import VideoWriter

_QUALITY = 92
_LONGEST_S = 60.0  # of one clip, however many events it holds
_TICK = Fraction(1, 90_000)
_RATE = Fraction(30)
_ODD = re.compile(r"[^\w.-]+")
_LONGEST_NAME = 120  # letters


@dataclass
class _Plan:
    """From when to when a clip goes, and to when at the latest."""

    path: Path
    from_s: float
    until_s: float
    latest_s: float

    def holds(self, event: Event, rule: Clip) -> bool:
        """Whether this clip shows all that an event's clip has to show; if so, it goes on for longer."""
        from_s, until_s = event.timestamp_s - rule.before_s, event.timestamp_s + rule.after_s
        if from_s < self.from_s or event.timestamp_s > self.until_s or until_s > self.latest_s:
            return False
        self.until_s = max(self.until_s, until_s)
        return True


@dataclass
class _Growing:
    """One that grows."""

    plan: _Plan
    frames: list[tuple[float, bytes]]


class ClipRecorder:
    """Records the clips of one source.

    An event during another one's clip in the same folder is in that clip, which then goes on for longer.

    Args:
        rules: how clips of a trigger are saved, by its name.

    Attributes:
        problems: clips that could not be written, with why; a line a folder, by a key that stays.

    Raises:
        UsageError: a folder cannot be made.
    """

    wants_boxes = True

    def __init__(self, rules: Mapping[str, Clip]) -> None:
        self._troubles = Troubles()
        self._rules = rules
        self._before_s = max((rule.before_s for rule in rules.values()), default=0.0)
        for folder in {rule.folder for rule in rules.values()}:
            _make_folder(folder)
        self._planned: dict[Path, _Plan] = {}
        self._given: set[Path] = set()  # names of clips that are not there yet
        self._frames: deque[tuple[float, bytes]] = deque()
        self._growing: dict[str, _Growing] = {}
        self._finished: queue.Queue[_Growing | None] = queue.Queue()
        self._thread = threading.Thread(target=self._write_all, name="curate-clips", daemon=True)
        self._thread.start()

    @property
    def problems(self) -> Mapping[str, str]:
        """See the class."""
        return self._troubles.kinds()

    def announce(self, event: Event) -> Event:
        """The event with the name of the clip that will show it, where its trigger saves one."""
        rule = self._rules.get(event.trigger)
        if rule is None:
            return event
        plan = self._planned.get(rule.folder)
        if plan is None or not plan.holds(event, rule):
            path = _free_name(rule.folder, event, self._given)
            self._given.add(path)
            plan = self._planned[rule.folder] = _plan(path, event, rule)
        return replace(event, clip=str(plan.path))

    def take(self, shown: Shown) -> None:
        """Keep a frame; begin, go on with and finish clips."""
        now_s = shown.seen.timestamp_s
        frame = now_s, encode_rgb(shown.drawn, ".jpg", quality=_QUALITY)
        self._frames.append(frame)
        while self._frames[0][0] < now_s - self._before_s:
            self._frames.popleft()
        for clip in self._growing.values():
            clip.frames.append(frame)
        for event in shown.events:
            self._begin(event)
        for path in [path for path, clip in self._growing.items() if clip.plan.until_s <= now_s]:
            self._finished.put(self._growing.pop(path))

    def close(self) -> None:
        """Finish all clips with what there is."""
        for clip in self._growing.values():
            self._finished.put(clip)
        self._growing = {}
        self._finished.put(None)
        self._thread.join()

    def _begin(self, event: Event) -> None:
        rule = self._rules.get(event.trigger)
        if rule is None or event.clip is None:
            return
        clip = self._growing.get(event.clip)
        if clip is not None:
            clip.plan.until_s = max(clip.plan.until_s, event.timestamp_s + rule.after_s)
            return
        frames = [frame for frame in self._frames if frame[0] >= event.timestamp_s - rule.before_s]
        self._growing[event.clip] = _Growing(_plan(Path(event.clip), event, rule), frames)

    def _write_all(self) -> None:
        while (clip := self._finished.get()) is not None:
            try:
                _write(clip)
            except CurateError as error:
                self._troubles.add(f"clips {clip.plan.path.parent}", "clip failed|clips failed", error.fact)
            self._given.discard(clip.plan.path)


def _plan(path: Path, event: Event, rule: Clip) -> _Plan:
    now_s = event.timestamp_s
    return _Plan(path, now_s - rule.before_s, now_s + rule.after_s, now_s + max(_LONGEST_S, rule.after_s))


def _write(clip: _Growing) -> None:
    writer = VideoWriter(clip.plan.path, time_base=_TICK, rate=_RATE)
    ticks = [round((time_s - clip.frames[0][0]) / _TICK) for time_s, _ in clip.frames]
    durations = [*(later - tick for tick, later in pairwise(ticks)), round(1 / _RATE / _TICK)]
    try:
        for (_, jpeg), tick, duration in zip(clip.frames, ticks, durations, strict=True):
            writer.write(decode_jpeg(jpeg), tick, duration)
    finally:
        writer.close()


def _free_name(folder: Path, event: Event, given: Collection[Path]) -> Path:
    words = (event.time, event.trigger, *(() if event.track_id is None else (str(event.track_id),)))
    stem = "_".join(_ODD.sub("-", word).strip("-.") for word in words)[:_LONGEST_NAME]
    names = (folder / f"{stem}{number}.mp4" for number in ("", *(f"-{place}" for place in range(2, 10_000))))
    return next(name for name in names if name not in given and not name.exists())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder for clips cannot be made: {error.strerror}", place=folder) from error
