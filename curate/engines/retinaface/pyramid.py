"""The feature pyramid and the context modules behind it.

Pyramid: Lin et al., arXiv 1612.03144; a coarser map is added to a finer one, and the sum is smoothed. Context: the
module of SSH (Najibi et al., arXiv 1708.03979), which sees 3×3, 5×5 and 7×7 cells by stacked 3×3 convolutions. With
deformable convolutions (Zhu et al., arXiv 1811.11168) as RetinaFace's paper has them, in both.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import deform_conv2d

from curate.engines.retinaface.backbones import rectifier


class DeformableConv(nn.Module):
    """A 3×3 convolution that shifts and weighs each of its nine samples; it begins as a plain one."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride, stride
        self.weight = nn.Parameter(torch.empty(out, channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.sampling = nn.Conv2d(channels, 27, 3, stride, 1)  # nine shifts (y, x), nine weights
        nn.init.zeros_(self.sampling.weight)
        nn.init.zeros_(self.sampling.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, features: Tensor) -> Tensor:
        """(n, c, h, w) → (n, out, h / stride, w / stride)"""
        sampling = self.sampling(features)
        shifts, weights = sampling[:, :18], 2 * torch.sigmoid(sampling[:, 18:])
        return deform_conv2d(features, shifts, self.weight, stride=self.stride, padding=(1, 1), mask=weights)


def _conv3(channels: int, out: int, deformable: bool, stride: int = 1) -> nn.Module:
    return DeformableConv(channels, out, stride) if deformable else nn.Conv2d(channels, out, 3, stride, 1, bias=False)


class Pyramid(nn.Module):
    """Maps of one width at every level.

    Args:
        incoming: channels of the backbone's maps, finest first.
        channels: of the maps that come out.
        leak: of its rectifiers.
        deformable: whether its 3×3 convolutions are.
        extra: whether a level with half the resolution is added (P6).
    """

    def __init__(self, incoming: list[int], channels: int, *, leak: float, deformable: bool, extra: bool) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels), rectifier(leak))
            for width in incoming
        )
        self.merge = nn.ModuleList(
            nn.Sequential(_conv3(channels, channels, deformable), nn.BatchNorm2d(channels), rectifier(leak))
            for _ in incoming[:-1]
        )
        self.coarsest = (
            nn.Sequential(_conv3(incoming[-1], channels, False, 2), nn.BatchNorm2d(channels), rectifier(leak))
            if extra
            else None
        )

    def forward(self, maps: Mapping[str, Tensor]) -> list[Tensor]:
        """The backbone's maps, finest first → the pyramid's, finest first."""
        given = list(maps.values())
        merged = [self.lateral[-1](given[-1])]
        for level in range(len(given) - 2, -1, -1):
            lateral = self.lateral[level](given[level])
            upper = functional.interpolate(merged[0], size=lateral.shape[-2:], mode="nearest")
            merged.insert(0, self.merge[level](lateral + upper))
        return merged if self.coarsest is None else [*merged, self.coarsest(given[-1])]


class Context(nn.Module):
    """Half the channels see 3×3 cells, a quarter 5×5, a quarter 7×7."""

    def __init__(self, channels: int, *, leak: float, deformable: bool) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.see3 = _see(channels, half, deformable)
        self.narrow5 = nn.Sequential(*_see(channels, quarter, deformable), rectifier(leak))
        self.see5 = _see(quarter, quarter, deformable)
        self.narrow7 = nn.Sequential(*_see(quarter, quarter, deformable), rectifier(leak))
        self.see7 = _see(quarter, quarter, deformable)

    def forward(self, features: Tensor) -> Tensor:
        """(n, c, h, w) → (n, c, h, w)"""
        narrow5 = self.narrow5(features)
        seen = [self.see3(features), self.see5(narrow5), self.see7(self.narrow7(narrow5))]
        return functional.relu(torch.cat(seen, dim=1))


def _see(channels: int, out: int, deformable: bool) -> nn.Sequential:
    return nn.Sequential(_conv3(channels, out, deformable), nn.BatchNorm2d(out))
