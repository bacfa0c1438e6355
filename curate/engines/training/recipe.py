"""A model as a training gets it: the network, its training recipe, and how `--set` changes settings."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from curate.engines.training.augment import Augmentation, Sizing
from curate.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a model's training.

    Attributes:
        lr: AdamW's highest learning rate with batch size 4, for layers that start from pretrained weights.
        new_lr: The same for layers that start from random weights.
        weight_decay: AdamW's weight decay.
        warmup: Share of the steps over which the learning rate rises.
        clip_norm: Largest norm of the gradient.
        average: Decay of the running average of the weights, which is the final model; 0 switches averaging off.
        frozen_norms: Whether pretrained batch norms stay frozen; a few images are too little for new statistics.
        augmentation: Augmentation of training images.
    """

    lr: float = 1e-4
    new_lr: float = 3e-4
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip_norm: float = 10.0
    average: float = 0.998
    frozen_norms: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)


def setting_names(settings: "DataclassInstance") -> list[str]:
    """The names that `--set` accepts for a settings record."""
    return [item.name for item in fields(settings) if item.name != "augmentation"]


def check_settings(settings: Mapping[str, Any], *known: "DataclassInstance") -> None:
    """Refuse names that no settings record of the model has.

    Raises:
        UsageError: Unknown name; the message lists the known ones.
    """
    names = [name for part in known for name in setting_names(part)]
    for name in settings:
        if name not in names:
            raise unknown_name("setting", name, names, place="--set")


def apply_settings(default: Settings, settings: Mapping[str, Any]) -> Settings:
    """A copy of `default` with the settings that are among its fields.

    Raises:
        UsageError: A value has the wrong type or is out of range.
    """
    own = {name: settings[name] for name in setting_names(default) if name in settings}
    if not own:
        return default
    try:
        values = {name: value for name, value in asdict(default).items() if name != "augmentation"}
        whole: Any = TypeAdapter(type(default)).validate_python(values | own)
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0])
        raise UsageError(
            f"invalid value for {name}", place="--set", got=repr(own.get(name)), expected=fault["msg"]
        ) from error
    return whole


def _unchanged(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return tensors


@dataclass(frozen=True, eq=False)
class BuiltModel:
    """A network and what a training needs to know about it.

    Attributes:
        network: Maps (images, targets) to losses in training, and (images,) to predictions otherwise.
        body: The part that the weights of a classification network can fill.
        body_prefix: Prefix of the body's tensors among the network's.
        frozen: Prefixes, within the body, of the first layers. They stay frozen where pretrained: they detect edges
            and colours, and their large feature maps are the most expensive to train.
        sizing: Size of the images that the network gets; it resizes nothing itself.
        recipe: Hyperparameters.
        pretrained: Downloads the library's own weights, with tensors named as in the whole network.
        convert: Renames and reshapes the tensors of a weights file before they are matched with the network's.
    """

    network: nn.Module
    body: nn.Module
    body_prefix: str
    frozen: tuple[str, ...]
    sizing: Sizing
    recipe: Recipe
    pretrained: Callable[[], Mapping[str, Tensor]]
    convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = _unchanged


def freeze_pretrained(model: BuiltModel, at_random: Collection[str]) -> None:
    """Freeze the first layers and, if the recipe says so, the batch norms, where they are pretrained.

    Args:
        model: Changed in place; its network is in training mode.
        at_random: Names of the network's tensors that start from random weights; these are always trained.
    """
    for name, module in model.network.named_modules():
        is_pretrained = isinstance(module, nn.BatchNorm2d) and f"{name}.weight" not in at_random
        is_first = bool(model.frozen) and name.removeprefix(model.body_prefix).startswith(model.frozen)
        if is_pretrained and (model.recipe.frozen_norms or is_first):
            module.eval()
            module.requires_grad_(False)
    for name, parameter in model.body.named_parameters():
        if model.frozen and name.startswith(model.frozen) and f"{model.body_prefix}{name}" not in at_random:
            parameter.requires_grad_(False)
