"""One training of the torchvision engine: its state, and the step that moves it on."""

import math
import time
from dataclasses import replace

import torch
from torch import Tensor

from curate.dataset import Dataset
from curate.engines.base import TrainingConfig
from curate.engines.batches import Batch, TrainingBatches, step_seed
from curate.engines.checkpoints import Checkpoint, fingerprint, read_checkpoint, write_checkpoint
from curate.engines.devices import device_named, has_bfloat16, placed
from curate.engines.runs import RunFolder
from curate.engines.torchvision_models import BuiltModel, build_model, freeze_pretrained
from curate.engines.weights import load_weights
from curate.errors import TrainingError

_REFERENCE_BATCH = 4  # the learning rates of the recipes are for this batch


class Training:
    """A network under training. Everything that chance decides in a step follows from (seed, step).

    Construction goes on from the run's last checkpoint where there is one.

    Attributes:
        step: steps done.
        batches: by step.
    """

    def __init__(self, dataset: Dataset, run: RunFolder, config: TrainingConfig) -> None:
        self._dataset, self._run, self._config = dataset, run, config
        self._device = device_named(config.device)
        self._fingerprint = fingerprint(dataset)
        saved = self._last_checkpoint()
        torch.manual_seed(config.seed)
        name = config.model.partition(":")[2]
        self._model = build_model(name, len(dataset.classes), config.image_size)
        self.batches = TrainingBatches(
            dataset, self._model.sizing, self._model.recipe.augmentation, batch=config.batch, seed=config.seed
        )
        report = run.read_record().weights
        if saved is None or report is None:
            report = load_weights(self._model, name, config.weights)
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
        run.drop_metrics_after(self.step)
        self._losses: dict[str, float] = {}
        self._images = 0
        self._waited_s = 0.0
        self._measured_from = self._recorded_at = self._step_ended = time.perf_counter()

    def _last_checkpoint(self) -> Checkpoint | None:
        if not self._run.last.is_file():
            return None
        saved = read_checkpoint(self._run.last)
        if saved.fingerprint != self._fingerprint:
            raise TrainingError(
                "the images, boxes or classes are not those that the run began with",
                place=self._run.path,
                remedy="Start another run, or go on with the version of the dataset that run.json names.",
            )
        return saved

    def take_step(self, batch: Batch) -> None:
        """Train on one batch.

        Raises:
            TrainingError: the loss is no number; the message names the images.
        """
        self._waited_s += time.perf_counter() - self._step_ended
        torch.manual_seed(step_seed(self._config.seed, self.step))
        self._set_lr()
        images = [image.to(self._device, non_blocking=True).float() / 255 for image in batch.images]  # each (3, h, w)
        targets = [{key: value.to(self._device) for key, value in target.items()} for target in batch.targets]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=has_bfloat16(self._device)):
            terms: dict[str, Tensor] = self._network(images, targets)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        self._losses = {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}}
        self._check_loss(batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._model.recipe.clip_norm)
        self._optimizer.step()
        self.step += 1
        self._images += len(batch.images)
        self._step_ended = time.perf_counter()

    def _set_lr(self) -> None:
        """A linear warm-up, then half a cosine down to a hundredth."""
        steps = self._config.steps
        warmup = max(1, min(round(self._model.recipe.warmup * steps), 500))
        if self.step < warmup:
            share = (self.step + 1) / warmup
        else:
            share = 0.01 + 0.99 * (1 + math.cos(math.pi * (self.step - warmup) / max(1, steps - warmup))) / 2
        for group in self._optimizer.param_groups:
            group["lr"] = group["highest_lr"] * share

    def _check_loss(self, batch: Batch) -> None:
        if not math.isfinite(self._losses["loss"]):
            raise TrainingError(
                f"the loss is no number in step {self.step}",
                place=self._run.path,
                got=", ".join(f"{name} {value:g}" for name, value in self._losses.items()),
                remedy=f"Look at the batch ({', '.join(batch.paths)}), or lower the learning rate with --lr.",
            )

    def write_metrics(self) -> str:
        """Add a line about the steps since the last one to the metrics, and tell it in words."""
        duration_s = max(self._step_ended - self._measured_from, 1e-9)
        images_per_s, data_wait_share = self._images / duration_s, self._waited_s / duration_s
        self._run.append_metrics(
            {
                "step": self.step,
                **self._losses,
                "lr": max(group["lr"] for group in self._optimizer.param_groups),
                "images_per_s": round(images_per_s, 2),
                "data_wait_share": round(data_wait_share, 4),
            }
        )
        self._images, self._waited_s, self._measured_from = 0, 0.0, self._step_ended
        return f"loss {self._losses['loss']:.3f}, {images_per_s:.1f} images/s, {data_wait_share:.0%} waiting for data"

    def write_checkpoints(self) -> None:
        """Write the record and both checkpoints; the best is the last one as long as nothing is evaluated."""
        usable = Checkpoint(
            model=self._config.model,
            classes=self._dataset.classes,
            image_size=self._config.image_size,
            step=self.step,
            weights=self._network.state_dict(),
            fingerprint=self._fingerprint,
        )
        write_checkpoint(self._run.last, replace(usable, optimizer=self._optimizer.state_dict()))
        write_checkpoint(self._run.best, usable)
        now = time.perf_counter()
        seconds = self._run.read_record().seconds + now - self._recorded_at
        self._run.update(steps_done=self.step, best_step=self.step, seconds=round(seconds, 1))
        self._recorded_at = self._step_ended = now


def _optimizer(model: BuiltModel, at_random: set[str], config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; layers that start at random learn faster than those that start from pretrained weights."""
    recipe = model.recipe
    scale = math.sqrt(config.batch / _REFERENCE_BATCH)
    lr = config.lr if config.lr is not None else recipe.lr * scale
    groups: list[dict[str, object]] = []
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
