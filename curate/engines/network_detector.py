"""A network that is ready to look at images."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.dataset import ClassEntry
from curate.engines.base import Detections, check_images
from curate.engines.built_model import BuiltModel
from curate.engines.training.augment import resize_pixels
from curate.engines.training.device import placed


class NetworkDetector:
    """A trained network; see `Detector`."""

    def __init__(self, model: BuiltModel, classes: tuple[ClassEntry, ...], device: torch.device) -> None:
        self._network = placed(model.network, device).eval()
        self._sizing, self._classes, self._device = model.sizing, classes, device

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """In the order of `Detections.class_indices`."""
        return self._classes

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Find objects; see `Detector.predict`. The images go through the network together.

        Raises:
            DataError: something that is no H×W×3 uint8 array; the message names its index.
        """
        if not images:
            return []
        check_images(images)
        sized = [resize_pixels(pixels, *self._sizing.fitted(pixels.shape[1], pixels.shape[0])) for pixels in images]
        with torch.inference_mode():
            found = self._network([self._as_tensor(pixels) for pixels in sized])
        return [
            _in_original_pixels(answer, seen, given) for answer, seen, given in zip(found, sized, images, strict=True)
        ]

    def _as_tensor(self, pixels: NDArray[np.uint8]) -> Tensor:
        """H×W×3 uint8 → (3, h, w) float in 0..1."""
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(self._device).float() / 255


def _in_original_pixels(answer: dict[str, Tensor], seen: NDArray[np.uint8], given: NDArray[np.uint8]) -> Detections:
    scale = np.array([given.shape[1] / seen.shape[1], given.shape[0] / seen.shape[0]] * 2)
    return Detections(
        boxes_xyxy=answer["boxes"].double().cpu().numpy() * scale,
        scores=answer["scores"].double().cpu().numpy(),
        class_indices=answer["labels"].cpu().numpy().astype(np.int64) - 1,
    )
