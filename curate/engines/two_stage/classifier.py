"""The second stage: a torchvision ResNet that classifies crops."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.transforms.functional import normalize

from curate.engines.models import LIST_MODELS
from curate.engines.two_stage.first_stage import EmbeddedDetector
from curate.engines.two_stage.settings import TwoStageSettings
from curate.errors import unknown_name

_FAMILIES = ("resnet", "resnext", "wide_resnet")
_IMAGENET_MEAN, _IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class TwoStageNetwork(nn.Module):
    """A ResNet for crops, and the file of the detector that finds what to crop.

    Attributes:
        backbone: The ResNet without its last layer.
        head: The last layer.
        detector: The first stage's file.
        settings: How both stages work together.
    """

    def __init__(self, name: str, class_count: int, settings: TwoStageSettings) -> None:
        super().__init__()
        backbone: Any = get_model(name, weights=None)
        self.head = nn.Linear(backbone.fc.in_features, class_count)
        backbone.fc = nn.Identity()
        self.backbone = backbone
        self.detector = EmbeddedDetector()
        self.settings = settings

    def forward(
        self, images: Tensor | Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | Tensor:
        """Cross entropy in training, probabilities otherwise.

        Args:
            images: b of (3, s, s) in 0..1.
            targets: One {"labels": (1,) int64, from 1} per crop.

        Returns:
            {"loss_classifier": scalar} in training, else (b, classes).
        """
        crops = images if isinstance(images, Tensor) else torch.stack(list(images))  # (b, 3, s, s)
        logits = self.head(self.backbone(normalize(crops, _IMAGENET_MEAN, _IMAGENET_STD)))  # (b, classes)
        if not self.training or targets is None:
            return logits.float().softmax(dim=1)
        labels = torch.cat([target["labels"] for target in targets]) - 1  # (b,)
        return {"loss_classifier": functional.cross_entropy(logits.float(), labels)}


def known_networks() -> list[str]:
    """Names of the networks that can be the second stage."""
    return [name for name in list_models(module=models) if name.startswith(_FAMILIES)]


def check_network(name: str) -> None:
    """Refuse a name that is not among `known_networks`.

    Raises:
        UsageError: The message has the closest name.
    """
    if name not in known_networks():
        raise unknown_name("ResNet of torchvision", name, known_networks(), place="--model", remedy=LIST_MODELS)


def pretrained_tensors(name: str) -> dict[str, Tensor]:
    """Download torchvision's ImageNet weights, with tensors named as in the whole network."""
    weights: Any = get_model_weights(name)
    tensors: Mapping[str, Tensor] = weights.DEFAULT.get_state_dict(progress=False, check_hash=True)
    return {f"backbone.{key}": value for key, value in tensors.items()}
