"""Faster R-CNN on any timm backbone that has a pyramid of feature maps."""

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from curate.engines.training.recipe import Pyramid
from curate.errors import UsageError

_STRIDES = (4, 8, 16, 32)


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
        levels = tuple(strides.index(stride) for stride in _STRIDES)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            "the backbone has no pyramid of feature maps",
            place="--model",
            got=repr(backbone),
            expected=f"maps with strides {', '.join(map(str, _STRIDES))}, as in a convolutional network",
        ) from error
    return timm.create_model(backbone, pretrained=pretrained, features_only=True, out_indices=levels)


def faster_rcnn_on(body: nn.Module, class_count: int, shape: Pyramid) -> FasterRCNN:
    """The detector on a body from `timm_body`, with random heads; `class_count` is without the background."""
    info: Any = body.feature_info
    return FasterRCNN(
        TimmPyramid(body, info.channels(), shape.channels),
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in shape.anchor_sizes), (shape.anchor_ratios,) * len(shape.anchor_sizes)
        ),
        rpn_pre_nms_top_n_train=shape.proposals,
        rpn_post_nms_top_n_train=shape.proposals,
        rpn_pre_nms_top_n_test=shape.proposals,
        rpn_post_nms_top_n_test=shape.proposals,
        rpn_batch_size_per_image=128,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(shape.channels * 7 * 7, shape.hidden),
        box_predictor=FastRCNNPredictor(shape.hidden, class_count + 1),
        box_batch_size_per_image=shape.head_batch,
        box_positive_fraction=0.4,
        box_score_thresh=shape.score,
        box_detections_per_img=shape.detections,
    )


def names_up_to_first_map(body: nn.Module) -> tuple[str, ...]:
    """The names of the body's first parameters, up to where its first map comes from."""
    info: Any = body.feature_info
    module = info.module_name()[0]
    prefixes = (f"{module}.", f"{module.replace('.', '_')}.")  # timm flattens some networks
    names = [name for name, _ in body.named_parameters()]
    last = max((index for index, name in enumerate(names) if name.startswith(prefixes)), default=-1)
    return tuple(names[: last + 1])
