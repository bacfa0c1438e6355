"""The torchvision engine: trains and runs torchvision's detectors behind the engine protocol."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from curate.dataset import Dataset
from curate.engines.base import Validate
from curate.engines.checkpoints import read_checkpoint
from curate.engines.config import TrainingConfig
from curate.engines.devices import device_named
from curate.engines.journal import Journal
from curate.engines.processes import Team, check_processes, launch_torchrun, train_together
from curate.engines.runs import RunFolder
from curate.engines.torchvision_detector import TorchvisionDetector
from curate.engines.torchvision_models import build_model
from curate.engines.training import Training
from curate.progress import Progress, silent


class TorchvisionEngine:
    """Trains with AdamW, a warm-up and a cosine decay; `Recipe` holds what differs between models."""

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
                train_together(launch_torchrun, _train, config, dataset, run.path, config, validate, progress=progress)
        return run.best

    def load(self, checkpoint: Path, device: str = "auto") -> TorchvisionDetector:
        """Load a checkpoint; see `Engine.load`.

        Raises:
            UsageError: there is no such file.
            DataError: not a checkpoint of this engine.
        """
        saved = read_checkpoint(checkpoint)
        name = saved.model.partition(":")[2]
        model = build_model(name, len(saved.classes), saved.image_size, saved.settings)
        model.network.load_state_dict(saved.weights)
        return TorchvisionDetector(model, saved.classes, device_named(device))


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
    with closing(Training(dataset, run, config, team)) as training:
        if not team.leads:
            goes_on = training.step < config.steps
            while goes_on:
                training.take_step()
                goes_on = team.agree(goes_on)
            return
        with Journal(
            run, config, training, step=training.step, progress=progress, validate=validate, interrupted=interrupted
        ) as journal:
            while journal.goes_on:
                journal.took(training.take_step())
                team.agree(journal.goes_on)
