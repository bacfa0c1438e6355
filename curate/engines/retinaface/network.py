"""RetinaFace as one network: pixels in, the terms of the loss or boxes out."""

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
from curate.engines.retinaface.settings import Shape
from curate.engines.retinaface.targets import lessons_of


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


_CANDIDATES = 2000  # of an image go into the suppression of duplicates
_CENTRE = (123 / 255, 117 / 255, 104 / 255)
_RGB_MEAN, _RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Pixels to maps: the backbone, the pyramid, a context module at each level."""

    def __init__(self, name: str, shape: Shape) -> None:
        super().__init__()
        convolutions = {"leak": shape.leak, "deformable": shape.deformable}
        self.body, widths = build_backbone(name, shape.levels, shape.leak)
        self.pyramid = Pyramid(widths, shape.channels, extra=shape.levels == 5, **convolutions)
        self.context = nn.ModuleList(Context(shape.channels, **convolutions) for _ in range(shape.levels))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(n, 3, h, w), normalised → a map of (n, channels, h / stride, w / stride) for each level."""
        maps = self.pyramid(self.body(pixels))
        return [context(features) for context, features in zip(self.context, maps, strict=True)]


class Head(nn.Module):
    """Maps to numbers for each anchor."""

    def __init__(self, shape: Shape, class_count: int) -> None:
        super().__init__()

        def convolutions(numbers: int) -> nn.ModuleList:
            out = shape.anchors_a_cell * numbers
            return nn.ModuleList(
                nn.Conv2d(shape.channels, out, 1) for _ in range(1 if shape.shared_head else shape.levels)
            )

        self.classes, self.boxes, self.landmarks = convolutions(class_count + 1), convolutions(4), convolutions(10)
        self._numbers = {"classes": class_count + 1, "boxes": 4, "landmarks": 10}

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Maps → "classes" (n, a, classes + 1) logits, "boxes" (n, a, 4), "landmarks" (n, a, 10)."""
        return {name: self._all_levels(getattr(self, name), maps, size) for name, size in self._numbers.items()}

    def _all_levels(self, convolutions: Any, maps: list[Tensor], numbers: int) -> Tensor:
        levels = [
            convolutions[level % len(convolutions)](features).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, numbers))
            for level, features in enumerate(maps)
        ]
        return torch.cat(levels, dim=1)


class Dense(nn.Module):
    """The dense branch at every level; it only teaches."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = nn.ModuleList(DenseHead(shape.channels, shape.anchors_a_cell) for _ in range(shape.levels))
        self.branch = DenseBranch(read_topology(Path(shape.mesh)))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps → (n, a, 144), in the order of the anchors."""
        return torch.cat([head(features) for head, features in zip(self.heads, maps, strict=True)], dim=1)

    def loss(self, parameters: Tensor, images: Sequence[Tensor], boxes_xyxy: Tensor, image_index: Tensor) -> Tensor:
        """See `DenseBranch.loss`; the images may differ in size."""
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        pictures = torch.stack([_padded(image, width, height) for image in images])
        return self.branch.loss(parameters, pictures, boxes_xyxy, image_index)


class RetinaFace(nn.Module):
    """Maps (images, targets) to the terms of the loss in training, and (images,) to boxes otherwise.

    Args:
        name: of the backbone.
        shape: of the network.
        class_count: without the background.
        loss: "default" or "focal", of the classes.
    """

    def __init__(self, name: str, shape: Shape, class_count: int, loss: str = "default") -> None:
        super().__init__()
        self.backbone = Backbone(name, shape)
        self.head = Head(shape, class_count)
        self.dense = Dense(shape) if shape.mesh else None
        self._shape, self._focal = shape, loss == "focal"
        # with channels at the end, convolutions of single channels take a third of the time on a CPU
        self._layout = torch.channels_last if name == "mobilenet0.25" else torch.contiguous_format
        self.to(memory_format=self._layout)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None) -> Any:
        """See the class.

        Args:
            images: each (3, h, w) RGB in 0..1.
            targets: each "boxes" (t, 4) pixels, "labels" (t,) from 1 and, where known, "landmarks" (t, 10).

        Returns:
            In training "loss_…" each one number; otherwise for each image "boxes" (n, 4), "scores" (n,), "labels" (n,)
            and "landmarks" (n, 10), best first, in the pixels of the image.
        """
        if not self.training and len({image.shape for image in images}) > 1:
            # what lies beside a smaller image on a canvas is not what lies beside it alone
            return [answer for image in images for answer in self([image])]
        canvas = self._canvas(images)
        height, width = canvas.shape[-2:]
        anchors = anchors_on(width, height, self._shape.strides, self._shape.anchor_sizes, canvas.device)
        maps = self.backbone(canvas)
        found = self.head(maps)
        if self.training:
            return self._losses(found, maps, anchors, images, targets or [])
        return [
            self._detections({key: value[row] for key, value in found.items()}, anchors, width, height)
            for row in range(len(images))
        ]

    def _canvas(self, images: Sequence[Tensor]) -> Tensor:
        """All images, normalised, on one canvas, each at its top left. (n, 3, h, w)"""
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        stacked = torch.stack([self._normalised(image, width, height) for image in images])
        return stacked.contiguous(memory_format=torch.channels_last if stacked.is_cuda else self._layout)

    def _normalised(self, image: Tensor, width: int, height: int) -> Tensor:
        if self._shape.pixels == "centred":
            image = (image - image.new_tensor(_CENTRE)[:, None, None]).mul_(255)
        else:
            image = (image - image.new_tensor(_RGB_MEAN)[:, None, None]) / image.new_tensor(_RGB_STD)[:, None, None]
        return _padded(image, width, height)

    def _losses(
        self,
        found: Mapping[str, Tensor],
        maps: list[Tensor],
        anchors: Tensor,
        images: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
    ) -> dict[str, Tensor]:
        shape = self._shape
        lessons = lessons_of(anchors, targets, shape)
        losses = multi_task_loss(found, lessons, shape, focal=self._focal)
        if self.dense is not None:
            parameters = self.dense(maps)[lessons.image, lessons.anchor]  # (p, 144)
            boxes = lessons.picked("boxes")
            losses["loss_dense"] = shape.dense_weight * self.dense.loss(parameters, images, boxes, lessons.image)
        return losses

    def _detections(self, found: Mapping[str, Tensor], anchors: Tensor, width: int, height: int) -> dict[str, Tensor]:
        shape = self._shape
        scores = functional.softmax(found["classes"].float(), dim=1)[:, 1:]  # (a, classes)
        anchor, label = (scores > shape.score).nonzero(as_tuple=True)
        score = scores[anchor, label]
        if len(score) > _CANDIDATES:
            score, best = score.topk(_CANDIDATES)
            anchor, label = anchor[best], label[best]
        boxes = decode_boxes(found["boxes"][anchor].float(), anchors[anchor], shape.variances)
        boxes = clip_boxes_to_image(boxes, (height, width))
        kept = batched_nms(boxes, score, label, shape.nms_iou)[: shape.detections]
        landmarks = found["landmarks"][anchor[kept]].float()
        return {
            "boxes": boxes[kept],
            "scores": score[kept],
            "labels": label[kept] + 1,
            "landmarks": decode_landmarks(landmarks, anchors[anchor[kept]], shape.variances),
        }


def _padded(image: Tensor, width: int, height: int) -> Tensor:
    """(3, h, w) → (3, height, width), with zeros at the right and at the bottom."""
    return functional.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]))
