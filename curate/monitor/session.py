"""A watch from its first source to its last: opens sources and their outputs, reports progress and problems."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from curate.engines.base import Detector
from curate.errors import CurateError, DataError, UsageError
from curate.monitor.actions.clip import ClipRecorder
from curate.monitor.actions.webhook.queue import Backoff
from curate.monitor.outputs.annotated_video import AnnotatedVideo
from curate.monitor.outputs.drawing import Drawer
from curate.monitor.outputs.event_log import EventPublisher
from curate.monitor.outputs.output_set import OutputSet
from curate.monitor.outputs.thread import Latencies, OutputThread
from curate.monitor.problems import Problems
from curate.monitor.trigger_file import TriggerFile
from curate.monitor.triggers.engine import Triggers
from curate.monitor.watch_loop import Counts, FrameAnalyzer, watch_feed
from curate.progress import UNKNOWN, Progress
from curate.sizes import RangeOfInterest
from curate.sources.feeds.feed import Feed
from curate.sources.feeds.file import FileFeed
from curate.sources.feeds.open import Source
from curate.sources.video.remarks import SIZE_CHANGES

logger = logging.getLogger(__name__)
_POLL_S = 0.1
_QUEUED_FRAMES = 8  # between detector and outputs
_QUEUED_FRAMES_LIVE = 1  # each one adds to the latency
_WAITS = Backoff(first_s=0.5, max_s=30.0)  # for a live source that is not there yet
_STATUS_EVERY_S = 0.5
_PROBLEMS_EVERY_S = 2.0
_LOST = ("frame lost", "frames lost")
_NOT_OPENED = ("attempt to open it failed", "attempts to open it failed")
_NEW_SIZE = ("change of picture size", "changes of picture size")


class WatchClock:
    """Returns the time of a frame: the current time, or for a recording with known start the time then.

    Times have the UTC offset of this machine's zone at that moment, over a change to summer time too. A start with an
    offset that this zone does not have then was recorded elsewhere; all times keep that offset.

    Args:
        began: Start of the recording, ISO 8601; without UTC offset it is in this machine's zone; None if unknown.
        is_recorded: Whether all sources are recordings.
        sources: Number of sources.

    Raises:
        UsageError: `began` is not a time, or the source is not a single recording.
    """

    def __init__(self, began: str | None, *, is_recorded: bool, sources: int = 1) -> None:
        if began is not None and not is_recorded:
            raise UsageError("applies to recorded files only", place="--began", got=began)
        if began is not None and sources > 1:
            raise UsageError("needs a single file", place="--began", got=f"{sources} files")
        try:
            given = None if began is None else datetime.fromisoformat(began)
            self._began = None if given is None else given.astimezone(UTC)
            is_elsewhere = given is not None and given.utcoffset() not in (None, given.astimezone().utcoffset())
        except (ValueError, OverflowError, OSError):
            expected = "such as 2026-05-01T18:00:00 or 2026-05-01T18:00:00+02:00"
            raise UsageError("invalid time", place="--began", got=repr(began), expected=expected) from None
        self._zone = given.tzinfo if given is not None and is_elsewhere else None
        self._is_recorded = is_recorded

    def __call__(self, timestamp_s: float) -> datetime:
        if self._began is None:
            return datetime.now().astimezone()
        return (self._began + timedelta(seconds=timestamp_s)).astimezone(self._zone)

    def notes(self, trigger_file: TriggerFile) -> list[str]:
        """Warn about quiet hours in a recording without a known start."""
        has_quiet_hours = any(trigger.quiet_hours for trigger in trigger_file.triggers)
        if not self._is_recorded or self._began is not None or not has_quiet_hours:
            return []
        return ["Quiet hours use the current time; --began sets the start of the recording."]


def open_source(source: Source, stop: Callable[[], bool]) -> Feed | None:
    """Open a source, which may take long; None if `stop` returns true first.

    Raises:
        CurateError: The source cannot be opened.
    """
    results: list[Feed | CurateError] = []

    def work() -> None:
        try:
            results.append(source.open())
        except CurateError as error:
            results.append(error)

    thread = threading.Thread(target=work, name="curate-open", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_S)
        if thread.is_alive() and stop():
            return None  # the thread ends when the connection is open or fails
    result = results[0]
    if isinstance(result, CurateError):
        raise result
    return result


@dataclass
class Session:
    """Watches one source after the other with one detector.

    Attributes:
        detector: The model.
        score: Lowest score that counts.
        interest: Range of interest; None for all sizes.
        trigger_file: Triggers and actions.
        outputs: Outputs for all sources.
        publisher: Gets every event.
        problems: Gets the problems of sources, outputs, triggers and clips.
        clock: Returns the time of a frame.
        batch: Most frames per call of the detector, for recordings.
        stop_after_s: Seconds after the first frame; None: no limit.
        wait_s: Longest wait for the first frame of a live source.
        stop: Whether to end; called ten times per second.
        progress: Callback for progress.
        complete: Whether every recording was watched to its end.
        counts: Totals so far.
        latencies: Latencies so far.
    """

    detector: Detector
    score: float
    interest: RangeOfInterest | None
    trigger_file: TriggerFile
    outputs: OutputSet
    publisher: EventPublisher
    problems: Problems
    clock: WatchClock
    batch: int
    stop_after_s: float | None
    wait_s: float
    stop: Callable[[], bool]
    progress: Progress
    complete: bool = True
    counts: Counts = field(default_factory=Counts)
    latencies: Latencies = field(default_factory=Latencies)
    _ended_s: float = 0.0
    _next_track: int = 1
    _status_s: float = 0.0  # of the latest status, by `time.monotonic`
    _status_frames: int = 0
    _problems_s: float = 0.0
    _may_come: bool = False  # an absent source

    @property
    def frames_per_s(self) -> float:
        """From the first frame until all outputs had the last."""
        if self.counts.started_s is None:
            return 0.0
        return round(self.counts.frames / max(self._ended_s - self.counts.started_s, 1e-6), 2)

    def watch(self, sources: Sequence[Source]) -> None:
        """Watch all sources. Of several, one that cannot be read is a problem, and the others are watched.

        A live source that is not there yet is waited for.

        Raises:
            CurateError: No source can be read, or an output failed.
        """
        errors: list[DataError] = []
        if any(not source.is_recorded for source in sources):
            self._wait_for(sources[0])  # there is one live source at most
            return
        for number, source in enumerate(sources):
            if self._wants_to_stop():
                self.complete = False
                break
            self.publisher.source = source.name if len(sources) > 1 else None
            frames_before = self.counts.frames
            try:
                self._watch_one(source, number)
            except DataError as error:
                errors.append(error)
                is_unreadable = self.counts.frames == frames_before and error.place in (source.name, source.file)
                if len(sources) == 1 or not is_unreadable:
                    raise
                self.problems.add(str(error))
        if len(errors) == len(sources):
            first = errors[0]
            raise DataError(f"none of {len(errors)} videos can be read", place=first.place, got=first.fact)
        self._ended_s = time.monotonic()

    def _wait_for(self, source: Source) -> None:
        """Watch a live source, which is opened again and again until it shows its first frame."""
        began_s, failures = time.monotonic(), 0
        while True:
            try:
                self._watch_one(source, 0)
            except DataError as error:
                failures += 1
                wait_s = _WAITS.wait_s(failures)
                waited_s = time.monotonic() - began_s
                if not self._is_absent(source, error) or waited_s + wait_s > self.wait_s:
                    raise
                reason = error.fact if error.remedy is None else f"{error.fact}. {error.remedy.rstrip('.')}"
                self.problems.count(source.name, _NOT_OPENED, reason)
                logger.info("%s: attempt %d failed: %s; next in %.1f s", source.name, failures, error.fact, wait_s)
                if self._pause(source, wait_s):
                    break
            else:
                break
        self._ended_s = time.monotonic()

    def _is_absent(self, source: Source, error: DataError) -> bool:
        """Whether a live source has never shown a frame and may come yet."""
        return self._may_come and self.counts.frames == 0 and error.place == source.name

    def _pause(self, source: Source, wait_s: float) -> bool:
        """Wait between two attempts; return whether to end."""
        until = time.monotonic() + wait_s
        while (now_s := time.monotonic()) < until:
            if self._wants_to_stop():
                return True
            if self.outputs.window is not None:
                self.outputs.window.update()
            if self.outputs.page is not None:
                self.outputs.page.set_status("waiting for the source", frames_per_s=0.0, latency_ms=None)
            self.progress(f"waiting for {source.name}", 0, UNKNOWN, "")
            self.problems.notify(now_s)
            time.sleep(min(_POLL_S, max(until - now_s, 0.0)))
        return False

    def _watch_one(self, source: Source, number: int) -> None:
        frames_before = self.counts.frames
        logger.info("%s: opening", source.name)
        self._may_come = True
        with ExitStack() as stack:
            feed = open_source(source, self._wants_to_stop)
            if feed is None:
                self.complete &= not source.is_recorded
                return
            self._may_come = feed.is_live
            self.outputs.adapt_to(feed)
            stack.enter_context(closing(feed))
            video, clips = self._open_outputs(stack, source, feed, number)
            thread = OutputThread(
                [*([video] if video else []), *([clips] if clips else []), *self.outputs.frame_outputs],
                Drawer(self.outputs.class_names),
                self.latencies,
                _QUEUED_FRAMES_LIVE if feed.is_live else _QUEUED_FRAMES,
                on_loss=self._count_lost_frame if feed.is_live else None,
            )
            stack.enter_context(closing(thread))
            triggers = Triggers(
                self.trigger_file.triggers, self.outputs.class_names, self.interest, on_warning=self.problems.add
            )
            analyzer = FrameAnalyzer(
                self.detector,
                score=self.score,
                interest=self.interest,
                triggers=triggers,
                clock=self.clock,
                first_track=self._next_track,
                on_new_size=self._make_size_counter(source),
            )
            watch_feed(
                feed,
                analyzer,
                thread,
                self.publisher,
                batch=1 if feed.is_live else self.batch,
                clock=self.clock,
                counts=self.counts,
                turn=lambda: self._turn(source, feed, self.counts.frames - frames_before),
            )
            self._next_track = analyzer.next_track
            self.complete &= feed.is_live or feed.ended
        logger.info("%s: %d frames watched", source.name, self.counts.frames - frames_before)
        for fault in (feed.fault, video.fault if video else None):
            if fault:
                self.problems.add(f"{source.name}: {fault}.")
        self._report_remarks(source, feed)

    def _count_lost_frame(self, error: CurateError) -> None:
        place = "outputs" if error.place is None else str(error.place)
        self.problems.count(place, _LOST, error.fact)

    def _make_size_counter(self, source: Source) -> Callable[[str], None]:
        """Count changes of the picture size as one problem, which names the first."""
        reasons: list[str] = []

        def count(change: str) -> None:
            reasons.append(f"first {change}; annotated video and clips keep the first size")
            self.problems.count(source.name, _NEW_SIZE, reasons[0])

        return count

    def _report_remarks(self, source: Source, feed: Feed) -> None:
        for remark in feed.remarks:
            if remark.kind != SIZE_CHANGES:  # counted as they come
                self.problems.add(f"{source.name}: {remark.detail}.")

    def _open_outputs(
        self, stack: ExitStack, source: Source, feed: Feed, number: int
    ) -> tuple[AnnotatedVideo | None, ClipRecorder | None]:
        """Open the outputs of one source, and prepare the shared ones for it."""
        video = clips = None
        files = self.outputs.files
        if files.videos is not None:
            video = AnnotatedVideo(files.videos[number], feed, self.problems, replace=files.replace)
            stack.enter_context(self.outputs.closing(video))
        triggers = self.trigger_file.triggers
        if settings := {trigger.name: trigger.clip for trigger in triggers if trigger.clip is not None}:
            clips = stack.enter_context(closing(ClipRecorder(settings, self.problems)))
        if self.outputs.table is not None:
            self.outputs.table.source = source.name
        if self.outputs.collector is not None:
            self.outputs.collector.begin(source.name, source.file)
        self.publisher.name_clip = clips.name_clip if clips else None
        return video, clips

    def _turn(self, source: Source, feed: Feed, frames: int) -> bool:
        """Update window, status and problems; return whether to end."""
        window, now_s = self.outputs.window, time.monotonic()
        if window is not None:
            window.update()
        if now_s - self._status_s >= _STATUS_EVERY_S:
            self._update_status(source, feed, frames, now_s)
        if now_s - self._problems_s >= _PROBLEMS_EVERY_S:
            self._problems_s = now_s
            self._report_remarks(source, feed)
            self.problems.notify(now_s)
        return self._wants_to_stop()

    def _update_status(self, source: Source, feed: Feed, frames: int, now_s: float) -> None:
        elapsed_s, self._status_s = now_s - self._status_s, now_s
        frames_per_s = (self.counts.frames - self._status_frames) / elapsed_s
        self._status_frames = self.counts.frames
        last_s = self.latencies.last_s
        if self.outputs.page is not None:
            latency_ms = 1000 * last_s if last_s is not None and feed.is_live else None
            self.outputs.page.set_status(self._describe(source), frames_per_s=frames_per_s, latency_ms=latency_ms)
        index = feed.index if isinstance(feed, FileFeed) else None
        events = f"{self.publisher.count} event{'' if self.publisher.count == 1 else 's'}"
        note = f"{frames_per_s:.1f} frames/s, {events}"
        self.progress(f"watching {source.name}", frames, index.frames if index else UNKNOWN, note)

    def _describe(self, source: Source) -> str:
        """A few words for the page."""
        if problems := self.problems.notified:
            return f"{problems} problem{'' if problems == 1 else 's'}: see the terminal"
        return f"watching {source.name}" if len(self.outputs.sources) > 1 else "watching"

    def _wants_to_stop(self) -> bool:
        started_s, window = self.counts.started_s, self.outputs.window
        elapsed_s = 0.0 if started_s is None else time.monotonic() - started_s
        if started_s is not None and self.stop_after_s is not None and elapsed_s >= self.stop_after_s:
            return True
        return self.stop() or (window is not None and window.is_closed)
