"""Base of the engines whose models are torch networks: one way to train, to save and to load.

A subclass says how its networks are built. One whose networks get something other than whole images also says what a
batch is, and which detector uses the network.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.dataset import ClassEntry, Dataset
from curate.engines.base import Detections, Detector, Validate, check_images
from curate.engines.training.augment import resize_pixels
from curate.engines.training.batches import StepBatches, TrainingBatches, as_image
from curate.engines.training.checkpoint import Checkpoint, read_checkpoint, read_model_name
from curate.engines.training.device import move_to_device, select_device
from curate.engines.training.loop import Training
from curate.engines.training.order import BatchOrder
from curate.engines.training.processes import ProcessGroup, launch_torchrun
from curate.engines.training.recipe import BuiltModel
from curate.engines.training.runner import check_training, run_training
from curate.errors import CurateError, DataError
from curate.progress import Progress, silent
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder


class TorchDetector:
    """A trained network; see `Detector`."""

    def __init__(self, model: BuiltModel, classes: tuple[ClassEntry, ...], device: torch.device) -> None:
        self._network = move_to_device(model.network, device).eval()
        self._sizing, self._classes, self._device = model.sizing, classes, device

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
        resized = [resize_pixels(pixels, *self._sizing.fitted(pixels.shape[1], pixels.shape[0])) for pixels in images]
        with torch.inference_mode():
            answers = self._network([as_image(pixels).to(self._device).float() / 255 for pixels in resized])
        return [
            _in_original_pixels(answer, small, original)
            for answer, small, original in zip(answers, resized, images, strict=True)
        ]


def _in_original_pixels(
    answer: dict[str, Tensor], resized: NDArray[np.uint8], original: NDArray[np.uint8]
) -> Detections:
    scale = np.array([original.shape[1] / resized.shape[1], original.shape[0] / resized.shape[0]] * 2)
    return Detections(
        boxes_xyxy=answer["boxes"].double().cpu().numpy() * scale,
        scores=answer["scores"].double().cpu().numpy(),
        class_indices=answer["labels"].cpu().numpy().astype(np.int64) - 1,
    )


class TorchEngine(ABC):
    """An engine that trains by `training.loop`; a model's `Recipe` holds the differences between models.

    It keeps no state, because each process of a training gets a copy.
    """

    @abstractmethod
    def build(
        self, name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
    ) -> BuiltModel:
        """Build a network with random weights.

        Args:
            name: The model, without its engine.
            class_count: Number of classes, without the background.
            image_size, settings, loss: See `TrainingConfig`.

        Raises:
            UsageError: Unknown name or setting, or a value that the model does not support.
        """

    def batches(self, dataset: Dataset, config: TrainingConfig, model: BuiltModel, group: ProcessGroup) -> StepBatches:
        """The batches that a process trains on.

        Raises:
            TrainingError: There is nothing to train on.
        """
        order = BatchOrder.of(dataset, config)
        return TrainingBatches(dataset, order, model.sizing, model.recipe.augmentation, seed=config.seed, group=group)

    def detector(self, model: BuiltModel, classes: tuple[ClassEntry, ...], device: torch.device) -> Detector:
        """A detector that uses the network with its present weights."""
        return TorchDetector(model, classes, device)

    def for_inference(self, saved: Checkpoint) -> Checkpoint:
        """The part of a checkpoint that a detector needs."""
        return saved

    def check(self, dataset: Dataset, config: TrainingConfig) -> None:
        """See `Engine.check`."""
        check_training(partial(Training, self), dataset, config)

    def train(
        self,
        dataset: Dataset,
        run: RunFolder,
        config: TrainingConfig,
        progress: Progress = silent,
        validate: Validate | None = None,
    ) -> Path:
        """See `Engine.train`."""
        start = partial(Training, self)
        return run_training(start, dataset, run, config, launch=launch_torchrun, progress=progress, validate=validate)

    def load(self, checkpoint: Path, device: str = "auto") -> Detector:
        """See `Engine.load`."""
        saved = self.for_inference(read_checkpoint(checkpoint))
        name = saved.model.partition(":")[2]
        try:
            model = self.build(name, len(saved.classes), saved.image_size, saved.settings)
        except CurateError as error:
            raise DataError(f"the checkpoint's model cannot be built: {error}", place=checkpoint) from error
        except Exception as error:  # settings out of a file may have any type and size
            raise DataError(
                "the checkpoint's model cannot be built", place=checkpoint, got=type(error).__name__
            ) from error
        try:
            model.network.load_state_dict(saved.weights)
        except Exception as error:  # torch raises several kinds
            fault = " ".join(str(error).split("\n")[1:2]).strip()
            raise DataError("the checkpoint's tensors do not fit its model", place=checkpoint, got=fault) from error
        return self.detector(model, saved.classes, select_device(device))

    def model_in(self, checkpoint: Path) -> str | None:
        """See `Engine.model_in`."""
        return read_model_name(checkpoint)
