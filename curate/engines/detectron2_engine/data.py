"""Our tables as Detectron2's dataset dicts, and the batches of a training made of them. No catalog is touched."""

# Detectron2 is on no registry, so that type checks must do without it
# pyright: reportMissingImports=false

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import (
    annotations_to_instances,
    filter_empty_instances,
    transform_instance_annotations,
)
from detectron2.data.transforms import AugInput
from detectron2.structures import BoxMode
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from curate.dataset import Dataset
from curate.engines.training.batches import truth_by_image
from curate.engines.training.order import AUGMENTATION, BatchOrder, step_seed
from curate.errors import CurateError
from curate.images import decode_rgb

_THINNEST = 64  # times as long as wide


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


class Detectron2Batches(TorchDataset[list[dict[str, Any]] | CurateError]):
    """The batches of a training, by step; of several processes, the share of one.

    Args:
        dicts: from `dataset_dicts`.
        order: which images a step shows.
        mapper: Detectron2's, for its augmentations.
        seed: of the augmentation.
        share: (rank, processes): every so many-eth image of a batch.
    """

    def __init__(
        self,
        dicts: list[dict[str, Any]],
        order: BatchOrder,
        mapper: DatasetMapper,
        *,
        seed: int,
        share: tuple[int, int],
    ) -> None:
        self._dicts, self._order, self._mapper, self._seed = dicts, order, mapper, seed
        self._rank, self._processes = share

    def __getitem__(self, step: int) -> list[dict[str, Any]] | CurateError:
        """The batch of a step, or why it cannot be read; see `TrainingBatches`."""
        try:
            return self._batch(step)
        except CurateError as error:
            return error

    def _batch(self, step: int) -> list[dict[str, Any]]:
        batch = []
        for place, row in list(enumerate(self._order.rows(step)))[self._rank :: self._processes]:
            with _chance_from(step_seed(self._seed, step, AUGMENTATION, place)):
                batch.append(_read_and_augment(self._dicts[row], self._mapper))
        return batch


def _read_and_augment(one: dict[str, Any], mapper: DatasetMapper) -> dict[str, Any]:
    """What `DatasetMapper` does with an image and its boxes, on pixels that are read as they are for prediction."""
    pixels = _not_too_thin(decode_rgb(Path(one["file_name"])))
    given = AugInput(np.ascontiguousarray(pixels[:, :, ::-1] if mapper.image_format == "BGR" else pixels))
    transforms = mapper.augmentations(given)
    height, width = given.image.shape[:2]
    boxes = [transform_instance_annotations(dict(box), transforms, (height, width)) for box in one["annotations"]]
    return {
        **{name: value for name, value in one.items() if name != "annotations"},
        "image": torch.from_numpy(np.ascontiguousarray(given.image.transpose(2, 0, 1))),  # (3, h, w) uint8
        "instances": filter_empty_instances(annotations_to_instances(boxes, (height, width))),
    }


def _not_too_thin(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image that resizing leaves something of: black is added on the right or below."""
    height, width = pixels.shape[:2]
    least = -(-max(height, width) // _THINNEST)
    return np.pad(pixels, ((0, max(0, least - height)), (0, max(0, least - width)), (0, 0)))


@contextmanager
def _chance_from(seed: int) -> Iterator[None]:
    """Detectron2's augmentations draw from the global generators: set them, and put them back."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # not those of GPUs, which are not put back
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
