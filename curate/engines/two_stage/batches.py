"""Class-balanced batches of crops; the batch of a step depends on (seed, step) alone."""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from curate.boxes import Boxes, clip, shorter_side
from curate.dataset import Dataset
from curate.engines.training.augment import Augmentation, Sample, Sizing
from curate.engines.training.batches import Example, StepBatches, as_image, truth_by_image
from curate.engines.training.order import ORDER, check_trainable
from curate.engines.training.processes import SINGLE_PROCESS, ProcessGroup
from curate.engines.two_stage.crops import crop_square, squares_around
from curate.engines.two_stage.settings import TwoStageSettings
from curate.errors import TrainingError
from curate.images import decode_rgb

_CACHE_BYTES = 128 << 20  # of box surroundings, in each process that reads images
_NO_BOXES, _NO_CLASSES = np.empty((0, 4)), np.empty(0, dtype=np.int64)


class CropBatches(StepBatches):
    """The batches of a classifier's training.

    Over all steps each class comes equally often, whatever the balance of the dataset; within a class each box has the
    same probability. Crowd boxes are left out.

    Args:
        dataset: Boxes of all its images are shown.
        batch: Crops per step.
        sizing, augmentation: Of the crops.
        settings: Which boxes are shown, their margin, and their random shift and scale.
        seed, group: See `StepBatches`.

    Raises:
        TrainingError: There are no images, or fewer than two classes with boxes.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        sizing: Sizing,
        augmentation: Augmentation,
        settings: TwoStageSettings,
        *,
        seed: int,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        super().__init__(seed, group)
        self._batch_size, self._sizing, self._augmentation = batch, sizing, augmentation
        self._settings = settings
        self._objects = TrainingBoxes(dataset, settings.min_side_px)
        self._surroundings = _SurroundingsCache(self._objects, settings)

    @property
    def image_count(self) -> int:
        """See `StepBatches.image_count`."""
        return len(self._objects.paths)

    def _elements(self, step: int) -> list[int]:
        """The class indices of a batch, in random order: else a process might see one class only."""
        known = list(self._objects.rows_of)
        numbers = range(step * self._batch_size, (step + 1) * self._batch_size)
        classes = [known[number % len(known)] for number in numbers]
        return np.random.default_rng([self._seed, ORDER, step]).permutation(classes).tolist()

    def _load(self, element: int, step: int, place: int) -> Example:
        rng = self._generator(step, place)
        row = int(rng.choice(self._objects.rows_of[element]))
        target = {"labels": torch.tensor([element + 1])}
        return Example(as_image(self._crop(row, rng)), target, self._objects.paths[self._objects.images[row]])

    def _crop(self, row: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        around = self._surroundings.of(row)
        box = jitter(self._objects.boxes[row], self._settings, rng)
        (square,) = squares_around(clip(box, around.width, around.height), self._settings.margin)
        crop = crop_square(around.pixels, square - np.tile(around.corner, 2), self._sizing.short_px)
        return self._augmentation.apply(Sample(crop, _NO_BOXES, _NO_CLASSES), self._sizing, rng).pixels


class TrainingBoxes:
    """The boxes that a classifier is trained on.

    Attributes:
        paths, files: Of the images.
        boxes: (n, 4).
        images: (n,) position of each box's image in `paths`, ascending.
        rows_of: Class index → its rows in `boxes`; classes without boxes are left out.

    Raises:
        TrainingError: There are no images, or fewer than two classes with boxes.
    """

    def __init__(self, dataset: Dataset, min_side_px: float) -> None:
        check_trainable(dataset)
        self.paths: list[str] = dataset.images.sort_values("image_id")["path"].tolist()
        self.files = [dataset.image_file(path) for path in self.paths]
        boxes, classes = truth_by_image(dataset)
        images = np.repeat(np.arange(len(boxes)), [len(own) for own in boxes])
        all_boxes, all_classes = np.concatenate(boxes), np.concatenate(classes)
        kept = shorter_side(all_boxes) >= min_side_px
        self.boxes: Boxes = all_boxes[kept]
        self.images: NDArray[np.int64] = images[kept]
        indices = all_classes[kept]
        self.rows_of = {int(index): np.flatnonzero(indices == index) for index in np.unique(indices)}
        if len(self.rows_of) < 2:
            names = ", ".join(dataset.classes[index].name for index in self.rows_of)
            raise TrainingError(
                "a classifier needs at least two classes",
                place=dataset.root,
                got=f"boxes of {names} only" if names else "no boxes",
                expected="boxes of two classes or more in the train split",
                remedy="For one class the detector of the first stage is enough.",
            )


def jitter(box_xyxy: NDArray[np.float64], settings: TwoStageSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    """Shift and scale a box at random, like the inexact boxes of a detector. (4,) → (4,)"""
    low, high = box_xyxy[:2], box_xyxy[2:]
    middle = (low + high) / 2 + rng.uniform(-settings.shift, settings.shift, 2) * (high - low)
    limit = np.log1p(settings.scale)
    half = (high - low) / 2 * np.exp(rng.uniform(-limit, limit, 2))
    return np.concatenate([middle - half, middle + half])


class _Surroundings(NamedTuple):
    """The pixels around a box, as far as a crop may reach.

    Attributes:
        pixels: H×W×3 uint8.
        corner: (2,) x and y of their top left corner in the image.
        width, height: Of the image.
    """

    pixels: NDArray[np.uint8]
    corner: NDArray[np.int64]
    width: int
    height: int


class _SurroundingsCache:
    """The surroundings of the most recently used boxes; without it every crop would decode its whole image."""

    def __init__(self, objects: TrainingBoxes, settings: TwoStageSettings) -> None:
        self._objects = objects
        longer = (objects.boxes[:, 2:] - objects.boxes[:, :2]).max(axis=1)
        # the box moves by its shift, and its middle again where it is cut at the image's edge
        reach = 2 * settings.shift + settings.scale + (1 + settings.scale) * (0.5 + settings.margin)
        self._reach = longer * reach + 2
        self._entries: OrderedDict[int, _Surroundings] = OrderedDict()
        self._bytes = 0

    def of(self, row: int) -> _Surroundings:
        if row not in self._entries:
            self._add_image(int(self._objects.images[row]), row)
        self._entries.move_to_end(row)
        return self._entries[row]

    def _add_image(self, image: int, requested: int) -> None:
        """Decode an image and add the surroundings of all its boxes; the requested one last, so that it stays."""
        pixels = decode_rgb(self._objects.files[image])
        first, stop = np.searchsorted(self._objects.images, [image, image + 1]).tolist()
        rows = [row for row in range(first, stop) if row not in self._entries]
        for row in sorted(rows, key=lambda row: row == requested):
            entry = self._cut_out(pixels, row)
            self._entries[row] = entry
            self._bytes += entry.pixels.nbytes
            while self._bytes > _CACHE_BYTES and len(self._entries) > 1:
                _, oldest = self._entries.popitem(last=False)
                self._bytes -= oldest.pixels.nbytes

    def _cut_out(self, pixels: NDArray[np.uint8], row: int) -> _Surroundings:
        height, width = pixels.shape[:2]
        low, high = self._objects.boxes[row, :2], self._objects.boxes[row, 2:]
        middle = (low + high) / 2
        x0, y0 = np.maximum(np.floor(middle - self._reach[row]), 0).astype(np.int64)
        x1, y1 = np.ceil(middle + self._reach[row]).astype(np.int64)
        return _Surroundings(pixels[y0:y1, x0:x1].copy(), np.array([x0, y0]), width, height)
