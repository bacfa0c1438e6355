"""The multi-task loss of RetinaFace (Deng et al., arXiv 1905.00641, section 3.1, equation 1).

    L = L_cls(p, p*) + λ1 p* L_box(t, t*) + λ2 p* L_pts(l, l*) + λ3 p* L_pixel

L_cls is a softmax loss over background and classes, L_box and L_pts are smooth L1 (Girshick: Fast R-CNN, arXiv
1504.08083, equation 3) on what `anchors` encodes, L_pixel is the dense branch's. p* is 1 for an anchor that learns a
truth, else 0. Each term is a sum over anchors divided by the number of anchors that learn a truth.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from curate.engines.retinaface.anchors import encode_boxes, encode_landmarks
from curate.engines.retinaface.settings import Shape
from curate.engines.retinaface.targets import Lessons

_FEWEST_NEGATIVES = 16  # of an image that shows nothing
_GAMMA = 2.0


def multi_task_loss(found: Mapping[str, Tensor], lessons: Lessons, shape: Shape, *, focal: bool) -> dict[str, Tensor]:
    """All terms but the dense one, weighed; that of landmarks only where the dataset has some.

    Args:
        found: "classes" (n, a, classes + 1), "boxes" (n, a, 4), "landmarks" (n, a, 10).
        lessons: what the anchors learn.
        shape: has the weights.
        focal: whether the classes have a focal loss, instead of hard-negative mining.
    """
    here = lessons.image, lessons.anchor
    weights = found["classes"].new_tensor([1.0, *shape.class_weights]) if shape.class_weights else None
    boxes = encode_boxes(lessons.picked("boxes"), lessons.boxes, shape.variances)
    losses = {
        "loss_classes": focal_classification_loss(found["classes"], lessons.classes, weights)
        if focal
        else classification_loss(found["classes"], lessons.classes, shape.negatives, weights),
        "loss_boxes": shape.box_weight * box_loss(found["boxes"][here], boxes),
    }
    if lessons.knows("landmarks"):
        points = encode_landmarks(lessons.picked("landmarks"), lessons.boxes, shape.variances)
        losses["loss_landmarks"] = shape.landmark_weight * landmark_loss(found["landmarks"][here], points)
    return losses


def classification_loss(logits: Tensor, targets: Tensor, negatives: int, weights: Tensor | None = None) -> Tensor:
    """L_cls on the anchors that learn a truth, and on the hardest of the others in each image.

    Hard-negative mining as in SSD (Liu et al., arXiv 1512.02325, section 2.2): of the background anchors those with the
    highest loss, `negatives` for each that learns a truth.

    Args:
        logits: (n, a, classes + 1); 0 is the background.
        targets: (n, a) int64 classes from 1, 0 for background, −1 for anchors that learn nothing.
        negatives: background anchors for each that learns a truth.
        weights: (classes + 1,) of the anchors by what they learn; None: 1 each.
    """
    flat = logits.flatten(0, 1)
    loss = functional.cross_entropy(flat, targets.flatten().clamp(min=0), weight=weights, reduction="none")
    loss = loss.view(targets.shape)
    learns_truth = targets > 0
    counts = learns_truth.sum(dim=1)  # (n,)
    hardness = loss.detach().masked_fill(targets != 0, -1.0)
    rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
    wanted = (counts * negatives).clamp(min=_FEWEST_NEGATIVES)[:, None]
    chosen = learns_truth | ((rank < wanted) & (targets == 0))
    return (loss * chosen).sum() / counts.sum().clamp(min=1)


def focal_classification_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Instead of mining: all anchors, the easy ones with little weight (Lin et al., arXiv 1708.02002), over a softmax.

    Args:
        logits, targets, weights: as in `classification_loss`.
    """
    learns = targets >= 0
    loss = functional.cross_entropy(logits[learns], targets[learns], reduction="none")
    hardness = (1 - torch.exp(-loss)).pow(_GAMMA)
    if weights is not None:
        loss = loss * weights[targets[learns]]
    return (hardness * loss).sum() / (targets > 0).sum().clamp(min=1)


def box_loss(encoded: Tensor, targets: Tensor) -> Tensor:
    """L_box of the anchors that learn a truth. (p, 4), (p, 4) → one number"""
    return functional.smooth_l1_loss(encoded, targets, reduction="sum") / max(1, len(targets))


def landmark_loss(encoded: Tensor, targets: Tensor) -> Tensor:
    """L_pts of the anchors that learn a truth; points that nobody knows (NaN) count nothing. (p, 10), (p, 10)

    Divided by the number of truths with a point, for in WIDER FACE most faces have none.
    """
    known = targets.isfinite()
    loss = functional.smooth_l1_loss(encoded, torch.where(known, targets, encoded.detach()), reduction="none")
    return (loss * known).sum() / known.any(dim=1).sum().clamp(min=1)
