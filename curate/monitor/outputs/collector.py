"""`watch --collect`: frames that triggered, as new images of a dataset, with what was found in them as proposals."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import pandas as pd

from curate.columns import CORNERS, IMAGE_COLUMNS, VIDEO_COLUMNS, conform
from curate.dataset import Dataset, Predictions
from curate.errors import UsageError
from curate.formats.proposals import join_proposals
from curate.images import encode_rgb
from curate.inference.predictor import inside
from curate.media import IMAGES, write_image
from curate.monitor.detections import FrameDetections
from curate.monitor.outputs.thread import WatchedFrame
from curate.progress import silent
from curate.sources.video import index_video
from curate.sources.video_library import LocalVideo, VideoLibrary, describe
from curate.store import Store

_COMMIT_EVERY_S = 60.0
_QUALITY = 90


class Collector:
    """Takes the frames of a watch in which a trigger fired; see `curate.monitor.outputs.thread.Output`.

    A file joins the dataset as a video of its own, so that a split never has frames of it on both sides; all frames of
    one watch of a camera or stream count as one video. What is there already is not taken twice.

    Args:
        dataset: the folder; created where it is not there.
        arguments: of the watch, for the history.
        class_names: by class index.
        proposes: whether what was found comes along, as boxes to be corrected.

    Attributes:
        images: new ones so far.
        version: of the dataset, once something came in.
    """

    wants_boxes = False

    def __init__(
        self, dataset: Path, arguments: Mapping[str, Any], class_names: Sequence[str], *, proposes: bool
    ) -> None:
        self.images = 0
        self.version: int | None = None
        self._store = Store(dataset)
        if dataset.exists() and not dataset.is_dir():
            raise UsageError("the dataset folder is a file", place="--collect", got=dataset)
        self._work = self._store.begin("watch", arguments)
        self._names, self._proposes = {place + 1: name for place, name in enumerate(class_names)}, proposes
        self._waiting: list[tuple[dict[str, Any], FrameDetections]] = []
        self._video: LocalVideo | None = None
        self._video_id = ""
        self._committed_s = time.monotonic()

    def begin(self, name: str, file: Path | None) -> None:
        """Say what is watched from now on: a file, or something live of that name."""
        self._commit()
        if file is None:
            letters = "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")[:60]
            self._video, self._video_id = None, f"watch-{letters}-{time.strftime('%Y%m%dT%H%M%S')}-{token_hex(2)}"
            return
        current = self._store.load() if self._store.exists() else Dataset(self._store.root)
        self._video = VideoLibrary(self._store.root, current).find([str(file)], silent)[0]
        self._video_id = self._video.video_id

    def take(self, frame: WatchedFrame) -> None:
        """Keep a frame in which something fired."""
        if any(event.box is not None for event in frame.events):
            self._waiting.append((self._write(frame), frame.detections))
        if self._waiting and time.monotonic() - self._committed_s > _COMMIT_EVERY_S:
            self._commit()

    def close(self) -> None:
        """Bring in what waits. May be called again."""
        self._commit()

    def _write(self, frame: WatchedFrame) -> dict[str, Any]:
        pixels, seen = frame.picture.pixels, frame.detections
        data = encode_rgb(pixels, ".jpg", quality=_QUALITY)
        digest = hashlib.sha256(data).hexdigest()
        wanted = f"{IMAGES}/{self._video_id}/{self._video_id}_{int(seen.timestamp_s * 1000):08d}ms.jpg"
        return {
            "path": write_image(self._store.root, wanted, data, digest),
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "source": self._video_id,
            "video_id": self._video_id,
            "frame_index": seen.frame_index,
            "timestamp_s": seen.timestamp_s,
            "sha256": digest,
        }

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._committed_s = time.monotonic()
        if not waiting:
            return
        added = 0

        def change(now: Dataset) -> Dataset:
            nonlocal added
            taken = now.images[now.images["video_id"] == self._video_id]["frame_index"].tolist()
            fresh = [(row, seen) for row, seen in waiting if row["frame_index"] not in taken]
            added = len(fresh)
            return self._join(now, fresh) if fresh else now

        self.version, _ = self._work.commit(change)
        self.images += added

    def _join(self, now: Dataset, fresh: Sequence[tuple[dict[str, Any], FrameDetections]]) -> Dataset:
        ids = now.next_ids.image + np.arange(len(fresh))
        rows = conform(pd.DataFrame([row for row, _ in fresh]).assign(image_id=ids), IMAGE_COLUMNS, place="frames")
        changes: dict[str, pd.DataFrame] = {"images": pd.concat([now.images, rows], ignore_index=True)}
        if self._video is not None and self._video_id not in set(now.videos["video_id"]):
            facts = {**vars(self._video), **describe(index_video(self._store.root / self._video.path))}
            videos = conform([facts], VIDEO_COLUMNS, place="videos")
            changes["videos"] = pd.concat([now.videos, videos], ignore_index=True)
        after = now.replace(**changes)
        if not self._proposes:
            return after
        found = pd.concat([_found(int(image_id), seen) for image_id, (_, seen) in zip(ids, fresh, strict=True)])
        return join_proposals(after, rows, inside(Predictions(found), rows), self._names)


def _found(image_id: int, seen: FrameDetections) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": np.full(len(seen.scores), image_id, dtype=np.int64),
            "class_id": (seen.class_indices + 1).astype(np.int32),
            **dict(zip(CORNERS, seen.boxes_xyxy.T, strict=True)),
            "score": seen.scores,
        }
    )
