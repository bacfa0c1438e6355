"""Tracking: the same object keeps its ID."""

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
    """Two objects that pass each other, ten pixels apart in height, are not exchanged."""
    tracker = Tracker(min_score=0.5)
    for frame in range(60):
        ids = update(tracker, frame, [box_at(10 + 5 * frame, 10), box_at(310 - 5 * frame, 60)])
        assert ids == [1, 2]


def test_an_object_keeps_its_id_where_the_picture_size_changes():
    """At three times the size, positions, sizes and speeds are three times as large."""
    tracker = Tracker(min_score=0.5)
    for frame in range(10):
        update(tracker, frame, [box_at(10 + 8 * frame, 10), box_at(300, 300)])
    tracker.scale(3.0, 3.0)
    for frame in range(10, 20):
        ids = update(tracker, frame, [box_at(3 * (10 + 8 * frame), 30, 120.0), box_at(900, 900, 120.0)])
        assert ids == [1, 2]


def test_the_order_of_detections_does_not_matter():
    """IDs follow positions, not the order of the detections."""
    tracker = Tracker(min_score=0.5)
    assert update(tracker, 0, [box_at(10, 10), box_at(200, 10)]) == [1, 2]
    assert update(tracker, 1, [box_at(201, 10), box_at(11, 10)]) == [2, 1]


def test_low_scores_keep_a_track_but_start_none():
    """A partly hidden object keeps its track; one that never had a high score gets none."""
    tracker = Tracker(min_score=0.5)
    update(tracker, 0, [box_at(10, 10)])
    for frame in range(1, 60):
        assert update(tracker, frame, [box_at(10, 10), box_at(200, 10)], [0.2, 0.2]) == [1, NO_TRACK]
    assert update(tracker, 60, [box_at(10, 10)]) == [1]


def test_scores_below_the_lowest_are_ignored():
    """After more than a second of scores below 0.1 the object gets a new track."""
    tracker = Tracker(min_score=0.5)
    update(tracker, 0, [box_at(10, 10)])
    for frame in range(1, 40):
        assert update(tracker, frame, [box_at(10, 10)], [0.05]) == [NO_TRACK]
    assert update(tracker, 40, [box_at(10, 10)]) == [2]


@pytest.mark.parametrize(("unseen", "expected"), [(29, 1), (31, 2)])
def test_a_track_is_kept_for_a_second(unseen, expected):
    """At 30 frames per second a track survives 29 frames without a detection, but not 31."""
    tracker = Tracker(min_score=0.5)
    update(tracker, 0, [box_at(10, 10)])
    for frame in range(1, 1 + unseen):
        update(tracker, frame, [])
    assert update(tracker, 1 + unseen, [box_at(10, 10)]) == [expected]


def test_a_hidden_object_is_found_at_its_predicted_position():
    """It is hidden for half a second while it moves by more than its own width."""
    tracker = Tracker(min_score=0.5)
    for frame in range(30):
        update(tracker, frame, [box_at(10 + 4 * frame, 10)])
    for frame in range(30, 45):
        update(tracker, frame, [])
    assert update(tracker, 45, [box_at(10 + 4 * 45, 10)]) == [1]


def test_one_frame_in_four_seconds_is_enough():
    """At one frame in four seconds an object that does not move keeps its track."""
    tracker = Tracker(min_score=0.5)
    for frame in range(5):
        assert update(tracker, frame, [box_at(10, 10)], fps=0.25) == [1]


@pytest.mark.parametrize(("fps", "step_px"), [(30, 30), (3, 50), (1, 60)])
def test_the_longer_between_two_frames_the_farther_an_object_may_move(fps, step_px):
    """A square of 40 pixels that moves by 30 pixels at 30 frames per second, and by more than its width at three."""
    tracker = Tracker(min_score=0.5)
    for frame in range(8):
        assert update(tracker, frame, [box_at(10 + step_px * frame, 10)], fps=fps) == [1]


def test_a_distant_object_is_a_new_track():
    """An object two widths away is never the same, however long the interval."""
    tracker = Tracker(min_score=0.5)
    update(tracker, 0, [box_at(10, 10)], fps=1)
    assert update(tracker, 1, [box_at(100, 10)], fps=1) == [2]


def test_over_a_gap_objects_stay_where_they_were():
    """Over an interruption of half a minute, an object is expected where it was last seen."""
    tracker = Tracker(min_score=0.5)
    for frame in range(30):
        update(tracker, frame, [box_at(10 + 4 * frame, 10)])
    assert update(tracker, 30 + 30 * FPS, [box_at(10 + 4 * 30, 10)]) == [1]


def test_after_a_long_gap_all_tracks_are_new():
    """After more than a minute no track continues, and IDs are not reused."""
    tracker = Tracker(min_score=0.5)
    update(tracker, 0, [box_at(10, 10)])
    assert update(tracker, 61 * FPS, [box_at(10, 10)]) == [2]


def test_an_object_that_changes_its_class_is_the_same():
    """A face whose mask is taken off keeps its track."""
    tracker = Tracker(min_score=0.5)
    assert update(tracker, 0, [box_at(10, 10)], classes=[0]) == [1]
    assert update(tracker, 1, [box_at(10, 10)], classes=[1]) == [1]


def test_two_classes_at_one_position_are_not_exchanged():
    """If a detector returns both classes of one face, each keeps its own track, in any order."""
    tracker = Tracker(min_score=0.5)
    boxes = [box_at(10, 10), box_at(10, 10)]
    assert update(tracker, 0, boxes, classes=[0, 1]) == [1, 2]
    for frame in range(1, 10):
        assert update(tracker, frame, boxes, classes=[1, 0]) == [2, 1]


def test_one_good_match_beats_two_poor_ones():
    """Two objects overlap slightly and one leaves: the other keeps its ID, although both could be matched."""
    tracker = Tracker(min_score=0.5)
    assert update(tracker, 0, [box_at(10, 10), box_at(30, 10)]) == [1, 2]
    assert update(tracker, 1, [box_at(10, 10), box_at(-10, 10)]) == [1, 3]


def test_time_stamps_that_go_back_lose_no_track():
    """A time stamp before the last one counts as no time passed."""
    tracker = Tracker(min_score=0.5)
    assert update(tracker, 100, [box_at(10, 10)]) == [1]
    assert update(tracker, 0, [box_at(10, 10)]) == [1]


def test_empty_frames():
    """An empty frame has no IDs, at first and later."""
    tracker = Tracker(min_score=0.5)
    assert update(tracker, 0, []) == []
    update(tracker, 1, [box_at(10, 10)])
    assert update(tracker, 2, []) == []


def test_lost_tracks_are_forgotten():
    """After 2000 short-lived objects only the tracks of the last second remain."""
    tracker = Tracker(min_score=0.5)
    for frame in range(2000):
        update(tracker, frame, [box_at((frame * 50) % 600, (frame // 12 * 50) % 400)])
    assert len(tracker._tracks) <= FPS + 2


def test_first_id():
    """IDs start at `first_id`, so that they are unique over several files."""
    assert update(Tracker(min_score=0.5, first_id=7), 0, [box_at(10, 10)]) == [7]
