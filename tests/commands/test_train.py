"""`train`: notes before it begins; the weights of one that is killed and resumed many times."""

import os
import random
import signal
import subprocess
import sys
import time

import corner_engine
import pandas as pd
import pytest
from corner_engine import CornerEngine
from engine_contract import DETECTRON2, DETECTRON2_SMALL, need_detectron2, shapes_dataset
from extras import needs_torch
from sample_datasets import face_dataset, save

import curate
from curate.run_folder.folder import RunFolder

KILLS = 20
MODELS = {
    "torchvision:fasterrcnn+timm/resnet10t": {"channels": 32, "hidden": 64},
    DETECTRON2: DETECTRON2_SMALL,
}
STEPS, EVERY = 130, 5


@pytest.fixture(params=list(MODELS))
def start(request, tmp_path):
    """Starts a training in a process of its own."""
    if request.param == DETECTRON2:
        need_detectron2()
    shapes = shapes_dataset(tmp_path / "shapes", images=8)
    save(shapes.replace(images=shapes.images.assign(split=["train"] * 6 + ["val", "train"])))
    settings = [part for key, value in MODELS[request.param].items() for part in ("--set", f"{key}={value}")]

    def begin(run, *options):
        command = [sys.executable, "-c", "from curate.cli import main; main()", "train", str(tmp_path / "shapes")]
        command += ["--model", request.param, "--run", run, "--weights", "none", "--steps", str(STEPS), "--batch", "2"]
        command += ["--image-size", "64", "--workers", "1", "--device", "cpu", "--eval-every", "25"]
        command += ["--checkpoint-every", str(EVERY), *settings, *options]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environment, start_new_session=True, **quiet)

    begin.folder = lambda run: RunFolder(tmp_path / "shapes" / "runs" / run)
    return begin


def _finish(process):
    told = process.communicate()[1]
    assert process.returncode == 0, told


def _kill_in_training(process, run, rng):
    """Kill at a random moment after the first checkpoint of this start; False if the training ended first."""
    began = run.last.stat().st_mtime_ns if run.last.is_file() else 0
    while not (run.last.is_file() and run.last.stat().st_mtime_ns > began):
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.4))
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return True


@pytest.mark.train
@pytest.mark.long
@needs_torch
def test_twenty_kills_change_nothing(start):
    """After 20 kills at random moments, each followed by --resume, the final weights are the same."""
    _finish(start("whole"))
    rng, kills = random.Random(7), 0
    run = start.folder("killed")
    while kills < KILLS:
        before = run.read_record().steps_done if run.exists() else 0
        process = start("killed", "--resume") if run.exists() else start("killed")
        if not _kill_in_training(process, run, rng):
            break
        kills += 1
        assert run.read_record().steps_done >= before
    assert kills == KILLS, process.communicate()[1]
    _finish(start("killed", "--resume"))
    import torch

    for name in ("last.pt", "best.pt"):
        whole, killed = (
            torch.load(start.folder(one).checkpoints / name, weights_only=True) for one in ("whole", "killed")
        )
        assert whole["step"] == killed["step"]
        assert all(torch.equal(whole["weights"][key], killed["weights"][key]) for key in whole["weights"])
    lines = [[line for line in start.folder(one).read_metrics() if "ap" in line] for one in ("whole", "killed")]
    assert lines[0] == lines[1]


# ── before the training ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def faces(tmp_path, monkeypatch):
    """A dataset with splits, whose image 7 is in none; trainings by the corner engine."""
    corner_engine.register(monkeypatch)
    splits = pd.array(["train"] * 3 + ["val"] * 3 + [None, "val"], dtype="str")
    return save(face_dataset(tmp_path / "faces", split=splits), pictures=True)


def test_notes_come_before_the_training(faces):
    """What a person must know is reported before the first step, and is in the result too."""
    warned = []
    before = CornerEngine.trainings
    result = curate.train(
        faces, model="corner:only", run="a", warn=lambda note: warned.append((CornerEngine.trainings - before, note))
    )
    assert warned == [
        (
            0,
            "1 labelled image in no split: not trained on, and not evaluated. "
            f"`curate split {faces}` assigns a split to them; the others keep theirs.",
        )
    ]
    assert result.notes == (warned[0][1],)


def test_finished_training_warns_of_nothing(faces):
    """A run that has nothing left to train reports before its work that there is none."""
    curate.train(faces, model="corner:only", run="a")
    warned = []
    curate.train(faces, run="a", resume=True, warn=warned.append)
    assert warned == []


def test_notes_are_printed_once(faces, run_main):
    """The command line prints them before the training, and not again after it."""
    told = run_main("train", faces, "--model", "corner:only", "--run", "a")
    assert (told.returncode, told.stderr.count("in no split")) == (0, 1)
