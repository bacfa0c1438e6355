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
from sample_datasets import face_dataset, save, set_column

import curate
from curate.errors import CurateError, TrainingError, UsageError
from curate.run_folder.folder import RunFolder
from curate.store import Store

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
    _assert_same_weights(start.folder("whole"), run)
    lines = [[line for line in start.folder(one).read_metrics() if "ap" in line] for one in ("whole", "killed")]
    assert lines[0] == lines[1]


@pytest.mark.train
@pytest.mark.long
@needs_torch
def test_kills_before_the_first_checkpoint_change_nothing(start):
    """A run that is killed before it has learnt anything begins anew in every spelling, with the same weights."""
    few = ["--steps", "20", "--checkpoint-every", "10"]
    _finish(start("whole", *few))
    rng, kills = random.Random(3), 0
    for number in range(20):
        run, spelling = start.folder(f"killed-{number}"), [[], ["--resume"], ["--overwrite"]][number % 3]
        process = start(run.name, *few)
        while not run.path.exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 3))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if run.has_learnt:
            continue
        kills += 1
        _finish(start(run.name, *few, *(spelling if run.path.exists() else [])))
        _assert_same_weights(start.folder("whole"), run)
        if kills == 10:
            break
    assert kills >= 5


def _assert_same_weights(whole, other):
    import torch

    for name in ("last.pt", "best.pt"):
        one, two = (torch.load(run.checkpoints / name, weights_only=True) for run in (whole, other))
        assert one["step"] == two["step"]
        assert all(torch.equal(one["weights"][key], two["weights"][key]) for key in one["weights"])


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


# ── runs that ended before they learnt anything, and runs that are replaced ──────────────────────────────────────


@pytest.fixture
def fails_at_once(monkeypatch):
    """The engine fails before its first checkpoint, as with a loss of NaN."""

    def fail(self, dataset, run, config, progress=None, validate=None):
        run.append_metrics({"step": 1})
        run.event_files.mkdir(exist_ok=True)
        raise TrainingError("loss is NaN or infinite at step 1")

    with monkeypatch.context() as patch:
        patch.setattr(CornerEngine, "train", fail)
        yield patch


SPELLINGS = [{}, {"resume": True}, {"overwrite": True}]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("failures", [1, 3])
def test_a_run_that_learnt_nothing_begins_anew(faces, fails_at_once, spelling, failures):
    """Plainly, with --resume and with --overwrite, however often it has failed before."""
    for _ in range(failures):
        with pytest.raises(TrainingError):
            curate.train(faces, model="corner:only", run="a", steps=7, **(spelling if failures > 1 and _ else {}))
    fails_at_once.undo()
    assert curate.train(faces, model="corner:only", run="a", steps=3, **spelling).steps == 3


def test_a_run_that_learnt_nothing_keeps_its_options_on_resume(faces, fails_at_once):
    """It takes the current version of the data: the picture that ended it may be mended there."""
    with pytest.raises(TrainingError):
        curate.train(faces, model="corner:only", run="a", steps=7)
    fails_at_once.undo()
    set_column(faces, "label_state", ["labelled"] * 8)
    result = curate.train(faces, run="a", resume=True)
    assert (result.steps, result.rounds[0].version) == (7, Store(faces).head())


@pytest.mark.parametrize("changed", [False, True])
def test_a_pipeline_is_not_stuck_at_a_training_that_learnt_nothing(faces, fails_at_once, changed):
    """Its next run trains, with the same options and with others."""
    recipe = faces.parent / "r.yaml"
    text = f"name: r\nsteps:\n  - train: {{dataset: {faces}, model: 'corner:only', run: a, steps: 3}}\n"
    recipe.write_text(text)
    for _ in range(2):
        with pytest.raises(TrainingError):
            curate.run(recipe)
    fails_at_once.undo()
    recipe.write_text(text.replace("steps: 3", "steps: 4") if changed else text)
    assert [step.skipped for step in curate.run(recipe).steps] == [False]


@pytest.mark.parametrize(
    "options",
    [
        {"model": "corner:only", "lr": -1.0},
        {"model": "nobody:only"},
        {"model": "corner:only", "patience": 2},
        {"model": "corner:only", "weights": "missing.pth"},
        {"model": "corner:only", "weights": "{run}/checkpoints/best.pt"},
    ],
)
def test_what_fails_before_the_training_replaces_nothing(faces, monkeypatch, options):
    """Options, data, model and weights are checked while the old run is whole."""
    curate.train(faces, model="corner:only", run="a", steps=5)
    run = RunFolder.named(faces, "a")
    before = {file.name: file.read_bytes() for file in run.path.rglob("*") if file.is_file() and file.name != ".lock"}
    if "patience" in options:
        set_column(faces, "split", ["train"] * 8)

    def check(self, dataset, config):
        if config.weights == "missing.pth":
            raise UsageError("there is no such weights file", place=config.weights)

    monkeypatch.setattr(CornerEngine, "check", check)
    options = {name: value.format(run=run.path) if name == "weights" else value for name, value in options.items()}
    with pytest.raises(CurateError):
        curate.train(faces, run="a", overwrite=True, **options)
    after = {file.name: file.read_bytes() for file in run.path.rglob("*") if file.is_file() and file.name != ".lock"}
    assert after == before


def test_resume_of_a_misspelt_run_creates_nothing(faces):
    """The second try says the same as the first."""
    curate.train(faces, model="corner:only", run="first")
    for _ in range(2):
        with pytest.raises(UsageError, match=r"no run to resume.*first"):
            curate.train(faces, run="frist", resume=True)
    assert not RunFolder.named(faces, "frist").path.exists()
