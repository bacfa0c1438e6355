"""Our tables as Detectron2's dataset dicts, and the batches of a training made of them. No catalog is touched."""

# Detectron2 is on no registry, so that type checks must do without it
# pyright: reportMissingImports=false

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.structures import BoxMode
from torch.utils.data import Dataset as TorchDataset

from curate.dataset import Dataset
from curate.engines.batches import truth_by_image
from curate.engines.ordering import AUGMENTATION, BatchOrder, step_seed

Mapper = Callable[[dict[str, Any]], dict[str, Any]]


def dataset_dicts(dataset: Dataset) -> list[dict[str, Any]]:
    """One dict an image in the order of image ids, those without boxes included; classes are indices from 0.

    The format is that of https://detectron2.readthedocs.io/en/latest/tutorials/datasets.html.
    """
    images = dataset.images.sort_values("image_id")
    all_boxes, all_classes = truth_by_image(dataset)
    columns = (images[name].tolist() for name in ("image_id", "path", "width", "height"))
    return [
        {
            "file_name": str(dataset.image_file(path)),
            "image_id": image_id,
            "width": width,
            "height": height,
            "annotations": [
                {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": class_index}
                for box, class_index in zip(boxes.tolist(), classes.tolist(), strict=True)
            ],
        }
        for image_id, path, width, height, boxes, classes in zip(*columns, all_boxes, all_classes, strict=True)
    ]


class Detectron2Batches(TorchDataset[list[dict[str, Any]]]):
    """The batches of a training, by step; of several processes, the share of one.

    Args:
        dicts: from `dataset_dicts`.
        order: which images a step shows.
        mapper: Detectron2's, which reads and augments one image.
        seed: of the augmentation.
        share: (rank, processes): every so many-eth image of a batch.
    """

    def __init__(
        self, dicts: list[dict[str, Any]], order: BatchOrder, mapper: Mapper, *, seed: int, share: tuple[int, int]
    ) -> None:
        self._dicts, self._order, self._mapper, self._seed = dicts, order, mapper, seed
        self._rank, self._processes = share

    def __getitem__(self, step: int) -> list[dict[str, Any]]:
        batch = []
        for place, row in list(enumerate(self._order.rows(step)))[self._rank :: self._processes]:
            with _chance_from(step_seed(self._seed, step, AUGMENTATION, place)):
                batch.append(self._mapper(copy.deepcopy(self._dicts[row])))
        return batch


@contextmanager
def _chance_from(seed: int) -> Iterator[None]:
    """Detectron2's augmentations draw from the global generators: set them, and put them back."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
