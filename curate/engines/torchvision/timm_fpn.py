"""Faster R-CNN with a feature pyramid on a timm backbone."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from curate.errors import UsageError

_STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class FpnSettings:
    """Architecture of Faster R-CNN on a timm backbone. The defaults suit a CPU: narrow maps, few proposals.

    Attributes:
        channels: Channels of the pyramid's feature maps.
        hidden: Width of the box head.
        anchor_sizes: In pixels at the model's scale, one per feature map, for strides 4, 8, 16, 32 and 64.
        anchor_ratios: Height by width.
        proposals: Boxes that the region proposal network passes to the box head.
        head_batch: Proposals per image that the box head is trained on.
        score: Detections with a lower score are left out.
        detections: Largest number of detections per image.
    """

    channels: int = 128
    hidden: int = 512
    anchor_sizes: tuple[float, float, float, float, float] = (16, 32, 64, 128, 256)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    proposals: int = 400
    head_batch: int = 64
    score: float = 0.02
    detections: int = 150


class TimmPyramid(nn.Module):
    """A timm backbone with a feature pyramid: strides 4, 8, 16, 32, and 64 by pooling."""

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
    """A timm backbone that returns a list of feature maps with strides 4 to 32.

    Raises:
        UsageError: The backbone has no such feature maps.
    """
    import timm

    try:
        whole: Any = timm.create_model(backbone, pretrained=False, features_only=True)
        strides = whole.feature_info.reduction()
        levels = tuple(strides.index(stride) for stride in _STRIDES)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            "the backbone has no feature pyramid",
            place="--model",
            got=repr(backbone),
            expected=f"feature maps with strides {', '.join(map(str, _STRIDES))}, as in a convolutional network",
        ) from error
    return timm.create_model(backbone, pretrained=pretrained, features_only=True, out_indices=levels)


def faster_rcnn_on(body: nn.Module, class_count: int, settings: FpnSettings) -> FasterRCNN:
    """Faster R-CNN on a body from `timm_body`, with random heads; `class_count` excludes the background."""
    info: Any = body.feature_info
    return FasterRCNN(
        TimmPyramid(body, info.channels(), settings.channels),
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in settings.anchor_sizes), (settings.anchor_ratios,) * len(settings.anchor_sizes)
        ),
        rpn_pre_nms_top_n_train=settings.proposals,
        rpn_post_nms_top_n_train=settings.proposals,
        rpn_pre_nms_top_n_test=settings.proposals,
        rpn_post_nms_top_n_test=settings.proposals,
        rpn_batch_size_per_image=128,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(settings.channels * 7 * 7, settings.hidden),
        box_predictor=FastRCNNPredictor(settings.hidden, class_count + 1),
        box_batch_size_per_image=settings.head_batch,
        box_positive_fraction=0.4,
        box_score_thresh=settings.score,
        box_detections_per_img=settings.detections,
    )


def names_up_to_first_map(body: nn.Module) -> tuple[str, ...]:
    """Names of the body's parameters up to its first feature map."""
    info: Any = body.feature_info
    module = info.module_name()[0]
    prefixes = (f"{module}.", f"{module.replace('.', '_')}.")  # timm flattens some networks
    names = [name for name, _ in body.named_parameters()]
    last = max((index for index, name in enumerate(names) if name.startswith(prefixes)), default=-1)
    return tuple(names[: last + 1])
