"""One training of a network: its state, and the step that moves it on."""

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from curate.dataset import Dataset
from curate.engines.base import Detector
from curate.engines.training.batches import Batch, loaded
from curate.engines.training.checkpoint import (
    Checkpoint,
    check_fingerprint,
    fingerprint,
    read_checkpoint,
    write_checkpoint,
)
from curate.engines.training.device import is_out_of_memory, largest_that_fits, placed, too_large
from curate.engines.training.journal import StepReport
from curate.engines.training.order import step_seed
from curate.engines.training.processes import Team
from curate.engines.training.recipe import BuiltModel, freeze_pretrained
from curate.engines.training.weights import load_weights
from curate.errors import TrainingError
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder

if TYPE_CHECKING:
    from curate.engines.torch_engine import NetworkEngine


_EARLY = 10  # steps after which the average may look further back than a few steps


class Average:
    """An exponential moving average of all floating-point tensors of a network.

    In step s the average keeps min(decay, (1 + s) / (10 + s)) of itself, so that it forgets the random start soon
    (as tf.train.ExponentialMovingAverage with `num_updates`).

    Args:
        network: what is averaged.
        decay: 0 averages nothing.
        kept: the average of a checkpoint, to go on from.
    """

    def __init__(self, network: nn.Module, decay: float, kept: Mapping[str, Tensor] | None = None) -> None:
        self._decay = decay
        own = network.state_dict()
        self._names = [name for name, value in own.items() if decay and value.is_floating_point()]
        start = kept or own
        self._tensors = [start[name].detach().to(own[name].device, copy=True) for name in self._names]

    @torch.no_grad()
    def follow(self, network: nn.Module, step: int) -> None:
        """Move the average towards the weights after `step`, counted from 0."""
        if not self._names:
            return
        own = network.state_dict()
        share = 1 - min(self._decay, (2 + step) / (_EARLY + 1 + step))
        for name, tensor in zip(self._names, self._tensors, strict=True):
            tensor.lerp_(own[name], share)

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """The averaged tensors, and those that are not averaged, by name."""
        return {**network.state_dict(), **dict(zip(self._names, self._tensors, strict=True))}


_REFERENCE_BATCH = 4  # the learning rates of the recipes are for this batch
_LAST_LR = 0.01  # of the highest


class Training:
    """A network under training. Everything that chance decides in a step follows from (seed, step).

    Construction goes on from the run's last checkpoint where there is one.

    Attributes:
        step: steps done.
    """

    def __init__(
        self,
        engine: "NetworkEngine",
        dataset: Dataset,
        run: RunFolder,
        config: TrainingConfig,
        team: Team | None = None,
    ) -> None:
        self._engine, self._dataset, self._run, self._config = engine, dataset, run, config
        self._team = team or Team()
        self._device = self._team.device(config.device)
        self._fingerprint = fingerprint(dataset)
        saved = read_checkpoint(run.last) if run.last.is_file() else None
        if saved is not None:
            check_fingerprint(saved, self._fingerprint, run.path)
        torch.manual_seed(config.seed)
        self._model = engine.build(
            config.model_name, len(dataset.classes), config.image_size, config.settings, config.loss
        )
        batches = engine.batches(dataset, config, self._model, self._team.share)
        report = run.read_record().weights
        if saved is None or report is None:
            report = load_weights(self._model, config.model_name, config.weights)
            if self._team.leads:
                run.update(weights=report)
        self._network = placed(self._model.network, self._device)
        self._network.train()
        at_random = set(report.not_loaded)
        freeze_pretrained(self._model, at_random)
        self._optimizer = _optimizer(self._model, at_random, config)
        self.step = 0
        if saved is not None:
            self._network.load_state_dict(saved.weights)
            self._optimizer.load_state_dict(dict(saved.optimizer or {}))
            self.step = saved.step
        self._average = Average(self._network, self._model.recipe.average, saved and saved.average)
        self._steps = loaded(batches, self.step, config.steps, config.workers)
        # a batch without objects leaves the box head out
        self._learner = self._team.shared(self._network, self._device, leaves_parts_out=True)

    def take_step(self) -> StepReport:
        """Train on the next batch.

        Raises:
            TrainingError: the loss is no number, and the message names the images; or the memory is too small.
        """
        began = time.perf_counter()
        batch = next(self._steps)
        waited_s = time.perf_counter() - began
        torch.manual_seed(step_seed(self._config.seed, self.step) + self._team.rank)
        self._set_lr()
        losses = None
        try:
            losses = self._learn(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        if losses is None:  # told here, where the error no longer holds what filled the memory
            raise self._too_large(batch)
        self.step += 1
        lr = max(group["lr"] for group in self._optimizer.param_groups)
        return StepReport(losses, lr, self._config.batch, waited_s)

    def close(self) -> None:
        """End the processes that read images."""
        self._steps.close()

    def _learn(self, batch: Batch) -> dict[str, float]:
        terms = self._forward(self._learner, batch)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        losses = {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}}
        if not math.isfinite(losses["loss"]):
            raise self._no_number(losses, batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), self._model.recipe.clip_norm)
        self._optimizer.step()
        self._average.follow(self._network, self.step)
        return losses

    def _forward(self, network: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        images = [image.to(self._device, non_blocking=True).float() / 255 for image in batch.images]  # each (3, h, w)
        targets = [{key: value.to(self._device) for key, value in target.items()} for target in batch.targets]
        return network(images, targets)

    def _set_lr(self) -> None:
        """A linear warm-up, then half a cosine down to a hundredth."""
        steps = self._config.steps
        warmup = max(1, min(round(self._model.recipe.warmup * steps), 500))
        if self.step < warmup:
            share = (self.step + 1) / warmup
        else:
            cosine = (1 + math.cos(math.pi * (self.step - warmup) / max(1, steps - warmup))) / 2
            share = _LAST_LR + (1 - _LAST_LR) * cosine
        for group in self._optimizer.param_groups:
            group["lr"] = group["highest_lr"] * share

    def _no_number(self, losses: Mapping[str, float], batch: Batch) -> TrainingError:
        return TrainingError(
            f"the loss is no number in step {self.step}",
            place=self._run.path,
            got=", ".join(f"{name} {value:g}" for name, value in losses.items()),
            remedy=f"Look at the batch ({', '.join(batch.paths)}), or lower the learning rate with --lr.",
        )

    def _too_large(self, batch: Batch) -> TrainingError:
        def attempt(images: int) -> None:
            part = Batch(batch.images[:images], batch.targets[:images], batch.paths[:images])
            torch.stack([term.float() for term in self._forward(self._network, part).values()]).sum().backward()
            self._optimizer.step()  # it takes memory too; nothing of this is kept

        self._optimizer.zero_grad(set_to_none=True)
        fits = largest_that_fits(len(batch.images), attempt)
        return too_large(self._config.batch, fits * self._team.processes, self._device)

    def detector(self) -> Detector:
        """The model as it would be used now."""
        network = copy.deepcopy(self._network)
        network.load_state_dict(self._average.weights(self._network))
        return self._engine.detector(replace(self._model, network=network), self._dataset.classes, self._device)

    def write_last(self, path: Path) -> None:
        """Write the checkpoint to go on from."""
        saved = self._checkpoint(self._network.state_dict())
        write_checkpoint(
            path, replace(saved, optimizer=self._optimizer.state_dict(), average=self._average.weights(self._network))
        )

    def write_best(self, path: Path) -> None:
        """Write the checkpoint to use."""
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


def _optimizer(model: BuiltModel, at_random: set[str], config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; layers that start at random learn faster than those that start from pretrained weights."""
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
