"""The pages here are doctests: each runs in a folder that holds a few drawn videos under `scenes/`."""

import subprocess
import sys
from pathlib import Path

import pytest

DRAW_SCENES = Path(__file__).parents[1] / "datasets" / "demo" / "draw_scenes.py"


@pytest.fixture(autouse=True)
def _in_a_folder_with_scenes(request, tmp_path, monkeypatch):
    if not request.node.nodeid.split("::")[0].endswith(".md"):
        return
    pytest.importorskip("torchvision", reason="the page trains a detector: pip install 'curate-vision[train]'")
    command = [sys.executable, str(DRAW_SCENES), str(tmp_path / "scenes"), "--clips", "4", "--frames", "4"]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)
