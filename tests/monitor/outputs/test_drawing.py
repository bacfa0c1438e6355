"""Labels of boxes: beside their boxes, within the picture, not on one another."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from watching import CLASSES, detection, detections_at, event_of

from curate.monitor.outputs.drawing import Drawer, place_labels

WIDTH, HEIGHT = 640, 480
SIZE = (90, 18)


def rectangles(places, size=SIZE):
    return [(left, top, left + size[0], top + size[1]) for left, top in places.tolist()]


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def overlaps(found):
    return sum(overlap(one, other) for place, one in enumerate(found) for other in found[:place])


def test_a_label_stands_on_its_box():
    """Alone, it begins at the left edge of the box and ends at its top."""
    assert place_labels(np.array([[100.0, 200, 180, 300]]), [SIZE], WIDTH, HEIGHT).tolist() == [[100, 182]]


def test_labels_of_boxes_on_one_another_do_not_cover_each_other():
    """Twelve boxes at almost the same place, in the middle and in a corner of the picture."""
    for left, top in ((300, 200), (0, 0), (560, 400)):
        boxes = np.array(
            [[left + 3 * n, top + 3 * n, left + 60 + 3 * n, top + 60 + 3 * n] for n in range(12)], dtype=float
        )
        assert overlaps(rectangles(place_labels(boxes, [SIZE] * 12, WIDTH, HEIGHT))) == 0


def test_neighbours_share_the_space_between_them():
    """Two people side by side, with labels wider than they are, have their labels at different heights."""
    boxes = np.array([[100.0, 200, 140, 300], [150.0, 200, 190, 300]])
    (first, second) = rectangles(place_labels(boxes, [SIZE] * 2, WIDTH, HEIGHT))
    assert first[:2] == (100, 182)
    assert not overlap(first, second)


def test_other_areas_are_kept_free():
    """The names of events are not covered."""
    event = (0, 400, 200, 480)
    boxes = np.array([[20.0, 430, 60, 470], [30.0, 380, 90, 420]])
    assert not any(
        overlap(label, event) for label in rectangles(place_labels(boxes, [SIZE] * 2, WIDTH, HEIGHT, [event]))
    )


@given(
    st.lists(st.tuples(*[st.floats(-200, 900)] * 4), max_size=30),
    st.tuples(st.integers(1, 300), st.integers(1, 40)),
    st.tuples(st.integers(1, 800), st.integers(1, 600)),
)
def test_labels_are_in_the_picture(corners, size, picture):
    """Wherever the boxes are; a label that is larger than the picture begins at its left or top edge."""
    boxes = np.array(corners, dtype=float).reshape(-1, 4)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    for left, top, right, bottom in rectangles(place_labels(boxes, [size] * len(boxes), *picture), size):
        assert min(left, top) >= 0
        assert left == 0 or right <= picture[0]
        assert top == 0 or bottom <= picture[1]


def test_a_label_keeps_its_place_while_scores_change():
    """Two boxes whose scores swap ranks from frame to frame keep their labels where they are."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    boxes = (300.0, 200.0, 360.0, 260.0), (305.0, 205.0, 365.0, 265.0)
    drawer, changed = Drawer(CLASSES), []
    for scores in ((0.91, 0.90), (0.89, 0.90)):
        seen = [
            detection(track, "with_mask", score, box) for track, score, box in zip((1, 2), scores, boxes, strict=True)
        ]
        seen.sort(key=lambda one: -one[2])
        drawn = drawer.draw(pixels, detections_at(0, *seen))
        changed.append((drawn != 0).any(axis=2))
    labels = [rows[:198].any(axis=1).nonzero()[0].tolist() for rows in changed]
    assert labels[0] == labels[1] != []


def test_the_names_of_events_stay_readable():
    """A box in the bottom left corner has its label elsewhere."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    events = [event_of("bare face at the door")]
    alone = Drawer(CLASSES).draw(pixels, detections_at(0), events)
    both = Drawer(CLASSES).draw(pixels, detections_at(0, detection(box=(30.0, 470.0, 60.0, 478.0))), events)
    red = (alone == (200, 30, 46)).all(axis=2)
    assert red.sum() > 500
    assert (both[red] == (200, 30, 46)).all()
