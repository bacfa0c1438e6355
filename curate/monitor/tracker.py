"""Multi-object tracking: ByteTrack, adapted to low frame rates.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", arXiv 2110.06864, algorithm 1:
detections with a high score are matched with all tracks first, those with a low score then with the remaining tracks,
so that a partly hidden object keeps its track. Boxes move at constant velocity in a Kalman filter (1960).

Three things differ, since a small machine may process one frame per second. A track starts with one detection, not two
in a row. It is dropped by time and frames, not by frames alone. And boxes are compared with a margin that grows with
the time between two frames (Yang et al., "Hard to Track Objects with Irregular Motions and Similar Appearances? Make It
Easier by Buffering the Matching Space", arXiv 2211.14317); at 30 frames per second it is 1/30 of a side.
"""

import numpy as np
from numpy.typing import NDArray

from curate.boxes import Boxes, iou_matrix
from curate.monitor.detections import NO_TRACK

LOWEST_SCORE = 0.1
"""Detections below this score are ignored."""

_MIN_IOU_HIGH, _MIN_IOU_LOW = 0.1, 0.3  # for a match, of detections with a high and a low score
_MARGIN_PER_S, _MAX_MARGIN = 1.0, 0.5  # by which boxes grow for matching, as a share of their sides
_OTHER_CLASS_PENALTY = 0.05  # in IoU: of two equal matches, the one with the same class wins
_KEPT_S, _KEPT_FRAMES = 1.0, 3  # a track without detections is kept while either lasts
_MAX_GAP_S = 60.0  # between two frames; after a longer one all tracks are new
_RATE = 30.0  # frames per second to which the standard deviations below refer
# standard deviations, in box heights: of a detected position, and of the change of velocity in one frame
_POSITION_STD, _VELOCITY_STD = 1 / 20, 1 / 160


class Tracker:
    """Tracks objects through the frames of one source.

    Args:
        min_score: Lowest score with which a detection starts a track.
        first_id: ID of the first track.

    Attributes:
        next_id: ID of the next new track; IDs are never reused.
    """

    def __init__(self, *, min_score: float, first_id: int = 1) -> None:
        self.next_id = first_id
        self._min_score = min_score
        self._tracks = _Tracks()
        self._last_s: float | None = None

    def scale(self, x_factor: float, y_factor: float) -> None:
        """Scale all tracks, where the pictures that follow have another size."""
        self._tracks.scale(np.array([x_factor, y_factor, x_factor, y_factor]))

    def update(
        self, boxes_xyxy: Boxes, scores: NDArray[np.float64], class_indices: NDArray[np.int64], timestamp_s: float
    ) -> NDArray[np.int64]:
        """Match the detections of the next frame with the tracks.

        Args:
            boxes_xyxy: (n, 4) in pixels, those with low scores included.
            scores: (n,)
            class_indices: (n,); the class of an object may change from frame to frame.
            timestamp_s: Time of the frame.

        Returns:
            (n,) the track of each detection, `NO_TRACK` where it has none.
        """
        elapsed_s = 0.0 if self._last_s is None else max(timestamp_s - self._last_s, 0.0)
        self._last_s = timestamp_s
        if elapsed_s > _MAX_GAP_S:
            self._tracks = _Tracks()
        tracks = self._tracks
        tracks.predict(elapsed_s)
        margin = min(_MARGIN_PER_S * elapsed_s, _MAX_MARGIN)
        ids = np.full(len(scores), NO_TRACK, dtype=np.int64)
        in_last_frame = np.flatnonzero(tracks.missed_frames == 1)
        high = np.flatnonzero(scores >= self._min_score)
        low = np.flatnonzero((scores >= LOWEST_SCORE) & (scores < self._min_score))
        unmatched = np.arange(len(tracks))
        for rows, detections, min_iou in ((unmatched, high, _MIN_IOU_HIGH), (in_last_frame, low, _MIN_IOU_LOW)):
            rows = rows[np.isin(rows, unmatched)]
            ious = iou_matrix(_grow(tracks.boxes()[rows], margin), _grow(boxes_xyxy[detections], margin))
            differs = tracks.class_indices[rows][:, None] != class_indices[detections][None, :]
            row_places, detection_places = _match(ious, differs, min_iou)
            rows, detections = rows[row_places], detections[detection_places]
            ids[detections] = tracks.ids[rows]
            tracks.correct(rows, boxes_xyxy[detections], class_indices[detections])
            unmatched = np.setdiff1d(unmatched, rows)
        new = high[ids[high] == NO_TRACK]
        ids[new] = self.next_id + np.arange(len(new))
        self.next_id += len(new)
        tracks.drop_lost()
        tracks.add(ids[new], boxes_xyxy[new], class_indices[new])
        return ids


