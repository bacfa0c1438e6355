"""Kills of every command that writes, at any moment: nothing is lost, and the command can be given again."""

import json
import subprocess
import sys
from pathlib import Path

import killing
import pytest
from tally import tally

SHORT = ("export-coco", "train")  # in the ordinary suite
PARTS = 4  # of the full count, with seeds of their own


LONG = [
    pytest.param((), part, 500 // PARTS, marks=pytest.mark.long, id=f"part {part} of {PARTS}")
    for part in range(1, 1 + PARTS)
]


@pytest.mark.parametrize(("names", "seed", "count"), [(SHORT, 0, 2), *LONG])
def test_killed_commands(tmp_path, names, seed, count):
    """The dataset is the old or the new one, files are whole, the user's stay, and the result comes in the end."""
    script = [sys.executable, Path(killing.__file__), tmp_path, str(seed), str(count), *names]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with tally("kills of commands that write", f"{seed}") as counted:
        found = json.loads(done.stdout)
        counted.tried = found["tried"]
        for kind, what in found["faults"]:
            counted.fault(kind, what)
