"""The models of the retinaface engine: a network with random weights, and how it is fed, filled and trained."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor
from torchvision.models import get_model_weights

from curate.engines.built_model import BuiltModel
from curate.engines.retinaface.backbones import BACKBONES
from curate.engines.retinaface.network import RetinaFace
from curate.engines.retinaface.published_weights import adapted, download_light
from curate.engines.retinaface.settings import SHAPES, check_shape
from curate.engines.training.augment import Augmentation, Sizing
from curate.engines.training.recipe import Recipe, changed, check_names
from curate.engines.training.weights import read_tensors
from curate.errors import unknown_name

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
