"""RetinaFace as one network: from images to the terms of the loss, or to boxes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms, clip_boxes_to_image, deform_conv2d

from curate.engines.retinaface.anchors import anchors_on, decode_boxes, decode_landmarks
from curate.engines.retinaface.backbones import build_backbone, rectifier
from curate.engines.retinaface.dense.branch import DenseBranch, DenseHead
from curate.engines.retinaface.dense.topology_file import read_topology
from curate.engines.retinaface.losses import multi_task_loss
from curate.engines.retinaface.settings import RetinaFaceSettings
from curate.engines.retinaface.targets import assign_targets

_CANDIDATES = 2000  # per image, before non-maximum suppression
_CENTRE = (123 / 255, 117 / 255, 104 / 255)
_RGB_MEAN, _RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DeformableConv(nn.Module):
    """A 3×3 modulated deformable convolution (arXiv 1811.11168), initialised as a plain convolution."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride, stride
        self.weight = nn.Parameter(torch.empty(out, channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.sampling = nn.Conv2d(channels, 27, 3, stride, 1)  # nine offsets (y, x), nine weights
        nn.init.zeros_(self.sampling.weight)
        nn.init.zeros_(self.sampling.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, features: Tensor) -> Tensor:
        """(n, c, h, w) → (n, out, h / stride, w / stride)"""
        sampling = self.sampling(features)
        offsets, weights = sampling[:, :18], 2 * torch.sigmoid(sampling[:, 18:])
        return deform_conv2d(features, offsets, self.weight, stride=self.stride, padding=(1, 1), mask=weights)


def _conv3(channels: int, out: int, deformable: bool, stride: int = 1) -> nn.Module:
    return DeformableConv(channels, out, stride) if deformable else nn.Conv2d(channels, out, 3, stride, 1, bias=False)


class Pyramid(nn.Module):
    """A feature pyramid network (arXiv 1612.03144): feature maps with equal channels at every level.

    Args:
        incoming: Channels of the backbone's feature maps, finest first.
        channels: Channels of the pyramid's feature maps.
        leak: Slope of its leaky ReLUs below 0.
        deformable: Whether its 3×3 convolutions are deformable.
        extra: Whether to add a level with half the resolution of the coarsest (P6).
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
        """The backbone's feature maps, finest first → the pyramid's, finest first."""
        levels = list(maps.values())
        merged = [self.lateral[-1](levels[-1])]
        for level in range(len(levels) - 2, -1, -1):
            lateral = self.lateral[level](levels[level])
            upper = functional.interpolate(merged[0], size=lateral.shape[-2:], mode="nearest")
            merged.insert(0, self.merge[level](lateral + upper))
        return merged if self.coarsest is None else [*merged, self.coarsest(levels[-1])]


class Context(nn.Module):
    """A context module (SSH, arXiv 1708.03979): receptive fields of 3×3, 5×5 and 7×7 cells.

    They get half, a quarter and a quarter of the channels.
    """

    def __init__(self, channels: int, *, leak: float, deformable: bool) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.see3 = _conv_norm(channels, half, deformable)
        self.narrow5 = nn.Sequential(*_conv_norm(channels, quarter, deformable), rectifier(leak))
        self.see5 = _conv_norm(quarter, quarter, deformable)
        self.narrow7 = nn.Sequential(*_conv_norm(quarter, quarter, deformable), rectifier(leak))
        self.see7 = _conv_norm(quarter, quarter, deformable)

    def forward(self, features: Tensor) -> Tensor:
        """(n, c, h, w) → (n, c, h, w)"""
        narrow5 = self.narrow5(features)
        parts = [self.see3(features), self.see5(narrow5), self.see7(self.narrow7(narrow5))]
        return functional.relu(torch.cat(parts, dim=1))


def _conv_norm(channels: int, out: int, deformable: bool) -> nn.Sequential:
    return nn.Sequential(_conv3(channels, out, deformable), nn.BatchNorm2d(out))


class Backbone(nn.Module):
    """Backbone, feature pyramid, and a context module at each level."""

    def __init__(self, name: str, settings: RetinaFaceSettings) -> None:
        super().__init__()
        convolutions = {"leak": settings.leak, "deformable": settings.deformable}
        self.body, widths = build_backbone(name, settings.levels, settings.leak)
        self.pyramid = Pyramid(widths, settings.channels, extra=settings.levels == 5, **convolutions)
        self.context = nn.ModuleList(Context(settings.channels, **convolutions) for _ in range(settings.levels))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(n, 3, h, w), normalised → for each level (n, channels, h / stride, w / stride)."""
        maps = self.pyramid(self.body(pixels))
        return [context(features) for context, features in zip(self.context, maps, strict=True)]


class Head(nn.Module):
    """1×1 convolutions from feature maps to classes, boxes and landmarks of each anchor."""

    def __init__(self, settings: RetinaFaceSettings, class_count: int) -> None:
        super().__init__()

        def convolutions(numbers: int) -> nn.ModuleList:
            out = settings.anchors_per_cell * numbers
            return nn.ModuleList(
                nn.Conv2d(settings.channels, out, 1) for _ in range(1 if settings.shared_head else settings.levels)
            )

        self.classes, self.boxes, self.landmarks = convolutions(class_count + 1), convolutions(4), convolutions(10)
        self._numbers = {"classes": class_count + 1, "boxes": 4, "landmarks": 10}

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Feature maps → "classes" (n, a, classes + 1) logits, "boxes" (n, a, 4), "landmarks" (n, a, 10)."""
        return {name: self._all_levels(getattr(self, name), maps, size) for name, size in self._numbers.items()}

    def _all_levels(self, convolutions: Any, maps: list[Tensor], numbers: int) -> Tensor:
        levels = [
            convolutions[level % len(convolutions)](features).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, numbers))
            for level, features in enumerate(maps)
        ]
        return torch.cat(levels, dim=1)


class Dense(nn.Module):
    """The dense branch at every level; it is used in training only."""

    def __init__(self, settings: RetinaFaceSettings) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            DenseHead(settings.channels, settings.anchors_per_cell) for _ in range(settings.levels)
        )
        self.branch = DenseBranch(read_topology(Path(settings.mesh)))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps → (n, a, 144), in the order of the anchors."""
        return torch.cat([head(features) for head, features in zip(self.heads, maps, strict=True)], dim=1)

    def loss(self, parameters: Tensor, images: Sequence[Tensor], boxes_xyxy: Tensor, image_index: Tensor) -> Tensor:
        """See `DenseBranch.loss`; the images may differ in size."""
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        padded = torch.stack([_padded(image, width, height) for image in images])
        return self.branch.loss(parameters, padded, boxes_xyxy, image_index)


class RetinaFace(nn.Module):
    """Maps (images, targets) to the terms of the loss in training, and (images,) to boxes otherwise.

    Args:
        name: The backbone.
        settings: See `RetinaFaceSettings`.
        class_count: Number of classes, without the background.
        loss: Classification loss, "default" or "focal".
    """

    def __init__(self, name: str, settings: RetinaFaceSettings, class_count: int, loss: str = "default") -> None:
        super().__init__()
        self.backbone = Backbone(name, settings)
        self.head = Head(settings, class_count)
        self.dense = Dense(settings) if settings.mesh else None
        self._settings, self._focal = settings, loss == "focal"
        # channels-last makes depthwise convolutions three times as fast on a CPU
        self._layout = torch.channels_last if name == "mobilenet0.25" else torch.contiguous_format
        self.to(memory_format=self._layout)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None) -> Any:
        """See the class.

        Args:
            images: Each (3, h, w) RGB in 0..1.
            targets: Each "boxes" (t, 4) pixels, "labels" (t,) from 1 and, where known, "landmarks" (t, 10).

        Returns:
            In training scalars "loss_…"; otherwise for each image "boxes" (n, 4), "scores" (n,), "labels" (n,) and
            "landmarks" (n, 10), in descending order of score, in pixels of the image.
        """
        if not self.training and len({image.shape for image in images}) > 1:
            # padding to a common size would change the results near the edges of smaller images
            return [answer for image in images for answer in self([image])]
        canvas = self._canvas(images)
        height, width = canvas.shape[-2:]
        anchors = anchors_on(width, height, self._settings.strides, self._settings.anchor_sizes, canvas.device)
        maps = self.backbone(canvas)
        output = self.head(maps)
        if self.training:
            return self._losses(output, maps, anchors, images, targets or [])
        return [
            self._detections({key: value[row] for key, value in output.items()}, anchors, width, height)
            for row in range(len(images))
        ]

    def _canvas(self, images: Sequence[Tensor]) -> Tensor:
        """The images, normalised and padded to a common size on the right and at the bottom. (n, 3, h, w)"""
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        stacked = torch.stack([self._normalised(image, width, height) for image in images])
        return stacked.contiguous(memory_format=torch.channels_last if stacked.is_cuda else self._layout)

    def _normalised(self, image: Tensor, width: int, height: int) -> Tensor:
        if self._settings.pixels == "centred":
            image = (image - image.new_tensor(_CENTRE)[:, None, None]).mul_(255)
        else:
            image = (image - image.new_tensor(_RGB_MEAN)[:, None, None]) / image.new_tensor(_RGB_STD)[:, None, None]
        return _padded(image, width, height)

    def _losses(
        self,
        output: Mapping[str, Tensor],
        maps: list[Tensor],
        anchors: Tensor,
        images: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
    ) -> dict[str, Tensor]:
        settings = self._settings
        assigned = assign_targets(anchors, targets, settings)
        losses = multi_task_loss(output, assigned, settings, focal=self._focal)
        if self.dense is not None:
            parameters = self.dense(maps)[assigned.image, assigned.anchor]  # (p, 144)
            dense_loss = self.dense.loss(parameters, images, assigned.gather("boxes"), assigned.image)
            losses["loss_dense"] = settings.dense_weight * dense_loss
        return losses

    def _detections(self, output: Mapping[str, Tensor], anchors: Tensor, width: int, height: int) -> dict[str, Tensor]:
        settings = self._settings
        scores = functional.softmax(output["classes"].float(), dim=1)[:, 1:]  # (a, classes)
        anchor, label = (scores > settings.score).nonzero(as_tuple=True)
        score = scores[anchor, label]
        if len(score) > _CANDIDATES:
            score, best = score.topk(_CANDIDATES)
            anchor, label = anchor[best], label[best]
        boxes = decode_boxes(output["boxes"][anchor].float(), anchors[anchor], settings.variances)
        boxes = clip_boxes_to_image(boxes, (height, width))
        kept = batched_nms(boxes, score, label, settings.nms_iou)[: settings.detections]
        landmarks = output["landmarks"][anchor[kept]].float()
        return {
            "boxes": boxes[kept],
            "scores": score[kept],
            "labels": label[kept] + 1,
            "landmarks": decode_landmarks(landmarks, anchors[anchor[kept]], settings.variances),
        }


def _padded(image: Tensor, width: int, height: int) -> Tensor:
    """(3, h, w) → (3, height, width), with zeros at the right and at the bottom."""
    return functional.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]))
