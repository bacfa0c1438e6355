"""The training loop of torch networks: AdamW with warm-up and cosine decay, averaged weights, one step at a time."""

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from curate.dataset import ClassEntry, Dataset
from curate.engines.base import Detector
from curate.engines.training.batches import Batch, StepBatches
from curate.engines.training.checkpoint import Checkpoint, fingerprint, read_last, write_checkpoint
from curate.engines.training.device import (
    is_out_of_memory,
    largest_batch_that_fits,
    move_to_device,
    out_of_memory_error,
)
from curate.engines.training.journal import StepReport, loss_not_finite
from curate.engines.training.loader import BatchLoader
from curate.engines.training.order import step_seed
from curate.engines.training.processes import ProcessGroup
from curate.engines.training.recipe import BuiltModel, freeze_pretrained
from curate.engines.training.weights import load_weights
from curate.errors import DataError, TrainingError
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder

logger = logging.getLogger(__name__)

_REFERENCE_BATCH = 4  # the recipes' learning rates are for this batch size
_LAST_LR = 0.01  # of the highest
_LONG_WAIT_S = 1.0  # for a batch


class ModelBuilder(Protocol):
    """What a training needs of an engine."""

    def build(
        self, name: str, class_count: int, image_size: int | None, settings: Mapping[str, Any], loss: str = "default"
    ) -> BuiltModel:
        """A network with random weights; see `TorchEngine.build`."""
        ...

    def batches(self, dataset: Dataset, config: TrainingConfig, model: BuiltModel, group: ProcessGroup) -> StepBatches:
        """The batches that a process trains on; see `TorchEngine.batches`."""
        ...

    def detector(self, model: BuiltModel, classes: tuple[ClassEntry, ...], device: torch.device) -> Detector:
        """A detector that uses the network; see `TorchEngine.detector`."""
        ...


class Average:
    """An exponential moving average of all floating-point tensors of a network.

    In step s the average keeps min(decay, (1 + s) / (10 + s)) of itself, so that it soon forgets the random start
    (as tf.train.ExponentialMovingAverage with `num_updates`).

    Args:
        network: The network whose tensors are averaged.
        decay: 0 switches averaging off.
        start: The average of a checkpoint to resume from.
    """

    def __init__(self, network: nn.Module, decay: float, start: Mapping[str, Tensor] | None = None) -> None:
        self._decay = decay
        own = network.state_dict()
        self._names = [name for name, value in own.items() if decay and value.is_floating_point()]
        start = start or own
        self._tensors = [start[name].detach().to(own[name].device, copy=True) for name in self._names]

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the weights after `step`, counted from 0."""
        if not self._names:
            return
        own = network.state_dict()
        share = 1 - min(self._decay, (2 + step) / (11 + step))
        for name, tensor in zip(self._names, self._tensors, strict=True):
            tensor.lerp_(own[name], share)

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """The network's state dict with averaged tensors."""
        return {**network.state_dict(), **dict(zip(self._names, self._tensors, strict=True))}


