"""The Detectron2 engine: trains and runs the box detectors of its model zoo behind the engine protocol."""

# Detectron2 is on no registry, so that type checks must do without it
# pyright: reportMissingImports=false

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import launch
from torch import nn

from curate.dataset import Dataset
from curate.engines.base import Validate, model_of
from curate.engines.detectron2_engine.config import plan_from_text
from curate.engines.detectron2_engine.detector import Detectron2Detector
from curate.engines.detectron2_engine.training import Detectron2Training, FollowerHook, JournalHook
from curate.engines.training.checkpoint import read_checkpoint
from curate.engines.training.device import device_named
from curate.engines.training.journal import Journal
from curate.engines.training.processes import PATIENCE, Team, check_processes, train_together
from curate.progress import Progress, silent
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder


class Detectron2Engine:
    """Trains as the model's own configuration says, with its schedule stretched to the steps asked for."""

    def train(
        self,
        dataset: Dataset,
        run: RunFolder,
        config: TrainingConfig,
        progress: Progress = silent,
        validate: Validate | None = None,
    ) -> Path:
        """Train on every image of `dataset`; see `Engine.train`.

        Raises:
            TrainingError: nothing to train on, other images than the run began with, a loss that is no number, or a
                batch that the memory does not hold.
            MissingError: weights or device are not there.
            UsageError: a setting does not fit the model.
            KeyboardInterrupt: after Ctrl-C, once a checkpoint is written.
        """
        check_processes(config)
        gpu = [device] if (device := device_named(config.device)).type == "cuda" else []
        with run.held(), torch.random.fork_rng(gpu):
            if config.processes == 1:
                _train(dataset, run.path, config, validate, progress, None)
            else:
                train_together(_launch, _train, config, dataset, run.path, config, validate, progress=progress)
        return run.best

    def load(self, checkpoint: Path, device: str = "auto") -> Detectron2Detector:
        """Load a checkpoint; see `Engine.load`.

        Raises:
            UsageError: there is no such file.
            DataError: not a checkpoint of curate.
        """
        saved = read_checkpoint(checkpoint)
        config = TrainingConfig(model=saved.model, image_size=saved.image_size, settings=saved.settings)
        plan = plan_from_text(saved.engine_config, config, len(saved.classes), device_named(device))
        model: nn.Module = plan.build_model()
        model.load_state_dict(saved.weights)
        return Detectron2Detector(model.eval(), plan.test_size, saved.classes)

    def model_in(self, checkpoint: Path) -> str | None:
        """See `Engine.model_in`."""
        return model_of(checkpoint)


def _launch(function: Callable[..., None], processes: int, arguments: tuple[Any, ...]) -> None:
    """Detectron2's own launcher."""
    launch(function, processes, dist_url="auto", args=arguments, timeout=PATIENCE)


def _train(
    dataset: Dataset,
    folder: Path,
    config: TrainingConfig,
    validate: Validate | None,
    progress: Progress,
    interrupted: Callable[[], bool] | None,
) -> None:
    """What each process of a training does."""
    run, team = RunFolder(folder), Team.current()
    with closing(Detectron2Training(dataset, run, config, team)) as training:
        if not team.leads:
            training.run(FollowerHook(training, team))
            return
        with Journal(
            run, config, training, step=training.step, progress=progress, validate=validate, interrupted=interrupted
        ) as journal:
            training.run(JournalHook(training, journal, team))
