"""The retinaface engine: RetinaFace with light and deep backbones, trained here or published by others."""

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
from curate.engines.base import Detector
from curate.engines.models import LIST_MODELS
from curate.engines.retinaface.backbones import BACKBONES
from curate.engines.retinaface.network import RetinaFace
from curate.engines.retinaface.published_weights import convert_tensors, download_light, is_published, published_model
from curate.engines.retinaface.settings import DEFAULTS, check_consistent
from curate.engines.torch_engine import TorchDetector, TorchEngine
from curate.engines.training.augment import Augmentation, Sizing
from curate.engines.training.checkpoint import Checkpoint, read_model_name
from curate.engines.training.device import select_device
from curate.engines.training.recipe import BuiltModel, Recipe, apply_settings, check_settings
from curate.engines.training.weights import read_tensors
from curate.errors import CurateError, DataError, unknown_name

_BODY = "backbone.body."
_SHORT_PX = {"mobilenet0.25": 480}  # with a longer side of 640
_FROZEN_RESNET = ("conv1.", "bn1.", "layer1.")
_FROZEN = {
    "mobilenet0.25": tuple(f"stage1.{layer}." for layer in range(4)),  # up to stride 4
    "resnet50": _FROZEN_RESNET,
    "resnet152": _FROZEN_RESNET,
}
_RECIPES = {
    "mobilenet0.25": Recipe(
        lr=5e-4, new_lr=5e-4, frozen_norms=False, augmentation=Augmentation(zoom_out=0.5, zoom_in=1.5, window=2 / 3)
    ),
}
FACE = (ClassEntry(1, "face"),)  # the class of published files


class RetinaFaceEngine(TorchEngine):
    """See `TorchEngine`; also loads weights published by others, which have one class, `face`."""

    def build(
        self, name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
    ) -> BuiltModel:
        """See `build_model`."""
        return build_model(name, class_count, image_size, settings, loss)

    def detector(self, model: BuiltModel, classes: tuple[ClassEntry, ...], device: torch.device) -> TorchDetector:
        """See `TorchEngine.detector`; batch norms are fused into the convolutions before them."""
        fuse_norms(model.network)
        return TorchDetector(model, classes, device)

    def for_inference(self, saved: Checkpoint) -> Checkpoint:
        """Without the dense branch, which is used in training only, so that no mesh file is needed."""
        settings = {name: value for name, value in saved.settings.items() if name != "mesh"}
        weights = {name: value for name, value in saved.weights.items() if not name.startswith("dense.")}
        return replace(saved, settings=settings, weights=weights)

    def load(self, checkpoint: Path, device: str = "auto") -> Detector:
        """Load a checkpoint, or a file of published weights; see `Engine.load`."""
        tensors = _published_tensors(checkpoint)
        if tensors is None:
            return super().load(checkpoint, device)
        name, settings = published_model(tensors)
        model = self.build(name, len(FACE), None, settings)
        try:
            model.network.load_state_dict(dict(model.convert(tensors)))
        except CurateError:
            raise
        except Exception as error:  # torch raises several kinds
            faults = str(error).splitlines()[1:2]
            raise DataError(
                f"not the published weights of {name}", place=checkpoint, got="".join(faults).strip()
            ) from error
        return self.detector(model, FACE, select_device(device))

    def model_in(self, checkpoint: Path) -> str | None:
        """The model in a checkpoint or in a file of published weights; see `Engine.model_in`."""
        tensors = _published_tensors(checkpoint)
        return super().model_in(checkpoint) if tensors is None else f"retinaface:{published_model(tensors)[0]}"


def _published_tensors(file: Path) -> Mapping[str, Tensor] | None:
    """The tensors of a published file; None for any other file."""
    if not file.is_file() or read_model_name(file) is not None:
        return None
    try:
        tensors = read_tensors(file)
    except DataError:
        return None  # loading it as a checkpoint reports the error
    return tensors if is_published(tensors) else None


def build_model(
    name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
) -> BuiltModel:
    """Build a network with random weights; see `TorchEngine.build`.

    Raises:
        UsageError: Unknown name or setting, or settings that contradict one another.
    """
    if name not in DEFAULTS:
        raise unknown_name("retinaface model", name, BACKBONES, place="--model", remedy=LIST_MODELS)
    recipe = _RECIPES.get(name, Recipe())
    check_settings(settings, recipe, recipe.augmentation, DEFAULTS[name])
    own = apply_settings(DEFAULTS[name], settings)
    check_consistent(own, class_count)
    recipe = replace(apply_settings(recipe, settings), augmentation=apply_settings(recipe.augmentation, settings))
    network = RetinaFace(name, own, class_count, loss)
    short = image_size or _SHORT_PX.get(name, 640)
    return BuiltModel(
        network=network,
        body=network.backbone.body,
        body_prefix=_BODY,
        frozen=_FROZEN[name],
        sizing=Sizing(short, round(short * 4 / 3)),
        recipe=recipe,
        pretrained=partial(_pretrained_tensors, name),
        convert=partial(convert_tensors, settings=own, class_count=class_count),
    )


def _pretrained_tensors(name: str) -> Mapping[str, Tensor]:
    """Download the published face detector for the light model, torchvision's ImageNet weights for a ResNet."""
    if name == "mobilenet0.25":
        return read_tensors(download_light())
    weights: Any = get_model_weights(name)
    tensors = weights.DEFAULT.get_state_dict(progress=False, check_hash=True)
    return {f"{_BODY}{key}": value for key, value in tensors.items()}


def fuse_norms(network: nn.Module) -> None:
    """Fuse batch norms into the convolutions before them, in place; the network can then no longer be trained.

    Only neighbours in an `nn.Sequential` are certain to follow one another.
    """
    network.eval()
    for chain in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for (name, first), (next_name, second) in pairwise(list(chain.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(chain, name, fuse_conv_bn_eval(first, second))
                setattr(chain, next_name, nn.Identity())
