"""What each anchor of a batch is to learn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from curate.engines.retinaface.anchors import to_corners
from curate.engines.retinaface.matching import NOTHING, match_anchors
from curate.engines.retinaface.settings import Shape


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
