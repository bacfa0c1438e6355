"""The multi-task loss of RetinaFace (Deng et al., arXiv 1905.00641, section 3.1, equation 1).

    L = L_cls(p, p*) + λ1 p* L_box(t, t*) + λ2 p* L_pts(l, l*) + λ3 p* L_pixel

L_cls is a softmax loss over background and classes, L_box and L_pts are smooth L1 (Girshick: Fast R-CNN, arXiv
1504.08083, equation 3) of encoded boxes and points, L_pixel is that of the dense branch. p* is 1 for positive
anchors, else 0. Each term is a sum over anchors divided by the number of positive anchors.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from curate.engines.retinaface.anchors import encode_boxes, encode_landmarks
from curate.engines.retinaface.settings import RetinaFaceSettings
from curate.engines.retinaface.targets import AnchorTargets

_FEWEST_NEGATIVES = 16  # per image, for images without boxes
_GAMMA = 2.0


def multi_task_loss(
    output: Mapping[str, Tensor], targets: AnchorTargets, settings: RetinaFaceSettings, *, focal: bool
) -> dict[str, Tensor]:
    """All weighted terms but the dense one; the landmark term only where the dataset has landmarks.

    Args:
        output: "classes" (n, a, classes + 1), "boxes" (n, a, 4), "landmarks" (n, a, 10).
        targets: Of the anchors.
        settings: Weights of the terms.
        focal: Whether to use a focal loss for the classes, instead of hard-negative mining.
    """
    positive = targets.image, targets.anchor
    weights = output["classes"].new_tensor([1.0, *settings.class_weights]) if settings.class_weights else None
    boxes = encode_boxes(targets.gather("boxes"), targets.boxes, settings.variances)
    losses = {
        "loss_classes": focal_classification_loss(output["classes"], targets.classes, weights)
        if focal
        else classification_loss(output["classes"], targets.classes, settings.negatives, weights),
        "loss_boxes": settings.box_weight * box_loss(output["boxes"][positive], boxes),
    }
    if targets.has("landmarks"):
        points = encode_landmarks(targets.gather("landmarks"), targets.boxes, settings.variances)
        losses["loss_landmarks"] = settings.landmark_weight * landmark_loss(output["landmarks"][positive], points)
    return losses


def classification_loss(logits: Tensor, targets: Tensor, negatives: int, weights: Tensor | None = None) -> Tensor:
    """L_cls of the positive anchors and of the hardest background anchors in each image.

    Hard-negative mining as in SSD (Liu et al., arXiv 1512.02325, section 2.2): the background anchors with the highest
    loss, `negatives` per positive anchor.

    Args:
        logits: (n, a, classes + 1); 0 is the background.
        targets: (n, a) int64 classes from 1, 0 for background, −1 for anchors to ignore.
        negatives: Background anchors per positive anchor.
        weights: (classes + 1,) of the targets; None means 1 each.
    """
    flat = logits.flatten(0, 1)
    loss = functional.cross_entropy(flat, targets.flatten().clamp(min=0), weight=weights, reduction="none")
    loss = loss.view(targets.shape)
    positive = targets > 0
    counts = positive.sum(dim=1)  # (n,)
    hardness = loss.detach().masked_fill(targets != 0, -1.0)
    rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
    limit = (counts * negatives).clamp(min=_FEWEST_NEGATIVES)[:, None]
    used = positive | ((rank < limit) & (targets == 0))
    return (loss * used).sum() / counts.sum().clamp(min=1)


def focal_classification_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Focal loss over a softmax (Lin et al., arXiv 1708.02002): all anchors, the easy ones with little weight.

    Args:
        logits, targets, weights: See `classification_loss`.
    """
    used = targets >= 0
    loss = functional.cross_entropy(logits[used], targets[used], reduction="none")
    hardness = (1 - torch.exp(-loss)).pow(_GAMMA)
    if weights is not None:
        loss = loss * weights[targets[used]]
    return (hardness * loss).sum() / (targets > 0).sum().clamp(min=1)


def box_loss(encoded: Tensor, targets: Tensor) -> Tensor:
    """L_box of the positive anchors. (p, 4), (p, 4) → scalar"""
    return functional.smooth_l1_loss(encoded, targets, reduction="sum") / max(1, len(targets))


def landmark_loss(encoded: Tensor, targets: Tensor) -> Tensor:
    """L_pts of the positive anchors; unknown points (NaN) are ignored. (p, 10), (p, 10) → scalar

    Divided by the number of anchors with a known point, because most faces of WIDER FACE have none.
    """
    known = targets.isfinite()
    loss = functional.smooth_l1_loss(encoded, torch.where(known, targets, encoded.detach()), reduction="none")
    return (loss * known).sum() / known.any(dim=1).sum().clamp(min=1)
