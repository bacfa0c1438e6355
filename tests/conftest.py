"""What the tests of several modules share."""

import pytest
from builders import BARE, MASK, labelimg_folder


@pytest.fixture
def dataset(tmp_path):
    """Where a dataset is to be; nothing is there yet."""
    return tmp_path / "dataset"


@pytest.fixture
def source(tmp_path):
    """Two labelled images: a with a mask, b with a mask and a bare face."""
    return labelimg_folder(tmp_path / "clips", {"a": [MASK], "b": [MASK, BARE]})
