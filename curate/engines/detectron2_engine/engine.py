"""The Detectron2 engine: trains and runs the box detectors of its model zoo."""

# Detectron2 is on no package registry, so type checks run without it
# pyright: reportMissingImports=false

from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.engine import launch
from torch import nn

from curate.dataset import Dataset
from curate.engines.base import Validate
from curate.engines.detectron2_engine.config import plan_from_text
from curate.engines.detectron2_engine.detector import Detectron2Detector
from curate.engines.detectron2_engine.training import Detectron2Training
from curate.engines.training.checkpoint import read_checkpoint, read_model_name
from curate.engines.training.device import select_device
from curate.engines.training.processes import COLLECTIVE_TIMEOUT
from curate.engines.training.runner import check_training, run_training
from curate.errors import DataError
from curate.progress import Progress, silent
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder


class Detectron2Engine:
    """Trains with the model's own configuration, its schedule scaled to the number of steps."""

    def check(self, dataset: Dataset, config: TrainingConfig) -> None:
        """See `Engine.check`."""
        check_training(Detectron2Training, dataset, config)

    def train(
        self,
        dataset: Dataset,
        run: RunFolder,
        config: TrainingConfig,
        progress: Progress = silent,
        validate: Validate | None = None,
    ) -> Path:
        """See `Engine.train`."""
        return run_training(
            Detectron2Training, dataset, run, config, launch=_launch, progress=progress, validate=validate
        )

    def load(self, checkpoint: Path, device: str = "auto") -> Detectron2Detector:
        """See `Engine.load`."""
        saved = read_checkpoint(checkpoint)
        config = TrainingConfig(model=saved.model, image_size=saved.image_size, settings=saved.settings)
        plan = plan_from_text(saved.engine_config, config, len(saved.classes), select_device(device))
        model: nn.Module = plan.build_model()
        try:
            model.load_state_dict(saved.weights)
        except Exception as error:  # torch raises several kinds
            raise DataError("the checkpoint's tensors do not fit its model", place=checkpoint) from error
        return Detectron2Detector(model.eval(), plan.test_size, saved.classes)

    def model_in(self, checkpoint: Path) -> str | None:
        """See `Engine.model_in`."""
        return read_model_name(checkpoint)


def _launch(function: Callable[..., None], processes: int, arguments: tuple[Any, ...]) -> None:
    """Detectron2's own launcher."""
    launch(function, processes, dist_url="auto", args=arguments, timeout=COLLECTIVE_TIMEOUT)
