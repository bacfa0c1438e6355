"""Many processes that write one file, or commit to one dataset, at the same time: nothing is lost, nothing mixed."""

import subprocess
import sys
from collections import Counter

import pytest
from repository_paths import SUPPORT
from sample_datasets import build_dataset, save
from tally import tally

import curate
from curate.store import Store

PROCESSES = 20
COMMITTING = SUPPORT / "committing.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, COMMITTING, *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize("times", [5, pytest.param(500, marks=pytest.mark.long)])
def test_writers_of_one_file(tmp_path, times):
    """Whoever reads the file sees what one of them wrote, whole; no temporary file stays."""
    with tally("writes of 20 processes at once", f"file {times}") as counted:
        done = run("write", tmp_path / "file", PROCESSES, times)
        reads, wrong, files = map(int, done.stdout.split())
        counted.tried += PROCESSES * times
        for _ in range(wrong):
            counted.fault("lost", f"one of {reads} reads, or a writer: {done.stderr}")
        for _ in range(files - 1):
            counted.fault("lost", "the room of a temporary file")


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.long)])
def test_writers_of_one_dataset(tmp_path, rounds):
    """Every commit is a version of its own that has all before it, and every id is given once."""
    with tally("writes of 20 processes at once", f"dataset {rounds}") as counted:
        for number in range(rounds):
            root = save(build_dataset(tmp_path / f"d{number}", []))
            done = run("together", root, PROCESSES)
            counted.tried += PROCESSES
            if done.returncode:
                counted.fault("lost", f"{done.returncode} commits: {done.stderr}")
            images = Store(root).load().images
            twice = [path for path, times in Counter(images["path"]).items() if times > 1]
            if len(images) != PROCESSES or twice or not images["image_id"].is_unique:
                counted.fault("lost", f"{len(images)} images, {twice} twice")
            for finding in curate.verify(root).findings:
                if finding.kind != "image":  # the pictures were never there
                    counted.fault("lost", str(finding))
            counts = [entry.images for entry in curate.log(root).entries]
            if counts != list(range(PROCESSES, -1, -1))[: len(counts)]:
                counted.fault("lost", f"versions of {counts} images")
