"""Which anchor learns which truth."""

import torch
from torch import Tensor
from torchvision.ops import box_iou

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
