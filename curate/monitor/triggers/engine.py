"""When a trigger fires: one track fires it once, on frames and times of the source, whatever the wall clock does."""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from curate.errors import UsageError
from curate.monitor.detections import NO_TRACK, Seen
from curate.monitor.triggers import zones
from curate.monitor.triggers.config import Rule
from curate.monitor.triggers.event import Event
from curate.sizes import RangeOfInterest

TRACK_MEMORY_FRAMES = 10_000
"""So many frames after a track was last seen it is forgotten; the tracker must have given it up long before."""

_MICROSECOND_S = 1e-6  # 40.1 − 10.1 is less than 30 in floating point


@dataclass
class _Standing:
    """How far a track is with a rule: its newest hits as (how many frames had been judged, frame index)."""

    hits: deque[tuple[int, int]]
    fired_s: float | None = None


@dataclass
class _Track:
    seen_at: int = 0
    standings: dict[int, _Standing] = field(default_factory=dict)


class Triggers:
    """The triggers of a watch; `judge` is given every frame that the detector saw, in order.

    Args:
        rules: as `read_triggers` gives them.
        class_names: of the detector, in the order of `Seen.class_indices`.
        interest: the range of interest of rules that name none; None is everything.
    """

    def __init__(self, rules: Sequence[Rule], class_names: Sequence[str], interest: RangeOfInterest | None) -> None:
        self._rules = tuple(rules)
        self._class_names = tuple(class_names)
        self._interests = [interest if rule.interest is None else rule.interest for rule in self._rules]
        self._wanted = [
            np.array([rule.classes is None or name in rule.classes for name in self._class_names], dtype=bool)
            for rule in self._rules
        ]
        self._fired_s: list[float | None] = [None] * len(self._rules)
        self._tracks: OrderedDict[int, _Track] = OrderedDict()  # the one that was not seen for longest comes first
        self._judged = 0
        self._newest_s: float | None = None
        self._added_s = 0.0
        self._remarks: tuple[str, ...] = ()

    @property
    def tracks_in_mind(self) -> int:
        """Of how many tracks something is remembered."""
        return len(self._tracks)

    def remarks(self) -> tuple[str, ...]:
        """What is odd about the triggers for this picture, from the first frame on: zones that it does not reach."""
        return self._remarks

    def judge(self, seen: Seen, width: int, height: int, now: datetime) -> list[Event]:
        """The events of one frame, in the order of the rules, those of one rule best first.

        Cool-down, repeat and `frames` go by the source's times and by the frames that were judged. `now` only says an
        event's time and whether it is quiet.

        Args:
            seen: what was found.
            width: of the frame, in pixels.
            height: likewise.
            now: with its offset; its time of the day is the one that quiet hours are meant in.

        Raises:
            UsageError: `now` has no offset.
        """
        if now.utcoffset() is None:
            raise UsageError("the time has no offset", place="now", got=now.isoformat())
        if self._judged == 0:
            self._remarks = tuple(_remarks(self._rules, width, height))
        self._judged += 1
        elapsed_s = self._elapsed_s(seen.timestamp_s)
        self._note_presence(seen)
        events = []
        for index, rule in enumerate(self._rules):
            quiet = any(hours.contains(now.time()) for hours in rule.quiet_hours)
            for position in np.flatnonzero(self._meets(index, seen, width, height)).tolist():
                standing = self._hit(index, int(seen.track_ids[position]), seen.frame_index)
                if standing is None or quiet or not self._may_fire(index, standing, elapsed_s):
                    continue
                standing.fired_s = self._fired_s[index] = elapsed_s
                events.append(self._event(rule, seen, position, standing, now))
        self._forget()
        return events

    def _elapsed_s(self, timestamp_s: float) -> float:
        """The source's time, made to stand still where it jumps back, so that every wait comes to its end."""
        if self._newest_s is not None and timestamp_s < self._newest_s:
            self._added_s += self._newest_s - timestamp_s
        self._newest_s = timestamp_s
        return timestamp_s + self._added_s

    def _meets(self, index: int, seen: Seen, width: int, height: int) -> NDArray[np.bool_]:
        """Which detections of a track the rule is for, its frames aside. → (n,)."""
        rule, interest = self._rules[index], self._interests[index]
        meets = (seen.track_ids != NO_TRACK) & self._wanted[index][seen.class_indices]
        if rule.min_score is not None:
            meets &= seen.scores >= rule.min_score
        if interest is not None and meets.any():
            meets &= interest.contains(seen.boxes_xyxy)
        if rule.zone is not None and meets.any():
            points = zones.anchors(seen.boxes_xyxy, rule.anchor, width, height)
            meets &= zones.contains(zones.zone_px(rule.zone, width, height), points)
        return meets

    def _note_presence(self, seen: Seen) -> None:
        for track_id in seen.track_ids.tolist():
            if track_id in self._tracks:
                self._tracks[track_id].seen_at = self._judged
                self._tracks.move_to_end(track_id)

    def _hit(self, index: int, track_id: int, frame_index: int) -> _Standing | None:
        """Note that a track meets a rule; None where it has not done so in enough of the newest frames."""
        frames = self._rules[index].frames
        track = self._tracks.setdefault(track_id, _Track())
        track.seen_at = self._judged
        standing = track.standings.setdefault(index, _Standing(deque(maxlen=frames.seen)))
        if standing.hits and standing.hits[-1][0] == self._judged:
            return None  # two detections of one track in one frame
        standing.hits.append((self._judged, frame_index))
        enough = len(standing.hits) == frames.seen and standing.hits[0][0] > self._judged - frames.of
        return standing if enough else None

    def _may_fire(self, index: int, standing: _Standing, elapsed_s: float) -> bool:
        rule = self._rules[index]
        if standing.fired_s is not None and (
            rule.repeat_s is None or not _is_over(standing.fired_s, rule.repeat_s, elapsed_s)
        ):
            return False
        fired_s = self._fired_s[index]
        return fired_s is None or _is_over(fired_s, rule.cool_down_s, elapsed_s)

    def _event(self, rule: Rule, seen: Seen, position: int, standing: _Standing, now: datetime) -> Event:
        x0, y0, x1, y1 = seen.boxes_xyxy[position].tolist()
        return Event(
            time=now.isoformat(timespec="milliseconds"),
            timestamp_s=float(seen.timestamp_s),
            trigger=rule.name,
            class_name=self._class_names[int(seen.class_indices[position])],
            track_id=int(seen.track_ids[position]),
            score=float(seen.scores[position]),
            box=(x0, y0, x1, y1),
            frames=tuple(frame_index for _, frame_index in standing.hits),
        )

    def _forget(self) -> None:
        while self._tracks and next(iter(self._tracks.values())).seen_at < self._judged - TRACK_MEMORY_FRAMES:
            self._tracks.popitem(last=False)


def _remarks(rules: Sequence[Rule], width: int, height: int) -> Iterator[str]:
    for rule in rules:
        if rule.zone is not None and zones.is_outside(zones.zone_px(rule.zone, width, height), width, height):
            x, y = (f"{least:g}" for least in np.min(rule.zone, axis=0))
            got = f"got x from {x} and y from {y} on; expected a part of {width}×{height} pixels"
            yield f"trigger {rule.name}: its zone lies outside of the picture ({got}). It never fires."


def _is_over(start_s: float, wait_s: float, elapsed_s: float) -> bool:
    return elapsed_s - start_s >= wait_s - _MICROSECOND_S
