"""`watch --collect`: adds frames in which a trigger fired to a dataset, with their detections as proposals."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import pandas as pd

from curate.columns import CORNERS
from curate.dataset import Dataset, Predictions
from curate.errors import CurateError, DataError, UsageError
from curate.formats.proposals import join_proposals
from curate.images import encode_rgb
from curate.inference.predictor import clip_to_images
from curate.monitor.detections import FrameDetections
from curate.monitor.outputs.thread import WatchedFrame
from curate.progress import silent
from curate.sources.video import ReadOptions, index_video
from curate.sources.video_library import (
    LocalVideo,
    VideoLibrary,
    add_frames,
    describe,
    is_taken,
    taken_frames,
    write_frame,
)
from curate.store import Store

_COMMIT_EVERY_S = 60.0
_QUALITY = 90


class Collector:
    """Adds frames in which a trigger fired to a dataset; see `curate.monitor.outputs.thread.Output`.

    A watched file becomes a video of the dataset, so that a split has all its frames on one side; all frames of one
    watch of a camera or stream count as one video. Frames that the dataset has already are not added again.

    Args:
        dataset: The dataset folder; created if it does not exist.
        arguments: Arguments of the watch, for the history.
        class_names: Class name by class index.
        proposes: Whether detections are added as proposals.
        reading: What the user says about video files.

    Attributes:
        images: Number of images added so far.
        version: Version of the dataset; None until an image is added.
    """

    wants_boxes = False

    def __init__(
        self,
        dataset: Path,
        arguments: Mapping[str, Any],
        class_names: Sequence[str],
        *,
        proposes: bool,
        reading: ReadOptions | None = None,
    ) -> None:
        self.images = 0
        self.version: int | None = None
        self._store, self._reading = Store(dataset), reading or ReadOptions()
        if dataset.exists() and not dataset.is_dir():
            raise UsageError("the dataset folder is a file", place="--collect", got=dataset)
        self._work = self._store.begin("watch", arguments)
        self._names, self._proposes = {place + 1: name for place, name in enumerate(class_names)}, proposes
        self._pending: list[tuple[dict[str, Any], FrameDetections]] = []
        self._video: LocalVideo | None = None
        self._video_id = ""
        self._committed_s = time.monotonic()

    def begin(self, name: str, file: Path | None) -> None:
        """Start the next source: a file, or a live source of that name."""
        self._commit()
        if file is None:
            letters = "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")[:60]
            self._video, self._video_id = None, f"watch-{letters}-{time.strftime('%Y%m%dT%H%M%S')}-{token_hex(2)}"
            return
        current = self._store.load() if self._store.exists() else Dataset(self._store.root)
        self._video = VideoLibrary(self._store.root, current).find([str(file)], silent, stream=self._reading.stream)[0]
        self._video_id = self._video.video_id

    def take(self, frame: WatchedFrame) -> None:
        """Add the frame if a trigger with a box fired in it.

        Raises:
            CurateError: It cannot be written, as on a full disk; frames that were taken before are kept for later.
        """
        if any(event.box is not None for event in frame.events):
            try:
                self._pending.append((self._write(frame), frame.detections))
            except (OSError, CurateError) as error:
                raise self._write_error(error) from error
        if self._pending and time.monotonic() - self._committed_s > _COMMIT_EVERY_S:
            self._commit()

    def close(self) -> None:
        """Commit what is pending. May be called again."""
        self._commit()

    def _write(self, frame: WatchedFrame) -> dict[str, Any]:
        pixels, detections = frame.picture.pixels, frame.detections
        height, width = pixels.shape[:2]
        return write_frame(
            self._store.root,
            self._video_id,
            detections.frame_index,
            detections.timestamp_s,
            encode_rgb(pixels, ".jpg", quality=_QUALITY),
            suffix=".jpg",
            width=width,
            height=height,
        )

    def _commit(self) -> None:
        pending = self._pending
        self._committed_s = time.monotonic()
        if not pending:
            return
        added = 0

        def change(now: Dataset) -> Dataset:
            nonlocal added
            taken = taken_frames(now)
            fresh = [(row, detections) for row, detections in pending if not is_taken(taken, row)]
            added = len(fresh)
            return self._join(now, fresh) if fresh else now

        try:
            self.version, _ = self._work.commit(change)
        except (OSError, CurateError) as error:
            raise self._write_error(error) from error
        self._pending = []
        self.images += added

    def _write_error(self, error: OSError | CurateError) -> DataError:
        """The error names the dataset: a frame's own name would make each a problem of its own."""
        reason = error.fact if isinstance(error, CurateError) else error.strerror or str(error)
        return DataError(f"cannot add frames: {reason}", place=self._store.root)

    def _join(self, now: Dataset, fresh: Sequence[tuple[dict[str, Any], FrameDetections]]) -> Dataset:
        videos = []
        if self._video is not None and self._video_id not in set(now.videos["video_id"]):
            videos.append((self._video, describe(index_video(self._store.root / self._video.path, self._reading))))
        after, images = add_frames(now, [row for row, _ in fresh], videos)
        if not self._proposes:
            return after
        ids = images["image_id"].tolist()
        rows = [_prediction_rows(image_id, detections) for image_id, (_, detections) in zip(ids, fresh, strict=True)]
        return join_proposals(after, images, clip_to_images(Predictions(pd.concat(rows)), images), self._names)


def _prediction_rows(image_id: int, detections: FrameDetections) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": np.full(len(detections.scores), image_id, dtype=np.int64),
            "class_id": (detections.class_indices + 1).astype(np.int32),
            **dict(zip(CORNERS, detections.boxes_xyxy.T, strict=True)),
            "score": detections.scores,
        }
    )
