"""What the tests of several modules share."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from builders import BARE, MASK, labelimg_folder
from hypothesis import settings

# on CI the same examples every time: what fails there must be the change's fault; elsewhere each run looks further
settings.register_profile("steady", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def _without_waits_for_the_disk():
    """`os.fsync` returns at once: a test's process sees its files without it, and the suite calls it 20,000 times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # fails on what is no open file, as it would
        yield


def pytest_runtest_setup():
    """No test depends on the width of the terminal that the tests are started in, or that a library has set."""
    os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session")
def app_database():
    """The folder of the app's database, whose server runs all the time. FiftyOne can have one database a process.

    It lies in memory where there is room: MongoDB waits for the disk at each new collection, of which a view has many.
    """
    from curate.fiftyone_app.mongo import FOLDER_VARIABLE, URI_VARIABLE, running_database

    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > 2**30
    with TemporaryDirectory(dir=memory if has_room else None) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, folder)
        patch.delenv(URI_VARIABLE, raising=False)
        with running_database():
            yield Path(folder)


@dataclass
class Answer:
    """What a command line printed, and how it ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_main(monkeypatch, capfd):
    """Call the command line with arguments in this process, which saves the second that a new one takes to start."""
    from curate.cli import main

    def called(*arguments, folder=None, **environment):
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["curate", *map(str, arguments)])
            for name, value in environment.items():
                patch.setenv(name, value)
            if folder is not None:
                patch.chdir(folder)
            with pytest.raises(SystemExit) as caught:
                main()
        return Answer(caught.value.code or 0, *capfd.readouterr())

    return called


@pytest.fixture(scope="module")
def one_thread():
    """Torch computes with one thread: networks this small gain nothing from more, and tests run in parallel."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def dataset(tmp_path):
    """Where a dataset is to be; nothing is there yet."""
    return tmp_path / "dataset"


@pytest.fixture
def source(tmp_path):
    """Two labelled images: a with a mask, b with a mask and a bare face."""
    return labelimg_folder(tmp_path / "clips", {"a": [MASK], "b": [MASK, BARE]})
