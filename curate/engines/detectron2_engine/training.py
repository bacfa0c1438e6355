"""One training with Detectron2: its own trainer runs the loop, and a hook reports each step."""

# Detectron2 is on no package registry, so type checks run without it
# pyright: reportMissingImports=false

import logging
import re
from collections.abc import Callable, Iterator, Mapping
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
from curate.engines.training.checkpoint import Checkpoint, fingerprint, read_last, write_checkpoint
from curate.engines.training.device import is_out_of_memory, largest_batch_that_fits, out_of_memory_error
from curate.engines.training.journal import StepReport, loss_not_finite
from curate.engines.training.loader import BatchLoader
from curate.engines.training.order import BatchOrder, step_seed
from curate.engines.training.processes import ProcessGroup
from curate.errors import TrainingError
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder

logger = logging.getLogger(__name__)

_LOSS_TERM = re.compile(r"loss|_loss$")


class Detectron2Training:
    """A Detectron2 model under training; see `EngineTraining`.

    The random numbers of a step depend on (seed, step) alone. The constructor resumes from the run's
    last checkpoint if there is one.

    Attributes:
        step: Steps done.
        weights: Which tensors the initial weights filled.
    """

    def __init__(self, dataset: Dataset, run: RunFolder | None, config: TrainingConfig, group: ProcessGroup) -> None:
        self._dataset, self._run, self._config, self._group = dataset, run, config, group
        self._device = group.select_device(config.device)
        self._fingerprint = fingerprint(dataset)
        self._order = BatchOrder.of(dataset, config)
        saved = read_last(run, self._fingerprint)
        torch.manual_seed(config.seed)
        self._plan = plan_for(config, len(dataset.classes), self._device)
        self._model = self._plan.build_model()
        known = run.read_record().weights if run is not None and saved is not None else None
        self.weights = known or load_initial_weights(self._model, config.weights, self._plan.initial_weights)
        self.step = 0
        if saved is not None:
            self._model.load_state_dict(saved.weights)
            self.step = saved.step
        batches = Detectron2Batches(
            dataset_dicts(dataset), self._order, self._plan.build_mapper(), seed=config.seed, group=group
        )
        self._batches = _RememberLast(BatchLoader(batches, self.step, config.steps, config.workers))
        self._trainer = self._build_trainer(saved)

    def _build_trainer(self, saved: Checkpoint | None) -> SimpleTrainer:
        model = self._group.wrap(self._model, self._device)
        optimizer = self._plan.build_optimizer(self._model)
        if self._plan.mixed_precision:
            # float16: Detectron2 passes RoIAlign its coordinates in this type, and bfloat16 is whole pixels too coarse
            trainer = AMPTrainer(model, self._batches, optimizer, precision=torch.float16)
        else:
            trainer = SimpleTrainer(model, self._batches, optimizer)
        seeds = _SeedHook(self._config.seed, self._group.rank)
        trainer.register_hooks([seeds, LRScheduler(optimizer, self._plan.build_schedule(optimizer))])
        if saved is not None:
            state = dict(saved.optimizer or {})
            if isinstance(trainer, AMPTrainer):  # a checkpoint from the CPU has none
                state.setdefault("grad_scaler", trainer.grad_scaler.state_dict())
            trainer.load_state_dict(state)
        return trainer

    def run(self, after_step: Callable[[StepReport], bool]) -> None:
        """See `EngineTraining.run`."""
        if self.step >= self._config.steps:
            return
        self._trainer.register_hooks([_StepHook(self._report, after_step)])
        try:
            with _quiet():
                self._trainer.train(self.step, self._config.steps)
        except _StopTraining:
            return
        except FloatingPointError as error:
            losses = str(error).splitlines()[-1].removeprefix("loss_dict = ")
            raise loss_not_finite(self.step, self._run, losses, self._paths()) from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            logger.info("step %d: out of memory: %s", self.step, str(error).partition("\n")[0])
        else:
            return
        raise self._out_of_memory()  # outside the handler, where the error no longer keeps tensors alive

    def close(self) -> None:
        """See `EngineTraining.close`."""
        self._batches.loader.close()

    def _report(self) -> StepReport:
        """Count the step just done and return its measurements."""
        storage, now = self._trainer.storage, self._trainer.iter
        latest = {name: value for name, (value, step) in storage.latest().items() if step == now}
        losses = {name: value for name, value in latest.items() if _LOSS_TERM.search(name) and name != "total_loss"}
        losses = {"loss": latest.get("total_loss", sum(losses.values())), **losses}
        self.step = now + 1
        return StepReport(losses, latest["lr"], self._config.batch, latest.get("data_time", 0.0))

    def _paths(self) -> list[str]:
        """The images of the current step, over all processes."""
        paths = self._dataset.images.sort_values("image_id")["path"].tolist()
        return [paths[row] for row in self._order.rows(self.step)]

    def _out_of_memory(self) -> TrainingError:
        def attempt(images: int) -> None:
            with torch.autocast(self._device.type, torch.float16, enabled=self._plan.mixed_precision):
                losses: Mapping[str, torch.Tensor] = self._model(batch[:images])
            torch.stack(list(losses.values())).sum().backward()
            self._trainer.optimizer.step()  # its state takes memory too; the result is discarded

        batch = self._batches.last
        self._trainer.optimizer.zero_grad(set_to_none=True)
        with EventStorage(0):
            fits = largest_batch_that_fits(len(batch), attempt)
        return out_of_memory_error(self._config.batch, fits * self._group.world_size, self._device)

    @property
    def is_waiting(self) -> bool:
        """See `Trainable.is_waiting`."""
        return self._batches.loader.is_waiting

    def detector(self) -> Detectron2Detector:
        """See `Trainable.detector`."""
        return Detectron2Detector(self._model, self._plan.test_size, self._dataset.classes)

    def write_last(self, path: Path) -> None:
        """See `Trainable.write_last`."""
        # the trainer's state has the number of the last step done, and it resumes with the next
        write_checkpoint(path, self._checkpoint({**self._trainer.state_dict(), "iteration": self.step - 1}))

    def write_best(self, path: Path) -> None:
        """See `Trainable.write_best`."""
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


class _StopTraining(BaseException):
    """Raised to leave Detectron2's loop, which has no other way out before its last step."""


class _StepHook(HookBase):
    """Reports each step, and ends the loop when it should stop."""

    def __init__(self, report: Callable[[], StepReport], after_step: Callable[[StepReport], bool]) -> None:
        self._report, self._after_step = report, after_step

    def after_step(self) -> None:
        if not self._after_step(self._report()):
            raise _StopTraining


class _SeedHook(HookBase):
    """Seeds torch before each step, so that the model's random numbers depend on (seed, step) alone."""

    def __init__(self, seed: int, rank: int) -> None:
        self._seed, self._rank = seed, rank

    def before_step(self) -> None:
        torch.manual_seed(step_seed(self._seed, self.trainer.iter) + self._rank)


class _RememberLast:
    """An iterator over batches that keeps the last one, to retry parts of it when memory runs out."""

    def __init__(self, batches: BatchLoader) -> None:
        self.loader = batches
        self.last: list[dict[str, Any]] = []

    def __iter__(self) -> "_RememberLast":
        return self

    def __next__(self) -> list[dict[str, Any]]:
        self.last = next(self.loader)
        return self.last


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Detectron2's logger, which would print errors a second time."""
    library_logger = logging.getLogger("detectron2")
    level = library_logger.level
    library_logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        library_logger.setLevel(level)
