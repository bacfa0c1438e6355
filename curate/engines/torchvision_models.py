"""The models of the torchvision engine: its own box detectors, and Faster R-CNN on any timm backbone.

`build_model` returns a network with random weights and never downloads; `weights` fills it.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn
from torchvision.models import detection as torchvision_detection
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from curate.engines.augment import Augmentation, Sizing
from curate.errors import UsageError, unknown_name

TIMM_PREFIX = "fasterrcnn+timm/"
_NOT_BOX_DETECTORS = ("mask", "keypoint")  # they need more than boxes to train
_BODY = "backbone.body."
_SMALLEST_PX = {"ssd300_vgg16": 300}  # below that its last feature maps would have no pixel
_PYRAMID_STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Recipe:
    """How a model is best trained.

    Attributes:
        lr: AdamW's highest learning rate for a batch of 4, for layers that start from pretrained weights.
        new_lr: the same for layers that start at random.
        weight_decay: of AdamW.
        warmup: share of the steps over which the learning rate rises.
        clip_norm: largest norm of the gradient.
        augmentation: how far training images vary.
    """

    lr: float = 1e-4
    new_lr: float = 3e-4
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip_norm: float = 10.0
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True, eq=False)
class BuiltModel:
    """A network and what one must know to feed it.

    Attributes:
        network: maps (images, targets) to losses in training and (images,) to boxes otherwise.
        body: the part that a classification network can fill.
        body_prefix: of the body's tensors among the network's.
        early: names in the body of the layers that stay as pretrained; they know edges and colours, and their large
            maps are the dearest to train.
        sizing: of the images that the network gets; it resizes nothing itself.
        recipe: how it is trained.
    """

    network: nn.Module
    body: nn.Module
    body_prefix: str
    early: tuple[str, ...]
    sizing: Sizing
    recipe: Recipe


def known_models() -> list[str]:
    """The names of torchvision's own box detectors."""
    names = list_models(module=torchvision_detection)
    return [name for name in names if not name.startswith(_NOT_BOX_DETECTORS)]


def check_model(name: str) -> None:
    """Refuse a name that `build_model` does not know.

    Raises:
        UsageError: it names the closest one.
    """
    if not name.startswith(TIMM_PREFIX):
        if name not in known_models():
            raise unknown_name("torchvision model", name, [*known_models(), f"{TIMM_PREFIX}BACKBONE"], place="--model")
        return
    import timm

    backbone = name.removeprefix(TIMM_PREFIX)
    if not timm.is_model(backbone):
        closest = get_close_matches(backbone.split(".")[0], timm.list_models(), n=1)
        raise UsageError(
            "unknown timm backbone",
            place="--model",
            got=repr(backbone),
            expected="a name that timm.list_models() lists",
            remedy=f"Did you mean {closest[0]!r}?" if closest else None,
        )


def build_model(name: str, class_count: int, image_size: int | None = None) -> BuiltModel:
    """Build a network with random weights.

    Args:
        name: without the engine, such as "ssdlite320_mobilenet_v3_large" or "fasterrcnn+timm/resnet18".
        class_count: without the background.
        image_size: shorter side in pixels; None takes the model's own.

    Raises:
        UsageError: unknown name, a size that the model cannot work at, or a backbone without a pyramid of feature maps.
    """
    check_model(name)
    if name.startswith(TIMM_PREFIX):
        return _build_on_timm(name.removeprefix(TIMM_PREFIX), class_count, image_size)
    if image_size is not None and image_size < _SMALLEST_PX.get(name, 0):
        raise UsageError(
            f"{name} cannot see images this small",
            place="--image-size",
            got=image_size,
            expected=f"{_SMALLEST_PX[name]} px or more",
        )
    network: Any = get_model(name, weights=None, weights_backbone=None, num_classes=class_count + 1)
    own = network.transform  # a GeneralizedRCNNTransform
    if own.fixed_size is not None:
        side = image_size or own.fixed_size[0]
        sizing = Sizing(side, side, square=True)
    else:
        short = image_size or own.min_size[-1]
        sizing = Sizing(short, round(short * own.max_size / own.min_size[-1]))
    network.transform = _Normalisation(own.image_mean, own.image_std, own.size_divisible)
    has_getter = hasattr(network.backbone, "body")
    body = network.backbone.body if has_getter else network.backbone
    prefix = _BODY if has_getter else "backbone."
    early = ("conv1.", "bn1.", "layer1.") if "resnet" in name else ()
    return BuiltModel(network, body, prefix, early, sizing, Recipe())


