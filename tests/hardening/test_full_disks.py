"""Every command that writes on full and read-only disks: the whole, or one line with the place, and then again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import small_disk
from tally import tally
from writing import COMMANDS, READING, WRITING, Left

from curate.commands.registry import COMMANDS as ROWS

LEVELS = 12  # of free room for each command
SHORT = ("import-voc", *READING)  # in the ordinary suite


def test_every_command_has_an_entry():
    """A new command says what it writes, or why it is not tried."""
    assert list(COMMANDS) == [name for name in ROWS if name in COMMANDS]
    assert COMMANDS.keys() == ROWS.keys()
    assert all(entry.why for entry in COMMANDS.values() if isinstance(entry, Left))


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize(
    ("names", "levels"),
    [(SHORT, 1), *(pytest.param((name,), LEVELS, marks=pytest.mark.long, id=name) for name in WRITING)],
)
def test_full_and_read_only_disks(tmp_path, names, levels):
    """The dataset is the old or the new one, nothing is there in part, and with room the command can be given again."""
    script = ["unshare", "-rm", sys.executable, Path(small_disk.__file__), tmp_path, str(levels), *names]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with tally("commands on full and read-only disks", names[0] if levels == LEVELS else "some") as counted:
        found = json.loads(done.stdout)
        counted.tried = found["tried"]
        for kind, what in found["faults"]:
            counted.fault(kind, what)
