"""Trainings with little shared memory and on full disks: the whole, or one error with the place, and then again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import small_training
from extras import needs_torch
from tally import tally

pytestmark = [pytest.mark.train, needs_torch]
CHECKS = {"memory": "trainings with little shared memory", "disk": "trainings on a full disk"}


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize("what", list(CHECKS))
@pytest.mark.parametrize("count", [1, pytest.param(16, marks=pytest.mark.long)])
def test_small_trainings(tmp_path, what, count):
    """The weights are those of a training with room, at once or after an error that names a file of the run."""
    script = ["unshare", "-rm", sys.executable, Path(small_training.__file__), tmp_path, what, str(count)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with tally(CHECKS[what], f"{count}") as counted:
        found = json.loads(done.stdout)
        counted.tried = found["tried"]
        for kind, fault in found["faults"]:
            counted.fault(kind, fault)
