"""The torchvision engine: torchvision's detectors behind the engine protocol."""

from collections.abc import Mapping
from typing import Any

from curate.engines.torch_engine import NetworkEngine
from curate.engines.torchvision.models import build_model
from curate.engines.training.recipe import BuiltModel


class TorchvisionEngine(NetworkEngine):
    """See `NetworkEngine`."""

    def build(
        self, name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
    ) -> BuiltModel:
        """See `build_model`."""
        return build_model(name, class_count, image_size, settings, loss)
