"""Tracks: the same object keeps its id."""

import numpy as np
import pytest

from curate.monitor.detections import NO_TRACK
from curate.monitor.tracker import Tracker

FPS = 30


def box_at(x, y, side=40.0):
    return [x, y, x + side, y + side]


def update(tracker, frame, boxes, scores=None, classes=None, fps=FPS):
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    scores = np.full(len(boxes), 0.9) if scores is None else np.array(scores, dtype=np.float64)
    classes = np.zeros(len(boxes), dtype=np.int64) if classes is None else np.array(classes)
    return tracker.update(boxes, scores, classes, frame / fps).tolist()


def test_objects_keep_their_ids_while_they_move():
    """Two objects that move towards each other and past each other, ten pixels apart in height, are never exchanged."""
    tracker = Tracker(min_score=0.5)
    for frame in range(60):
        ids = update(tracker, frame, [box_at(10 + 5 * frame, 10), box_at(310 - 5 * frame, 60)])
        assert ids == [1, 2]


def test_the_order_of_detections_does_not_matter():
    """Ids go with places, not with the order in which a detector tells."""
    tracker = Tracker(min_score=0.5)
    assert update(tracker, 0, [box_at(10, 10), box_at(200, 10)]) == [1, 2]
    assert update(tracker, 1, [box_at(201, 10), box_at(11, 10)]) == [2, 1]


def test_unsure_detections_keep_a_track_and_begin_none():
    """An object that is half hidden stays the same; what was never sure is nobody."""
    tracker = Tracker(min_score=0.5)
    update(tracker, 0, [box_at(10, 10)])
    for frame in range(1, 60):
        assert update(tracker, frame, [box_at(10, 10), box_at(200, 10)], [0.2, 0.2]) == [1, NO_TRACK]
    assert update(tracker, 60, [box_at(10, 10)]) == [1]


def test_what_is_no_evidence_holds_no_track():
    """Scores below a tenth are noise: after more than a second of it, the object is a new one."""
    tracker = Tracker(min_score=0.5)
    update(tracker, 0, [box_at(10, 10)])
    for frame in range(1, 40):
        assert update(tracker, frame, [box_at(10, 10)], [0.05]) == [NO_TRACK]
    assert update(tracker, 40, [box_at(10, 10)]) == [2]


@pytest.mark.parametrize(("unseen", "expected"), [(29, 1), (31, 2)])
def test_a_track_is_kept_for_a_second(unseen, expected):
    """At thirty frames a second, twenty-nine frames without it are nothing, and after thirty-one it is another."""
    tracker = Tracker(min_score=0.5)
    update(tracker, 0, [box_at(10, 10)])
    for frame in range(1, 1 + unseen):
        update(tracker, frame, [])
    assert update(tracker, 1 + unseen, [box_at(10, 10)]) == [expected]


def test_a_moving_object_is_found_where_it_must_be_by_now():
    """Hidden for half a second while it walks on by more than its own width."""
    tracker = Tracker(min_score=0.5)
    for frame in range(30):
        update(tracker, frame, [box_at(10 + 4 * frame, 10)])
    for frame in range(30, 45):
        update(tracker, frame, [])
    assert update(tracker, 45, [box_at(10 + 4 * 45, 10)]) == [1]


def test_one_frame_in_four_seconds_is_enough():
    """A slow machine: between two frames lies more than a track is kept for, and the object stands still."""
    tracker = Tracker(min_score=0.5)
    for frame in range(5):
        assert update(tracker, frame, [box_at(10, 10)], fps=0.25) == [1]


@pytest.mark.parametrize(("fps", "step_px"), [(30, 30), (3, 50), (1, 60)])
def test_the_longer_between_two_frames_the_farther_an_object_may_move(fps, step_px):
    """A square of 40 pixels: at 30 frames a second it overlaps with where it was, at three it has left that place."""
    tracker = Tracker(min_score=0.5)
    for frame in range(8):
        assert update(tracker, frame, [box_at(10 + step_px * frame, 10)], fps=fps) == [1]


def test_far_apart_is_somebody_else():
    """However long it took: nobody is taken for who stands two widths away."""
    tracker = Tracker(min_score=0.5)
    update(tracker, 0, [box_at(10, 10)], fps=1)
    assert update(tracker, 1, [box_at(100, 10)], fps=1) == [2]


def test_over_a_gap_objects_stay_where_they_were():
    """A stream that was away for half a minute: who walked before it and stands after it is the same."""
    tracker = Tracker(min_score=0.5)
    for frame in range(30):
        update(tracker, frame, [box_at(10 + 4 * frame, 10)])
    assert update(tracker, 30 + 30 * FPS, [box_at(10 + 4 * 30, 10)]) == [1]


def test_after_a_long_gap_everybody_is_new():
    """Over a minute later nobody is thought to have waited, and ids are not given twice."""
    tracker = Tracker(min_score=0.5)
    update(tracker, 0, [box_at(10, 10)])
    assert update(tracker, 61 * FPS, [box_at(10, 10)]) == [2]


def test_an_object_that_changes_its_class_is_the_same():
    """A face whose mask is taken off is the same face."""
    tracker = Tracker(min_score=0.5)
    assert update(tracker, 0, [box_at(10, 10)], classes=[0]) == [1]
    assert update(tracker, 1, [box_at(10, 10)], classes=[1]) == [1]


def test_two_classes_on_one_place_are_not_exchanged():
    """A detector that tells both classes of one face: each stays its own track, whichever comes first."""
    tracker = Tracker(min_score=0.5)
    boxes = [box_at(10, 10), box_at(10, 10)]
    assert update(tracker, 0, boxes, classes=[0, 1]) == [1, 2]
    for frame in range(1, 10):
        assert update(tracker, frame, boxes, classes=[1, 0]) == [2, 1]


def test_one_good_match_beats_two_poor_ones():
    """Two objects overlap a little and one leaves: the one that stays keeps its id, though both could change places."""
    tracker = Tracker(min_score=0.5)
    assert update(tracker, 0, [box_at(10, 10), box_at(30, 10)]) == [1, 2]
    assert update(tracker, 1, [box_at(10, 10), box_at(-10, 10)]) == [1, 3]


def test_time_that_goes_back_loses_nobody():
    """A stream whose clock is set back is taken as standing still."""
    tracker = Tracker(min_score=0.5)
    assert update(tracker, 100, [box_at(10, 10)]) == [1]
    assert update(tracker, 0, [box_at(10, 10)]) == [1]


def test_nothing_seen_is_nothing():
    """An empty frame gives no ids, at first and later."""
    tracker = Tracker(min_score=0.5)
    assert update(tracker, 0, []) == []
    update(tracker, 1, [box_at(10, 10)])
    assert update(tracker, 2, []) == []


def test_lost_tracks_are_forgotten():
    """A day of people who come and go leaves only those of the last second."""
    tracker = Tracker(min_score=0.5)
    for frame in range(2000):
        update(tracker, frame, [box_at((frame * 50) % 600, (frame // 12 * 50) % 400)])
    assert len(tracker._tracks) <= FPS + 2


def test_ids_go_on_from_a_given_one():
    """Of several files every object has an id of its own."""
    assert update(Tracker(min_score=0.5, first_id=7), 0, [box_at(10, 10)]) == [7]
