"""Training batches: the batch of a step follows from (seed, step) alone.

So a run that was stopped goes on with the batches it would have had, and the number of workers changes nothing.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from curate.boxes import Boxes, as_boxes
from curate.columns import CORNERS
from curate.dataset import Dataset
from curate.engines.augment import Augmentation, Sample, Sizing
from curate.errors import TrainingError
from curate.images import decode_rgb

_PREFETCH = 3  # batches a worker prepares ahead
_ORDER, _AUGMENTATION, _MODEL = 0, 1, 2  # streams of chance that must not be the same numbers


@dataclass(frozen=True, eq=False)
class Batch:
    """The images of one step.

    Attributes:
        images: each 3×H×W uint8 RGB.
        targets: each {"boxes": (n, 4) float32 pixel edges, "labels": (n,) int64 from 1; 0 is the background}.
        paths: the images' paths, for messages.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    paths: list[str]


def step_seed(seed: int, step: int) -> int:
    """The seed of what the model itself leaves to chance in a step, such as the sampling of anchors."""
    return int(np.random.SeedSequence([seed, _MODEL, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class TrainingBatches(TorchDataset[Batch]):
    """The batches of a training, by step.

    Every epoch shows each image once, in an order of its own; upright and wide images never share a batch, because a
    batch is as large as its widest and its tallest image.
    """

    def __init__(self, dataset: Dataset, sizing: Sizing, augmentation: Augmentation, *, batch: int, seed: int) -> None:
        if dataset.images.empty:
            raise TrainingError(
                "there are no images to train on", place=dataset.root, expected="labelled images in the train split"
            )
        if not dataset.classes:
            raise TrainingError("there are no classes to train on", place=dataset.root)
        self._sizing, self._augmentation, self._batch, self._seed = sizing, augmentation, batch, seed
        images = dataset.images.sort_values("image_id")
        self._paths: list[str] = images["path"].tolist()
        self._files = [dataset.image_file(path) for path in self._paths]
        self._wide = (images["width"] >= images["height"]).to_numpy()
        self._boxes, self._classes = _truth_by_image(dataset, images["image_id"].to_numpy())
        self._order: tuple[int, list[NDArray[np.int64]]] | None = None

    @cached_property
    def per_epoch(self) -> int:
        """Batches in which every image comes once."""
        return sum(-(-int(group.sum()) // self._batch) for group in (self._wide, ~self._wide))

    def __getitem__(self, step: int) -> Batch:
        images, targets = [], []
        rows = self.rows(step)
        for place, row in enumerate(rows):
            rng = np.random.default_rng([self._seed, _AUGMENTATION, step, place])
            sample = Sample(decode_rgb(self._files[row]), self._boxes[row], self._classes[row])
            sample = self._augmentation.apply(sample, self._sizing, rng)
            images.append(torch.from_numpy(np.ascontiguousarray(sample.pixels.transpose(2, 0, 1))))
            boxes = torch.from_numpy(sample.boxes_xyxy.astype(np.float32).reshape(-1, 4))
            targets.append({"boxes": boxes, "labels": torch.from_numpy(sample.class_indices + 1)})
        return Batch(images, targets, [self._paths[row] for row in rows])

    def rows(self, step: int) -> NDArray[np.int64]:
        """Which images the batch of a step holds: (batch,) rows of the images table in the order of image ids."""
        epoch, place = divmod(step, self.per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self._epoch(epoch)
        return self._order[1][place]

    def _epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([self._seed, _ORDER, epoch])
        batches: list[NDArray[np.int64]] = []
        for group in (self._wide, ~self._wide):
            rows = rng.permutation(np.flatnonzero(group))
            count = -(-len(rows) // self._batch)
            batches.extend(np.resize(rows, (count, self._batch)))  # the last batch is filled up from the first
        return [batches[index] for index in rng.permutation(len(batches))]

    def loaded(self, start: int, stop: int, workers: int) -> Iterator[Batch]:
        """The batches of the steps start … stop − 1, prepared by `workers` processes."""
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            prefetch_factor=_PREFETCH if workers else None,
            collate_fn=_unchanged,
            worker_init_fn=_settle_worker,
        )
        yield from loader


def _truth_by_image(dataset: Dataset, image_ids: NDArray[np.int64]) -> tuple[list[Boxes], list[NDArray[np.int64]]]:
    """Boxes (n, 4) and class indices (n,) of each image; crowds are no single objects and are left out."""
    boxes = dataset.boxes.loc[~dataset.boxes["crowd"]].reset_index(drop=True)
    index_of = {entry.id: index for index, entry in enumerate(dataset.classes)}
    corners = as_boxes(boxes[CORNERS])
    classes = np.array([index_of[class_id] for class_id in boxes["class_id"]], dtype=np.int64)
    rows_of = boxes.groupby("image_id").indices
    nothing = np.empty(0, dtype=np.int64)
    rows = [rows_of.get(image_id, nothing) for image_id in image_ids.tolist()]
    return [corners[row] for row in rows], [classes[row] for row in rows]


def _unchanged(batch: Any) -> Any:
    return batch


def _settle_worker(_: int) -> None:
    """Leave Ctrl-C to the main process, which ends its workers, and the cores to the model."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
