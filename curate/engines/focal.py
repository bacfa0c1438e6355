"""Faster R-CNN's box head with a focal loss, so that the many easy examples do not drown the few hard ones.

For the probability p of the right class, FL = −(1 − p)^γ · log p with γ = 2, summed and divided by the number of boxes
that show an object (Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object Detection, ICCV 2017, arXiv
1708.02002, section 3.2 and equation 4). Here over a softmax, as Faster R-CNN has one.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss

_GAMMA = 2.0


class FocalRoIHeads(RoIHeads):
    """torchvision's box head; only the classification loss differs."""

    def forward(self, features: Any, proposals: Any, image_shapes: Any, targets: Any = None) -> Any:
        """As `RoIHeads.forward`: losses in training, boxes otherwise."""
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        proposals, _, labels, regression_targets = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)  # (n, c, h, w)
        logits, regression = self.box_predictor(self.box_head(pooled))  # (n, classes), (n, 4 · classes)
        _, loss_box_reg = fastrcnn_loss(logits, regression, labels, regression_targets)
        return [], {"loss_classifier": focal_loss(logits, torch.cat(labels)), "loss_box_reg": loss_box_reg}


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of (n, classes) logits against (n,) labels, 0 being the background, as one number."""
    cross_entropy = functional.cross_entropy(logits.float(), labels, reduction="none")
    hardness = (1 - torch.exp(-cross_entropy)).pow(_GAMMA)
    return (hardness * cross_entropy).sum() / (labels > 0).sum().clamp(min=1)
