"""A network with what one must know to train and feed it: engines build it, the rest trains, loads and runs it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from curate.engines.training.augment import Sizing
from curate.engines.training.recipe import Recipe


def _as_they_are(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return tensors


@dataclass(frozen=True, eq=False)
class BuiltModel:
    """A network and what one must know to feed it.

    Attributes:
        network: maps (images, targets) to losses in training and (images,) to answers otherwise.
        body: the part that a classification network can fill.
        body_prefix: of the body's tensors among the network's.
        early: names in the body of the layers that stay as pretrained; they know edges and colours, and their large
            maps are the dearest to train.
        sizing: of the images that the network gets; it resizes nothing itself.
        recipe: how it is trained.
        pretrained: downloads what the library itself offers for the model: tensors named as in the whole network.
        adapted: what to do with the tensors of a weights file before they are fitted: other names, other heads.
    """

    network: nn.Module
    body: nn.Module
    body_prefix: str
    early: tuple[str, ...]
    sizing: Sizing
    recipe: Recipe
    pretrained: Callable[[], Mapping[str, Tensor]]
    adapted: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = _as_they_are


def freeze_pretrained(model: BuiltModel, at_random: Collection[str]) -> None:
    """Keep the first layers, and batch norms if the recipe says so, as the pretrained weights have them.

    Args:
        model: changed in place; its network is in training mode.
        at_random: names of the network's tensors that hold no pretrained weights, and are trained in any case.
    """
    for name, module in model.network.named_modules():
        is_pretrained = isinstance(module, nn.BatchNorm2d) and f"{name}.weight" not in at_random
        is_early = bool(model.early) and name.removeprefix(model.body_prefix).startswith(model.early)
        if is_pretrained and (model.recipe.frozen_norms or is_early):
            module.eval()
            module.requires_grad_(False)
    for name, parameter in model.body.named_parameters():
        if model.early and name.startswith(model.early) and f"{model.body_prefix}{name}" not in at_random:
            parameter.requires_grad_(False)
