"""What checks of hostile inputs share."""

import shutil
import subprocess

import pytest


@pytest.fixture
def can_mount():
    """Skip where no disk can be mounted in a namespace of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no `unshare`")
    tried = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip("no disk can be mounted here")
