"""Training batches; the batch of a step depends on (seed, step) alone. `loader.py` has them prepared by workers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from curate.boxes import Boxes, as_boxes
from curate.columns import CORNERS, LANDMARKS, has_landmarks
from curate.dataset import Dataset
from curate.engines.training.augment import Augmentation, Sample, Sizing
from curate.engines.training.order import AUGMENTATION, BatchOrder
from curate.engines.training.processes import SINGLE_PROCESS, ProcessGroup
from curate.errors import CurateError, DataError
from curate.images import decode_rgb

_MOST_REPLACEMENTS = 20  # for one element
_MOST_PLACES = 1 << 20  # in a batch: each replacement has random numbers of its own


class Example(NamedTuple):
    """One training image.

    Attributes:
        image: 3×H×W uint8 RGB.
        target: See `Batch.targets`.
        path: Of its image, for messages.
    """

    image: Tensor
    target: dict[str, Tensor]
    path: str


class Loaded(NamedTuple):
    """What a worker has loaded.

    Attributes:
        batch: The batch of a step, or the CurateError that prevented it.
        unreadable: File → what is wrong, of images that others stand for.
    """

    batch: Any
    unreadable: dict[str, str]


@dataclass(frozen=True, eq=False)
class Batch:
    """The images of one step.

    Attributes:
        images: Each 3×H×W uint8 RGB.
        targets: Each {"boxes": (n, 4) float32 pixel edges, "labels": (n,) int64 from 1; 0 is the background}. Where the
            dataset has landmarks, also {"landmarks": (n, 10) float32, x0, y0 … x4, y4 as in `Sample`, NaN where
            unknown}; networks without a use for them ignore them. A classifier's targets have "labels" only.
        paths: The images' paths, for messages.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    paths: list[str]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> "Batch":
        """A batch of these examples."""
        return cls(
            [example.image for example in examples],
            [example.target for example in examples],
            [example.path for example in examples],
        )

    def first(self, count: int) -> "Batch":
        """A batch of the first `count` images."""
        return Batch(self.images[:count], self.targets[:count], self.paths[:count])


class StepBatches(ABC, TorchDataset[Any]):
    """The batches of a training, indexed by step; with several processes, one process's share of each.

    Args:
        seed: Of the training.
        group: This process takes every Nth element of a batch, N being the number of processes.
    """

    def __init__(self, seed: int, group: ProcessGroup = SINGLE_PROCESS) -> None:
        self._seed, self._group = seed, group

    def __getitem__(self, step: int) -> Any:
        """The batch of a step, as the steps get it.

        Raises:
            CurateError: It cannot be loaded.
        """
        loaded = self.load(step)
        if isinstance(loaded.batch, CurateError):
            raise loaded.batch
        return loaded.batch

    def load(self, step: int) -> Loaded:
        """The batch of a step, or the CurateError that prevented it: raised in a worker, it would lose its form."""
        unreadable: dict[str, str] = {}
        try:
            elements = list(enumerate(self._elements(step)))[self._group.rank :: self._group.world_size]
            loaded = [self._load_readable(element, step, place, unreadable) for place, element in elements]
            return Loaded(self._collate(loaded), unreadable)
        except CurateError as error:
            return Loaded(error, unreadable)

    def _load_readable(self, element: Any, step: int, place: int, unreadable: dict[str, str]) -> Any:
        """An element; in place of one whose image cannot be decoded, one of a later step."""
        later = 0
        while True:
            try:
                return self._load(element, step, place + later * _MOST_PLACES)
            except DataError as error:
                unreadable[str(error.place)] = error.fact
                if later == _MOST_REPLACEMENTS:
                    raise
            later += 1
            elements = self._elements(step + later)
            element = elements[place % len(elements)]

    @property
    @abstractmethod
    def image_count(self) -> int:
        """Number of images that are shown."""

    @abstractmethod
    def _elements(self, step: int) -> Sequence[Any]:
        """What the batch of a step consists of, over all processes."""

    @abstractmethod
    def _load(self, element: Any, step: int, place: int) -> Any:
        """Read and augment one element; `place` is its position in the batch."""

    def _collate(self, loaded: list[Any]) -> Any:
        return Batch.of(loaded)

    def _generator(self, step: int, place: int) -> np.random.Generator:
        """The random generator for the augmentation of one element."""
        return np.random.default_rng([self._seed, AUGMENTATION, step, place])


