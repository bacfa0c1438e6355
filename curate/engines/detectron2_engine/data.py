"""A dataset as Detectron2's dataset dicts, and the batches of a training. Registers nothing in its global catalogs."""

# Detectron2 is on no package registry, so type checks run without it
# pyright: reportMissingImports=false

import random
from collections.abc import Iterator, Sequence
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

from curate.dataset import Dataset
from curate.engines.training.batches import StepBatches, as_image, truth_by_image
from curate.engines.training.order import AUGMENTATION, BatchOrder, step_seed
from curate.engines.training.processes import ProcessGroup
from curate.images import decode_rgb

_LARGEST_ASPECT = 64  # longer side to shorter side


def dataset_dicts(dataset: Dataset) -> list[dict[str, Any]]:
    """One dict per image in the order of image ids, including images without boxes; classes are indices from 0.

    The format is described in https://detectron2.readthedocs.io/en/latest/tutorials/datasets.html.
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


class Detectron2Batches(StepBatches):
    """Batches of dicts, as Detectron2's models take them.

    Args:
        dicts: From `dataset_dicts`.
        order: Which images a step shows.
        mapper: Detectron2's mapper, for its augmentations.
        seed, group: See `StepBatches`.
    """

    def __init__(
        self,
        dicts: list[dict[str, Any]],
        order: BatchOrder,
        mapper: DatasetMapper,
        *,
        seed: int,
        group: ProcessGroup,
    ) -> None:
        super().__init__(seed, group)
        self._dicts, self._order, self._mapper = dicts, order, mapper

    @property
    def image_count(self) -> int:
        """See `StepBatches.image_count`."""
        return len(self._dicts)

    def _elements(self, step: int) -> Sequence[int]:
        return self._order.rows(step).tolist()

    def _load(self, element: int, step: int, place: int) -> dict[str, Any]:
        with _global_seed(step_seed(self._seed, step, AUGMENTATION, place)):
            return _read_and_augment(self._dicts[element], self._mapper)

    def _collate(self, loaded: list[Any]) -> list[dict[str, Any]]:
        return loaded


def _read_and_augment(one: dict[str, Any], mapper: DatasetMapper) -> dict[str, Any]:
    """`DatasetMapper`'s augmentation of an image and its boxes, on pixels that are decoded as for inference."""
    pixels = _pad_thin(decode_rgb(Path(one["file_name"])))
    augmented = AugInput(np.ascontiguousarray(pixels[:, :, ::-1] if mapper.image_format == "BGR" else pixels))
    transforms = mapper.augmentations(augmented)
    height, width = augmented.image.shape[:2]
    boxes = [transform_instance_annotations(dict(box), transforms, (height, width)) for box in one["annotations"]]
    return {
        **{name: value for name, value in one.items() if name != "annotations"},
        "image": as_image(augmented.image),  # (3, h, w) uint8
        "instances": filter_empty_instances(annotations_to_instances(boxes, (height, width))),
    }


def _pad_thin(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pad a very thin image with black on the right or below, so that resizing does not make a side 0."""
    height, width = pixels.shape[:2]
    shortest = -(-max(height, width) // _LARGEST_ASPECT)
    return np.pad(pixels, ((0, max(0, shortest - height)), (0, max(0, shortest - width)), (0, 0)))


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators, which Detectron2's augmentations use, and restore them afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # not those of GPUs, which are not restored
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
