"""Class-balanced batches of crops: the batch of a step follows from (seed, step) alone."""

from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from curate.boxes import Boxes, clip, shorter_side
from curate.dataset import Dataset
from curate.engines.training.augment import Augmentation, Sample, Sizing
from curate.engines.training.batches import Batch, truth_by_image
from curate.engines.training.order import AUGMENTATION, ORDER
from curate.engines.two_stage.crops import cut, squares_around
from curate.engines.two_stage.settings import TwoStage
from curate.errors import CurateError, TrainingError
from curate.images import decode_rgb

_KEPT_BYTES = 128 << 20  # of the surroundings of boxes, in each process that reads images
_NO_BOXES, _NO_CLASSES = np.empty((0, 4)), np.empty(0, dtype=np.int64)


class CropBatches(TorchDataset[Batch | CurateError]):
    """The batches of a classifier's training, by step; of several processes, the share of one.

    Over all steps each class comes equally often, whatever the balance of the dataset; of a class each box is as likely
    as any other. Crowds are no objects to learn.

    Args:
        dataset: boxes of all its images are shown.
        batch: crops in a step.
        sizing, augmentation: of the crops.
        settings: which boxes, how much around them, how they vary.
        seed: of everything that chance decides.
        share: (rank, processes): every so many-eth crop of a batch.

    Raises:
        TrainingError: there are no images, or fewer than two classes with boxes.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        sizing: Sizing,
        augmentation: Augmentation,
        settings: TwoStage,
        *,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._batch_size, self._sizing, self._augmentation, self._seed = batch, sizing, augmentation, seed
        self._settings = settings
        self._rank, self._processes = share
        self._objects = TrainingBoxes(dataset, settings.min_side_px)
        self._surroundings = _Surroundings(self._objects, settings)

    def __getitem__(self, step: int) -> Batch | CurateError:
        """The batch of a step, or why it cannot be read: an error that crosses processes by itself loses its form."""
        try:
            return self._batch(step)
        except CurateError as error:
            return error

    def _batch(self, step: int) -> Batch:
        images, targets, paths = [], [], []
        for place, index in list(enumerate(self._classes(step)))[self._rank :: self._processes]:
            rng = np.random.default_rng([self._seed, AUGMENTATION, step, place])
            row = int(rng.choice(self._objects.rows_of[index]))
            pixels = self._crop(row, rng)
            images.append(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))))
            targets.append({"labels": torch.tensor([index + 1])})
            paths.append(self._objects.paths[self._objects.images[row]])
        return Batch(images, targets, paths)

    def _classes(self, step: int) -> list[int]:
        """Class indices of a batch: those due, in an order of chance, else a process might see one class only."""
        known = list(self._objects.rows_of)
        due = [known[number % len(known)] for number in range(step * self._batch_size, (step + 1) * self._batch_size)]
        return np.random.default_rng([self._seed, ORDER, step]).permutation(due).tolist()

    def _crop(self, row: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        pixels, left_top, width, height = self._surroundings.of(row)
        box = vary(self._objects.boxes[row], self._settings, rng)
        (square,) = squares_around(clip(box, width, height), self._settings.margin)
        crop = cut(pixels, square - np.tile(left_top, 2), self._sizing.short_px)
        return self._augmentation.apply(Sample(crop, _NO_BOXES, _NO_CLASSES), self._sizing, rng).pixels


class TrainingBoxes:
    """The boxes that a classifier learns from.

    Attributes:
        paths, files: of the images.
        boxes: (n, 4).
        images: (n,) the place of each box's image in `paths`, ascending.
        rows_of: class index → its rows in `boxes`; classes without boxes are left out.

    Raises:
        TrainingError: there are no images, or fewer than two classes with boxes.
    """

    def __init__(self, dataset: Dataset, min_side_px: float) -> None:
        if dataset.images.empty:
            raise TrainingError(
                "there are no images to train on", place=dataset.root, expected="labelled images in the train split"
            )
        self.paths: list[str] = dataset.images.sort_values("image_id")["path"].tolist()
        self.files = [dataset.image_file(path) for path in self.paths]
        boxes, classes = truth_by_image(dataset)
        images = np.repeat(np.arange(len(boxes)), [len(own) for own in boxes])
        all_boxes, all_classes = np.concatenate(boxes), np.concatenate(classes)
        taken = shorter_side(all_boxes) >= min_side_px
        self.boxes: Boxes = all_boxes[taken]
        self.images: NDArray[np.int64] = images[taken]
        indices = all_classes[taken]
        self.rows_of = {int(index): np.flatnonzero(indices == index) for index in np.unique(indices)}
        if len(self.rows_of) < 2:
            names = ", ".join(dataset.classes[index].name for index in self.rows_of)
            raise TrainingError(
                "there is nothing to tell apart",
                place=dataset.root,
                got=f"boxes of {names} only" if names else "no boxes",
                expected="boxes of two classes or more in the train split",
                remedy="For one class the detector of the first stage is enough.",
            )


def vary(box_xyxy: NDArray[np.float64], settings: TwoStage, rng: np.random.Generator) -> NDArray[np.float64]:
    """A box that lies as a detector may have found it. (4,) → (4,)"""
    low, high = box_xyxy[:2], box_xyxy[2:]
    middle = (low + high) / 2 + rng.uniform(-settings.shift, settings.shift, 2) * (high - low)
    widest = np.log1p(settings.scale)
    half = (high - low) / 2 * np.exp(rng.uniform(-widest, widest, 2))
    return np.concatenate([middle - half, middle + half])


class _Surroundings:
    """What lies around each box, as far as a crop may reach, kept in memory: else every crop would decode its image."""

    def __init__(self, objects: TrainingBoxes, settings: TwoStage) -> None:
        self._objects = objects
        longer = (objects.boxes[:, 2:] - objects.boxes[:, :2]).max(axis=1)
        # the box moves by its shift, and its middle again where it is cut at the image's edge
        reach = 2 * settings.shift + settings.scale + (1 + settings.scale) * (0.5 + settings.margin)
        self._reach = longer * reach + 2
        self._kept: OrderedDict[int, tuple[NDArray[np.uint8], NDArray[np.int64], int, int]] = OrderedDict()
        self._bytes = 0

    def of(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], int, int]:
        """Pixels, where their corner (x, y) lies in the image, and the image's width and height."""
        if row not in self._kept:
            self._keep_all(int(self._objects.images[row]), row)
        self._kept.move_to_end(row)
        return self._kept[row]

    def _keep_all(self, image: int, wanted: int) -> None:
        """Keep those of all boxes of an image, since it is decoded now; the wanted one last, so that it stays."""
        pixels = decode_rgb(self._objects.files[image])
        first, stop = np.searchsorted(self._objects.images, [image, image + 1]).tolist()
        rows = [row for row in range(first, stop) if row not in self._kept]
        for row in sorted(rows, key=lambda row: row == wanted):
            entry = self._cut_out(pixels, row)
            self._kept[row] = entry
            self._bytes += entry[0].nbytes
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                _, (oldest, *_) = self._kept.popitem(last=False)
                self._bytes -= oldest.nbytes

    def _cut_out(self, pixels: NDArray[np.uint8], row: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], int, int]:
        height, width = pixels.shape[:2]
        low, high = self._objects.boxes[row, :2], self._objects.boxes[row, 2:]
        middle = (low + high) / 2
        x0, y0 = np.maximum(np.floor(middle - self._reach[row]), 0).astype(np.int64)
        x1, y1 = np.ceil(middle + self._reach[row]).astype(np.int64)
        return pixels[y0:y1, x0:x1].copy(), np.array([x0, y0]), width, height