def pretrained_tensors(name: str) -> dict[str, Tensor]:
    """Download what the library itself offers for a model: tensors named as in the whole network."""
    if name.startswith(TIMM_PREFIX):
        body = timm_body(name.removeprefix(TIMM_PREFIX), pretrained=True)
        return {f"{_BODY}{key}": value for key, value in body.state_dict().items()}
    offered: Any = get_model_weights(name)
    return dict(offered.DEFAULT.get_state_dict(progress=False, check_hash=True))


class _Normalisation(GeneralizedRCNNTransform):
    """Normalises and batches; curate has sized the images itself, alike in training and prediction."""

    def __init__(self, mean: list[float], std: list[float], size_divisible: int) -> None:
        super().__init__(1, 1, mean, std, size_divisible=size_divisible)

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


class TimmPyramid(nn.Module):
    """A timm backbone under a feature pyramid: strides 4, 8, 16, 32, and 64 by pooling."""

    def __init__(self, body: nn.Module, channels: list[int], out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(channels, out_channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """(b, 3, h, w) → {"0": (b, c, h/4, w/4), "1": (b, c, h/8, w/8), …, "pool": …}."""
        maps: list[Tensor] = self.body(images)
        return self.fpn(OrderedDict((str(level), features) for level, features in enumerate(maps)))


def timm_body(backbone: str, *, pretrained: bool) -> nn.Module:
    """timm's backbone as a list of feature maps with strides 4 to 32.

    Raises:
        UsageError: the backbone has no such maps.
    """
    import timm

    try:
        whole: Any = timm.create_model(backbone, pretrained=False, features_only=True)
        strides = whole.feature_info.reduction()
        levels = tuple(strides.index(stride) for stride in _PYRAMID_STRIDES)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            "the backbone has no pyramid of feature maps",
            place="--model",
            got=repr(backbone),
            expected=f"maps with strides {', '.join(map(str, _PYRAMID_STRIDES))}, as in a convolutional network",
        ) from error
    return timm.create_model(backbone, pretrained=pretrained, features_only=True, out_indices=levels)


def _build_on_timm(backbone: str, class_count: int, image_size: int | None) -> BuiltModel:
    """Faster R-CNN that a CPU can train: narrow pyramid, small heads, few proposals."""
    body = timm_body(backbone, pretrained=False)
    info: Any = body.feature_info
    settings: dict[str, Any] = getattr(body, "pretrained_cfg", None) or {}
    channels, hidden = 128, 512
    network = FasterRCNN(
        TimmPyramid(body, info.channels(), channels),
        rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in (16, 32, 64, 128, 256)), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=400,
        rpn_post_nms_top_n_train=400,
        rpn_pre_nms_top_n_test=400,
        rpn_post_nms_top_n_test=400,
        rpn_batch_size_per_image=128,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(channels * 7 * 7, hidden),
        box_predictor=FastRCNNPredictor(hidden, class_count + 1),
        box_batch_size_per_image=64,
        box_positive_fraction=0.4,
        box_score_thresh=0.02,
        box_detections_per_img=150,
    )
    mean, std = settings.get("mean", (0.485, 0.456, 0.406)), settings.get("std", (0.229, 0.224, 0.225))
    network.transform = _Normalisation(list(mean), list(std), size_divisible=32)
    short = image_size or 400
    recipe = Recipe(lr=2e-4, new_lr=5e-4)
    return BuiltModel(network, body, _BODY, _up_to(body, info.module_name()[0]), Sizing(short, short * 2), recipe)


def _up_to(body: nn.Module, module: str) -> tuple[str, ...]:
    """The names of the body's first parameters, up to the last one of `module`, where its first map comes from."""
    prefixes = (f"{module}.", f"{module.replace('.', '_')}.")  # timm flattens some networks
    names = [name for name, _ in body.named_parameters()]
    last = max((index for index, name in enumerate(names) if name.startswith(prefixes)), default=-1)
    return tuple(names[: last + 1])


def freeze_pretrained(model: BuiltModel, at_random: Collection[str]) -> None:
    """Keep batch norms and the first layers as the pretrained weights have them.

    Args:
        model: changed in place; its network is in training mode.
        at_random: names of the network's tensors that hold no pretrained weights, and are trained in any case.
    """
    for name, module in model.network.named_modules():
        # a batch norm's statistics must not follow the few images of a batch
        if isinstance(module, nn.BatchNorm2d) and f"{name}.weight" not in at_random:
            module.eval()
            module.requires_grad_(False)
    for name, parameter in model.body.named_parameters():
        if model.early and name.startswith(model.early) and f"{model.body_prefix}{name}" not in at_random:
            parameter.requires_grad_(False)
