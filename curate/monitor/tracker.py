"""Which detections of one frame and the next are the same object: ByteTrack.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", arXiv 2110.06864, algorithm 1: sure
detections are matched with all tracks first, unsure ones then with the tracks that are left, so that an object that is
half hidden for a while stays the same one. Boxes move at a constant velocity in a Kalman filter (1960).

Three things differ, since a detector on a small machine may see one frame a second. A track begins with one detection
and not with two in a row. It is given up by time and by frames, not by frames alone. And boxes are compared with a
margin that grows with the time between two frames, as objects move unseen (Yang et al., "Hard to Track Objects with
Irregular Motions and Similar Appearances? Make It Easier by Buffering the Matching Space", arXiv 2211.14317); at 30
frames a second it is a thirtieth of a side.
"""

import numpy as np
from numpy.typing import NDArray

from curate.boxes import Boxes, iou_matrix
from curate.monitor.detections import NO_TRACK

UNSURE_FROM = 0.1  # detections below this are no evidence of anything
_SURE_IOU, _UNSURE_IOU = 0.1, 0.3  # less overlap is another object
_REACH_PER_S, _FARTHEST = 1.0, 0.5  # how much boxes grow to meet, in their own sides
_OTHER_CLASS = 0.05  # of two equally good matches the one of the same class
_KEPT_S, _KEPT_FRAMES = 1.0, 3  # a track that nobody sees lives as long as either lasts
_LONGEST_GAP_S = 60.0  # after which nobody is thought to have waited
_RATE = 30.0  # frames a second that the noise below is of
# standard deviations in box heights: where a detector sees a box, how it speeds up in one frame
_SEEN_AT, _SPEEDS_UP = 1 / 20, 1 / 160


class Tracker:
    """Follows objects through the frames of one source.

    Args:
        sure_from: score from which a detection begins a track.
        first_id: of the next new track.

    Attributes:
        next_id: of the next new track; ids are never given twice.
    """

    def __init__(self, *, sure_from: float, first_id: int = 1) -> None:
        self.next_id = first_id
        self._sure_from = sure_from
        self._tracks = _Tracks()
        self._last_s: float | None = None

    def follow(
        self, boxes_xyxy: Boxes, scores: NDArray[np.float64], class_indices: NDArray[np.int64], timestamp_s: float
    ) -> NDArray[np.int64]:
        """Take in the detections of the next frame.

        Args:
            boxes_xyxy: all of them, the unsure ones too, in pixels. (n, 4)
            scores: (n,)
            class_indices: an object may change its class from frame to frame. (n,)
            timestamp_s: of the frame.

        Returns:
            The track of each detection, `NO_TRACK` where it has none. (n,)
        """
        passed_s = 0.0 if self._last_s is None else max(timestamp_s - self._last_s, 0.0)
        self._last_s = timestamp_s
        if passed_s > _LONGEST_GAP_S:
            self._tracks = _Tracks()
        tracks = self._tracks
        tracks.move(passed_s)
        margin = min(_REACH_PER_S * passed_s, _FARTHEST)
        ids = np.full(len(scores), NO_TRACK, dtype=np.int64)
        seen_before = np.flatnonzero(tracks.missed_frames == 1)  # in the frame before this one
        sure = np.flatnonzero(scores >= self._sure_from)
        unsure = np.flatnonzero((scores >= UNSURE_FROM) & (scores < self._sure_from))
        left = np.arange(len(tracks))
        for rows, detections, least_iou in ((left, sure, _SURE_IOU), (seen_before, unsure, _UNSURE_IOU)):
            rows = rows[np.isin(rows, left)]
            overlaps = iou_matrix(_grown(tracks.boxes()[rows], margin), _grown(boxes_xyxy[detections], margin))
            differs = tracks.class_indices[rows][:, None] != class_indices[detections][None, :]
            places, found = _pair(overlaps, differs, least_iou)
            rows, detections = rows[places], detections[found]
            ids[detections] = tracks.ids[rows]
            tracks.correct(rows, boxes_xyxy[detections], class_indices[detections])
            left = np.setdiff1d(left, rows)
        fresh = sure[ids[sure] == NO_TRACK]
        ids[fresh] = self.next_id + np.arange(len(fresh))
        self.next_id += len(fresh)
        tracks.drop_lost()
        tracks.begin(ids[fresh], boxes_xyxy[fresh], class_indices[fresh])
        return ids


