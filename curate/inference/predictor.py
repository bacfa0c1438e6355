"""One look of a trained run at pictures: what it found on those that can be read."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from curate.boxes import clip
from curate.columns import CORNERS
from curate.dataset import Dataset, Predictions
from curate.engines.base import Detector, engine_for, predict_dataset
from curate.errors import DataError
from curate.formats.incoming import Problem
from curate.inference.inputs import Pictures, refuse_none
from curate.inference.predictions import RunClasses
from curate.progress import Progress
from curate.run_folder.folder import RunFolder

_BATCH = 8  # images at once, and between two reports


class Look:
    """Looks at pictures, and remembers what it met.

    Args:
        folder: a run that has a checkpoint.
        pictures: what to look at.
        device: see `TrainingConfig`.
        progress: told after every few images.

    Attributes:
        pictures, folder: as given.
        classes: that its boxes are told in.
        seen: images looked at so far.
        dropped: boxes left out because their class was dropped since the training.
        problems: images that were left out.
    """

    def __init__(self, folder: RunFolder, pictures: Pictures, device: str, progress: Progress) -> None:
        self.folder, self.pictures = folder, pictures
        self.classes = (
            RunClasses.of(folder, pictures.store, pictures.images) if pictures.store else RunClasses.alone(folder)
        )
        self.seen = self.dropped = 0
        self.problems = list(pictures.problems)
        self._device, self._progress = device, progress

    def over(self, image_ids: Sequence[int], *, least_score: float) -> Iterator[tuple[pd.DataFrame, Predictions]]:
        """Look at some of the pictures: a few rows of the images table at a time, and the boxes found on them.

        Raises:
            DataError: none of them can be read.
        """
        if not image_ids:
            return
        detector = engine_for(self.folder.read_record().model).load(self.folder.best, self._device)
        everything = self.pictures.images.replace(boxes=self.pictures.images.boxes[:0])
        for start in range(0, len(image_ids), _BATCH):
            few = everything.images["image_id"].isin(image_ids[start : start + _BATCH])
            for images, found in self._see(detector, everything.keep_images(few)):
                self.seen += len(images)
                sure = Predictions(found.boxes[found.boxes["score"] >= least_score])
                translated, dropped = self.classes.translate(sure)
                self.dropped += dropped
                yield images, translated
            self._progress("predict", min(start + _BATCH, len(image_ids)), len(image_ids))
        refuse_none(everything.root, self.seen, self.problems)

    def _see(self, detector: Detector, images: Dataset) -> list[tuple[pd.DataFrame, Predictions]]:
        """Images and what is on them; those that cannot be decoded are left out and listed."""
        try:
            return [(images.images, predict_dataset(detector, images, batch=_BATCH))]
        except DataError as error:
            paths = images.images["path"]
            if len(paths) > 1:
                return [part for path in paths for part in self._see(detector, images.keep_images(paths == path))]
            self.problems.append(Problem(paths.iloc[0], None, None, "image_broken", error.fact, "quarantined"))
            return []


def inside(found: Predictions, images: pd.DataFrame) -> Predictions:
    """Boxes cut at their images' edges; those that lie outside are left out."""
    rows = pd.Index(images["image_id"]).get_indexer(pd.Index(found.boxes["image_id"]))
    width, height = (images[side].to_numpy()[rows] for side in ("width", "height"))
    corners = clip(found.boxes_xyxy, width, height)
    has_area = (corners[:, :2] < corners[:, 2:]).all(axis=1)
    cut: Any = found.boxes.assign(**dict(zip(CORNERS, corners.T, strict=True)))
    return Predictions(cut[has_area])
