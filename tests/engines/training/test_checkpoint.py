"""Checkpoints to resume from: what is said where they are damaged."""

import pytest
from extras import needs_torch

from curate.errors import DataError
from curate.run_folder.folder import RunFolder

pytestmark = needs_torch


@pytest.mark.parametrize("left", [0, 2, 500, -1])
def test_a_damaged_last_checkpoint(tmp_path, left):
    """The error is one line that names the file and what to do; it holds no half sentence of torch's advice."""
    import torch

    from curate.engines.training.checkpoint import read_last

    run = RunFolder(tmp_path / "first")
    run.checkpoints.mkdir(parents=True)
    torch.save({"weights": torch.zeros(300)}, run.last)
    run.last.write_bytes(run.last.read_bytes()[:left])
    with pytest.raises(DataError) as caught:
        read_last(run, "")
    assert str(caught.value).startswith(f"{run.last}: not a file of tensors: ")
    assert str(caught.value).endswith(". Restore the file from a copy, or replace the run with --overwrite.")
    assert "likelihood" not in str(caught.value)
