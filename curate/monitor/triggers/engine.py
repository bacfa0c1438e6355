"""Decides when triggers fire. Each track fires a trigger once; durations are measured in the source's own time.

A box matches a zone when its anchor point lies in the polygon, sides included. supervision's `PolygonZone` draws the
polygon into a mask of whole pixels and rounds the points: it is off by up to a pixel at the sides, and points on the
picture's right or bottom edge are in no zone.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curate.boxes import as_boxes
from curate.errors import UsageError
from curate.monitor.detections import NO_TRACK, FrameDetections
from curate.monitor.triggers.event import Event
from curate.monitor.triggers.rule import Rule
from curate.sizes import RangeOfInterest

TRACK_MEMORY_FRAMES = 10_000
"""A track is forgotten this many frames after it was last seen, long after the tracker has dropped it."""

_TIME_TOLERANCE_S = 1e-6  # 40.1 − 10.1 is less than 30 in floating point
_ON_SIDE_PX = 1e-6


@dataclass
class _RuleState:
    """One track's progress in one rule: its latest matches as (number of the evaluated frame, frame index)."""

    matches: deque[tuple[int, int]]
    fired_s: float | None = None


@dataclass
class _Track:
    last_seen: int = 0  # number of the evaluated frame
    states: dict[int, _RuleState] = field(default_factory=dict)


class Triggers:
    """The triggers of a watch. `evaluate` takes every frame that the detector saw, in order.

    Args:
        rules: From `read_triggers`.
        class_names: The detector's classes, by class index.
        interest: Range of interest for rules without their own; None for all sizes.
        on_warning: Called after the first frame with a sentence for each trigger that can never fire.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        class_names: Sequence[str],
        interest: RangeOfInterest | None,
        *,
        on_warning: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._rules = tuple(rules)
        self._class_names = tuple(class_names)
        self._interests = [interest if rule.interest is None else rule.interest for rule in self._rules]
        self._matches_class = [
            np.array([rule.classes is None or name in rule.classes for name in self._class_names], dtype=bool)
            for rule in self._rules
        ]
        self._on_warning = on_warning
        self._fired_s: list[float | None] = [None] * len(self._rules)
        self._tracks: OrderedDict[int, _Track] = OrderedDict()  # least recently seen first
        self._evaluated = 0
        self._first_size = 1, 1  # width and height of the first picture
        self._latest_s: float | None = None
        self._offset_s = 0.0

    @property
    def remembered_tracks(self) -> int:
        return len(self._tracks)

    def evaluate(self, detections: FrameDetections, width: int, height: int, now: datetime) -> list[Event]:
        """Return the events of one frame, in the order of the rules; those of one rule by descending score.

        Cool-down, repeat and `frames` use the source's time and the evaluated frames. `now` only sets the event's time
        and decides about quiet hours.

        Args:
            detections: What counts in the frame.
            width: Frame width in pixels; where the size changes, zones in pixels are scaled with the picture.
            height: Frame height in pixels.
            now: Time with UTC offset; quiet hours use its local time of day.

        Raises:
            UsageError: `now` has no UTC offset.
        """
        if now.utcoffset() is None:
            raise UsageError("time has no UTC offset", place="now", got=now.isoformat())
        if self._evaluated == 0:
            self._first_size = width, height
            for warning in _find_unreachable_zones(self._rules, width, height):
                self._on_warning(warning)
        self._evaluated += 1
        elapsed_s = self._elapsed_s(detections.timestamp_s)
        self._mark_seen(detections)
        events = []
        for index, rule in enumerate(self._rules):
            quiet = any(hours.contains(now.time()) for hours in rule.quiet_hours)
            for row in np.flatnonzero(self._match(index, detections, width, height)).tolist():
                state = self._add_match(index, int(detections.track_ids[row]), detections.frame_index)
                if state is None or quiet or not self._may_fire(index, state, elapsed_s):
                    continue
                state.fired_s = self._fired_s[index] = elapsed_s
                events.append(self._make_event(rule, detections, row, state, now))
        self._forget_tracks()
        return events

    def _elapsed_s(self, timestamp_s: float) -> float:
        """The source's time, held still where it jumps back, so that every wait ends."""
        if self._latest_s is not None and timestamp_s < self._latest_s:
            self._offset_s += self._latest_s - timestamp_s
        self._latest_s = timestamp_s
        return timestamp_s + self._offset_s

    def _match(self, index: int, detections: FrameDetections, width: int, height: int) -> NDArray[np.bool_]:
        """Which detections match a rule, its `frames` aside. → (n,)"""
        rule, interest = self._rules[index], self._interests[index]
        matches = (detections.track_ids != NO_TRACK) & self._matches_class[index][detections.class_indices]
        if rule.min_score is not None:
            matches &= detections.scores >= rule.min_score
        if interest is not None and matches.any():
            matches &= interest.contains(detections.boxes_xyxy)
        if rule.zone is not None and matches.any():
            points = anchor_points(detections.boxes_xyxy, rule.anchor, width, height)
            first_width, first_height = self._first_size
            zone = zone_in_pixels(rule.zone, first_width, first_height) * [width / first_width, height / first_height]
            matches &= points_in_polygon(zone, points)
        return matches

    def _mark_seen(self, detections: FrameDetections) -> None:
        for track_id in detections.track_ids.tolist():
            if track_id in self._tracks:
                self._tracks[track_id].last_seen = self._evaluated
                self._tracks.move_to_end(track_id)

    def _add_match(self, index: int, track_id: int, frame_index: int) -> _RuleState | None:
        """Add a track's match; None while it has not matched in enough of the latest frames."""
        frames = self._rules[index].frames
        track = self._tracks.setdefault(track_id, _Track())
        track.last_seen = self._evaluated
        state = track.states.setdefault(index, _RuleState(deque(maxlen=frames.seen)))
        if state.matches and state.matches[-1][0] == self._evaluated:
            return None  # two detections of one track in one frame
        state.matches.append((self._evaluated, frame_index))
        enough = len(state.matches) == frames.seen and state.matches[0][0] > self._evaluated - frames.of
        return state if enough else None

    def _may_fire(self, index: int, state: _RuleState, elapsed_s: float) -> bool:
        rule = self._rules[index]
        if state.fired_s is not None and (
            rule.repeat_s is None or not _is_over(state.fired_s, rule.repeat_s, elapsed_s)
        ):
            return False
        fired_s = self._fired_s[index]
        return fired_s is None or _is_over(fired_s, rule.cool_down_s, elapsed_s)

    def _make_event(self, rule: Rule, detections: FrameDetections, row: int, state: _RuleState, now: datetime) -> Event:
        x0, y0, x1, y1 = detections.boxes_xyxy[row].tolist()
        return Event(
            time=now.isoformat(timespec="milliseconds"),
            timestamp_s=float(detections.timestamp_s),
            trigger=rule.name,
            class_name=self._class_names[int(detections.class_indices[row])],
            track_id=int(detections.track_ids[row]),
            score=float(detections.scores[row]),
            box=(x0, y0, x1, y1),
            frames=tuple(frame_index for _, frame_index in state.matches),
        )

    def _forget_tracks(self) -> None:
        while self._tracks and next(iter(self._tracks.values())).last_seen < self._evaluated - TRACK_MEMORY_FRAMES:
            self._tracks.popitem(last=False)


