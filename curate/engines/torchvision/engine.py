"""The torchvision engine: torchvision's own box detectors, and Faster R-CNN on any timm backbone."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models import detection as torchvision_detection
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from curate.engines.models import LIST_MODELS
from curate.engines.torch_engine import TorchEngine
from curate.engines.torchvision.timm_fpn import FpnSettings, faster_rcnn_on, names_up_to_first_map, timm_body
from curate.engines.training.augment import Sizing
from curate.engines.training.recipe import BuiltModel, Recipe, apply_settings, check_settings
from curate.errors import UsageError, closest, unknown_name

TIMM_PREFIX = "fasterrcnn+timm/"
_NOT_BOX_DETECTORS = ("mask", "keypoint")  # they need more than boxes to train
_BODY = "backbone.body."
_SMALLEST_PX = {"ssd300_vgg16": 300}  # at a smaller size its last feature maps would be empty
_HAVE_FOCAL_LOSS = ("retinanet", "fcos")  # always
_GAMMA = 2.0


class TorchvisionEngine(TorchEngine):
    """See `TorchEngine`."""

    def build(
        self, name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
    ) -> BuiltModel:
        """See `build_model`."""
        return build_model(name, class_count, image_size, settings, loss)


def known_models() -> list[str]:
    """Names of torchvision's own box detectors."""
    names = list_models(module=torchvision_detection)
    return [name for name in names if not name.startswith(_NOT_BOX_DETECTORS)]


def check_model(name: str) -> None:
    """Refuse an unknown model.

    Raises:
        UsageError: Unknown name; the message has the closest one.
    """
    if not name.startswith(TIMM_PREFIX):
        if name not in known_models():
            names = [*known_models(), f"{TIMM_PREFIX}BACKBONE"]
            raise unknown_name("torchvision model", name, names, place="--model", remedy=LIST_MODELS)
        return
    import timm

    backbone = name.removeprefix(TIMM_PREFIX)
    if not timm.is_model(backbone):
        similar = closest(backbone.split(".")[0], timm.list_models())
        raise UsageError(
            "unknown timm backbone",
            place="--model",
            got=repr(backbone),
            expected="a name that timm.list_models() lists",
            remedy=f"Did you mean {similar!r}?" if similar else None,
        )


def build_model(
    name: str,
    class_count: int,
    image_size: int | None = None,
    settings: Mapping[str, Any] | None = None,
    loss: str = "default",
) -> BuiltModel:
    """Build a network with random weights; downloads nothing.

    Args:
        name: Without the engine, such as "ssdlite320_mobilenet_v3_large" or "fasterrcnn+timm/resnet18".
        class_count: Number of classes, without the background.
        image_size: Shorter side in pixels; None takes the model's own.
        settings: Fields of `Recipe`, of its `Augmentation` and, on timm backbones, of `FpnSettings`.
        loss: "default" or "focal".

    Raises:
        UsageError: Unknown name or setting, an image size that is too small for the model, a backbone without a
            feature pyramid, or a model that does not support a focal loss.
    """
    check_model(name)
    settings = settings or {}
    if name.startswith(TIMM_PREFIX):
        model = _build_on_timm(name.removeprefix(TIMM_PREFIX), class_count, image_size, settings)
    else:
        model = _build_own(name, class_count, image_size, settings)
    recipe = apply_settings(model.recipe, settings)
    augmentation = apply_settings(model.recipe.augmentation, settings)
    if loss == "focal":
        _use_focal_loss(name, model.network)
    return replace(model, recipe=replace(recipe, augmentation=augmentation))


def _build_own(name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any]) -> BuiltModel:
    if image_size is not None and image_size < _SMALLEST_PX.get(name, 0):
        raise UsageError(
            f"the image size is too small for {name}",
            place="--image-size",
            got=image_size,
            expected=f"{_SMALLEST_PX[name]} px or more",
        )
    recipe = Recipe()
    check_settings(settings, recipe, recipe.augmentation)
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
    frozen = ("conv1.", "bn1.", "layer1.") if "resnet" in name else ()
    return BuiltModel(network, body, prefix, frozen, sizing, recipe, partial(_pretrained_tensors, name))


def _build_on_timm(backbone: str, class_count: int, image_size: int | None, settings: Mapping[str, Any]) -> BuiltModel:
    fpn, recipe = FpnSettings(), Recipe(lr=2e-4, new_lr=5e-4)
    check_settings(settings, recipe, recipe.augmentation, fpn)
    body = timm_body(backbone, pretrained=False)
    network = faster_rcnn_on(body, class_count, apply_settings(fpn, settings))
    own: dict[str, Any] = getattr(body, "pretrained_cfg", None) or {}
    mean, std = own.get("mean", (0.485, 0.456, 0.406)), own.get("std", (0.229, 0.224, 0.225))
    network.transform = _Normalisation(list(mean), list(std), size_divisible=32)
    short = image_size or 400
    sizing, pretrained = Sizing(short, short * 2), partial(_pretrained_tensors, f"{TIMM_PREFIX}{backbone}")
    return BuiltModel(network, body, _BODY, names_up_to_first_map(body), sizing, recipe, pretrained)


def _use_focal_loss(name: str, network: Any) -> None:
    if name.startswith(_HAVE_FOCAL_LOSS):
        return
    if not hasattr(network, "roi_heads"):
        raise UsageError(
            f"{name} does not support a focal loss",
            place="--loss",
            got="focal",
            expected="a Faster R-CNN, RetinaNet or FCOS",
            remedy="Leave --loss out.",
        )
    network.roi_heads.__class__ = FocalRoIHeads  # same weights, another loss


class FocalRoIHeads(RoIHeads):
    """torchvision's box head with a focal classification loss."""

    def forward(self, features: Any, proposals: Any, image_shapes: Any, targets: Any = None) -> Any:
        """See `RoIHeads.forward`: losses in training, boxes otherwise."""
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        proposals, _, labels, regression_targets = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)  # (n, c, h, w)
        logits, regression = self.box_predictor(self.box_head(pooled))  # (n, classes), (n, 4 · classes)
        _, loss_box_reg = fastrcnn_loss(logits, regression, labels, regression_targets)
        return [], {"loss_classifier": focal_loss(logits, torch.cat(labels)), "loss_box_reg": loss_box_reg}


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Focal loss (Lin et al., arXiv 1708.02002) of (n, classes) logits for (n,) labels, 0 being the background."""
    cross_entropy = functional.cross_entropy(logits.float(), labels, reduction="none")
    hardness = (1 - torch.exp(-cross_entropy)).pow(_GAMMA)
    return (hardness * cross_entropy).sum() / (labels > 0).sum().clamp(min=1)


def _pretrained_tensors(name: str) -> dict[str, Tensor]:
    """Download the library's own weights of a model, with tensors named as in the whole network."""
    if name.startswith(TIMM_PREFIX):
        body = timm_body(name.removeprefix(TIMM_PREFIX), pretrained=True)
        return {f"{_BODY}{key}": value for key, value in body.state_dict().items()}
    weights: Any = get_model_weights(name)
    return dict(weights.DEFAULT.get_state_dict(progress=False, check_hash=True))


class _Normalisation(GeneralizedRCNNTransform):
    """Normalises and batches images. It does not resize: curate sizes images itself, for training and inference."""

    def __init__(self, mean: list[float], std: list[float], size_divisible: int) -> None:
        super().__init__(1, 1, mean, std, size_divisible=size_divisible)

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target
