"""Batches of a training, prepared by worker processes.

Workers pass tensors through shared memory, of which a container often has little (64 MB in Docker). A batch that does
not fit there is passed through a pipe, which is slower and needs none.
"""

import logging
import multiprocessing
import pickle
import shutil
import signal
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from curate.engines.training.batches import Loaded, StepBatches
from curate.errors import CurateError, TrainingError
from curate.images import Unreadable

logger = logging.getLogger(__name__)

_PREFETCH = 3  # batches that each worker prepares ahead
_STALL_S = 60  # without a batch: say so
_MOST_STALLS = 10  # in a row
_SEMAPHORES = 5  # of a queue or an event, and one more
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - Linux's


class BatchLoader:
    """An iterator over the batches of steps start … stop − 1.

    Args:
        batches: The batches by step.
        start, stop: Steps.
        workers: Processes that prepare batches ahead; 0 prepares each in this process when it is asked for.

    Attributes:
        is_waiting: Whether a batch is being waited for. Whoever interrupts then loses nothing of a step.
    """

    def __init__(self, batches: StepBatches, start: int, stop: int, workers: int) -> None:
        logger.debug("steps %d to %d: %d workers, each %d batches ahead", start, stop, workers, _PREFETCH)
        self._batches, self._step, self._stop, self._workers = batches, start, stop, workers
        self._loader: Iterator[Any] | None = None
        self._is_told = False
        self._unreadable = Unreadable(batches.image_count, "the training")
        self.is_waiting = False

    def __iter__(self) -> "BatchLoader":
        return self

    def __next__(self) -> Any:
        """The batch of the next step.

        Raises:
            DataError: An image cannot be read.
            TrainingError: A worker process died, or does not answer.
        """
        if self._step >= self._stop:
            raise StopIteration
        self.is_waiting = True
        try:
            loaded = self._received()
        finally:
            self.is_waiting = False
        for file, fact in loaded.unreadable.items():
            self._unreadable.add(file, fact)
        if isinstance(loaded.batch, CurateError):
            raise loaded.batch
        self._step += 1
        return loaded.batch

    def close(self) -> None:
        """End the workers. May be called again."""
        self._loader = None  # torch ends them when nothing refers to its iterator
        self._stop = self._step

    def _received(self) -> Loaded:
        if self._loader is None:
            self._loader = self._start()
        if not self._workers:
            return next(self._loader)
        packed: _Packed = self._next_packed(self._loader)
        if not packed.is_shared:
            self._tell(f"shared memory is full ({_shared_memory()})")
        try:
            return _opened(packed)
        except (OSError, RuntimeError, EOFError) as error:  # too many open files, or the worker died since
            self._tell(f"a batch from a worker cannot be opened ({error})")
            return self._batches.load(self._step)

    def _next_packed(self, loader: Iterator[Any]) -> Any:
        for stall in range(1, _MOST_STALLS + 1):
            try:
                return next(loader)
            except RuntimeError as error:
                reason = (str(error).splitlines() or ["no reason"])[0]
                if "DataLoader worker (pid" in reason:
                    raise _worker_died(self._step, reason) from error
                if "DataLoader timed out" not in reason:
                    raise
            logger.warning("step %d: no batch for %d s; still waiting", self._step, stall * _STALL_S)
        raise TrainingError(
            "the processes that read images do not answer",
            place="--workers",
            got=f"no batch in {_MOST_STALLS * _STALL_S} s",
            remedy="Check that the disk with the images can be read, or load them in one process with --workers 0.",
        )

    def _start(self) -> Iterator[Any]:
        try:
            _check_semaphores(self._workers)
            return self._torch_loader(self._workers)
        except OSError as error:  # no shared memory for semaphores, or no more processes
            self._tell(f"worker processes cannot be started ({error}): images are loaded between the steps")
            self._workers = 0
            return self._torch_loader(0)

    def _torch_loader(self, workers: int) -> Iterator[Any]:
        return iter(
            DataLoader(
                _Steps(self._batches),
                batch_size=None,
                sampler=range(self._step, self._stop),
                num_workers=workers,
                prefetch_factor=_PREFETCH if workers else None,
                collate_fn=_pack if workers else _unchanged,
                worker_init_fn=_init_worker,
                timeout=_STALL_S if workers else 0,
                generator=torch.Generator(),  # the default would draw from the global generator
            )
        )

    def _tell(self, what: str) -> None:
        """Say once why the training is slower than it could be."""
        if not self._is_told:
            self._is_told = True
            logger.warning("%s. The training goes on, more slowly; more shared memory: docker run --shm-size 1g.", what)


def _check_semaphores(workers: int) -> None:
    """Raise OSError where workers get no semaphores: of a loader that is half made, torch prints tracebacks."""
    made = [multiprocessing.Semaphore() for _ in range(_SEMAPHORES * (workers + 2) if workers else 0)]
    made.clear()


class _Steps(Dataset[Loaded]):
    """The batches by step, for torch's loader."""

    def __init__(self, batches: StepBatches) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> Loaded:
        return self._batches.load(step)


class _Packed(NamedTuple):
    """A batch on its way from a worker.

    Attributes:
        content: Pickled.
        is_shared: Whether its tensors are in shared memory, so that `content` has their place only.
    """

    content: bytes
    is_shared: bool


def _pack(batch: Any) -> _Packed:
    """Pickle a batch here, where an error is seen: in the thread that torch leaves it to, the batch would be lost."""
    try:
        return _Packed(_share(batch), is_shared=True)
    except (RuntimeError, OSError):
        return _Packed(pickle.dumps(batch), is_shared=False)


def _share(batch: Any) -> bytes:
    """Put the tensors of a batch into shared memory; returns the rest, pickled."""
    return bytes(ForkingPickler.dumps(batch))


def _opened(packed: _Packed) -> Any:
    return pickle.loads(packed.content)  # noqa: S301 - from a worker of this process


def _unchanged(batch: Any) -> Any:
    return batch


def _worker_died(step: int, reason: str) -> TrainingError:
    logger.info("step %d: %s", step, reason)
    return TrainingError(
        "a process that reads images died",
        place="--workers",
        got=reason,
        remedy="Give the machine more memory or shared memory, or use fewer workers; --workers 0 needs none.",
    )


def _shared_memory() -> str:
    try:
        return f"{_SHARED_MEMORY} has {shutil.disk_usage(_SHARED_MEMORY).total / 1e6:,.0f} MB"
    except OSError:
        return "there is none"


def _init_worker(_: int) -> None:
    """Ignore Ctrl-C, which the main process handles, and leave the cores to the model."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
