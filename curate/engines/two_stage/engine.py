"""The two-stage engine: trains a classifier for the boxes of an existing detector and combines both into a detector."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.dataset import ClassEntry, Dataset
from curate.engines.base import Detector, Validate
from curate.engines.torch_engine import TorchEngine
from curate.engines.training.augment import Augmentation, Sizing
from curate.engines.training.device import move_to_device
from curate.engines.training.processes import ProcessGroup
from curate.engines.training.recipe import BuiltModel, Recipe, apply_settings, check_settings
from curate.engines.two_stage.batches import CropBatches
from curate.engines.two_stage.classifier import TwoStageNetwork, check_network, pretrained_tensors
from curate.engines.two_stage.detector import CachedDetector, TwoStageDetector
from curate.engines.two_stage.first_stage import FirstStage, is_detector, read_embedded, read_first_stage
from curate.engines.two_stage.settings import TwoStageSettings
from curate.errors import UsageError
from curate.progress import Progress, silent
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder

CROP_PX = 64
_FROZEN = ("conv1.", "bn1.", "layer1.")
_SMALLEST_BATCH = 2  # batch norm needs two crops


class TwoStageEngine(TorchEngine):
    """See `TorchEngine`. It trains the classifier; every checkpoint holds the detector as well.

    Args:
        first: The detector of the networks that it builds; None if a checkpoint will bring it.
    """

    def __init__(self, first: FirstStage | None = None) -> None:
        self._first = first

    def build(
        self, name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
    ) -> BuiltModel:
        """Build a ResNet with random weights.

        Args:
            name: A ResNet of torchvision, such as "resnet18".
            class_count: Number of classes, without the background.
            image_size: Side of the crops in pixels; None means 64.
            settings: Fields of `TwoStageSettings`, of `Recipe` and of its `Augmentation`.
            loss: "default".

        Raises:
            UsageError: Unknown name or setting, or another loss.
        """
        check_network(name)
        if loss != "default":
            raise UsageError(
                "a classifier has one loss, because its batches are class-balanced already", place="--loss", got=loss
            )
        augmentation = Augmentation(zoom_out=1.0, zoom_in=1.0)  # the boxes are shifted and scaled instead
        recipe = Recipe(lr=1e-4, new_lr=2.5e-4, weight_decay=0.05, frozen_norms=False, augmentation=augmentation)
        check_settings(settings, recipe, augmentation, TwoStageSettings())
        recipe = replace(apply_settings(recipe, settings), augmentation=apply_settings(augmentation, settings))
        network = TwoStageNetwork(name, class_count, apply_settings(TwoStageSettings(), settings))
        if self._first is not None:
            network.detector.embed(self._first)
        side = image_size or CROP_PX
        sizing = Sizing(side, side, square=True)
        pretrained = partial(pretrained_tensors, name)
        return BuiltModel(
            network, network.backbone, "backbone.", _FROZEN, sizing, recipe, pretrained, _without_detector
        )

    def batches(self, dataset: Dataset, config: TrainingConfig, model: BuiltModel, group: ProcessGroup) -> CropBatches:
        """See `CropBatches`."""
        _check_batches(config)
        settings, augmentation = _network_of(model).settings, model.recipe.augmentation
        return CropBatches(dataset, config.batch, model.sizing, augmentation, settings, seed=config.seed, group=group)

    def detector(self, model: BuiltModel, classes: tuple[ClassEntry, ...], device: torch.device) -> Detector:
        """Both stages together."""
        network = _network_of(model)
        first = network.detector.extract().load(str(device))
        classifier = move_to_device(network, device).eval()
        return TwoStageDetector(first, classifier, network.settings, model.sizing.short_px, classes, device)

    def check(self, dataset: Dataset, config: TrainingConfig) -> None:
        """See `Engine.check`."""
        if self._first is None:
            return TwoStageEngine(_first_stage_named(config)).check(dataset, config)
        return super().check(dataset, config)

    def train(
        self,
        dataset: Dataset,
        run: RunFolder,
        config: TrainingConfig,
        progress: Progress = silent,
        validate: Validate | None = None,
    ) -> Path:
        """Train the classifier on the boxes of every image; see `Engine.train`.

        The detector is read once, at the start of the run; a resumed run takes it from its last checkpoint.

        Raises:
            UsageError: There is no such detector.
        """
        if self._first is None:
            return TwoStageEngine(_first_stage_of(run, config)).train(dataset, run, config, progress, validate)
        return super().train(dataset, run, config, progress, validate and _ValidateCached(validate))


@dataclass
class _ValidateCached:
    """Calls `validate` with a first stage that detects in each image only once: training does not change its boxes."""

    validate: Validate
    first: CachedDetector | None = None

    def __call__(self, detector: Detector) -> Mapping[str, float | None]:
        if isinstance(detector, TwoStageDetector):
            self.first = self.first or CachedDetector(detector.first)
            detector = detector.with_first(self.first)
        return self.validate(detector)


def _first_stage_of(run: RunFolder, config: TrainingConfig) -> FirstStage:
    return read_embedded(run.last) if run.last.is_file() else _first_stage_named(config)


def _first_stage_named(config: TrainingConfig) -> FirstStage:
    settings = apply_settings(TwoStageSettings(), config.settings)
    return read_first_stage(settings.detector, settings.detector_weights)


def _check_batches(config: TrainingConfig) -> None:
    if config.balance != "none":
        raise UsageError(
            "batches of crops are class-balanced already",
            place="--balance",
            got=config.balance,
            remedy="Leave out --balance.",
        )
    smallest = _SMALLEST_BATCH * config.processes
    if config.batch < smallest:
        raise UsageError("the batch is too small", place="--batch", got=config.batch, expected=f"{smallest} or more")


def _network_of(model: BuiltModel) -> TwoStageNetwork:
    if not isinstance(model.network, TwoStageNetwork):
        raise TypeError(f"not a network of this engine: {type(model.network).__name__}")
    return model.network


def _without_detector(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Leave out the detector of another run's checkpoint: a run keeps the detector that it was given."""
    return {name: tensor for name, tensor in tensors.items() if not is_detector(name)}
