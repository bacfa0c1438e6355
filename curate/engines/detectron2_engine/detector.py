"""A trained Detectron2 model as a detector."""

# Detectron2 is on no package registry, so type checks run without it
# pyright: reportMissingImports=false

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data.transforms import ResizeShortestEdge, ResizeTransform
from numpy.typing import NDArray
from torch import nn

from curate.dataset import ClassEntry
from curate.engines.base import Detections, check_images
from curate.engines.detectron2_engine.config import TestSize


class Detectron2Detector:
    """See `Detector`. `predict` leaves the model in the mode that it was in."""

    def __init__(self, model: nn.Module, size: TestSize, classes: tuple[ClassEntry, ...]) -> None:
        self._model, self._size, self._classes = model, size, classes

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """In the order of `Detections.class_indices`."""
        return self._classes

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """See `Detector.predict`. All images go through the network together.

        Raises:
            DataError: An element is not an H×W×3 uint8 array; the message names its index.
        """
        if not images:
            return []
        check_images(images)
        was_training = self._model.training
        self._model.eval()
        try:
            with torch.inference_mode():
                answers = self._model([self._as_input(pixels) for pixels in images])
        finally:
            self._model.train(was_training)
        return [_as_detections(answer["instances"].to("cpu")) for answer in answers]

    def _as_input(self, pixels: NDArray[np.uint8]) -> dict[str, Any]:
        """H×W×3 RGB → Detectron2's input; height and width make it return boxes in original pixels."""
        ordered = pixels[:, :, ::-1] if self._size.channels == "BGR" else pixels
        height, width = pixels.shape[:2]
        # Detectron2 may round the shorter side of a very thin image to 0
        sides = [
            max(1, side)
            for side in ResizeShortestEdge.get_output_shape(height, width, self._size.short_px, self._size.long_px)
        ]
        resized = ResizeTransform(height, width, *sides).apply_image(np.ascontiguousarray(ordered))
        tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))  # (3, h, w) uint8
        return {"image": tensor, "height": height, "width": width}


def _as_detections(instances: Any) -> Detections:
    scores = instances.scores.double().numpy()
    order = np.argsort(-scores, kind="stable")
    return Detections(
        boxes_xyxy=instances.pred_boxes.tensor.double().numpy().reshape(-1, 4)[order],
        scores=scores[order],
        class_indices=instances.pred_classes.numpy().astype(np.int64)[order],
    )
