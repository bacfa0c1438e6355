"""Training batches, read and augmented by worker processes: the batch of a step follows from (seed, step) alone."""

import signal
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from curate.boxes import Boxes, as_boxes
from curate.columns import CORNERS, LANDMARKS, has_landmarks
from curate.dataset import Dataset
from curate.engines.training.augment import Augmentation, Sample, Sizing
from curate.engines.training.order import AUGMENTATION, BatchOrder
from curate.errors import CurateError, TrainingError
from curate.images import decode_rgb

_PREFETCH = 3  # batches a worker prepares ahead


@dataclass(frozen=True, eq=False)
class Batch:
    """The images of one step.

    Attributes:
        images: each 3×H×W uint8 RGB.
        targets: each {"boxes": (n, 4) float32 pixel edges, "labels": (n,) int64 from 1; 0 is the background}. Where the
            dataset has landmarks, also {"landmarks": (n, 10) float32, x0, y0 … x4, y4 as in `Sample`, NaN where
            unknown}; networks without a use for them take no notice.
        paths: the images' paths, for messages.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    paths: list[str]


class TrainingBatches(TorchDataset[Batch | CurateError]):
    """The batches of a training, by step; of several processes, the share of one.

    Args:
        dataset: all its images are shown.
        order: which images a step shows.
        sizing, augmentation: how.
        seed: of the augmentation.
        share: (rank, processes): every so many-eth image of a batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        order: BatchOrder,
        sizing: Sizing,
        augmentation: Augmentation,
        *,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._order, self._sizing, self._augmentation, self._seed = order, sizing, augmentation, seed
        self._rank, self._processes = share
        images = dataset.images.sort_values("image_id")
        self._paths: list[str] = images["path"].tolist()
        self._files = [dataset.image_file(path) for path in self._paths]
        self._boxes, self._classes = truth_by_image(dataset)
        self._landmarks = landmarks_by_image(dataset)

    def __getitem__(self, step: int) -> Batch | CurateError:
        """The batch of a step, or why it cannot be read: an error that crosses processes by itself loses its form."""
        try:
            return self._batch(step)
        except CurateError as error:
            return error

    def _batch(self, step: int) -> Batch:
        images, targets, paths = [], [], []
        for place, row in list(enumerate(self._order.rows(step)))[self._rank :: self._processes]:
            rng = np.random.default_rng([self._seed, AUGMENTATION, step, place])
            sample = self._augmentation.apply(self._read(row), self._sizing, rng)
            images.append(torch.from_numpy(np.ascontiguousarray(sample.pixels.transpose(2, 0, 1))))
            targets.append(self._target(sample))
            paths.append(self._paths[row])
        return Batch(images, targets, paths)

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


def loaded(batches: TorchDataset[Any], start: int, stop: int, workers: int) -> Generator[Any]:
    """The batches of the steps start … stop − 1, prepared by `workers` processes.

    Raises:
        DataError: an image cannot be read.
        TrainingError: a worker died.
    """
    loader = iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            prefetch_factor=_PREFETCH if workers else None,
            collate_fn=_unchanged,
            worker_init_fn=_settle_worker,
            generator=torch.Generator(),  # else it draws from the global one when it starts
        )
    )
    for _ in range(start, stop):
        try:
            batch = next(loader)
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):
                raise
            raise TrainingError(
                "a process that reads images died",
                place="--workers",
                got=str(error).splitlines()[0],
                remedy="Give the machine more shared memory, or take fewer workers.",
            ) from error
        if isinstance(batch, CurateError):
            raise batch
        yield batch


def truth_by_image(dataset: Dataset) -> tuple[list[Boxes], list[NDArray[np.int64]]]:
    """Boxes (n, 4) and class indices (n,) of each image in the order of image ids, without crowds.

    A crowd is no single object to learn.
    """
    boxes, rows = _objects_by_image(dataset)
    index_of = {entry.id: index for index, entry in enumerate(dataset.classes)}
    corners = as_boxes(boxes[CORNERS])
    classes = np.array([index_of[class_id] for class_id in boxes["class_id"]], dtype=np.int64)
    return [corners[row] for row in rows], [classes[row] for row in rows]


def landmarks_by_image(dataset: Dataset) -> list[NDArray[np.float64]] | None:
    """Landmarks (n, 5, 2) of the boxes of `truth_by_image`, NaN where unknown; None where the dataset has none."""
    if not has_landmarks(dataset.boxes):
        return None
    boxes, rows = _objects_by_image(dataset)
    points = boxes[LANDMARKS].to_numpy(dtype=np.float64).reshape(-1, 5, 2)
    return [points[row] for row in rows]


def _objects_by_image(dataset: Dataset) -> tuple[pd.DataFrame, list[Any]]:
    """The boxes that are objects to learn, and their rows by image, in the order of image ids."""
    image_ids = np.sort(dataset.images["image_id"].to_numpy())
    boxes = dataset.boxes.loc[~dataset.boxes["crowd"]].reset_index(drop=True)
    rows_of = boxes.groupby("image_id").indices
    nothing = np.empty(0, dtype=np.int64)
    return boxes, [rows_of.get(image_id, nothing) for image_id in image_ids.tolist()]


def _unchanged(batch: Any) -> Any:
    return batch


def _settle_worker(_: int) -> None:
    """Leave Ctrl-C to the main process, which ends its workers, and the cores to the model."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
