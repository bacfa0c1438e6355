"""One watch, from its first source to its last."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from curate.engines.base import Detector
from curate.errors import CurateError, DataError, UsageError
from curate.monitor.actions.clip import ClipRecorder
from curate.monitor.frame_judge import Judge
from curate.monitor.outputs.annotated_video import AnnotatedVideo
from curate.monitor.outputs.drawing import Drawer
from curate.monitor.outputs.event_log import Announcer, event_of
from curate.monitor.outputs.registry import Gear
from curate.monitor.outputs.thread import Latencies, OutputThread
from curate.monitor.triggers.config import TriggerFile
from curate.monitor.triggers.engine import Triggers
from curate.progress import UNKNOWN, Progress
from curate.sizes import RangeOfInterest
from curate.sources.feeds.feed import Feed, Notice, Picture
from curate.sources.feeds.file import FileFeed
from curate.sources.feeds.open import Source

_TURN_S = 0.1  # at most so long until somebody who wants to stop is heard


@dataclass
class Counts:
    """What was seen so far: frames, detections that count, and the monotonic clock at the first frame."""

    frames: int = 0
    detections: int = 0
    began_s: float | None = None


def watch_feed(
    feed: Feed,
    judge: Judge,
    outputs: OutputThread,
    announcer: Announcer,
    *,
    batch: int,
    clock: Callable[[float], datetime],
    counts: Counts,
    turn: Callable[[], bool],
) -> None:
    """Watch a source until it ends or somebody wants to stop.

    Args:
        feed: gives the frames; it is not closed.
        judge: finds what counts in them.
        outputs: get every frame.
        announcer: gets every event.
        batch: frames for the detector at once.
        clock: what time it is at a `timestamp_s`.
        counts: grows on the way.
        turn: called after each batch, and at least ten times a second; true ends the watch.

    Raises:
        CurateError: the source cannot be opened, or an output failed.
    """
    while not feed.ended and not turn():
        taken = feed.take(batch, _TURN_S)
        for notice in (one for one in taken if isinstance(one, Notice)):
            announcer.announce(event_of(notice, clock(notice.timestamp_s)))
        pictures = [one for one in taken if isinstance(one, Picture)]
        if not pictures:
            continue
        counts.began_s = pictures[0].arrived_s if counts.began_s is None else counts.began_s
        for picture, (seen, events) in zip(pictures, judge.look(pictures), strict=True):
            counts.frames += 1
            counts.detections += len(seen.scores)
            outputs.put(picture, seen, [announcer.announce(event) for event in events])


_OPEN_TURN_S = 0.1
_WAITING = 8  # frames between detector and outputs: of what is live as few as possible
_WAITING_LIVE = 1
_STATE_EVERY_S = 0.5
_LOOK_EVERY_S = 2.0
_AGAIN_S = 60.0


class WatchClock:
    """What time it is in a source: in what is live now, in a recording whenever it was made.

    Args:
        began: ISO 8601, when the recording began; None: not known.
        knows_end: whether all sources are recordings.
        sources: how many there are.

    Raises:
        UsageError: that is no time, or no recording.
    """

    def __init__(self, began: str | None, *, knows_end: bool, sources: int = 1) -> None:
        if began is not None and not knows_end:
            raise UsageError("what is live begins now", place="--began", got=began, expected="a file to watch")
        if began is not None and sources > 1:
            raise UsageError("several files began at several times", place="--began", got=began, expected="one file")
        try:
            self._began = None if began is None else datetime.fromisoformat(began).astimezone()
        except ValueError:
            expected = "such as 2026-05-01T18:00:00 or 2026-05-01T18:00:00+02:00"
            raise UsageError("not a time", place="--began", got=repr(began), expected=expected) from None
        self._is_recorded = knows_end

    def __call__(self, timestamp_s: float) -> datetime:
        """The time of a frame."""
        if self._began is None:
            return datetime.now().astimezone()
        return self._began + timedelta(seconds=timestamp_s)

    def notes(self, rules: TriggerFile) -> list[str]:
        """What should be known about quiet hours."""
        if not self._is_recorded or self._began is not None or not any(rule.quiet_hours for rule in rules.triggers):
            return []
        return ["Quiet hours go by the clock of now; --began says when the recording began."]


def open_while(source: Source, stop: Callable[[], bool]) -> Feed | None:
    """Open a source, which may take long, unless somebody wants to stop before: then nothing.

    Raises:
        CurateError: it cannot be opened.
    """
    opened: list[Feed | CurateError] = []

    def work() -> None:
        try:
            opened.append(source.open())
        except CurateError as error:
            opened.append(error)

    thread = threading.Thread(target=work, name="curate-open", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_OPEN_TURN_S)
        if thread.is_alive() and stop():
            return None  # the thread ends by itself when the connection is there or fails
    found = opened[0]
    if isinstance(found, CurateError):
        raise found
    return found


def _problems_of(triggers: Triggers, thread: OutputThread, clips: ClipRecorder | None) -> dict[str, str]:
    """What is wrong in one source's watch: a line by a key that stays while its count grows."""
    lines = (*triggers.remarks(), *thread.problems)
    return {line: line for line in lines} | dict(clips.problems if clips else {})


