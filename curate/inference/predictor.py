"""Prediction with a trained run on images from any source, leaving out those that cannot be read."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from curate.boxes import clip
from curate.columns import CORNERS
from curate.dataset import Dataset, Predictions
from curate.engines.base import Detector, engine_for, predict_dataset
from curate.errors import DataError
from curate.formats.incoming import Problem
from curate.inference.inputs import InputImages, require_readable
from curate.inference.predictions import RunClasses
from curate.progress import Progress
from curate.run_folder.folder import RunFolder

_BATCH = 8  # images at once, and between two calls of the progress callback


class Predictor:
    """Predicts with a run's best checkpoint and collects problems on the way.

    Args:
        folder: A run that has a checkpoint.
        inputs: The images.
        device: See `TrainingConfig`.
        progress: Callback for progress.

    Attributes:
        inputs, folder: As given.
        classes: Classes of the predicted boxes.
        images_done: Number of images processed so far.
        dropped: Number of boxes left out because their class was dropped since the training.
        problems: Images that were left out.
    """

    def __init__(self, folder: RunFolder, inputs: InputImages, device: str, progress: Progress) -> None:
        self.folder, self.inputs = folder, inputs
        self.classes = RunClasses.of(folder, inputs.store, inputs.images) if inputs.store else RunClasses.alone(folder)
        self.images_done = self.dropped = 0
        self.problems = list(inputs.problems)
        self._device, self._progress = device, progress

    def predict(self, image_ids: Sequence[int], *, min_score: float) -> Iterator[tuple[pd.DataFrame, Predictions]]:
        """Predict on some of the images; yields a few rows of the images table at a time, with their boxes.

        Raises:
            DataError: None of them can be read.
        """
        if not image_ids:
            return
        detector = engine_for(self.folder.read_record().model).load(self.folder.best, self._device)
        unlabelled = self.inputs.images.replace(boxes=self.inputs.images.boxes[:0])
        for start in range(0, len(image_ids), _BATCH):
            batch = unlabelled.images["image_id"].isin(image_ids[start : start + _BATCH])
            for images, predictions in self._predict_readable(detector, unlabelled.keep_images(batch)):
                self.images_done += len(images)
                confident = Predictions(predictions.boxes[predictions.boxes["score"] >= min_score])
                translated, dropped = self.classes.translate(confident)
                self.dropped += dropped
                yield images, translated
            self._progress("predict", min(start + _BATCH, len(image_ids)), len(image_ids))
        require_readable(unlabelled.root, self.images_done, self.problems)

    def _predict_readable(self, detector: Detector, images: Dataset) -> list[tuple[pd.DataFrame, Predictions]]:
        """Images and their predictions; images that cannot be decoded are left out and listed as problems."""
        try:
            return [(images.images, predict_dataset(detector, images, batch=_BATCH))]
        except DataError as error:
            paths = images.images["path"]
            if len(paths) > 1:
                singles = (images.keep_images(paths == path) for path in paths)
                return [part for single in singles for part in self._predict_readable(detector, single)]
            self.problems.append(Problem(paths.iloc[0], None, None, "image_broken", error.fact, "quarantined"))
            return []


def clip_to_images(predictions: Predictions, images: pd.DataFrame) -> Predictions:
    """Clip boxes to their images; boxes outside are left out."""
    rows = pd.Index(images["image_id"]).get_indexer(pd.Index(predictions.boxes["image_id"]))
    width, height = (images[side].to_numpy()[rows] for side in ("width", "height"))
    corners = clip(predictions.boxes_xyxy, width, height)
    has_area = (corners[:, :2] < corners[:, 2:]).all(axis=1)
    clipped: Any = predictions.boxes.assign(**dict(zip(CORNERS, corners.T, strict=True)))
    return Predictions(clipped[has_area])
