"""Which detections of one frame and the next are the same object: ByteTrack.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", arXiv 2110.06864, algorithm 1: sure
detections are matched with all tracks first, unsure ones then with the tracks that are left, so that an object that is
half hidden for a while stays the same one. Boxes move at a constant velocity in a Kalman filter (1960).

Two things differ, since a detector on a small machine may see one frame a second: a track begins with one detection and
not with two in a row, and it is given up by time and by frames, not by frames alone.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from curate.boxes import Boxes, iou_matrix
from curate.watch.seen import NO_TRACK

UNSURE_FROM = 0.1  # detections below this are no evidence of anything
_SURE_IOU, _UNSURE_IOU = 0.2, 0.5  # the paper's; less overlap is another object
_OTHER_CLASS = 0.1  # of two equally good matches the one of the same class
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
        ids = np.full(len(scores), NO_TRACK, dtype=np.int64)
        seen_before = np.flatnonzero(tracks.missed_frames == 1)  # in the frame before this one
        sure = np.flatnonzero(scores >= self._sure_from)
        unsure = np.flatnonzero((scores >= UNSURE_FROM) & (scores < self._sure_from))
        left = np.arange(len(tracks))
        for rows, detections, least_iou in ((left, sure, _SURE_IOU), (seen_before, unsure, _UNSURE_IOU)):
            rows = rows[np.isin(rows, left)]
            pairs = _match(tracks, rows, boxes_xyxy, detections, class_indices, least_iou)
            for row, detection in pairs:
                ids[detection] = tracks.ids[row]
            matched, seen = pairs[:, 0], pairs[:, 1]
            tracks.correct(matched, boxes_xyxy[seen], class_indices[seen])
            left = np.setdiff1d(left, matched)
        fresh = sure[ids[sure] == NO_TRACK]
        ids[fresh] = self.next_id + np.arange(len(fresh))
        self.next_id += len(fresh)
        tracks.drop_lost()
        tracks.begin(ids[fresh], boxes_xyxy[fresh], class_indices[fresh])
        return ids


def _match(
    tracks: "_Tracks",
    rows: NDArray[np.int64],
    boxes: Boxes,
    detections: NDArray[np.int64],
    class_indices: NDArray[np.int64],
    least_iou: float,
) -> NDArray[np.int64]:
    """(track row, detection) pairs with the greatest overlap in sum. (m, 2)"""
    overlaps = iou_matrix(tracks.boxes()[rows], boxes[detections])  # (tracks, detections)
    differs = tracks.class_indices[rows][:, None] != class_indices[detections][None, :]
    worth = np.where(overlaps >= least_iou, overlaps - _OTHER_CLASS * differs, 0.0)
    chosen, taken = linear_sum_assignment(worth, maximize=True)
    good = overlaps[chosen, taken] >= least_iou
    return np.stack([rows[chosen[good]], detections[taken[good]]], axis=1)


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