class TrainingBatches(StepBatches):
    """Batches of whole images with their boxes.

    Args:
        dataset: All its images are shown.
        order: Which images a step shows.
        sizing, augmentation: How an image is sized and augmented.
        seed, group: See `StepBatches`.
    """

    def __init__(
        self,
        dataset: Dataset,
        order: BatchOrder,
        sizing: Sizing,
        augmentation: Augmentation,
        *,
        seed: int,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        super().__init__(seed, group)
        self._order, self._sizing, self._augmentation = order, sizing, augmentation
        images = dataset.images.sort_values("image_id")
        self._paths: list[str] = images["path"].tolist()
        self._files = [dataset.image_file(path) for path in self._paths]
        self._boxes, self._classes = truth_by_image(dataset)
        self._landmarks = landmarks_by_image(dataset)

    @property
    def image_count(self) -> int:
        """See `StepBatches.image_count`."""
        return len(self._paths)

    def _elements(self, step: int) -> Sequence[int]:
        return self._order.rows(step).tolist()

    def _load(self, element: int, step: int, place: int) -> Example:
        sample = self._augmentation.apply(self._read(element), self._sizing, self._generator(step, place))
        return Example(as_image(sample.pixels), self._target(sample), self._paths[element])

    def _read(self, row: int) -> Sample:
        pixels, boxes, classes = decode_rgb(self._files[row]), self._boxes[row], self._classes[row]
        return (
            Sample(pixels, boxes, classes, self._landmarks[row]) if self._landmarks else Sample(pixels, boxes, classes)
        )

    def _target(self, sample: Sample) -> dict[str, Tensor]:
        boxes = torch.from_numpy(sample.boxes_xyxy.astype(np.float32).reshape(-1, 4))
        target = {"boxes": boxes, "labels": torch.from_numpy(sample.class_indices + 1)}
        if self._landmarks:
            target["landmarks"] = torch.from_numpy(sample.landmarks.astype(np.float32).reshape(-1, 10))
        return target


def as_image(pixels: NDArray[np.uint8]) -> Tensor:
    """H×W×3 → 3×H×W."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def truth_by_image(dataset: Dataset) -> tuple[list[Boxes], list[NDArray[np.int64]]]:
    """Boxes (n, 4) and class indices (n,) of each image in the order of image ids, without crowd boxes."""
    boxes, rows = _objects_by_image(dataset)
    index_of = {entry.id: index for index, entry in enumerate(dataset.classes)}
    corners = as_boxes(boxes[CORNERS])
    classes = np.array([index_of[class_id] for class_id in boxes["class_id"]], dtype=np.int64)
    return [corners[row] for row in rows], [classes[row] for row in rows]


def landmarks_by_image(dataset: Dataset) -> list[NDArray[np.float64]] | None:
    """Landmarks (n, 5, 2) of the boxes of `truth_by_image`, NaN where unknown; None if the dataset has none."""
    if not has_landmarks(dataset.boxes):
        return None
    boxes, rows = _objects_by_image(dataset)
    points = boxes[LANDMARKS].to_numpy(dtype=np.float64).reshape(-1, 5, 2)
    return [points[row] for row in rows]


def _objects_by_image(dataset: Dataset) -> tuple[pd.DataFrame, list[Any]]:
    """The boxes without crowds, and the rows of each image's boxes, in the order of image ids."""
    image_ids = np.sort(dataset.images["image_id"].to_numpy())
    boxes = dataset.boxes.loc[~dataset.boxes["crowd"]].reset_index(drop=True)
    rows_of = boxes.groupby("image_id").indices
    no_rows = np.empty(0, dtype=np.int64)
    return boxes, [rows_of.get(image_id, no_rows) for image_id in image_ids.tolist()]
