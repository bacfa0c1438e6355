"""Training in several processes: what the processes send, and what becomes of it."""

import logging
import queue
import threading
from types import SimpleNamespace

import pytest
from extras import needs_torch

from curate.errors import DataError, TrainingError
from curate.progress import silent
from curate.run_folder.config import TrainingConfig

pytestmark = needs_torch

CONFIG = TrainingConfig(model="some:model", device="cpu", processes=2, batch=2)


@pytest.fixture
def processes(monkeypatch):
    """The module, with queue and event inside of this process."""
    from curate.engines.training import processes

    context = SimpleNamespace(Queue=queue.Queue, Event=threading.Event)
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda _: context)
    return processes


def launcher(message):
    """A launcher of processes that send one message."""

    def launch(function, count, arguments):
        arguments[1].put(message)

    return launch


def test_progress_reaches_the_caller(processes):
    """The progress callback gets what the primary process reports."""
    calls = []
    launch = launcher(("progress", "train", 1, 2, "loss 0.5"))
    processes.train_in_processes(launch, print, CONFIG, progress=lambda *call: calls.append(call))
    assert calls == [("train", 1, 2, "loss 0.5")]


def test_log_records_reach_the_caller(processes, caplog):
    """A record of a training process goes to the handlers of the process that started it."""
    sent = queue.Queue()
    logger = logging.Logger("curate.engines.somewhere", logging.INFO)
    logger.addHandler(processes._LogForwarder(sent))
    logger.info("step %d: %s", 3, "out of memory")
    caplog.set_level(logging.INFO, logger="curate")
    processes.train_in_processes(launcher(sent.get_nowait()), print, CONFIG, progress=silent)
    assert "step 3: out of memory" in caplog.messages


def test_an_error_of_curate_is_raised_as_it_is(processes):
    """The message of a process's error is not changed."""
    with pytest.raises(DataError, match=r"^a\.png: broken\.$"):
        processes.train_in_processes(
            launcher(("error", DataError("broken", place="a.png"))), print, CONFIG, progress=silent
        )


def test_another_error_names_its_last_line(processes):
    """Launchers report failures in many lines; the last one has the cause."""

    def launch(*_):
        raise RuntimeError("Traceback:\n  somewhere\nValueError: 3 is not 4\n=====\n")

    with pytest.raises(TrainingError, match="a training process failed: ValueError: 3 is not 4"):
        processes.train_in_processes(launch, print, CONFIG, progress=silent)
