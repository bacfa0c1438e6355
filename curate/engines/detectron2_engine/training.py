"""One training with Detectron2: its own trainer runs the loop, and a hook of ours keeps the journal."""

# Detectron2 is on no registry, so that type checks must do without it
# pyright: reportMissingImports=false

import logging
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer
from detectron2.engine.hooks import LRScheduler
from detectron2.utils.events import EventStorage

from curate.dataset import Dataset
from curate.engines.detectron2_engine.config import plan_for
from curate.engines.detectron2_engine.data import Detectron2Batches, dataset_dicts
from curate.engines.detectron2_engine.detector import Detectron2Detector
from curate.engines.detectron2_engine.weights import load_initial_weights
from curate.engines.training.batches import loaded
from curate.engines.training.checkpoint import (
    Checkpoint,
    check_fingerprint,
    fingerprint,
    read_checkpoint,
    write_checkpoint,
)
from curate.engines.training.device import is_out_of_memory, largest_that_fits, too_large
from curate.engines.training.journal import Journal, StepReport
from curate.engines.training.order import BatchOrder, step_seed
from curate.engines.training.processes import Team
from curate.errors import TrainingError
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder

_TERM = re.compile(r"loss|_loss$")


class Detectron2Training:
    """A Detectron2 model under training. Everything that chance decides in a step follows from (seed, step).

    Construction goes on from the run's last checkpoint where there is one.

    Attributes:
        step: steps done.
    """

    def __init__(self, dataset: Dataset, run: RunFolder, config: TrainingConfig, team: Team) -> None:
        self._dataset, self._run, self._config, self._team = dataset, run, config, team
        self._device = team.device(config.device)
        self._fingerprint = fingerprint(dataset)
        self._order = BatchOrder.of(dataset, config)
        saved = read_checkpoint(run.last) if run.last.is_file() else None
        if saved is not None:
            check_fingerprint(saved, self._fingerprint, run.path)
        torch.manual_seed(config.seed)
        self._plan = plan_for(config, len(dataset.classes), self._device)
        self._model = self._plan.build_model()
        report = run.read_record().weights
        if saved is None or report is None:
            report = load_initial_weights(self._model, config.weights, self._plan.initial_weights)
            if team.leads:
                run.update(weights=report)
        self.step = 0
        if saved is not None:
            self._model.load_state_dict(saved.weights)
            self.step = saved.step
        batches = Detectron2Batches(
            dataset_dicts(dataset), self._order, self._plan.build_mapper(), seed=config.seed, share=team.share
        )
        self._batches = _LastKept(loaded(batches, self.step, config.steps, config.workers))
        self._trainer = self._build_trainer(saved)

    def _build_trainer(self, saved: Checkpoint | None) -> SimpleTrainer:
        learner = self._team.shared(self._model, self._device)
        optimizer = self._plan.build_optimizer(self._model)
        if self._plan.mixed_precision:
            # float16: Detectron2 gives RoIAlign its coordinates in this type; bfloat16 is whole pixels too coarse
            trainer = AMPTrainer(learner, self._batches, optimizer, precision=torch.float16)
        else:
            trainer = SimpleTrainer(learner, self._batches, optimizer)
        seeds = _Seeds(self._config.seed, self._team.rank)
        trainer.register_hooks([seeds, LRScheduler(optimizer, self._plan.build_schedule(optimizer))])
        if saved is not None:
            state = dict(saved.optimizer or {})
            if isinstance(trainer, AMPTrainer):  # a checkpoint from the CPU has none
                state.setdefault("grad_scaler", trainer.grad_scaler.state_dict())
            trainer.load_state_dict(state)
        return trainer

    def run(self, hook: HookBase) -> None:
        """Take the steps that are left, until the hook says enough.

        Raises:
            TrainingError: the loss is no number, and the message names the images; or the memory is too small.
        """
        if self.step >= self._config.steps:
            return
        self._trainer.register_hooks([hook])
        try:
            with _quiet():
                self._trainer.train(self.step, self._config.steps)
        except Enough:
            return
        except FloatingPointError as error:
            raise TrainingError(
                f"the loss is no number in step {self.step}",
                place=self._run.path,
                got=str(error).splitlines()[-1].removeprefix("loss_dict = "),
                remedy=f"Look at the batch ({', '.join(self._paths())}), or lower the learning rate with --lr.",
            ) from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            return
        raise self._too_large()  # told here, where the error no longer holds what filled the memory

    def close(self) -> None:
        """End the processes that read images."""
        self._batches.close()

    def report(self) -> StepReport:
        """What the step just done tells; counts it."""
        storage, now = self._trainer.storage, self._trainer.iter
        latest = {name: value for name, (value, step) in storage.latest().items() if step == now}
        losses = {name: value for name, value in latest.items() if _TERM.search(name) and name != "total_loss"}
        losses = {"loss": latest.get("total_loss", sum(losses.values())), **losses}
        self.step = now + 1
        return StepReport(losses, latest["lr"], self._config.batch, latest.get("data_time", 0.0))

    def _paths(self) -> list[str]:
        """The images of the step under way, over all processes."""
        paths = self._dataset.images.sort_values("image_id")["path"].tolist()
        return [paths[row] for row in self._order.rows(self.step)]

    def _too_large(self) -> TrainingError:
        def attempt(images: int) -> None:
            with torch.autocast(self._device.type, torch.float16, enabled=self._plan.mixed_precision):
                losses: Mapping[str, torch.Tensor] = self._model(batch[:images])
            torch.stack(list(losses.values())).sum().backward()
            self._trainer.optimizer.step()  # it takes memory too; nothing of this is kept

        batch = self._batches.last
        self._trainer.optimizer.zero_grad(set_to_none=True)
        with EventStorage(0):
            fits = largest_that_fits(len(batch), attempt)
        return too_large(self._config.batch, fits * self._team.processes, self._device)

    def detector(self) -> Detectron2Detector:
        """The model as it would be used now."""
        return Detectron2Detector(self._model, self._plan.test_size, self._dataset.classes)

    def write_last(self, path: Path) -> None:
        """Write the checkpoint to go on from."""
        # the trainer counts the step that was done last, and goes on with the next
        write_checkpoint(path, self._checkpoint(self._trainer.state_dict()))

    def write_best(self, path: Path) -> None:
        """Write the checkpoint to use."""
        write_checkpoint(path, self._checkpoint(None))

    def _checkpoint(self, trainer: Mapping[str, Any] | None) -> Checkpoint:
        return Checkpoint(
            model=self._config.model,
            classes=self._dataset.classes,
            image_size=self._config.image_size,
            settings=self._config.settings,
            step=self.step,
            weights=self._model.state_dict(),
            optimizer=trainer,
            fingerprint=self._fingerprint,
            engine_config=self._plan.text(),
        )


