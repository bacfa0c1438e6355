"""What happens around the steps of a training: metrics, event files, evaluation, checkpoints, early stopping, Ctrl-C.

with Journal(run, config, training, step=training.step, progress=progress, validate=validate) as journal:
    while not journal.finished:
        journal.record(training.take_step())
"""

import io
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from curate.engines.base import Detector, Validate
from curate.errors import TrainingError
from curate.files import failures_at
from curate.growing_files import append_whole
from curate.progress import Progress
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder

logger = logging.getLogger(__name__)

METRICS_EVERY = 10  # steps


@dataclass(frozen=True)
class StepReport:
    """The measurements of one step.

    Attributes:
        losses: "loss" and the terms that it is the sum of.
        lr: The highest learning rate of the optimizer's groups.
        images: Images in the batch, over all processes.
        waited_s: Seconds that the device waited for the batch.
    """

    losses: Mapping[str, float]
    lr: float
    images: int
    waited_s: float


def loss_not_finite(step: int, run: RunFolder | None, losses: str, paths: Sequence[str]) -> TrainingError:
    """The error for a loss that is NaN or infinite; it names the images of the batch."""
    return TrainingError(
        f"loss is NaN or infinite at step {step}",
        place=run and run.path,
        got=losses,
        remedy=f"Check the images of this batch ({', '.join(paths)}), or lower the learning rate with --lr.",
    )


class Trainable(Protocol):
    """What the journal needs of a training."""

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a batch, between two steps: it can be interrupted, and then be saved."""
        ...

    def detector(self) -> Detector:
        """The model in its present state; using it does not disturb the training."""
        ...

    def write_last(self, path: Path) -> None:
        """Write a checkpoint to resume from, atomically."""
        ...

    def write_best(self, path: Path) -> None:
        """Write a checkpoint for inference with the model's present state, atomically."""
        ...


