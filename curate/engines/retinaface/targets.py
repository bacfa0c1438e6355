"""What each anchor of a batch is to learn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from curate.engines.retinaface.anchors import to_corners
from curate.engines.retinaface.settings import Shape

BACKGROUND, NOTHING = -1, -2


def match_anchors(
    anchors_xyxy: Tensor, truth_xyxy: Tensor, *, positive_iou: float, negative_iou: float, keep_every_truth: bool
) -> Tensor:
    """The truth of each anchor: its row, `BACKGROUND`, or `NOTHING` where the anchor is to learn nothing. (a,) int64

    Args:
        anchors_xyxy: (a, 4) pixels.
        truth_xyxy: (t, 4) pixels.
        positive_iou: from this IoU on an anchor learns the truth that it meets best.
        negative_iou: below this IoU with every truth it is background.
        keep_every_truth: whether each truth gets the anchor that meets it best, however little that is.
    """
    if not len(truth_xyxy):
        return torch.full((len(anchors_xyxy),), BACKGROUND, dtype=torch.int64, device=anchors_xyxy.device)
    iou = box_iou(truth_xyxy, anchors_xyxy)  # (t, a)
    best, truth = iou.max(dim=0)
    matched = torch.where(best >= positive_iou, truth, NOTHING)
    matched[best < negative_iou] = BACKGROUND
    if keep_every_truth:
        best, anchor = iou.max(dim=1)
        met = best > 0
        matched[anchor[met]] = torch.arange(len(truth_xyxy), device=iou.device)[met]
    return matched


@dataclass(frozen=True, eq=False)
class Lessons:
    """What the anchors of n images learn; p of them learn a truth.

    Attributes:
        classes: (n, a) int64 from 1, 0 for background, −1 for anchors that learn nothing.
        image: (p,) int64, the image of each anchor that learns a truth.
        anchor: (p,) int64, its place among the anchors.
        truth: (p,) int64, the truth's place among those of the image.
        boxes: (p, 4), the anchors themselves, centres and sides in pixels.
        targets: of the images.
    """

    classes: Tensor
    image: Tensor
    anchor: Tensor
    truth: Tensor
    boxes: Tensor
    targets: Sequence[Mapping[str, Tensor]]

    def knows(self, key: str) -> bool:
        """Whether all targets say something under `key`."""
        return all(key in target for target in self.targets)

    def picked(self, key: str) -> Tensor:
        """What the targets say under `key` of each anchor's truth. (p, …)"""
        counts = [0, *(len(target["boxes"]) for target in self.targets[:-1])]
        starts = torch.tensor(counts, device=self.truth.device).cumsum(0)
        return torch.cat([target[key] for target in self.targets])[starts[self.image] + self.truth]


def lessons_of(anchors: Tensor, targets: Sequence[Mapping[str, Tensor]], shape: Shape) -> Lessons:
    """Match the anchors with the truth of each image.

    Args:
        anchors: (a, 4) centres and sides in pixels.
        targets: each "boxes" (t, 4) pixels, "labels" (t,) from 1.
        shape: says from which overlap on an anchor learns what.
    """
    corners = to_corners(anchors)
    rules = {"positive_iou": shape.positive_iou, "negative_iou": shape.negative_iou}
    matched = torch.stack(
        [
            match_anchors(corners, target["boxes"], keep_every_truth=shape.keep_every_truth, **rules)
            for target in targets
        ]
    )  # (n, a)
    image, anchor = (matched >= 0).nonzero(as_tuple=True)
    classes = (matched != NOTHING).long() - 1
    lessons = Lessons(classes, image, anchor, matched[image, anchor], anchors[anchor], targets)
    classes[image, anchor] = lessons.picked("labels")
    return lessons
