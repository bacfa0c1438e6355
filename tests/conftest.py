"""What the tests of several modules share."""

import os

import pytest
from builders import BARE, MASK, labelimg_folder
from hypothesis import settings

# on CI the same examples every time: what fails there must be the change's fault; elsewhere each run looks further
settings.register_profile("steady", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("steady")


@pytest.fixture(scope="session")
def app_database(tmp_path_factory):
    """Where the app's database lies; FiftyOne can have one a process."""
    return tmp_path_factory.mktemp("app") / "database"


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
