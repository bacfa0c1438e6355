"""What the engines share whose models are torch networks of this process: one way to train, to save and to load.

An engine says how its networks are built; one whose networks see something else than whole images also says what a
batch is, and what answers with boxes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from curate.dataset import ClassEntry, Dataset
from curate.engines.base import Detections, Detector, Validate, check_images, model_of
from curate.engines.training.augment import resize_pixels
from curate.engines.training.batches import Batch, TrainingBatches
from curate.engines.training.checkpoint import Checkpoint, read_checkpoint
from curate.engines.training.device import device_named, placed
from curate.engines.training.journal import Journal
from curate.engines.training.loop import Training
from curate.engines.training.order import BatchOrder
from curate.engines.training.processes import Team, check_processes, launch_torchrun, train_together
from curate.engines.training.recipe import BuiltModel
from curate.errors import CurateError, DataError
from curate.progress import Progress, silent
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder


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


class NetworkEngine(ABC):
    """Trains with AdamW, a warm-up and a cosine decay; a model's `Recipe` holds what differs between models.

    It keeps no state: the processes of a training get copies.
    """

    @abstractmethod
    def build(
        self, name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
    ) -> BuiltModel:
        """Build a network with random weights.

        Args:
            name: of the model, without the engine.
            class_count: without the background.
            image_size, settings, loss: see `TrainingConfig`.

        Raises:
            UsageError: unknown name or setting, or one that the model cannot have.
        """

    def batches(
        self, dataset: Dataset, config: TrainingConfig, model: BuiltModel, share: tuple[int, int]
    ) -> TorchDataset[Batch | CurateError]:
        """What a training shows, by step; see `TrainingBatches`.

        Raises:
            TrainingError: nothing to train on.
        """
        order = BatchOrder.of(dataset, config)
        recipe = model.recipe
        return TrainingBatches(dataset, order, model.sizing, recipe.augmentation, seed=config.seed, share=share)

    def detector(self, model: BuiltModel, classes: tuple[ClassEntry, ...], device: torch.device) -> Detector:
        """What answers with boxes, with the network as it is."""
        return NetworkDetector(model, classes, device)

    def for_use(self, saved: Checkpoint) -> Checkpoint:
        """What of a checkpoint a detector needs."""
        return saved

    def train(
        self,
        dataset: Dataset,
        run: RunFolder,
        config: TrainingConfig,
        progress: Progress = silent,
        validate: Validate | None = None,
    ) -> Path:
        """Train on every image of `dataset`; see `Engine.train`.

        Raises:
            TrainingError: nothing to train on, other images than the run began with, a loss that is no number, or a
                batch that the memory does not hold.
            MissingError: weights or device are not there.
            UsageError: a setting does not fit the model.
            KeyboardInterrupt: after Ctrl-C, once a checkpoint is written.
        """
        check_processes(config)
        gpu = [device] if (device := device_named(config.device)).type == "cuda" else []
        with run.held(), torch.random.fork_rng(gpu):
            if config.processes == 1:
                self._train(dataset, run.path, config, validate, progress, None)
            else:
                arguments = (config, dataset, run.path, config, validate)
                train_together(launch_torchrun, self._train, *arguments, progress=progress)
        return run.best

    def load(self, checkpoint: Path, device: str = "auto") -> Detector:
        """Load a checkpoint; see `Engine.load`.

        Raises:
            UsageError: there is no such file.
            DataError: not a checkpoint of this engine.
        """
        saved = self.for_use(read_checkpoint(checkpoint))
        name = saved.model.partition(":")[2]
        model = self.build(name, len(saved.classes), saved.image_size, saved.settings)
        try:
            model.network.load_state_dict(saved.weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            fault = " ".join(str(error).split("\n")[1:2]).strip()
            raise DataError(
                "the checkpoint's tensors are not those of its model", place=checkpoint, got=fault
            ) from error
        return self.detector(model, saved.classes, device_named(device))

    def model_in(self, checkpoint: Path) -> str | None:
        """See `Engine.model_in`."""
        return model_of(checkpoint)

    def _train(
        self,
        dataset: Dataset,
        folder: Path,
        config: TrainingConfig,
        validate: Validate | None,
        progress: Progress,
        interrupted: Callable[[], bool] | None,
    ) -> None:
        """What each process of a training does."""
        run, team = RunFolder(folder), Team.current()
        with closing(Training(self, dataset, run, config, team)) as training:
            if not team.leads:
                goes_on = training.step < config.steps
                while goes_on:
                    training.take_step()
                    goes_on = team.agree(goes_on)
                return
            with Journal(
                run, config, training, step=training.step, progress=progress, validate=validate, interrupted=interrupted
            ) as journal:
                while journal.goes_on:
                    journal.took(training.take_step())
                    team.agree(journal.goes_on)
