"""The two-stage engine: trains the classifier of the second stage, and joins it with a detector that is there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from curate.dataset import ClassEntry, Dataset
from curate.engines.base import Detector, Validate
from curate.engines.torch_engine import NetworkEngine
from curate.engines.training.augment import Augmentation, Sizing
from curate.engines.training.batches import Batch
from curate.engines.training.device import placed
from curate.engines.training.recipe import BuiltModel, Recipe, changed, check_names
from curate.engines.two_stage.batches import CropBatches
from curate.engines.two_stage.classifier import TwoStageNetwork, check_network, pretrained_tensors
from curate.engines.two_stage.detector import RememberedBoxes, TwoStageDetector
from curate.engines.two_stage.first_stage import FirstStage, first_stage_in, is_detector, read_first_stage
from curate.engines.two_stage.settings import TwoStage
from curate.errors import CurateError, UsageError
from curate.progress import Progress, silent
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder

CROP_PX = 64
_EARLY = ("conv1.", "bn1.", "layer1.")
_LEAST = 2  # crops that a batch norm needs


class TwoStageEngine(NetworkEngine):
    """See `NetworkEngine`. What it trains is the classifier; the detector goes with it into every checkpoint.

    Args:
        first: the detector of networks that it builds; None: a checkpoint will bring it.
    """

    def __init__(self, first: FirstStage | None = None) -> None:
        self._first = first

    def build(
        self, name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
    ) -> BuiltModel:
        """Build a ResNet with random weights.

        Args:
            name: of torchvision's ResNet, such as "resnet18".
            class_count: without the background.
            image_size: side of the crops in pixels; None: 64.
            settings: fields of `TwoStage`, of `Recipe` and of its `Augmentation`.
            loss: "default".

        Raises:
            UsageError: unknown name or setting, or another loss.
        """
        check_network(name)
        if loss != "default":
            raise UsageError("the classes come balanced; there is one loss", place="--loss", got=loss)
        augmentation = Augmentation(zoom_out=1.0, zoom_in=1.0)  # the boxes vary instead, with what is around them
        recipe = Recipe(lr=1e-4, new_lr=2.5e-4, weight_decay=0.05, frozen_norms=False, augmentation=augmentation)
        check_names(settings, recipe, augmentation, TwoStage())
        recipe = replace(changed(recipe, settings), augmentation=changed(augmentation, settings))
        network = TwoStageNetwork(name, class_count, changed(TwoStage(), settings))
        if self._first is not None:
            network.detector.hold(self._first)
        side = image_size or CROP_PX
        sizing = Sizing(side, side, square=True)
        pretrained = partial(pretrained_tensors, name)
        return BuiltModel(network, network.backbone, "backbone.", _EARLY, sizing, recipe, pretrained, _without_detector)

    def batches(
        self, dataset: Dataset, config: TrainingConfig, model: BuiltModel, share: tuple[int, int]
    ) -> TorchDataset[Batch | CurateError]:
        """See `CropBatches`."""
        _check_batches(config)
        settings, augmentation = _network_of(model).settings, model.recipe.augmentation
        return CropBatches(dataset, config.batch, model.sizing, augmentation, settings, seed=config.seed, share=share)

    def detector(self, model: BuiltModel, classes: tuple[ClassEntry, ...], device: torch.device) -> Detector:
        """Both stages together."""
        network = _network_of(model)
        first = network.detector.held().load(str(device))
        classifier = placed(network, device).eval()
        return TwoStageDetector(first, classifier, network.settings, model.sizing.short_px, classes, device)

    def train(
        self,
        dataset: Dataset,
        run: RunFolder,
        config: TrainingConfig,
        progress: Progress = silent,
        validate: Validate | None = None,
    ) -> Path:
        """Train the classifier on the boxes of every image; see `NetworkEngine.train`.

        The detector is read once, when the run begins; it may be gone when the run goes on.

        Raises:
            UsageError: there is no such detector.
        """
        if self._first is None:
            return TwoStageEngine(_first_stage_of(run, config)).train(dataset, run, config, progress, validate)
        return super().train(dataset, run, config, progress, validate and _ValidateFaster(validate))


@dataclass
class _ValidateFaster:
    """Judges as `validate` does, with boxes that the first stage found the first time."""

    validate: Validate
    first: RememberedBoxes | None = None

    def __call__(self, detector: Detector) -> Mapping[str, float | None]:
        if isinstance(detector, TwoStageDetector):
            self.first = self.first or RememberedBoxes(detector.first)
            detector = detector.with_first(self.first)
        return self.validate(detector)


def _first_stage_of(run: RunFolder, config: TrainingConfig) -> FirstStage:
    if run.last.is_file():
        return first_stage_in(run.last)
    settings = changed(TwoStage(), config.settings)
    return read_first_stage(settings.detector, settings.detector_weights)


def _check_batches(config: TrainingConfig) -> None:
    if config.balance != "none":
        raise UsageError(
            "the classes of crops are balanced already", place="--balance", got=config.balance, remedy="Leave it out."
        )
    least = _LEAST * config.processes
    if config.batch < least:
        raise UsageError("too few crops a step", place="--batch", got=config.batch, expected=f"{least} or more")


def _network_of(model: BuiltModel) -> TwoStageNetwork:
    if not isinstance(model.network, TwoStageNetwork):
        raise TypeError(f"not a network of this engine: {type(model.network).__name__}")
    return model.network


def _without_detector(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A run that begins from another's weights keeps the detector that it was given."""
    return {name: tensor for name, tensor in tensors.items() if not is_detector(name)}
