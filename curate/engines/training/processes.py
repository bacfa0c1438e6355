"""Several processes that train together: the first one writes, and decides when all of them stop.

`Team` is what a training asks; `train_together` starts the processes, whichever library launches them, and brings
their progress, their errors and Ctrl-C to where they belong.
"""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from curate.engines.training.device import device_named
from curate.errors import CurateError, MissingError, TrainingError, UsageError
from curate.progress import Progress
from curate.run_folder.config import TrainingConfig

# others wait while the first one evaluates; that takes as long as it takes
PATIENCE = timedelta(hours=6)
_POLL_S = 0.2
_GPUS = "CUDA_VISIBLE_DEVICES"

Launch = Callable[[Callable[..., None], int, tuple[Any, ...]], None]


@dataclass(frozen=True)
class Team:
    """The processes that train together, as one of them sees it.

    Attributes:
        rank: its place, from 0.
        processes: how many there are.
    """

    rank: int = 0
    processes: int = 1

    @classmethod
    def current(cls) -> "Team":
        """The team that this process is in; a process on its own is a team of one."""
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def share(self) -> tuple[int, int]:
        """Rank and processes."""
        return self.rank, self.processes

    @property
    def leads(self) -> bool:
        """Whether this process writes and decides."""
        return self.rank == 0

    def agree(self, decision: bool) -> bool:
        """What the first process decided."""
        if self.processes == 1:
            return decision
        on_gpu = distributed.get_backend() == "nccl"
        flag = torch.tensor([int(decision)], device="cuda" if on_gpu else "cpu")
        distributed.broadcast(flag, src=0)
        return bool(flag.item())

    def shared(self, network: nn.Module, device: torch.device, *, leaves_parts_out: bool = False) -> nn.Module:
        """The network with gradients averaged over the processes; buffers stay each process's own.

        Args:
            network: on its device.
            device: of this process.
            leaves_parts_out: whether some steps use only some of the parameters.
        """
        if self.processes == 1:
            return network
        return DistributedDataParallel(
            network,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=leaves_parts_out,
        )

    def device(self, name: str) -> torch.device:
        """The device of this process: GPUs are given out in order."""
        device = device_named(name)
        if self.processes == 1 or device.type == "cpu":
            return device
        return torch.device("cuda", self.rank)


def check_processes(config: TrainingConfig) -> None:
    """Refuse more processes than there are GPUs, or than the batch has images.

    Raises:
        UsageError: they do not share the batch evenly, or a single GPU was named.
        MissingError: there are not so many GPUs.
    """
    if config.processes == 1:
        return
    if config.batch % config.processes:
        raise UsageError(
            "the processes cannot share the batch evenly",
            place="--batch",
            got=f"{config.batch} images for {config.processes} processes",
            expected=f"a multiple of {config.processes}",
        )
    if device_named(config.device).type == "cpu":
        return
    if ":" in config.device:
        raise UsageError("several processes take several GPUs", place="--device", got=config.device, expected="cuda")
    if (gpus := torch.cuda.device_count()) < config.processes:
        raise MissingError(
            "there are not so many GPUs",
            place="--processes",
            got=config.processes,
            expected=f"at most {gpus}",
            remedy="Every process takes a GPU of its own; on the CPU, say --device cpu.",
        )


def train_together(launch: Launch, work: Callable[..., None], config: TrainingConfig, *args: Any, progress: Progress):
    """Run `work(*args, progress, interrupted)` in each of the processes, and wait for them.

    Args:
        launch: starts processes: `launch(function, processes, arguments)`, and returns when all have ended.
        work: a module's function; `progress` and `interrupted() -> bool` are given to it.
        config: tells how many.
        args: what it gets, picklable.
        progress: told what the first process tells.

    Raises:
        CurateError: what the first of them that failed told.
        KeyboardInterrupt: after Ctrl-C, once all have ended by themselves.
    """
    context = multiprocessing.get_context("spawn")
    told, stop = context.Queue(), context.Event()
    failures: list[BaseException] = []

    def start() -> None:
        try:
            with _gpus_hidden(device_named(config.device).type == "cpu"):
                launch(_one_of_them, config.processes, (work, told, stop, args))
        except Exception as error:
            failures.append(error)

    # launchers take Ctrl-C for themselves when they run in the main thread, and kill what should save first
    thread = threading.Thread(target=start, daemon=True)
    refusal: CurateError | None = None
    with _interrupt_means(stop.set):
        thread.start()
        while thread.is_alive() or not told.empty():
            try:
                kind, *content = told.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if kind == "progress":
                progress(*content)
            elif refusal is None:
                refusal = content[0]
        thread.join()
    if refusal is not None:
        raise refusal
    if stop.is_set():
        raise KeyboardInterrupt
    if failures:
        raise TrainingError(f"a process failed: {_last_line(failures[0])}", place=config.model) from failures[0]


@contextmanager
def _interrupt_means(act: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C do this, and nothing else, for a while."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _gpus_hidden(hidden: bool) -> Iterator[None]:
    """Launchers take GPUs where there are any; processes that start in here see none, if asked for."""
    before = os.environ.get(_GPUS)
    if hidden:
        os.environ[_GPUS] = ""
    try:
        yield
    finally:
        if hidden and before is None:
            del os.environ[_GPUS]
        elif hidden and before is not None:
            os.environ[_GPUS] = before


def _one_of_them(work: Callable[..., None], told: Any, stop: Any, args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started us says when to stop
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    team = Team.current()
    threads = max(1, (os.cpu_count() or 1) // max(team.processes, 1))
    torch.set_num_threads(threads)

    def progress(task: str, done: int, total: int, note: str = "") -> None:
        if team.leads:
            told.put(("progress", task, done, total, note))

    try:
        work(*args, progress, stop.is_set)
    except CurateError as error:
        told.put(("error", error))
        told.close()
        told.join_thread()
        raise


def _leave_with_parent() -> None:
    """End this process when the one that started it is gone: it held the run's lock."""
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
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        function(*arguments)
    finally:
        distributed.destroy_process_group()


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =-")]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")
