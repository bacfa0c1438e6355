"""Weights that others published: their names for our tensors, and a face's head for other classes.

Known are the files of `biubug6/Face-Detector-1MB-with-landmark` and `biubug6/Pytorch_Retinaface` (MIT): MobileNet-0.25
and ResNet-50, three levels, two anchors a cell, trained on WIDER FACE.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.engines.retinaface import download as origin
from curate.engines.retinaface.download import light_file
from curate.engines.retinaface.settings import PUBLISHED_RESNET, SHAPES, Shape
from curate.errors import UsageError

_CLASS_HEAD = "head.classes."
_CONTEXT_PARTS = {
    "conv3X3": "see3",
    "conv5X5_1": "narrow5",
    "conv5X5_2": "see5",
    "conv7X7_2": "narrow7",
    "conv7x7_3": "see7",
}
_NONE = torch.empty(0)
_FIRST_LAYERS = ("backbone.body.stage1.0.0.weight", "backbone.body.conv1.weight")
_HEADS = {"ClassHead": "classes", "BboxHead": "boxes", "LandmarkHead": "landmarks"}


def our_name(name: str) -> str:
    """Our name for a tensor of a published file; others come back as they are."""
    name = name.removeprefix("module.")
    if name.startswith("body."):
        return f"backbone.{name}"
    if found := re.fullmatch(r"fpn\.(output|merge)(\d)\.(.+)", name):
        part = {"output": "lateral", "merge": "merge"}[found[1]]
        return f"backbone.pyramid.{part}.{int(found[2]) - 1}.{found[3]}"
    if (found := re.fullmatch(r"ssh(\d)\.(\w+)\.(.+)", name)) and found[2] in _CONTEXT_PARTS:
        return f"backbone.context.{int(found[1]) - 1}.{_CONTEXT_PARTS[found[2]]}.{found[3]}"
    if (found := re.fullmatch(r"(\w+)\.(\d)\.conv1x1\.(.+)", name)) and found[1] in _HEADS:
        return f"head.{_HEADS[found[1]]}.{found[2]}.{found[3]}"
    return name


def is_published(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a published file."""
    return any(name.removeprefix("module.").startswith("ClassHead.") for name in tensors)


def published_model(tensors: Mapping[str, Tensor]) -> tuple[str, Mapping[str, Any]]:
    """The model and the settings that a published file is of."""
    if any(name.removeprefix("module.").startswith("body.layer") for name in tensors):
        return "resnet50", {name: value for name, value in vars(PUBLISHED_RESNET).items() if name != "mesh"}
    return "mobilenet0.25", {}


def adapted(tensors: Mapping[str, Tensor], shape: Shape, class_count: int) -> dict[str, Tensor]:
    """The tensors under our names; heads of one class are spread over all of the model's.

    Every class begins as what the one class was, and all together are as probable: the logit of a class is that of the
    one class minus log(number of classes).

    Args:
        tensors: of any file.
        shape: of the network that they shall fill.
        class_count: of that network, without the background.
    """
    renamed = {our_name(name): value for name, value in tensors.items()}
    if is_published(tensors):
        _check_fits(shape, published_model(tensors)[1])
        # they see blue first
        renamed |= {name: tensor.flip(1) for name in _FIRST_LAYERS if (tensor := renamed.get(name, _NONE)).ndim == 4}
    two = 2 * shape.anchors_a_cell  # background and one class for each anchor
    return {
        name: _spread(value, shape.anchors_a_cell, class_count)
        if name.startswith(_CLASS_HEAD) and value.shape[:1] == (two,) and class_count > 1
        else value
        for name, value in renamed.items()
    }


def _check_fits(shape: Shape, published: Mapping[str, Any]) -> None:
    """Refuse a network whose levels are not those of the file: tensors of the same shape would mean something else."""
    wanted = Shape(**published)
    if (shape.levels, shape.pixels) != (wanted.levels, wanted.pixels):
        settings = {name: value for name, value in published.items() if getattr(SHAPES["resnet50"], name) != value}
        words = " ".join(f"--set {name}={json.dumps(value)}".replace(" ", "") for name, value in settings.items())
        raise UsageError(
            "the weights are of a network with other levels",
            place="--weights",
            got=f"{wanted.levels} levels, {wanted.pixels} pixels",
            expected=f"{shape.levels} levels, {shape.pixels} pixels",
            remedy=f"Add {words.replace('--set', '--set ')}."
            if words
            else "Leave out --set anchor_sizes and --set pixels.",
        )


def _spread(head: Tensor, anchors: int, class_count: int) -> Tensor:
    """(anchors · 2, …) → (anchors · (1 + classes), …)"""
    background, one = head.reshape(anchors, 2, *head.shape[1:]).split(1, dim=1)
    if head.ndim == 1:
        one = one - math.log(class_count)
    return torch.cat([background, *[one] * class_count], dim=1).flatten(0, 1)


def download_light() -> Path:
    """Download the light weights into torch's cache, once, and check what came.

    Raises:
        OSError: no network.
        RuntimeError: another file came.
    """
    file = light_file()
    if not origin.is_whole(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(origin.LIGHT_URL, str(file), hash_prefix=origin.LIGHT_SHA256, progress=False)
    return file
