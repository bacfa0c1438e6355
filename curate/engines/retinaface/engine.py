"""The retinaface engine."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.dataset import ClassEntry
from curate.engines.base import Detector, model_of
from curate.engines.built_model import BuiltModel
from curate.engines.network_detector import NetworkDetector
from curate.engines.retinaface.fusing import fuse_norms
from curate.engines.retinaface.models import build_model
from curate.engines.retinaface.published_weights import is_published, published_model
from curate.engines.torch_engine import NetworkEngine
from curate.engines.training.checkpoint import Checkpoint
from curate.engines.training.device import device_named
from curate.engines.training.weights import read_tensors
from curate.errors import DataError

FACE = (ClassEntry(1, "face"),)


class RetinaFaceEngine(NetworkEngine):
    """See `NetworkEngine`; also loads files that others published, which know one class, `face`."""

    def build(
        self, name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
    ) -> BuiltModel:
        """See `build_model`."""
        return build_model(name, class_count, image_size, settings, loss)

    def detector(self, model: BuiltModel, classes: tuple[ClassEntry, ...], device: torch.device) -> NetworkDetector:
        """See `NetworkEngine.detector`; batch norms become part of the convolutions before them."""
        fuse_norms(model.network)
        return NetworkDetector(model, classes, device)

    def for_use(self, saved: Checkpoint) -> Checkpoint:
        """Without the dense branch, which only teaches: who uses a detector needs no file of a mesh."""
        settings = {name: value for name, value in saved.settings.items() if name != "mesh"}
        weights = {name: value for name, value in saved.weights.items() if not name.startswith("dense.")}
        return replace(saved, settings=settings, weights=weights)

    def load(self, checkpoint: Path, device: str = "auto") -> Detector:
        """Load a checkpoint, or a file of published weights; see `Engine.load`.

        Raises:
            UsageError: there is no such file.
            DataError: neither of the two.
        """
        tensors = _published_tensors(checkpoint)
        if tensors is None:
            return super().load(checkpoint, device)
        name, settings = published_model(tensors)
        model = self.build(name, len(FACE), None, settings)
        try:
            model.network.load_state_dict(dict(model.adapted(tensors)))
        except RuntimeError as error:
            faults = str(error).splitlines()[1:2]
            raise DataError(
                f"not the published weights of {name}", place=checkpoint, got="".join(faults).strip()
            ) from error
        return self.detector(model, FACE, device_named(device))

    def model_in(self, checkpoint: Path) -> str | None:
        """The model of a checkpoint, or of a file of published weights; see `Engine.model_in`."""
        tensors = _published_tensors(checkpoint)
        return super().model_in(checkpoint) if tensors is None else f"retinaface:{published_model(tensors)[0]}"


def _published_tensors(file: Path) -> Mapping[str, Tensor] | None:
    """None where the file is not of those that others published."""
    if not file.is_file() or model_of(file) is not None:
        return None
    try:
        tensors = read_tensors(file)
    except DataError:
        return None  # it is told by who expects a checkpoint
    return tensors if is_published(tensors) else None