class Training:
    """A network under training; see `EngineTraining`. The random numbers of a step depend on (seed, step) alone.

    The constructor resumes from the run's last checkpoint if there is one.

    Attributes:
        step: Steps done.
        weights: Which tensors the initial weights filled.
    """

    def __init__(
        self,
        builder: ModelBuilder,
        dataset: Dataset,
        run: RunFolder | None,
        config: TrainingConfig,
        group: ProcessGroup,
    ) -> None:
        self._builder, self._dataset, self._run, self._config, self._group = builder, dataset, run, config, group
        self._device = group.select_device(config.device)
        self._fingerprint = fingerprint(dataset)
        saved = read_last(run, self._fingerprint)
        torch.manual_seed(config.seed)
        self._model = builder.build(
            config.model_name, len(dataset.classes), config.image_size, config.settings, config.loss
        )
        batches = builder.batches(dataset, config, self._model, group)
        known = run.read_record().weights if run is not None and saved is not None else None
        self.weights = known or load_weights(self._model, config.model_name, config.weights)
        self._network = move_to_device(self._model.network, self._device)
        self._network.train()
        at_random = set(self.weights.not_loaded)
        freeze_pretrained(self._model, at_random)
        self._optimizer = _build_optimizer(self._model, at_random, config)
        self.step = 0
        if saved is not None:
            try:
                self._network.load_state_dict(saved.weights)
                self._optimizer.load_state_dict(dict(saved.optimizer or {}))
                self._average = Average(self._network, self._model.recipe.average, saved.average)
            except Exception as error:  # torch raises several kinds
                place = run and run.last
                raise DataError("the checkpoint does not fit the run", place=place, got=type(error).__name__) from error
            self.step = saved.step
        else:
            self._average = Average(self._network, self._model.recipe.average)
        self._batches = BatchLoader(batches, self.step, config.steps, config.workers)
        # a batch without objects does not use the box head
        self._parallel = group.wrap(self._network, self._device, unused_parameters=True)

    def run(self, after_step: Callable[[StepReport], bool]) -> None:
        """See `EngineTraining.run`."""
        while self.step < self._config.steps and after_step(self._take_step()):
            pass

    def _take_step(self) -> StepReport:
        started = time.perf_counter()
        batch = next(self._batches)
        waited_s = time.perf_counter() - started
        if waited_s > _LONG_WAIT_S:
            logger.debug("step %d: waited %.1f s for the batch", self.step, waited_s)
        torch.manual_seed(step_seed(self._config.seed, self.step) + self._group.rank)
        self._set_lr()
        losses = None
        try:
            losses = self._optimize(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            logger.info("step %d: out of memory: %s", self.step, str(error).partition("\n")[0])
        if losses is None:  # outside the handler, where the error no longer keeps tensors alive
            raise self._out_of_memory(batch)
        self.step += 1
        lr = max(group["lr"] for group in self._optimizer.param_groups)
        return StepReport(losses, lr, self._config.batch, waited_s)

    def close(self) -> None:
        """See `EngineTraining.close`."""
        self._batches.close()

    def _optimize(self, batch: Batch) -> dict[str, float]:
        """Change the weights by one batch and return its losses."""
        terms = self._forward(self._parallel, batch)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        losses = {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}}
        if not math.isfinite(losses["loss"]):
            values = ", ".join(f"{name} {value:g}" for name, value in losses.items())
            raise loss_not_finite(self.step, self._run, values, batch.paths)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), self._model.recipe.clip_norm)
        self._optimizer.step()
        self._average.update(self._network, self.step)
        return losses

    def _forward(self, network: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        images = [image.to(self._device, non_blocking=True).float() / 255 for image in batch.images]  # each (3, h, w)
        targets = [{key: value.to(self._device) for key, value in target.items()} for target in batch.targets]
        return network(images, targets)

    def _set_lr(self) -> None:
        """Linear warm-up, then cosine decay to 1 % of the highest learning rate."""
        steps = self._config.steps
        warmup = max(1, min(round(self._model.recipe.warmup * steps), 500))
        if self.step < warmup:
            share = (self.step + 1) / warmup
        else:
            cosine = (1 + math.cos(math.pi * (self.step - warmup) / max(1, steps - warmup))) / 2
            share = _LAST_LR + (1 - _LAST_LR) * cosine
        for group in self._optimizer.param_groups:
            group["lr"] = group["highest_lr"] * share

    def _out_of_memory(self, batch: Batch) -> TrainingError:
        def attempt(images: int) -> None:
            losses = self._forward(self._network, batch.first(images))
            torch.stack([term.float() for term in losses.values()]).sum().backward()
            self._optimizer.step()  # its state takes memory too; the result is discarded

        self._optimizer.zero_grad(set_to_none=True)
        fits = largest_batch_that_fits(len(batch.images), attempt)
        return out_of_memory_error(self._config.batch, fits * self._group.world_size, self._device)

    @property
    def is_waiting(self) -> bool:
        """See `Trainable.is_waiting`."""
        return self._batches.is_waiting

    def detector(self) -> Detector:
        """See `Trainable.detector`."""
        network = copy.deepcopy(self._network)
        network.load_state_dict(self._average.weights(self._network))
        return self._builder.detector(replace(self._model, network=network), self._dataset.classes, self._device)

    def write_last(self, path: Path) -> None:
        """See `Trainable.write_last`."""
        saved = self._checkpoint(self._network.state_dict())
        write_checkpoint(
            path, replace(saved, optimizer=self._optimizer.state_dict(), average=self._average.weights(self._network))
        )

    def write_best(self, path: Path) -> None:
        """See `Trainable.write_best`."""
        write_checkpoint(path, self._checkpoint(self._average.weights(self._network)))

    def _checkpoint(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        return Checkpoint(
            model=self._config.model,
            classes=self._dataset.classes,
            image_size=self._config.image_size,
            settings=self._config.settings,
            step=self.step,
            weights=weights,
            fingerprint=self._fingerprint,
        )


def _build_optimizer(model: BuiltModel, at_random: set[str], config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; layers that start from random weights have a higher learning rate than pretrained ones."""
    recipe = model.recipe
    scale = math.sqrt(config.batch / _REFERENCE_BATCH)
    lr = config.lr if config.lr is not None else recipe.lr * scale
    groups: list[dict[str, Any]] = []
    for new, highest_lr in ((False, lr), (True, lr * recipe.new_lr / recipe.lr)):
        for decay in (0.0, recipe.weight_decay):
            parameters = [
                parameter
                for name, parameter in model.network.named_parameters()
                if parameter.requires_grad and (name in at_random) is new and (parameter.ndim > 1) is (decay > 0)
            ]
            if parameters:
                groups.append({"params": parameters, "highest_lr": highest_lr, "lr": highest_lr, "weight_decay": decay})
    return torch.optim.AdamW(groups)