@dataclass
class Session:
    """Watches one source after the other with one detector.

    Attributes:
        detector: of the model.
        score, interest: what counts.
        rules: what is an event.
        gear: what is written to and shown on.
        announcer: tells events.
        clock: of the sources.
        batch: frames for the detector at once, of what is not live.
        ends_after_s: seconds after the first frame; None: never.
        stop: whether to end.
        progress: told how many frames are done.
        counts, latencies: of what was seen.
        running_problems: of the actions: a line by a key that stays while its count grows.
        on_problem: told of each problem while it lasts, soon after it came up.
        complete: whether every recording was watched to its end.
        problems: with sources, outputs, clips and actions.
        notes: what else is worth knowing.
    """

    detector: Detector
    score: float
    interest: RangeOfInterest | None
    rules: TriggerFile
    gear: Gear
    announcer: Announcer
    clock: WatchClock
    batch: int
    ends_after_s: float | None
    stop: Callable[[], bool]
    progress: Progress
    running_problems: Callable[[], dict[str, str]]
    on_problem: Callable[[str], None]
    complete: bool = True
    counts: Counts = field(default_factory=Counts)
    latencies: Latencies = field(default_factory=Latencies)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _ended_s: float = 0.0
    _next_track: int = 1
    _said_s: float = 0.0
    _said_frames: int = 0
    _looked_s: float = 0.0
    _told_by: Callable[[], dict[str, str]] = dict
    _told_of: dict[str, float] = field(default_factory=dict)
    _last_words: dict[str, str] = field(default_factory=dict)

    @property
    def frames_per_s(self) -> float:
        """From the first frame until all was done with the last."""
        if self.counts.began_s is None:
            return 0.0
        return round(self.counts.frames / max(self._ended_s - self.counts.began_s, 1e-6), 2)

    def note(self, *problems: str) -> None:
        """Add problems."""
        self.problems += problems

    def watch(self, sources: Sequence[Source]) -> None:
        """Watch all of them; one of several that cannot be read is a problem, and the rest goes on.

        Raises:
            CurateError: none can be read, or an output failed.
        """
        unread: list[DataError] = []
        for place, source in enumerate(sources):
            if self._wants_to_stop():
                self.complete = False
                break
            self.announcer.source = source.name if len(sources) > 1 else None
            before = self.counts.frames
            try:
                self._watch_one(source, place)
            except DataError as error:
                unread.append(error)
                if len(sources) == 1 or self.counts.frames > before or error.place not in (source.name, source.file):
                    raise
                self.note(str(error))
        if len(unread) == len(sources):
            first = unread[0]
            raise DataError(f"none of {len(unread)} videos can be read", place=first.place, got=first.fact)
        self._ended_s = time.monotonic()

    def _watch_one(self, source: Source, place: int) -> None:
        before = self.counts.frames
        with ExitStack() as stack:
            feed = open_while(source, self._wants_to_stop)
            if feed is None:
                self.complete = False
                return
            stack.enter_context(closing(feed))
            video, clips = self._open_files(stack, source, feed, place)
            outputs = [*([video] if video else []), *([clips] if clips else []), *self.gear.outputs]
            waiting = _WAITING_LIVE if feed.is_live else _WAITING
            drawer = Drawer(self.gear.names)
            thread = OutputThread(outputs, drawer, self.latencies, waiting, leave_out=feed.is_live)
            stack.enter_context(closing(thread))
            triggers = Triggers(self.rules.triggers, self.gear.names, self.interest)
            self._told_by = partial(_problems_of, triggers, thread, clips)
            judge = Judge(
                self.detector,
                score=self.score,
                interest=self.interest,
                triggers=triggers,
                clock=self.clock,
                first_track=self._next_track,
            )
            watch_feed(
                feed,
                judge,
                thread,
                self.announcer,
                batch=1 if feed.is_live else self.batch,
                clock=self.clock,
                counts=self.counts,
                turn=lambda: self._turn(source, feed, self.counts.frames - before),
            )
            self._next_track = judge.next_track
            self.complete &= feed.is_live or feed.ended
        faults = (feed.fault, video.fault if video else None)
        self.note(*(f"{source.name}: {fault}." for fault in faults if fault), *self._told_by().values())
        self._told_by = dict

    def _open_files(
        self, stack: ExitStack, source: Source, feed: Feed, place: int
    ) -> tuple[AnnotatedVideo | None, ClipRecorder | None]:
        """What is written of one source alone."""
        video = clips = None
        if self.gear.files.videos is not None:
            video = stack.enter_context(closing(AnnotatedVideo(self.gear.files.videos[place], feed)))
        if rules := {rule.name: rule.clip for rule in self.rules.triggers if rule.clip is not None}:
            clips = stack.enter_context(closing(ClipRecorder(rules)))
        if self.gear.table is not None:
            self.gear.table.source = source.name
        if self.gear.collector is not None:
            self.gear.collector.begin(source.name, source.file)
        self.announcer.clips = clips
        return video, clips

    def _turn(self, source: Source, feed: Feed, frames: int) -> bool:
        """Tell how far it is; whether to end."""
        window, now_s = self.gear.window, time.monotonic()
        if window is not None:
            window.turn()
        if now_s - self._said_s >= _STATE_EVERY_S:
            self._say(source, feed, frames, now_s)
        if now_s - self._looked_s >= _LOOK_EVERY_S:
            self._look_for_problems(now_s)
        return self._wants_to_stop()

    def _say(self, source: Source, feed: Feed, frames: int, now_s: float) -> None:
        passed_s, self._said_s = now_s - self._said_s, now_s
        rate = (self.counts.frames - self._said_frames) / passed_s
        self._said_frames = self.counts.frames
        last_s = self.latencies.last_s
        if self.gear.page is not None:
            latency_ms = 1000 * last_s if last_s is not None and feed.is_live else None
            self.gear.page.state(self._status(source), frames_per_s=rate, latency_ms=latency_ms)
        index = feed.index if isinstance(feed, FileFeed) else None
        events = f"{self.announcer.count} event{'' if self.announcer.count == 1 else 's'}"
        note = f"{rate:.1f} frames/s, {events}"
        self.progress(f"watching {source.name}", frames, index.frames if index else UNKNOWN, note)

    def _status(self, source: Source) -> str:
        """A few words for the page."""
        if self._told_of:
            return f"{len(self._told_of)} problem{'' if len(self._told_of) == 1 else 's'}: see the terminal"
        return f"watching {source.name}" if len(self.gear.sources) > 1 else "watching"

    def _look_for_problems(self, now_s: float) -> None:
        """Tell what came up of late; a line whose count only grew is told once a minute."""
        self._looked_s = now_s
        problems = {line: line for line in self.announcer.problems} | self._told_by() | self.running_problems()
        for kind, problem in problems.items():
            if now_s - self._told_of.get(kind, -_AGAIN_S) >= _AGAIN_S and self._last_words.get(kind) != problem:
                self._told_of[kind], self._last_words[kind] = now_s, problem
                self.on_problem(problem)

    def _wants_to_stop(self) -> bool:
        began_s, window = self.counts.began_s, self.gear.window
        if self.ends_after_s is not None and began_s is not None and time.monotonic() - began_s >= self.ends_after_s:
            return True
        return self.stop() or (window is not None and window.is_closed)
