"""How a model is best trained, and how `--set` changes it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from curate.engines.training.augment import Augmentation, Sizing
from curate.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Recipe:
    """How a model is best trained.

    Attributes:
        lr: AdamW's highest learning rate for a batch of 4, for layers that start from pretrained weights.
        new_lr: the same for layers that start at random.
        weight_decay: of AdamW.
        warmup: share of the steps over which the learning rate rises.
        clip_norm: largest norm of the gradient.
        average: decay of the running average of the weights, which is what is used in the end; 0: none.
        frozen_norms: whether pretrained batch norms stay as they are: their statistics must not follow few images.
        augmentation: how far training images vary.
    """

    lr: float = 1e-4
    new_lr: float = 3e-4
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip_norm: float = 10.0
    average: float = 0.998
    frozen_norms: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Pyramid:
    """The shape of Faster R-CNN on a timm backbone: narrow pyramid, small heads, few proposals, for a CPU.

    Attributes:
        channels: of the pyramid's maps.
        hidden: width of the box head.
        anchor_sizes: in pixels at the model's scale, one a map, for strides 4, 8, 16, 32 and 64.
        anchor_ratios: height by width.
        proposals: boxes that the first stage hands on.
        head_batch: of them, those that the second stage learns from in an image.
        score: detections below it are not told.
        detections: at most so many in an image.
    """

    channels: int = 128
    hidden: int = 512
    anchor_sizes: tuple[float, float, float, float, float] = (16, 32, 64, 128, 256)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    proposals: int = 400
    head_batch: int = 64
    score: float = 0.02
    detections: int = 150


Settings = TypeVar("Settings", bound="DataclassInstance")


def changed(default: Settings, settings: Mapping[str, Any]) -> Settings:
    """The defaults with those settings that are theirs.

    Raises:
        UsageError: a value that does not fit.
    """
    own = {name: settings[name] for name in names_of(default) if name in settings}
    if not own:
        return default
    try:
        values = {name: value for name, value in asdict(default).items() if name != "augmentation"}
        whole: Any = TypeAdapter(type(default)).validate_python(values | own)
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0])
        raise UsageError(
            f"not a value for {name}", place="--set", got=repr(own.get(name)), expected=fault["msg"]
        ) from error
    return whole


def names_of(settings: "DataclassInstance") -> list[str]:
    """What `--set` may name."""
    return [item.name for item in fields(settings) if item.name != "augmentation"]


def check_names(settings: Mapping[str, Any], *known: "DataclassInstance") -> None:
    """Refuse settings that no part of the model has.

    Raises:
        UsageError: it lists those there are.
    """
    names = [name for part in known for name in names_of(part)]
    for name in settings:
        if name not in names:
            raise unknown_name("setting", name, names, place="--set")


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