class Journal:
    """Counts the steps of a training and does what is due after each.

    As a context manager it defers Ctrl-C until the current step is finished and saved; where none is taken because a
    batch is waited for, it saves at once. A second Ctrl-C interrupts without saving. With `interrupted`, another
    process handles Ctrl-C and the callback returns whether it was pressed.

    Attributes:
        step: Steps done.
        finished: Whether no step is left to take: all are done, training stopped early, or Ctrl-C was pressed.
    """

    def __init__(
        self,
        run: RunFolder,
        config: TrainingConfig,
        training: Trainable,
        *,
        step: int,
        progress: Progress,
        validate: Validate | None = None,
        interrupted: Callable[[], bool] | None = None,
    ) -> None:
        self._run, self._config, self._training = run, config, training
        self._progress, self._validate, self._interrupted = progress, validate, interrupted
        self.step = step
        self.finished = step >= config.steps
        run.drop_metrics_after(step)
        self._evaluations: list[Mapping[str, Any]] = [line for line in run.read_metrics() if "ap" in line]
        self._note = ""
        self._stopped: str | None = None
        self._images, self._waited_s = 0, 0.0
        self._measured_from = self._recorded_at = time.perf_counter()
        self._events = _EventFiles(run.event_files, step)
        self._pressed = threading.Event()
        self._began_at = step
        self._handler: Any = None

    def __enter__(self) -> Self:
        if self._interrupted is None and threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        is_between_steps = kind is not None and issubclass(kind, _InterruptedBetweenSteps)
        try:
            if kind is None or (is_between_steps and self.step > self._began_at):
                self._save()
        finally:
            self._events.close()
            if self._handler is not None:
                signal.signal(signal.SIGINT, self._handler)
        if (kind is None or is_between_steps) and self._pressed.is_set():
            raise KeyboardInterrupt

    def _is_interrupted(self) -> bool:
        return self._pressed.is_set() if self._interrupted is None else self._interrupted()

    def _on_interrupt(self, *_: object) -> None:
        self._pressed.set()
        signal.signal(signal.SIGINT, self._handler)
        if self._training.is_waiting:
            raise _InterruptedBetweenSteps

    def record(self, report: StepReport) -> None:
        """Count a step and do what is due after it."""
        self.step += 1
        is_last = self.step == self._config.steps
        if self._is_interrupted():
            logger.info("interrupted after step %d of %d", self.step, self._config.steps)
            self.finished = True
        self.finished |= is_last
        self._images += report.images
        self._waited_s += report.waited_s
        if self.step % METRICS_EVERY == 0 or self.finished:
            self._write_metrics(report)
        self._progress("train", self.step, self._config.steps, self._note)
        if self._validate and (self.step % self._config.evaluates_every == 0 or is_last):
            self._evaluate(self._validate)
        if not self.finished and self.step % self._config.checkpoint_every == 0:
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
        """Evaluate the model, keep it if it is the best so far, and stop early when patience runs out."""
        started = time.perf_counter()
        scores = validate(self._training.detector())
        best = self._best()
        self._write(scores)
        self._evaluations.append({"step": self.step, **scores})
        duration_s = time.perf_counter() - started
        logger.info("step %d: AP %s on the val split, evaluated in %.1f s", self.step, scores["ap"], duration_s)
        if best is None or _ap(scores) > _ap(best) or scores["ap"] is best["ap"] is None:
            self._training.write_best(self._run.best)
            self._run.update(best_step=self.step, ap=scores["ap"])
        elif self._config.patience and self._evaluations_since_best() >= self._config.patience:
            self._stopped = None if self.step == self._config.steps else "patience"
            self.finished = True
            logger.info("early stopping: no better AP in %d evaluations", self._config.patience)
        self._measured_from += time.perf_counter() - started  # the speed excludes evaluation

    def _best(self) -> Mapping[str, Any] | None:
        return max(self._evaluations, key=_ap, default=None)

    def _evaluations_since_best(self) -> int:
        """Evaluations after the best one; of equal ones the first is the best."""
        best = self._best()
        return len(self._evaluations) - 1 - next(place for place, one in enumerate(self._evaluations) if one is best)

    def _save(self) -> None:
        """Write the last checkpoint; before the first evaluation it is the best one too."""
        started = time.perf_counter()
        self._training.write_last(self._run.last)
        changes: dict[str, Any] = {"steps_done": self.step, "stopped": self._stopped}
        if not self._evaluations:
            self._training.write_best(self._run.best)
            changes["best_step"] = self.step
        now = time.perf_counter()
        seconds = self._run.read_record().seconds + now - self._recorded_at
        self._run.update(**changes, seconds=round(seconds, 1))
        self._recorded_at = now
        self._measured_from += now - started


class _InterruptedBetweenSteps(BaseException):
    """Raised by Ctrl-C to leave the wait for a batch; nothing in between may catch it."""


def _ap(scores: Mapping[str, Any]) -> float:
    ap = scores["ap"]
    return -1.0 if ap is None else float(ap)


class _EventFiles:
    """TensorBoard's event files, if its package is installed. Each event is written whole, at once, or not at all."""

    def __init__(self, folder: Path, step: int) -> None:
        self._descriptor = -1
        try:
            from tensorboard.compat.proto import event_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter
            from torch.utils.tensorboard.summary import scalar
        except ImportError as error:
            logger.info("no event files are written: %s", error)
            return
        self._event, self._record_writer, self._scalar = event_pb2, RecordWriter, scalar
        now = time.time_ns()
        name = f"events.out.tfevents.{now // 10**9:010d}.{socket.gethostname()}.{os.getpid()}.{now % 10**9}"
        self._path = folder / name
        with failures_at(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)  # pyright: ignore[reportAttributeAccessIssue]
        # the second one removes the steps that a killed start had done, and that are done again
        self._append([{"file_version": "brain.Event:2"}, {"step": step + 1, "session_log": session}])

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Append the values of a step; None are left out.

        Raises:
            OSError: They cannot be written, as on a full disk.
        """
        if self._descriptor >= 0:
            shown = {name: value for name, value in values.items() if value is not None}
            self._append([{"step": step, "summary": self._scalar(name, value)} for name, value in shown.items()])

    def _append(self, events: Sequence[Mapping[str, Any]]) -> None:
        records = io.BytesIO()
        for event in events:
            self._record_writer(records).write(self._event.Event(wall_time=time.time(), **event).SerializeToString())
        with failures_at(self._path):
            append_whole(self._descriptor, records.getvalue())

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
