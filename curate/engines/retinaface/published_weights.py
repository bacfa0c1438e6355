"""Weights published by others: renaming their tensors, and extending a face detector's head to more classes.

Supported are the files of `biubug6/Face-Detector-1MB-with-landmark` and `biubug6/Pytorch_Retinaface` (MIT):
MobileNet-0.25 and ResNet-50, three levels, two anchors per cell, trained on WIDER FACE.
"""

import json
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.engines.retinaface import download
from curate.engines.retinaface.settings import DEFAULTS, PUBLISHED_RESNET, RetinaFaceSettings
from curate.errors import UsageError

logger = logging.getLogger(__name__)

_CLASS_HEAD = "head.classes."
_CONTEXT_PARTS = {
    "conv3X3": "see3",
    "conv5X5_1": "narrow5",
    "conv5X5_2": "see5",
    "conv7X7_2": "narrow7",
    "conv7x7_3": "see7",
}
_MISSING = torch.empty(0)
_FIRST_LAYERS = ("backbone.body.stage1.0.0.weight", "backbone.body.conv1.weight")
_HEADS = {"ClassHead": "classes", "BboxHead": "boxes", "LandmarkHead": "landmarks"}


def convert_name(name: str) -> str:
    """The network's name for a tensor of a published file; other names are returned unchanged."""
    name = name.removeprefix("module.")
    if name.startswith("body."):
        return f"backbone.{name}"
    if match := re.fullmatch(r"fpn\.(output|merge)(\d)\.(.+)", name):
        part = {"output": "lateral", "merge": "merge"}[match[1]]
        return f"backbone.pyramid.{part}.{int(match[2]) - 1}.{match[3]}"
    if (match := re.fullmatch(r"ssh(\d)\.(\w+)\.(.+)", name)) and match[2] in _CONTEXT_PARTS:
        return f"backbone.context.{int(match[1]) - 1}.{_CONTEXT_PARTS[match[2]]}.{match[3]}"
    if (match := re.fullmatch(r"(\w+)\.(\d)\.conv1x1\.(.+)", name)) and match[1] in _HEADS:
        return f"head.{_HEADS[match[1]]}.{match[2]}.{match[3]}"
    return name


def is_published(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a published file."""
    return any(name.removeprefix("module.").startswith("ClassHead.") for name in tensors)


def published_model(tensors: Mapping[str, Tensor]) -> tuple[str, Mapping[str, Any]]:
    """The name of the model in a published file, and its settings."""
    if any(name.removeprefix("module.").startswith("body.layer") for name in tensors):
        return "resnet50", {name: value for name, value in vars(PUBLISHED_RESNET).items() if name != "mesh"}
    return "mobilenet0.25", {}


def convert_tensors(tensors: Mapping[str, Tensor], settings: RetinaFaceSettings, class_count: int) -> dict[str, Tensor]:
    """Rename published tensors, and extend the head of a one-class detector to all classes of the network.

    Each class starts as a copy of the one class, with its logit minus log(number of classes): together they have the
    same probability.

    Args:
        tensors: Of any file.
        settings: Of the network to fill.
        class_count: Of the network to fill, without the background.

    Raises:
        UsageError: The file is published, and its network has other levels or normalisation.
    """
    renamed = {convert_name(name): value for name, value in tensors.items()}
    if is_published(tensors):
        _check_fits(settings, published_model(tensors)[1])
        # published networks get BGR images
        renamed |= {name: tensor.flip(1) for name in _FIRST_LAYERS if (tensor := renamed.get(name, _MISSING)).ndim == 4}
    two = 2 * settings.anchors_per_cell  # background and one class for each anchor
    return {
        name: _extend_classes(value, settings.anchors_per_cell, class_count)
        if name.startswith(_CLASS_HEAD) and value.shape[:1] == (two,) and class_count > 1
        else value
        for name, value in renamed.items()
    }


def _check_fits(settings: RetinaFaceSettings, published: Mapping[str, Any]) -> None:
    """Refuse a network with other levels or normalisation: its tensors may have equal shapes and another meaning."""
    own = RetinaFaceSettings(**published)
    if (settings.levels, settings.pixels) != (own.levels, own.pixels):
        default = DEFAULTS["resnet50"]
        options = " ".join(
            f"--set {name}={json.dumps(value, separators=(',', ':'))}"
            for name, value in published.items()
            if getattr(default, name) != value
        )
        raise UsageError(
            "the weights belong to a network with other levels",
            place="--weights",
            got=f"{own.levels} levels, {own.pixels} pixels",
            expected=f"{settings.levels} levels, {settings.pixels} pixels",
            remedy=f"Add {options}." if options else "Leave out --set anchor_sizes and --set pixels.",
        )


def _extend_classes(head: Tensor, anchors: int, class_count: int) -> Tensor:
    """(anchors · 2, …) → (anchors · (1 + classes), …)"""
    background, one = head.reshape(anchors, 2, *head.shape[1:]).split(1, dim=1)
    if head.ndim == 1:
        one = one - math.log(class_count)
    return torch.cat([background, *[one] * class_count], dim=1).flatten(0, 1)


def download_light() -> Path:
    """The light weights in torch's cache; downloads them unless they are there with the right checksum.

    Raises:
        OSError: The download failed.
        RuntimeError: The downloaded file has another checksum.
    """
    file = download.light_file()
    if not download.is_complete(file):
        logger.info("downloading %s to %s", download.LIGHT_URL, file)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(download.LIGHT_URL, str(file), hash_prefix=download.LIGHT_SHA256, progress=False)
    return file