class Enough(BaseException):
    """Leaves Detectron2's loop, which has no other way out before its last step."""


class JournalHook(HookBase):
    """Keeps the journal after each step, and ends the loop when that is due."""

    def __init__(self, training: Detectron2Training, journal: Journal, team: Team) -> None:
        self._training, self._journal, self._team = training, journal, team

    def after_step(self) -> None:
        """See `HookBase`."""
        self._journal.took(self._training.report())
        if not self._team.agree(self._journal.goes_on):
            raise Enough


class FollowerHook(HookBase):
    """Ends the loop when the first process does."""

    def __init__(self, training: Detectron2Training, team: Team) -> None:
        self._training, self._team = training, team

    def after_step(self) -> None:
        """See `HookBase`."""
        self._training.step = self.trainer.iter + 1
        if not self._team.agree(False):
            raise Enough


class _Seeds(HookBase):
    """What the model leaves to chance in a step follows from (seed, step)."""

    def __init__(self, seed: int, rank: int) -> None:
        self._seed, self._rank = seed, rank

    def before_step(self) -> None:
        torch.manual_seed(step_seed(self._seed, self.trainer.iter) + self._rank)


class _LastKept:
    """An iterable of batches that remembers the last one, for messages."""

    def __init__(self, batches: Generator[list[dict[str, Any]]]) -> None:
        self._batches = batches
        self.last: list[dict[str, Any]] = []

    def close(self) -> None:
        self._batches.close()

    def __iter__(self) -> "_LastKept":
        return self

    def __next__(self) -> list[dict[str, Any]]:
        self.last = next(self._batches)
        return self.last


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Detectron2's log, which tells errors a second time, out of the terminal."""
    logger = logging.getLogger("detectron2")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