def _match(
    ious: NDArray[np.float64], differs: NDArray[np.bool_], min_iou: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Match tracks and detections with the greatest total IoU. (tracks, detections) → row and column of each, (m,)"""
    from scipy.optimize import linear_sum_assignment

    values = np.where(ious >= min_iou, ious - _OTHER_CLASS_PENALTY * differs, 0.0)
    rows, columns = linear_sum_assignment(values, maximize=True)
    valid = ious[rows, columns] >= min_iou
    return rows[valid], columns[valid]


def _grow(boxes: Boxes, margin: float) -> Boxes:
    """Add a margin on each side, as a share of width and height. (n, 4) → (n, 4)"""
    edge = (boxes[:, 2:] - boxes[:, :2]) * margin
    return np.concatenate([boxes[:, :2] - edge, boxes[:, 2:] + edge], axis=1)


class _Tracks:
    """All tracks as arrays with one row each. Centre x, centre y, width and height have a Kalman filter each.

    A filter's covariance is stored as three numbers: variance of the value, covariance, variance of the velocity.
    """

    def __init__(self) -> None:
        self.ids = np.empty(0, dtype=np.int64)
        self.class_indices = np.empty(0, dtype=np.int64)
        self.missed_frames = np.empty(0, dtype=np.int64)
        self._missed_s = np.empty(0)
        self._value, self._velocity = np.empty((0, 4)), np.empty((0, 4))  # pixels, and pixels per frame
        self._covariance = np.empty((3, 0, 4))

    def __len__(self) -> int:
        return len(self.ids)

    def boxes(self) -> Boxes:
        """Predicted boxes. (n, 4)"""
        centre, half = self._value[:, :2], np.maximum(self._value[:, 2:], 1.0) / 2
        return np.concatenate([centre - half, centre + half], axis=1)

    def scale(self, factors: NDArray[np.float64]) -> None:
        """Multiply centre x, centre y, width and height. factors: (4,)"""
        self._value, self._velocity = self._value * factors, self._velocity * factors
        self._covariance = self._covariance * factors**2

    def _unit(self) -> NDArray[np.float64]:
        """Box heights in pixels, the unit of the noise. (n, 1)"""
        return np.maximum(self._value[:, 3:], 1.0)

    def predict(self, elapsed_s: float) -> None:
        """Move the tracks on by their velocity; over a gap longer than a track is kept, they stay in place."""
        frames = elapsed_s * _RATE
        value, both, velocity = self._covariance
        noise = (_VELOCITY_STD * self._unit()) ** 2 * frames
        if elapsed_s <= _KEPT_S:
            self._value = self._value + self._velocity * frames
            value, both = value + 2 * both * frames + velocity * frames**2, both + velocity * frames
        position_noise = (_POSITION_STD * self._unit()) ** 2 * frames
        self._covariance = np.stack([value + position_noise, both, velocity + noise])
        self.missed_frames += 1
        self._missed_s = self._missed_s + elapsed_s

    def correct(self, rows: NDArray[np.int64], boxes: Boxes, class_indices: NDArray[np.int64]) -> None:
        """Update tracks with their detections."""
        value, both, velocity = (part[rows] for part in self._covariance)
        variance = value + (_POSITION_STD * self._unit()[rows]) ** 2
        innovation = _to_centres(boxes) - self._value[rows]
        self._value[rows] += value / variance * innovation
        self._velocity[rows] += both / variance * innovation
        self._covariance[:, rows] = (
            value - value**2 / variance, both - value * both / variance, velocity - both**2 / variance,
        )  # fmt: skip
        self.missed_frames[rows], self._missed_s[rows], self.class_indices[rows] = 0, 0.0, class_indices

    def drop_lost(self) -> None:
        """Drop tracks that had no detection for too long."""
        kept = (self._missed_s <= _KEPT_S) | (self.missed_frames <= _KEPT_FRAMES)
        for name in ("ids", "class_indices", "missed_frames", "_missed_s", "_value", "_velocity"):
            setattr(self, name, getattr(self, name)[kept])
        self._covariance = self._covariance[:, kept]

    def add(self, ids: NDArray[np.int64], boxes: Boxes, class_indices: NDArray[np.int64]) -> None:
        value = _to_centres(boxes)
        height = np.maximum(value[:, 3:], 1.0)
        value_variance = np.broadcast_to((2 * _POSITION_STD * height) ** 2, value.shape)
        velocity_variance = np.broadcast_to((10 * _VELOCITY_STD * height) ** 2, value.shape)
        self.ids = np.concatenate([self.ids, ids])
        self.class_indices = np.concatenate([self.class_indices, class_indices])
        self.missed_frames = np.concatenate([self.missed_frames, np.zeros(len(ids), dtype=np.int64)])
        self._missed_s = np.concatenate([self._missed_s, np.zeros(len(ids))])
        self._value = np.concatenate([self._value, value])
        self._velocity = np.concatenate([self._velocity, np.zeros_like(value)])
        new = [value_variance, np.zeros_like(value), velocity_variance]
        self._covariance = np.concatenate([self._covariance, new], axis=1)


def _to_centres(boxes: Boxes) -> NDArray[np.float64]:
    """Convert corners to centre x, centre y, width, height. (n, 4) → (n, 4)"""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
