"""One training run from lock to best checkpoint, the same for every engine."""

import errno
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import torch

from curate.dataset import Dataset
from curate.engines.base import Validate
from curate.engines.training.device import select_device
from curate.engines.training.journal import Journal, StepReport, Trainable
from curate.engines.training.processes import SINGLE_PROCESS, Launch, ProcessGroup, check_processes, train_in_processes
from curate.errors import TrainingError
from curate.progress import Progress
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.run_folder.record import WeightsReport


class EngineTraining(Trainable, Protocol):
    """One training of an engine, in one process.

    Attributes:
        step: Steps done.
        weights: Which tensors the initial weights filled.
    """

    step: int
    weights: WeightsReport

    def run(self, after_step: Callable[[StepReport], bool]) -> None:
        """Take the steps that are left, until `after_step` returns False.

        Raises:
            TrainingError: The loss is NaN or infinite, or the batch does not fit in memory.
        """
        ...

    def close(self) -> None:
        """Stop the worker processes that read images."""
        ...


StartTraining = Callable[[Dataset, RunFolder | None, TrainingConfig, ProcessGroup], EngineTraining]
"""Starts a training, or resumes it from the run's last checkpoint, and writes nothing; picklable. Without a run, it is
only checked whether a training can start."""


def check_training(start: StartTraining, dataset: Dataset, config: TrainingConfig) -> None:
    """Build everything that a new training needs, in this process, and throw it away; see `Engine.check`."""
    check_processes(config)
    device = select_device(config.device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        start(dataset, None, config, SINGLE_PROCESS).close()


def run_training(
    start: StartTraining,
    dataset: Dataset,
    run: RunFolder,
    config: TrainingConfig,
    *,
    launch: Launch,
    progress: Progress,
    validate: Validate | None,
) -> Path:
    """Train while holding the run's lock, leave the global random generators as they were, return the best checkpoint.

    Args:
        start: Starts the training, in each process.
        launch: Starts the processes, if there are several.
        dataset, run, config, progress, validate: See `Engine.train`.

    Raises:
        TrainingError, MissingError, UsageError: See `Engine.train`.
        KeyboardInterrupt: After Ctrl-C, once a checkpoint is written.
    """
    check_processes(config)
    device = select_device(config.device)
    with run.locked(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        if config.processes == 1:
            _train(start, dataset, run.path, config, validate, progress, None)
        else:
            arguments = (start, dataset, run.path, config, validate)
            train_in_processes(launch, _train, config, *arguments, progress=progress)
    return run.best


@contextmanager
def _writing_to(run: RunFolder) -> Iterator[None]:
    """Say what the training keeps where a file of the run cannot be written, as on a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None or not Path(error.filename).resolve().is_relative_to(run.path.resolve()):
            raise
        kept = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Make it writable"
        after = "continue with --resume after the last checkpoint" if run.has_learnt else "start it again"
        raise TrainingError(
            f"the run's file cannot be written: {error.strerror}", place=error.filename, remedy=f"{kept}, then {after}."
        ) from error


def _train(
    start: StartTraining,
    dataset: Dataset,
    folder: Path,
    config: TrainingConfig,
    validate: Validate | None,
    progress: Progress,
    interrupted: Callable[[], bool] | None,
) -> None:
    """Train in one of the processes; the primary process keeps the journal and decides when all of them stop."""
    run, group = RunFolder(folder), ProcessGroup.current()
    with _writing_to(run), closing(start(dataset, run, config, group)) as training:
        if not group.is_primary:
            training.run(lambda _: group.broadcast(False))
            return
        if run.read_record().weights is None:
            run.update(weights=training.weights)
        with Journal(
            run, config, training, step=training.step, progress=progress, validate=validate, interrupted=interrupted
        ) as journal:

            def after_step(report: StepReport) -> bool:
                journal.record(report)
                return group.broadcast(not journal.finished)

            training.run(after_step)
