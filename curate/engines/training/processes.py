"""Data-parallel training in several processes.

`ProcessGroup` is the group as one of its processes sees it. `train_in_processes` starts the processes with a library's
launcher and forwards their progress, log records and errors to the caller, and Ctrl-C to them.
"""

import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from logging.handlers import QueueHandler
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from curate.engines.training.device import select_device
from curate.errors import CurateError, MissingError, TrainingError, UsageError
from curate.progress import Progress
from curate.run_folder.config import TrainingConfig

logger = logging.getLogger(__name__)

COLLECTIVE_TIMEOUT = timedelta(hours=6)  # the others wait while the primary process evaluates
_POLL_S = 0.2
_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_ROOT_LOGGER = __name__.partition(".")[0]

Launch = Callable[[Callable[..., None], int, tuple[Any, ...]], None]
"""`launch(function, processes, arguments)` starts the processes and returns when all have ended."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one training, as one of them sees it.

    Attributes:
        rank: This process's number, from 0.
        world_size: Number of processes.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def current(cls) -> "ProcessGroup":
        """The group of this process; without torch.distributed, a group of one."""
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_primary(self) -> bool:
        """Whether this process writes the run's files and decides when to stop."""
        return self.rank == 0

    def broadcast(self, decision: bool) -> bool:
        """The primary process's decision, in every process."""
        if self.world_size == 1:
            return decision
        on_gpu = distributed.get_backend() == "nccl"
        flag = torch.tensor([int(decision)], device="cuda" if on_gpu else "cpu")
        distributed.broadcast(flag, src=0)
        return bool(flag.item())

    def wrap(self, network: nn.Module, device: torch.device, *, unused_parameters: bool = False) -> nn.Module:
        """The network with gradients averaged over the processes; each process keeps its own buffers.

        Args:
            network: On its device.
            device: Of this process.
            unused_parameters: Whether some steps use only some of the parameters.
        """
        if self.world_size == 1:
            return network
        return DistributedDataParallel(
            network,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=unused_parameters,
        )

    def select_device(self, name: str) -> torch.device:
        """The device of this process: with several processes, the GPU with its rank."""
        device = select_device(name)
        if self.world_size == 1 or device.type == "cpu":
            return device
        return torch.device("cuda", self.rank)


SINGLE_PROCESS = ProcessGroup()


def check_processes(config: TrainingConfig) -> None:
    """Refuse a number of processes that does not divide the batch or exceeds the number of GPUs.

    Raises:
        UsageError: The batch is not a multiple of the processes, or a single GPU was named.
        MissingError: There are fewer GPUs than processes.
    """
    if config.processes == 1:
        return
    if config.batch % config.processes:
        raise UsageError(
            "the batch cannot be shared evenly by the processes",
            place="--batch",
            got=f"{config.batch} images for {config.processes} processes",
            expected=f"a multiple of {config.processes}",
        )
    if select_device(config.device).type == "cpu":
        return
    if ":" in config.device:
        raise UsageError("several processes need several GPUs", place="--device", got=config.device, expected="cuda")
    if (gpus := torch.cuda.device_count()) < config.processes:
        raise MissingError(
            "there are fewer GPUs than processes",
            place="--processes",
            got=config.processes,
            expected=f"at most {gpus}",
            remedy="Each process needs a GPU of its own; to train on the CPU, use --device cpu.",
        )


def train_in_processes(
    launch: Launch, work: Callable[..., None], config: TrainingConfig, *args: Any, progress: Progress
) -> None:
    """Run `work(*args, progress, interrupted)` in each process and wait for all of them.

    Args:
        launch: Starts the processes.
        work: A picklable function; it also gets `progress` and `interrupted() -> bool`.
        config: Says how many processes, and on which device.
        args: Its other arguments, picklable.
        progress: Called with the progress of the primary process.

    Raises:
        CurateError: The first one that a process raised.
        TrainingError: A process failed with another error.
        KeyboardInterrupt: After Ctrl-C, once all processes have ended.
    """
    context = multiprocessing.get_context("spawn")
    messages, stop = context.Queue(), context.Event()
    failures: list[BaseException] = []
    log_level = logging.getLogger(_ROOT_LOGGER).getEffectiveLevel()

    def start() -> None:
        try:
            with _gpus_hidden(select_device(config.device).type == "cpu"):
                launch(_run_worker, config.processes, (work, messages, stop, log_level, args))
        except Exception as error:
            failures.append(error)

    # in the main thread, launchers handle Ctrl-C themselves and kill processes that should save first
    thread = threading.Thread(target=start, daemon=True)
    first_error: CurateError | None = None
    logger.info("starting %d training processes", config.processes)
    with _on_interrupt(stop.set):
        thread.start()
        while thread.is_alive() or not messages.empty():
            try:
                kind, *content = messages.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if kind == "progress":
                progress(*content)
            elif kind == "log":
                logging.getLogger(content[0].name).handle(content[0])
            elif first_error is None:
                first_error = content[0]
        thread.join()
    logger.info("all training processes have ended")
    if first_error is not None:
        raise first_error
    if stop.is_set():
        raise KeyboardInterrupt
    if failures:
        raise TrainingError(f"a training process failed: {_last_line(failures[0])}", place=config.model) from failures[
            0
        ]


@contextmanager
def _on_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` on the first Ctrl-C instead of raising KeyboardInterrupt; the second one raises it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(*_: object) -> None:
        act()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _gpus_hidden(hidden: bool) -> Iterator[None]:
    """Hide the GPUs from processes that start inside the block: launchers use them where there are any."""
    before = os.environ.get(_VISIBLE_GPUS)
    if hidden:
        os.environ[_VISIBLE_GPUS] = ""
    try:
        yield
    finally:
        if hidden and before is None:
            del os.environ[_VISIBLE_GPUS]
        elif hidden and before is not None:
            os.environ[_VISIBLE_GPUS] = before


class _LogForwarder(QueueHandler):
    """Sends log records to the process that started this one."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.put_nowait(("log", record))


def _run_worker(work: Callable[..., None], messages: Any, stop: Any, log_level: int, args: tuple[Any, ...]) -> None:
    """Run `work` in a process that the launcher started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process says when to stop
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    logging.getLogger(_ROOT_LOGGER).addHandler(_LogForwarder(messages))
    logging.getLogger(_ROOT_LOGGER).setLevel(log_level)
    group = ProcessGroup.current()
    threads = max(1, (os.cpu_count() or 1) // max(group.world_size, 1))
    torch.set_num_threads(threads)
    logger.info("process %d of %d has pid %d, %d threads", group.rank, group.world_size, os.getpid(), threads)

    def progress(task: str, done: int, total: int, note: str = "") -> None:
        if group.is_primary:
            messages.put(("progress", task, done, total, note))

    try:
        work(*args, progress, stop.is_set)
    except CurateError as error:
        messages.put(("error", error))
        messages.close()
        messages.join_thread()
        raise


def _exit_with_parent() -> None:
    """End this process when its parent has ended: the parent held the lock of the run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def launch_torchrun(function: Callable[..., None], processes: int, arguments: tuple[Any, ...]) -> None:
    """Start processes as `torchrun --standalone` does, with a process group between them."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=_POLL_S,
        start_method="spawn",
    )
    elastic_launch(config, _in_process_group)(function, arguments)


def _in_process_group(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=COLLECTIVE_TIMEOUT)
    try:
        function(*arguments)
    finally:
        distributed.destroy_process_group()


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =-")]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")
