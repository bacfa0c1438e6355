"""The retinaface engine."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import get_model_weights

from curate.dataset import ClassEntry
from curate.engines.base import Detector, model_of
from curate.engines.retinaface.backbones import BACKBONES
from curate.engines.retinaface.network import RetinaFace
from curate.engines.retinaface.published_weights import adapted, download_light, is_published, published_model
from curate.engines.retinaface.settings import SHAPES, check_shape
from curate.engines.torch_engine import NetworkDetector, NetworkEngine
from curate.engines.training.augment import Augmentation, Sizing
from curate.engines.training.checkpoint import Checkpoint
from curate.engines.training.device import device_named
from curate.engines.training.recipe import BuiltModel, Recipe, changed, check_names
from curate.engines.training.weights import read_tensors
from curate.errors import DataError, unknown_name


def fuse_norms(network: nn.Module) -> None:
    """Change a network in place, which then cannot be trained any more.

    Only neighbours in an `nn.Sequential` are sure to follow one another.
    """
    network.eval()
    for chain in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for (place, first), (next_place, second) in pairwise(list(chain.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(chain, place, fuse_conv_bn_eval(first, second))
                setattr(chain, next_place, nn.Identity())


_BODY = "backbone.body."
_SIDE_PX = {"mobilenet0.25": 480}  # with a longer side of 640
_RESNETS_EARLY = ("conv1.", "bn1.", "layer1.")
_EARLY = {
    "mobilenet0.25": tuple(f"stage1.{layer}." for layer in range(4)),  # up to stride 4
    "resnet50": _RESNETS_EARLY,
    "resnet152": _RESNETS_EARLY,
}
_RECIPES = {
    "mobilenet0.25": Recipe(
        lr=5e-4, new_lr=5e-4, frozen_norms=False, augmentation=Augmentation(zoom_out=0.5, zoom_in=1.5, window=2 / 3)
    ),
}


def build_model(
    name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
) -> BuiltModel:
    """Build a network with random weights; see `NetworkEngine.build`.

    Raises:
        UsageError: unknown name or setting, or settings that do not go together.
    """
    if name not in SHAPES:
        raise unknown_name("retinaface model", name, BACKBONES, place="--model")
    recipe = _RECIPES.get(name, Recipe())
    check_names(settings, recipe, recipe.augmentation, SHAPES[name])
    shape = check_shape(changed(SHAPES[name], settings), class_count)
    augmentation = changed(recipe.augmentation, settings)
    recipe = replace(changed(recipe, settings), augmentation=augmentation)
    network = RetinaFace(name, shape, class_count, loss)
    short = image_size or _SIDE_PX.get(name, 640)
    return BuiltModel(
        network=network,
        body=network.backbone.body,
        body_prefix=_BODY,
        early=_EARLY[name],
        sizing=Sizing(short, round(short * 4 / 3)),
        recipe=recipe,
        pretrained=partial(_pretrained_tensors, name),
        adapted=partial(adapted, shape=shape, class_count=class_count),
    )


def _pretrained_tensors(name: str) -> Mapping[str, Tensor]:
    """The published face detector for the light model; ImageNet's weights of torchvision for a ResNet."""
    if name == "mobilenet0.25":
        return read_tensors(download_light())
    offered: Any = get_model_weights(name)
    weights = offered.DEFAULT.get_state_dict(progress=False, check_hash=True)
    return {f"{_BODY}{key}": value for key, value in weights.items()}


FACE = (ClassEntry(1, "face"),)


class RetinaFaceEngine(NetworkEngine):
    """See `NetworkEngine`; also loads files that others published, which know one class, `face`."""

    def build(
        self, name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
    ) -> BuiltModel:
        """See `build_model`."""
        return build_model(name, class_count, image_size, settings, loss)

    def detector(self, model: BuiltModel, classes: tuple[ClassEntry, ...], device: torch.device) -> NetworkDetector:
        """See `NetworkEngine.detector`; batch norms become part of the convolutions before them."""
        fuse_norms(model.network)
        return NetworkDetector(model, classes, device)

    def for_use(self, saved: Checkpoint) -> Checkpoint:
        """Without the dense branch, which only teaches: who uses a detector needs no file of a mesh."""
        settings = {name: value for name, value in saved.settings.items() if name != "mesh"}
        weights = {name: value for name, value in saved.weights.items() if not name.startswith("dense.")}
        return replace(saved, settings=settings, weights=weights)

    def load(self, checkpoint: Path, device: str = "auto") -> Detector:
        """Load a checkpoint, or a file of published weights; see `Engine.load`.

        Raises:
            UsageError: there is no such file.
            DataError: neither of the two.
        """
        tensors = _published_tensors(checkpoint)
        if tensors is None:
            return super().load(checkpoint, device)
        name, settings = published_model(tensors)
        model = self.build(name, len(FACE), None, settings)
        try:
            model.network.load_state_dict(dict(model.adapted(tensors)))
        except RuntimeError as error:
            faults = str(error).splitlines()[1:2]
            raise DataError(
                f"not the published weights of {name}", place=checkpoint, got="".join(faults).strip()
            ) from error
        return self.detector(model, FACE, device_named(device))

    def model_in(self, checkpoint: Path) -> str | None:
        """The model of a checkpoint, or of a file of published weights; see `Engine.model_in`."""
        tensors = _published_tensors(checkpoint)
        return super().model_in(checkpoint) if tensors is None else f"retinaface:{published_model(tensors)[0]}"


def _published_tensors(file: Path) -> Mapping[str, Tensor] | None:
    """None where the file is not of those that others published."""
    if not file.is_file() or model_of(file) is not None:
        return None
    try:
        tensors = read_tensors(file)
    except DataError:
        return None  # it is told by who expects a checkpoint
    return tensors if is_published(tensors) else None
