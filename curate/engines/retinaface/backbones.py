"""Backbones: MobileNet v1 with a quarter of its width, or a ResNet.

MobileNet: Howard et al., arXiv 1704.04861. The stages and names of its layers are those of published weights.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models._utils import IntermediateLayerGetter

from curate.engines.models import LIST_MODELS
from curate.errors import unknown_name

RESNETS = ("resnet50", "resnet152")
BACKBONES = ("mobilenet0.25", *RESNETS)


def build_backbone(name: str, levels: int, leak: float) -> tuple[nn.Module, list[int]]:
    """A backbone with random weights, and the channels of its feature maps.

    It maps (n, 3, h, w) to feature maps by name, at strides 8, 16 and 32; with five levels also at stride 4.

    Raises:
        UsageError: Unknown name.
    """
    if name == "mobilenet0.25":
        return MobileNetQuarter(leak, with_stride_4=levels == 5), ([32] if levels == 5 else []) + [64, 128, 256]
    if name not in RESNETS:
        raise unknown_name("retinaface model", name, BACKBONES, place="--model", remedy=LIST_MODELS)
    first = 1 if levels == 5 else 2
    layers = {f"layer{number}": str(number) for number in range(first, 5)}
    resnet = get_model(name, weights=None)
    return IntermediateLayerGetter(resnet, layers), [256 * 2 ** (number - 1) for number in range(first, 5)]


def rectifier(leak: float) -> nn.Module:
    """A ReLU, or a leaky one with this slope below 0."""
    return nn.LeakyReLU(leak, inplace=True) if leak else nn.ReLU(inplace=True)


class MobileNetQuarter(nn.Module):
    """MobileNet v1 with width multiplier 0.25, without its classifier."""

    def __init__(self, leak: float, with_stride_4: bool) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), rectifier(leak)),
            _separable(8, 16, leak),
            _separable(16, 32, leak, stride=2),
            _separable(32, 32, leak),
            _separable(32, 64, leak, stride=2),
            _separable(64, 64, leak),
        )
        self.stage2 = nn.Sequential(
            _separable(64, 128, leak, stride=2), *(_separable(128, 128, leak) for _ in range(5))
        )
        self.stage3 = nn.Sequential(_separable(128, 256, leak, stride=2), _separable(256, 256, leak))
        self._with_stride_4 = with_stride_4

    def forward(self, pixels: Tensor) -> "OrderedDict[str, Tensor]":
        """(n, 3, h, w) → feature maps at strides (4,) 8, 16, 32 with (32,) 64, 128, 256 channels."""
        finest = self.stage1[:4](pixels)
        maps: OrderedDict[str, Tensor] = OrderedDict({"0": finest} if self._with_stride_4 else {})
        maps["1"] = self.stage1[4:](finest)
        maps["2"] = self.stage2(maps["1"])
        maps["3"] = self.stage3(maps["2"])
        return maps


def _separable(channels: int, out: int, leak: float, stride: int = 1) -> nn.Sequential:
    """A depthwise separable convolution: 3×3 in each channel, then 1×1 across channels."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        rectifier(leak),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        rectifier(leak),
    )
