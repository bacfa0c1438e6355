"""The torchvision engine: trains and runs torchvision's detectors behind the engine protocol."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.dataset import ClassEntry, Dataset
from curate.engines.augment import resize_pixels
from curate.engines.base import Detections, TrainingConfig
from curate.engines.checkpoints import read_checkpoint
from curate.engines.devices import device_named, has_bfloat16, placed
from curate.engines.runs import RunFolder
from curate.engines.torchvision_models import BuiltModel, build_model
from curate.engines.training import Training
from curate.errors import DataError
from curate.progress import Progress, silent

_METRICS_EVERY = 10  # steps


class TorchvisionEngine:
    """Trains with AdamW, a warm-up and a cosine decay; `Recipe` holds what differs between models."""

    def train(self, dataset: Dataset, run: RunFolder, config: TrainingConfig, progress: Progress = silent) -> Path:
        """Train on every image of `dataset`; see `Engine.train`.

        Raises:
            TrainingError: nothing to train on, other images than the run began with, or a loss that is no number.
            MissingError: weights or device are not there.
            KeyboardInterrupt: after Ctrl-C, once a checkpoint is written.
        """
        gpu = [device] if (device := device_named(config.device)).type == "cuda" else []
        with run.held(), torch.random.fork_rng(gpu), _deferred_interrupt() as interrupted:
            training, note = Training(dataset, run, config), ""
            for batch in training.batches.loaded(training.step, config.steps, config.workers):
                training.take_step(batch)
                finished = training.step == config.steps
                if training.step % _METRICS_EVERY == 0 or finished:
                    note = training.write_metrics()
                progress("train", training.step, config.steps, note)
                if finished or interrupted():
                    break
                if training.step % config.checkpoint_every == 0:
                    training.write_checkpoints()
            training.write_checkpoints()
            if interrupted():
                raise KeyboardInterrupt
        return run.best

    def load(self, checkpoint: Path, device: str = "auto") -> "TorchvisionDetector":
        """Load a checkpoint; see `Engine.load`.

        Raises:
            UsageError: there is no such file.
            DataError: not a checkpoint of this engine.
        """
        saved = read_checkpoint(checkpoint)
        model = build_model(saved.model.partition(":")[2], len(saved.classes), saved.image_size)
        model.network.load_state_dict(saved.weights)
        return TorchvisionDetector(model, saved.classes, device_named(device))


class TorchvisionDetector:
    """A trained torchvision model; see `Detector`."""

    def __init__(self, model: BuiltModel, classes: tuple[ClassEntry, ...], device: torch.device) -> None:
        self._network = placed(model.network, device).eval()
        self._sizing, self._classes, self._device = model.sizing, classes, device

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """In the order of `Detections.class_indices`."""
        return self._classes

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Find objects; see `Detector.predict`. The images go through the network together.

        Raises:
            DataError: something that is no H×W×3 uint8 array; the message names its index.
        """
        if not images:
            return []
        for index, pixels in enumerate(images):
            if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
                raise DataError(
                    "not an image",
                    place=f"images[{index}]",
                    got=f"{pixels.shape} {pixels.dtype}",
                    expected="H×W×3 uint8 RGB",
                )
        sized = [resize_pixels(pixels, *self._sizing.fitted(pixels.shape[1], pixels.shape[0])) for pixels in images]
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=has_bfloat16(self._device)),
        ):
            found = self._network([self._as_tensor(pixels) for pixels in sized])
        return [
            _in_original_pixels(answer, seen, given) for answer, seen, given in zip(found, sized, images, strict=True)
        ]

    def _as_tensor(self, pixels: NDArray[np.uint8]) -> Tensor:
        """H×W×3 uint8 → (3, h, w) float in 0..1."""
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(self._device).float() / 255


def _in_original_pixels(answer: dict[str, Tensor], seen: NDArray[np.uint8], given: NDArray[np.uint8]) -> Detections:
    scale = np.array([given.shape[1] / seen.shape[1], given.shape[0] / seen.shape[0]] * 2)
    return Detections(
        boxes_xyxy=answer["boxes"].double().cpu().numpy() * scale,
        scores=answer["scores"].double().cpu().numpy(),
        class_indices=answer["labels"].cpu().numpy().astype(np.int64) - 1,
    )


@contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Let a step finish before Ctrl-C takes effect; yields whether it was pressed. A second one acts at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def remember(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, remember)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
