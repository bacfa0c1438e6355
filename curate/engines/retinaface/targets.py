"""Training targets of anchors: matching anchors with the boxes of an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from curate.engines.retinaface.anchors import to_corners
from curate.engines.retinaface.settings import RetinaFaceSettings

BACKGROUND, IGNORED = -1, -2


def match_anchors(
    anchors_xyxy: Tensor, truth_xyxy: Tensor, *, positive_iou: float, negative_iou: float, keep_every_truth: bool
) -> Tensor:
    """Match each anchor with a true box: the box's row, `BACKGROUND` or `IGNORED`. (a,) int64

    Args:
        anchors_xyxy: (a, 4) pixels.
        truth_xyxy: (t, 4) pixels.
        positive_iou: An anchor with at least this IoU is matched with the box of its highest IoU.
        negative_iou: An anchor with a lower IoU with every box is background; those in between are ignored.
        keep_every_truth: Whether each box is matched with its best anchor, however low the IoU.
    """
    if not len(truth_xyxy):
        return torch.full((len(anchors_xyxy),), BACKGROUND, dtype=torch.int64, device=anchors_xyxy.device)
    iou = box_iou(truth_xyxy, anchors_xyxy)  # (t, a)
    best, truth = iou.max(dim=0)
    matched = torch.where(best >= positive_iou, truth, IGNORED)
    matched[best < negative_iou] = BACKGROUND
    if keep_every_truth:
        best, anchor = iou.max(dim=1)
        overlaps = best > 0
        matched[anchor[overlaps]] = torch.arange(len(truth_xyxy), device=iou.device)[overlaps]
    return matched


@dataclass(frozen=True, eq=False)
class AnchorTargets:
    """The targets of the anchors of n images, p of which are positive: matched with a true box.

    Attributes:
        classes: (n, a) int64 from 1, 0 for background, −1 for anchors to ignore.
        image: (p,) int64, the image of each positive anchor.
        anchor: (p,) int64, its position among the anchors.
        truth: (p,) int64, the position of its box among those of the image.
        boxes: (p, 4), the positive anchors, centres and sides in pixels.
        targets: Of the images.
    """

    classes: Tensor
    image: Tensor
    anchor: Tensor
    truth: Tensor
    boxes: Tensor
    targets: Sequence[Mapping[str, Tensor]]

    def has(self, key: str) -> bool:
        """Whether the targets of all images have `key`."""
        return all(key in target for target in self.targets)

    def gather(self, key: str) -> Tensor:
        """The value of `key` of each positive anchor's box. (p, …)"""
        counts = [0, *(len(target["boxes"]) for target in self.targets[:-1])]
        starts = torch.tensor(counts, device=self.truth.device).cumsum(0)
        return torch.cat([target[key] for target in self.targets])[starts[self.image] + self.truth]


def assign_targets(
    anchors: Tensor, targets: Sequence[Mapping[str, Tensor]], settings: RetinaFaceSettings
) -> AnchorTargets:
    """Match the anchors with the boxes of each image.

    Args:
        anchors: (a, 4) centres and sides in pixels.
        targets: Each "boxes" (t, 4) pixels, "labels" (t,) from 1.
        settings: Limits of the IoU.
    """
    corners = to_corners(anchors)
    rules = {"positive_iou": settings.positive_iou, "negative_iou": settings.negative_iou}
    matched = torch.stack(
        [
            match_anchors(corners, target["boxes"], keep_every_truth=settings.keep_every_truth, **rules)
            for target in targets
        ]
    )  # (n, a)
    image, anchor = (matched >= 0).nonzero(as_tuple=True)
    classes = (matched != IGNORED).long() - 1
    assigned = AnchorTargets(classes, image, anchor, matched[image, anchor], anchors[anchor], targets)
    classes[image, anchor] = assigned.gather("labels")
    return assigned
