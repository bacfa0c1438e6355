"""What goes on around the steps of a training, the same for every engine: metrics, checkpoints, evaluations, stopping.

with Journal(run, config, training, step=training.step, progress=progress, validate=validate) as journal:
    while journal.goes_on:
        journal.took(training.take_step())
"""

import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from curate.engines.base import Detector, Validate
from curate.progress import Progress
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder

METRICS_EVERY = 10  # steps


@dataclass(frozen=True)
class StepReport:
    """What one step tells.

    Attributes:
        losses: "loss" and the terms that it is the sum of.
        lr: the highest learning rate in use.
        images: in the batch, over all processes.
        waited_s: seconds that the device waited for the batch.
    """

    losses: Mapping[str, float]
    lr: float
    images: int
    waited_s: float


class Trainee(Protocol):
    """What a training must be able to do between its steps."""

    def detector(self) -> Detector:
        """The model as it would be used now; training goes on afterwards as if nothing had been asked."""
        ...

    def write_last(self, path: Path) -> None:
        """Write, atomically, all that is needed to go on."""
        ...

    def write_best(self, path: Path) -> None:
        """Write, atomically, all that is needed to use the model as it is now."""
        ...


class Journal:
    """Counts the steps of a training and does what is due after each.

    As a context it defers Ctrl-C until the step under way is finished and saved; a second one acts at once. Where
    `interrupted` is given, somebody else heeds Ctrl-C, and this says whether it was pressed.

    Attributes:
        step: steps done.
        goes_on: whether there is another step to take.
    """

    def __init__(
        self,
        run: RunFolder,
        config: TrainingConfig,
        trainee: Trainee,
        *,
        step: int,
        progress: Progress,
        validate: Validate | None = None,
        interrupted: Callable[[], bool] | None = None,
    ) -> None:
        self._run, self._config, self._trainee = run, config, trainee
        self._progress, self._validate, self._told_to_stop = progress, validate, interrupted
        self.step = step
        self.goes_on = step < config.steps
        run.drop_metrics_after(step)
        self._evaluations = [line for line in run.read_metrics() if "ap" in line]
        self._note = ""
        self._stopped: str | None = None
        self._images, self._waited_s = 0, 0.0
        self._measured_from = self._recorded_at = time.perf_counter()
        self._events = _EventFiles(run.event_files, step)
        self._pressed = threading.Event()
        self._handler: Any = None

    def __enter__(self) -> Self:
        if self._told_to_stop is None and threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._save()
        finally:
            self._events.close()
            if self._handler is not None:
                signal.signal(signal.SIGINT, self._handler)
        if kind is None and self._pressed.is_set():
            raise KeyboardInterrupt

    def _is_interrupted(self) -> bool:
        return self._pressed.is_set() if self._told_to_stop is None else self._told_to_stop()

    def _interrupt(self, *_: object) -> None:
        self._pressed.set()
        signal.signal(signal.SIGINT, self._handler)

    def took(self, report: StepReport) -> None:
        """Do what is due after a step."""
        self.step += 1
        finished = self.step == self._config.steps
        self.goes_on = not finished and not self._is_interrupted()
        self._images += report.images
        self._waited_s += report.waited_s
        if self.step % METRICS_EVERY == 0 or not self.goes_on:
            self._write_metrics(report)
        self._progress("train", self.step, self._config.steps, self._note)
        if self._validate and (self.step % self._config.evaluates_every == 0 or finished):
            self._evaluate(self._validate)
        if self.goes_on and self.step % self._config.checkpoint_every == 0:
            self._save()

    def _write_metrics(self, report: StepReport) -> None:
        now = time.perf_counter()
        duration_s = max(now - self._measured_from, 1e-9)
        images_per_s, data_wait_share = self._images / duration_s, self._waited_s / duration_s
        self._write(
            {
                **report.losses,
                "lr": report.lr,
                "images_per_s": round(images_per_s, 2),
                "data_wait_share": round(data_wait_share, 4),
            }
        )
        self._images, self._waited_s, self._measured_from = 0, 0.0, now
        self._note = (
            f"loss {report.losses['loss']:.3f}, {images_per_s:.1f} images/s, {data_wait_share:.0%} waiting for data"
        )

    def _write(self, values: Mapping[str, Any]) -> None:
        self._run.append_metrics({"step": self.step, **values})
        self._events.write(values, self.step)

    def _evaluate(self, validate: Validate) -> None:
        """Judge the model; keep it where it is the best so far, and stop where patience is at its end."""
        began = time.perf_counter()
        scores = validate(self._trainee.detector())
        best = self._best()
        self._write(scores)
        self._evaluations.append({"step": self.step, **scores})
        if best is None or _ap(scores) > _ap(best) or scores["ap"] is best["ap"] is None:
            self._trainee.write_best(self._run.best)
            self._run.update(best_step=self.step, ap=scores["ap"])
        elif self._config.patience and self._since_best() >= self._config.patience:
            self._stopped = None if self.step == self._config.steps else "patience"
            self.goes_on = False
        self._measured_from += time.perf_counter() - began  # speed is that of training

    def _best(self) -> Mapping[str, Any] | None:
        return max(self._evaluations, key=_ap, default=None)

    def _since_best(self) -> int:
        """Evaluations after the best one; of equal ones the first counts."""
        best = self._best()
        return len(self._evaluations) - 1 - next(place for place, one in enumerate(self._evaluations) if one is best)

    def _save(self) -> None:
        """Write the checkpoint to go on from; without any evaluation so far, it is the best one too."""
        began = time.perf_counter()
        self._trainee.write_last(self._run.last)
        changes: dict[str, Any] = {"steps_done": self.step, "stopped": self._stopped}
        if not self._evaluations:
            self._trainee.write_best(self._run.best)
            changes["best_step"] = self.step
        now = time.perf_counter()
        seconds = self._run.read_record().seconds + now - self._recorded_at
        self._run.update(**changes, seconds=round(seconds, 1))
        self._recorded_at = now
        self._measured_from += now - began


def _ap(scores: Mapping[str, Any]) -> float:
    ap = scores["ap"]
    return -1.0 if ap is None else float(ap)


class _EventFiles:
    """TensorBoard's event files, where its package is installed."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, values: Mapping[str, Any], step: int) -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