def _pair(
    overlaps: NDArray[np.float64], differs: NDArray[np.bool_], least_iou: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs with the greatest overlap in sum: places of tracks, and of detections. (tracks, detections) → (m,), (m,)"""
    worth = np.where(overlaps >= least_iou, overlaps - _OTHER_CLASS * differs, 0.0)
    from scipy.optimize import linear_sum_assignment

    places, found = linear_sum_assignment(worth, maximize=True)
    good = overlaps[places, found] >= least_iou
    return places[good], found[good]


def _grown(boxes: Boxes, margin: float) -> Boxes:
    """Boxes with a margin on each side, in shares of their width and height. (n, 4)"""
    edge = (boxes[:, 2:] - boxes[:, :2]) * margin
    return np.concatenate([boxes[:, :2] - edge, boxes[:, 2:] + edge], axis=1)


class _Tracks:
    """All tracks as arrays, a row each: place, width, height and how fast they change, each with a filter of its own.

    A filter's covariance is kept as its three numbers: of the value, of both, of the velocity.
    """

    def __init__(self) -> None:
        self.ids = np.empty(0, dtype=np.int64)
        self.class_indices = np.empty(0, dtype=np.int64)
        self.missed_frames = np.empty(0, dtype=np.int64)
        self._missed_s = np.empty(0)
        self._value, self._speed = np.empty((0, 4)), np.empty((0, 4))  # centre x, y, width, height; and in a frame
        self._covariance = np.empty((3, 0, 4))

    def __len__(self) -> int:
        return len(self.ids)

    def boxes(self) -> Boxes:
        """Where they are thought to be. (n, 4)"""
        centre, half = self._value[:, :2], np.maximum(self._value[:, 2:], 1.0) / 2
        return np.concatenate([centre - half, centre + half], axis=1)

    def _scale(self) -> NDArray[np.float64]:
        """What noise is measured in: the height, in pixels. (n, 1)"""
        return np.maximum(self._value[:, 3:], 1.0)

    def move(self, passed_s: float) -> None:
        """Let time pass. Over a gap nobody knows how they moved, so there they stay."""
        frames = passed_s * _RATE
        value, both, speed = self._covariance
        noise = (_SPEEDS_UP * self._scale()) ** 2 * frames
        if passed_s <= _KEPT_S:
            self._value = self._value + self._speed * frames
            value, both = value + 2 * both * frames + speed * frames**2, both + speed * frames
        self._covariance = np.stack([value + (_SEEN_AT * self._scale()) ** 2 * frames, both, speed + noise])
        self.missed_frames += 1
        self._missed_s = self._missed_s + passed_s

    def correct(self, rows: NDArray[np.int64], boxes: Boxes, class_indices: NDArray[np.int64]) -> None:
        """Tell tracks where they were seen."""
        value, both, speed = (part[rows] for part in self._covariance)
        spread = value + (_SEEN_AT * self._scale()[rows]) ** 2
        surprise = _centred(boxes) - self._value[rows]
        self._value[rows] += value / spread * surprise
        self._speed[rows] += both / spread * surprise
        self._covariance[:, rows] = value - value**2 / spread, both - value * both / spread, speed - both**2 / spread
        self.missed_frames[rows], self._missed_s[rows], self.class_indices[rows] = 0, 0.0, class_indices

    def drop_lost(self) -> None:
        """Give up those that were not seen for long."""
        kept = (self._missed_s <= _KEPT_S) | (self.missed_frames <= _KEPT_FRAMES)
        for name in ("ids", "class_indices", "missed_frames", "_missed_s", "_value", "_speed"):
            setattr(self, name, getattr(self, name)[kept])
        self._covariance = self._covariance[:, kept]

    def begin(self, ids: NDArray[np.int64], boxes: Boxes, class_indices: NDArray[np.int64]) -> None:
        """Add tracks."""
        value = _centred(boxes)
        height = np.maximum(value[:, 3:], 1.0)
        spread = np.broadcast_to((2 * _SEEN_AT * height) ** 2, value.shape)
        swift = np.broadcast_to((10 * _SPEEDS_UP * height) ** 2, value.shape)
        self.ids = np.concatenate([self.ids, ids])
        self.class_indices = np.concatenate([self.class_indices, class_indices])
        self.missed_frames = np.concatenate([self.missed_frames, np.zeros(len(ids), dtype=np.int64)])
        self._missed_s = np.concatenate([self._missed_s, np.zeros(len(ids))])
        self._value = np.concatenate([self._value, value])
        self._speed = np.concatenate([self._speed, np.zeros_like(value)])
        self._covariance = np.concatenate([self._covariance, [spread, np.zeros_like(value), swift]], axis=1)


def _centred(boxes: Boxes) -> NDArray[np.float64]:
    """Corners to centre x, y, width, height. (n, 4)"""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