def _is_over(start_s: float, wait_s: float, elapsed_s: float) -> bool:
    return elapsed_s - start_s >= wait_s - _TIME_TOLERANCE_S


def _find_unreachable_zones(rules: Sequence[Rule], width: int, height: int) -> Iterator[str]:
    for rule in rules:
        if rule.zone is None:
            continue
        x, y = zone_in_pixels(rule.zone, width, height).min(axis=0)
        if x > width or y > height:
            got = f"got x from {x:g} and y from {y:g}; expected part of {width}×{height} pixels"
            yield f"trigger {rule.name}: zone lies outside the picture ({got}). It never fires."


def zone_in_pixels(zone: ArrayLike, width: int, height: int) -> NDArray[np.float64]:
    """Corners in pixels; where all lie within 0..1 they are fractions of the picture. (n, 2) → (n, 2)"""
    corners = np.asarray(zone, dtype=np.float64)
    if ((corners >= 0) & (corners <= 1)).all():
        return corners * [width, height]
    return corners


def anchor_points(boxes_xyxy: ArrayLike, anchor: str, width: int, height: int) -> NDArray[np.float64]:
    """The anchor of each box, moved into the picture where it lies outside. (n, 4) → (n, 2)

    Args:
        boxes_xyxy: In pixels.
        anchor: `center`, or `bottom` for the middle of the bottom side.
        width: Picture width in pixels.
        height: Picture height in pixels.
    """
    x0, y0, x1, y1 = as_boxes(boxes_xyxy).T
    points = np.stack([(x0 + x1) / 2, y1 if anchor == "bottom" else (y0 + y1) / 2], axis=1)
    return np.clip(points, 0.0, [width, height])


def points_in_polygon(corners_px: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each point lies in the polygon or, to a millionth of a pixel, on a side. (m, 2), (n, 2) → (n,)"""
    a, b = corners_px[:, None], np.roll(corners_px, -1, axis=0)[:, None]  # (m, 1, 2)
    p = points[None]  # (1, n, 2)
    side, from_a = b - a, p - a
    length2 = np.maximum((side**2).sum(axis=2), 1e-300)
    along = np.clip((from_a * side).sum(axis=2) / length2, 0.0, 1.0)  # (m, n)
    distance_px = np.hypot(*np.moveaxis(from_a - along[..., None] * side, 2, 0))
    # a ray to the right crosses an odd number of sides; a corner counts for the side above it
    spans = (a[..., 1] > p[..., 1]) != (b[..., 1] > p[..., 1])
    turn = side[..., 0] * from_a[..., 1] - side[..., 1] * from_a[..., 0]
    crosses = spans & ((turn > 0) == (side[..., 1] > 0)) & (turn != 0)
    return (crosses.sum(axis=0) % 2 == 1) | (distance_px <= _ON_SIDE_PX).any(axis=0)
