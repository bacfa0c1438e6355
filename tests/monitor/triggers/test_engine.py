"""Trigger rules on synthetic tracks: exactly the expected events."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from watching import BOX, CLASSES, NOON, detection, detections_at

from curate.errors import UsageError
from curate.monitor.triggers.engine import TRACK_MEMORY_FRAMES, Triggers, points_in_polygon
from curate.monitor.triggers.rule import Rule
from curate.sizes import RangeOfInterest

WIDTH, HEIGHT = 640, 480


def rule_of(name="bare", **keys):
    return Rule.model_validate({"name": name, **keys})


def triggers(*rules, interest=None, **options):
    return Triggers(rules or (rule_of(),), CLASSES, interest, **options)


def fired(engine, frames, *, fps=10, now=lambda seen: NOON):
    """(trigger, track, frame it fired in) of all events; `frames` maps frame indices to detections."""
    found = []
    for index, detections in frames.items():
        seen = detections_at(index, *detections, fps=fps)
        events = engine.evaluate(seen, WIDTH, HEIGHT, now(seen))
        found += [(event.trigger, event.track_id, event.frames[-1]) for event in events]
    return found


def same(frames, *detections):
    """The same detections in each of these frames."""
    return dict.fromkeys(frames, detections)


# ── one person, one event ────────────────────────────────────────────────────────────────────────────────────────────


def test_fields_of_an_event():
    """Time stamp, track, class, score and box of the detection, and the current time with its UTC offset."""
    seen = detections_at(15, detection(3, score=0.75))
    (event,) = triggers().evaluate(seen, WIDTH, HEIGHT, NOON)
    assert event.as_json() == {
        "time": "2026-05-04T12:00:00.000+02:00",
        "timestamp_s": 1.5,
        "trigger": "bare",
        "class": "without_mask",
        "track_id": 3,
        "score": 0.75,
        "box": [100.0, 100.0, 200.0, 220.0],
        "frames": [15],
    }


def test_a_track_fires_once():
    """A person who stays for a thousand frames is one event, in the first of them."""
    assert fired(triggers(), same(range(1000), detection())) == [("bare", 1, 0)]


def test_a_returning_track_does_not_fire_again():
    """A track that returns within its memory, as after a reconnection of a minute, does not fire again."""
    frames = same(range(5), detection()) | same(range(5, 5 + TRACK_MEMORY_FRAMES - 1)) | {11_000: (detection(),)}
    assert fired(triggers(), frames) == [("bare", 1, 0)]


def test_each_track_fires():
    """Two tracks in one frame are two events, by descending score, each with its own frames."""
    frames = same(range(3), detection(1)) | same(range(3, 9), detection(2, score=0.95), detection(1))
    assert fired(triggers(rule_of(frames="2 of 3")), frames) == [("bare", 1, 1), ("bare", 2, 4)]


def test_detections_without_a_track_do_not_fire():
    """A detection without a track fires no trigger."""
    assert fired(triggers(), same(range(10), detection(None))) == []


def test_two_boxes_of_one_track_count_once_a_frame():
    """Two detections of one track in one frame count as one match."""
    assert fired(triggers(rule_of(frames="2 of 2")), {0: (detection(), detection()), 1: (detection(),)}) == [
        ("bare", 1, 1)
    ]


def test_the_input_is_not_changed():
    """Evaluation does not change the detections."""
    seen = detections_at(0, detection(), detection(2))
    before = [seen.boxes_xyxy.copy(), seen.scores.copy(), seen.class_indices.copy(), seen.track_ids.copy()]
    triggers(rule_of(zone=[[0, 0], [1, 0], [1, 1]], min_side=5)).evaluate(seen, WIDTH, HEIGHT, NOON)
    for old, new in zip(before, (seen.boxes_xyxy, seen.scores, seen.class_indices, seen.track_ids), strict=True):
        np.testing.assert_array_equal(old, new)


# ── which detections ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_the_given_class_fires():
    """A trigger for bare faces does not fire for masks; one without a class fires for both."""
    frames = {0: (detection(1, "with_mask"), detection(2))}
    assert fired(triggers(rule_of(**{"class": "without_mask"})), frames) == [("bare", 2, 0)]
    assert fired(triggers(), frames) == [("bare", 1, 0), ("bare", 2, 0)]


def test_frames_of_another_class_do_not_count():
    """Where a track's class changes back and forth, k of n counts only frames of the trigger's class."""
    bare, mask = (detection(),), (detection(1, "with_mask"),)
    rule = rule_of(**{"class": "without_mask", "frames": "3 of 5"})
    assert fired(triggers(rule), {0: bare, 1: mask, 2: bare, 3: mask, 4: bare}) == [("bare", 1, 4)]
    assert fired(triggers(rule), {0: bare, 1: mask, 2: mask, 3: bare, 4: mask, 5: bare}) == []


def test_min_score_is_inclusive():
    """0.6 passes `min_score: 0.6`, 0.599 does not."""
    frames = {0: (detection(1, score=0.6), detection(2, score=0.599))}
    assert fired(triggers(rule_of(min_score=0.6)), frames) == [("bare", 1, 0)]


def test_the_range_of_interest_is_the_watchs_or_the_rules_own():
    """The shorter side counts, the bound is inclusive, and a rule's own range replaces the watch's."""
    frames = {0: (detection(1, box=(0, 0, 40, 200)), detection(2, box=(0, 0, 39.9, 200)))}
    assert fired(triggers(rule_of(min_side=40)), frames) == [("bare", 1, 0)]
    assert fired(triggers(interest=RangeOfInterest(40)), frames) == [("bare", 1, 0)]
    assert len(fired(triggers(rule_of(min_side=1), interest=RangeOfInterest(40)), frames)) == 2


# ── zones ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("x", "inside"), [(63.9, False), (64.0, True), (64.1, True), (319.9, True), (320.0, True), (320.1, False)]
)
def test_a_zone_in_fractions_is_exact_at_its_sides(x, inside):
    """0.1 and 0.5 of 640 pixels are 64 and 320, and a point on a side is inside."""
    zone = [[0.1, 0], [0.5, 0], [0.5, 1], [0.1, 1]]
    frames = {0: (detection(box=(x - 10, 100, x + 10, 140)),)}
    assert bool(fired(triggers(rule_of(zone=zone)), frames)) is inside


def test_a_zone_in_pixels():
    """One number over 1 makes all of them pixels."""
    zone = [[0, 0], [150, 0], [150, 160], [0, 160]]
    assert fired(triggers(rule_of(zone=zone)), {0: (detection(),)}) == [("bare", 1, 0)]
    assert fired(triggers(rule_of(zone=zone)), {0: (detection(box=(101, 100, 201, 220)),)}) == []


@pytest.mark.parametrize("zone", [[[0, 0], [320, 0], [320, 480], [0, 480]], [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]])
def test_a_zone_stays_at_its_place_where_the_picture_size_changes(zone):
    """The left half of the first picture is the left half of a picture of half the size and of an upright one."""
    engine = triggers(rule_of(zone=zone))
    assert engine.evaluate(detections_at(0, detection(1, box=(400, 0, 420, 20))), 640, 480, NOON) == []
    for frame, (width, height) in enumerate([(320, 240), (480, 640)], 1):
        left, right = (width // 2 - 10, 0, width // 2 - 2, 20), (width // 2 + 2, 0, width // 2 + 10, 20)
        seen = detections_at(frame, detection(2 * frame, box=left), detection(2 * frame + 1, box=right))
        assert [event.track_id for event in engine.evaluate(seen, width, height, NOON)] == [2 * frame]


def test_a_zone_outside_the_picture_is_a_warning():
    """A zone that no point of the picture can reach is reported once, at the first frame."""
    right, below = [[1000, 0], [1900, 0], [1900, 900]], [[0, 481], [640, 481], [640, 900]]
    edge, inside = [[640, 0], [900, 0], [900, 480]], [[0, 0], [1, 0], [1, 1]]
    named = {"right": right, "below": below, "edge": edge, "inside": inside, "none": None}
    warnings = []
    engine = triggers(*(rule_of(name, zone=zone) for name, zone in named.items()), on_warning=warnings.append)
    for index in range(3):
        engine.evaluate(detections_at(index), WIDTH, HEIGHT, NOON)
    picture = "expected part of 640×480 pixels). It never fires."
    assert warnings == [
        f"trigger right: zone lies outside the picture (got x from 1000 and y from 0; {picture}",
        f"trigger below: zone lies outside the picture (got x from 0 and y from 481; {picture}",
    ]


def test_the_anchor_chooses_the_point():
    """Of a box from y 100 to 220, the centre is at 160 and the bottom at 220."""
    upper = [[0, 0], [640, 0], [640, 200], [0, 200]]
    assert fired(triggers(rule_of(zone=upper)), {0: (detection(),)}) == [("bare", 1, 0)]
    assert fired(triggers(rule_of(zone=upper, anchor="bottom")), {0: (detection(),)}) == []


def test_a_box_beyond_the_edge_is_in_a_zone_at_the_edge():
    """A zone of the whole picture contains boxes that extend beyond its bottom edge."""
    zone = [[0, 0], [1, 0], [1, 1], [0, 1]]
    frames = {0: (detection(box=(600, 400, 700, 500)),)}
    assert fired(triggers(rule_of(zone=zone, anchor="bottom")), frames) == [("bare", 1, 0)]


def test_a_zone_may_be_concave():
    """Points between the arms of a U are outside, also at the height of a corner."""
    arms = np.array([[0, 0], [100, 0], [100, 200], [200, 200], [200, 0], [300, 0], [300, 300], [0, 300]], dtype=float)
    points = np.array([[50, 50], [150, 50], [250, 50], [150, 200], [150, 199.9], [150, 250], [-5, 200], [350, 300]])
    assert points_in_polygon(arms, points).tolist() == [True, False, True, True, False, True, False, False]


@given(st.lists(st.tuples(st.floats(0, 640), st.floats(0, 480)), min_size=1, max_size=20), st.integers(3, 9))
def test_a_convex_zone_is_an_intersection_of_half_planes(points, corners):
    """In a regular polygon a point is inside if it is on the inner side of every side, in either direction."""
    angles = np.arange(corners) * 2 * np.pi / corners
    polygon = np.stack([320 + 200 * np.cos(angles), 240 + 200 * np.sin(angles)], axis=1)
    place = np.array(points)
    side = np.roll(polygon, -1, axis=0) - polygon
    off = place[None] - polygon[:, None]
    depth_px = (side[:, None, 0] * off[..., 1] - side[:, None, 1] * off[..., 0]) / np.hypot(*side.T)[:, None]
    clear = np.abs(depth_px).min(axis=0) > 1e-5
    expected = (depth_px > 0).all(axis=0)
    for drawn in (polygon, polygon[::-1]):
        np.testing.assert_array_equal(points_in_polygon(drawn, place)[clear], expected[clear])


# ── k of n frames, cool-down, repeat ─────────────────────────────────────────────────────────────────────────────────


def test_k_of_n_frames():
    """5 of 10 fires in the fifth frame, and the event names these five frames."""
    engine = triggers(rule_of(frames="5 of 10"))
    events = [
        event
        for index in range(20)
        for event in engine.evaluate(detections_at(index, detection()), WIDTH, HEIGHT, NOON)
    ]
    assert [event.frames for event in events] == [(0, 1, 2, 3, 4)]


def test_skipped_frames_do_not_count():
    """For a live source the latest n frames are those that the detector saw."""
    frames = {0: (detection(),), 40: (), 80: (detection(),)}
    assert fired(triggers(rule_of(frames="2 of 3")), frames) == [("bare", 1, 80)]
    assert fired(triggers(rule_of(frames="2 of 2")), frames) == []


def test_k_of_n_covers_exactly_n_frames():
    """With 2 of 10, a second match nine frames later counts, ten frames later it does not."""
    rule = rule_of(frames="2 of 10")
    nine = {0: (detection(),)} | same(range(1, 9)) | {9: (detection(),)}
    ten = {0: (detection(),)} | same(range(1, 10)) | {10: (detection(),)}
    assert fired(triggers(rule), nine) == [("bare", 1, 9)]
    assert fired(triggers(rule), ten) == []


@pytest.mark.parametrize("fps", [10, 25, 29.97, 30])
def test_cool_down_holds_for_all_tracks(fps):
    """Nothing fires in the 3 s after an event; a track that is still there fires in the first frame afterwards."""
    frames = same([0], detection(1)) | same(range(1, 400), detection(2), detection(3))
    first = next(index for index in range(400) if index / fps >= 3)
    second = next(index for index in range(400) if index / fps - first / fps >= 3 - 1e-6)
    found = fired(triggers(rule_of(cool_down="3s")), frames, fps=fps)
    assert found == [("bare", 1, 0), ("bare", 2, first), ("bare", 3, second)]


def test_a_track_that_leaves_during_the_cool_down_does_not_fire():
    """A track that matched only during the cool-down fires nothing."""
    frames = same([0], detection(1)) | same(range(1, 20), detection(2)) | same(range(20, 60))
    assert fired(triggers(rule_of(cool_down="3s")), frames) == [("bare", 1, 0)]


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 5), st.integers(0, 5))
def test_k_of_n_by_counting(there, seen, more):
    """The event is in the first frame that ends n frames with k matches."""
    of = seen + more
    frames = {index: (detection(),) if here else () for index, here in enumerate(there)}
    enough = (i for i, here in enumerate(there) if here and sum(there[max(i - of + 1, 0) : i + 1]) >= seen)
    first = next(enough, None)
    expected = [] if first is None else [("bare", 1, first)]
    assert fired(triggers(rule_of(frames={"seen": seen, "of": of})), frames) == expected


def test_cool_down_is_per_trigger():
    """The cool-down of one trigger does not affect another."""
    frames = same([0], detection(1)) | same([1], detection(2))
    engine = triggers(rule_of("slow", cool_down="1h"), rule_of("quick"))
    assert fired(engine, frames) == [("slow", 1, 0), ("quick", 1, 0), ("quick", 2, 1)]


def test_repeat():
    """With `repeat: 1s` at 10 frames/s a track fires in every tenth frame that it is there."""
    frames = same(range(15), detection()) | same(range(15, 40)) | same(range(40, 52), detection())
    assert fired(triggers(rule_of(repeat="1s")), frames) == [("bare", 1, at) for at in (0, 10, 40, 50)]


# ── clocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_clock_changes_have_no_effect():
    """The same frames fire for any `now`."""
    frames = same([0], detection(1)) | same(range(1, 100), detection(2), detection(3))
    engine = lambda: triggers(rule_of(cool_down="3s", repeat="4s"))  # noqa: E731
    steady = fired(engine(), frames)
    back = fired(engine(), frames, now=lambda seen: NOON - timedelta(days=seen.frame_index % 7))
    forward = fired(engine(), frames, now=lambda seen: NOON + timedelta(days=400 * (seen.frame_index % 2)))
    assert steady == back == forward
    assert len(steady) == 4  # at 0 s, 3 s, 6 s and 9 s


def test_time_stamps_that_go_back():
    """If a stream restarts at 0 s, a track does not fire again, and a cool-down ends after its duration."""
    engine = triggers(rule_of(cool_down="3s"))
    found = []
    for index in range(200):
        timestamp_s = 5000 + index / 10 if index < 50 else (index - 50) / 10
        seen = detections_at(index, detection(1), *([detection(2)] if index >= 45 else []), timestamp_s=timestamp_s)
        found += [(event.track_id, event.frames[-1]) for event in engine.evaluate(seen, WIDTH, HEIGHT, NOON)]
    assert found == [(1, 0), (2, 45)]
    engine = triggers(rule_of(cool_down="3s"))
    found = []
    for index in range(200):
        timestamp_s = 5000 + index / 10 if index < 10 else (index - 10) / 10
        seen = detections_at(index, detection(1), detection(2), timestamp_s=timestamp_s)
        found += [(event.track_id, event.frames[-1]) for event in engine.evaluate(seen, WIDTH, HEIGHT, NOON)]
    assert found == [(1, 0), (2, 31)]  # the frame in which the time went back took none


@pytest.mark.parametrize(
    ("clock", "quiet"),
    [("21:59:59", False), ("22:00:00", True), ("03:00:00", True), ("05:59:59", True), ("06:00", False)],
)
def test_quiet_hours_span_midnight(clock, quiet):
    """22:00-06:00 starts at 22:00:00 and ends at 06:00:00 local time."""
    now = datetime.fromisoformat(f"2026-05-04T{clock}+05:30")
    found = triggers(rule_of(quiet_hours="22:00-06:00")).evaluate(detections_at(0, detection()), WIDTH, HEIGHT, now)
    assert bool(found) is not quiet


def test_a_track_that_is_still_there_after_quiet_hours_fires():
    """Quiet hours start no cool-down, and the event comes when they end."""
    rule = rule_of(quiet_hours=["11:00-12:00"], cool_down="1h", frames="2 of 2")
    late = NOON - timedelta(seconds=2)
    found = fired(
        triggers(rule), same(range(50), detection()), now=lambda seen: late + timedelta(seconds=seen.timestamp_s)
    )
    assert found == [("bare", 1, 20)]


def test_a_time_without_offset_is_refused():
    """`now` needs a UTC offset."""
    with pytest.raises(UsageError, match=r"^now: time has no UTC offset"):
        triggers().evaluate(detections_at(0), WIDTH, HEIGHT, datetime(2026, 5, 4))


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tracks_that_are_gone_are_forgotten():
    """With a new track in every frame, memory is bounded; a track that stays is still one event."""
    engine = triggers(rule_of(cool_down="1000h"))
    count = 0
    for index in range(TRACK_MEMORY_FRAMES + 3000):
        count += len(engine.evaluate(detections_at(index, detection(1), detection(index + 2)), WIDTH, HEIGHT, NOON))
    assert engine.remembered_tracks == TRACK_MEMORY_FRAMES + 2
    assert count == 1


def test_a_track_that_does_not_match_is_remembered():
    """A person who wears a mask for hours and takes it off again is the same track."""
    mask = detections_at(1, detection(1, "with_mask", box=BOX))
    engine = triggers(rule_of(**{"class": "without_mask"}))
    assert len(engine.evaluate(detections_at(0, detection()), WIDTH, HEIGHT, NOON)) == 1
    for _ in range(TRACK_MEMORY_FRAMES + 10):
        engine.evaluate(mask, WIDTH, HEIGHT, NOON)
    assert engine.evaluate(detections_at(20_000, detection()), WIDTH, HEIGHT, NOON) == []
