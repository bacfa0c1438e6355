"""The journal: metrics, evaluation, checkpoints, early stopping and Ctrl-C around the steps of a training."""

import dataclasses
import os
import resource
import signal

import pytest
from engine_contract import shapes_dataset
from extras import needs_torch

from curate.engines.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from curate.engines.training.journal import Journal, StepReport, _EventFiles
from curate.progress import silent
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder

pytestmark = needs_torch

LINE = {"loss": 1.5, "lr": 0.1}


class FakeTraining:
    """A training whose checkpoints hold just its step."""

    def __init__(self, run):
        self.is_waiting = False
        self.step = int(run.last.read_text()) if run.last.is_file() else 0

    def take_step(self):
        self.step += 1
        return StepReport({"loss": 1.5}, 0.1, 2, 0.0)

    def detector(self):
        return self.step

    def write_last(self, path):
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(self.step))

    write_best = write_last


@dataclasses.dataclass
class FakeValidation:
    """Returns a given AP for each step, and records the steps at which it was called."""

    aps: dict
    steps: list = dataclasses.field(default_factory=list)

    def __call__(self, detector):
        self.steps.append(detector)
        return {"ap": self.aps[detector], "ap_small": None, "ap_medium": 0.5, "ap_large": 0.5}


@pytest.fixture
def dataset(tmp_path):
    return shapes_dataset(tmp_path / "data", images=2)


def _start(dataset, folder, *, resume=False, **settings):
    config = TrainingConfig.checked(**({"model": "some:model", "steps": 10, "checkpoint_every": 4} | settings))
    run = RunFolder(folder)
    run.start(config, dataset, resume=resume)
    return run, config


def _train(run, config, validate=None, at=None, interrupted=None, progress=silent):
    training = FakeTraining(run)
    with Journal(
        run, config, training, step=training.step, progress=progress, validate=validate, interrupted=interrupted
    ) as journal:
        while not journal.finished:
            report = training.take_step()
            if at is not None:
                at(training.step)
            journal.record(report)
    return training


def test_without_evaluation_the_last_is_the_best(dataset, tmp_path):
    """Both checkpoints are from the last step."""
    run, config = _start(dataset, tmp_path / "run")
    _train(run, config)
    assert (run.last.read_text(), run.best.read_text()) == ("10", "10")
    assert (run.read_record().steps_done, run.read_record().best_step, run.finished) == (10, 10, True)


def test_the_best_is_the_one_with_the_highest_ap(dataset, tmp_path):
    """Of AP .2, .6, .4 at steps 4, 8 and 10 the second is the best; the last step is evaluated too."""
    run, config = _start(dataset, tmp_path / "run", eval_every=4)
    validate = FakeValidation({4: 0.2, 8: 0.6, 10: 0.4})
    _train(run, config, validate)
    assert validate.steps == [4, 8, 10]
    assert (run.last.read_text(), run.best.read_text()) == ("10", "8")
    assert (run.read_record().best_step, run.read_record().ap) == (8, 0.6)
    assert [(line["step"], line["ap"]) for line in run.read_metrics() if "ap" in line] == [
        (4, 0.2),
        (8, 0.6),
        (10, 0.4),
    ]


def test_of_equal_aps_the_first_is_the_best(dataset, tmp_path):
    """An equal AP does not replace the best checkpoint."""
    run, config = _start(dataset, tmp_path / "run", eval_every=5)
    _train(run, config, FakeValidation({5: 0.3, 10: 0.3}))
    assert run.best.read_text() == "5"


def test_without_any_ap_the_last_is_the_best(dataset, tmp_path):
    """On a val split without objects AP is None."""
    run, config = _start(dataset, tmp_path / "run", eval_every=5)
    _train(run, config, FakeValidation({5: None, 10: None}))
    assert run.best.read_text() == "10"


def test_early_stopping(dataset, tmp_path):
    """After two evaluations without a better AP it stops at step 6; the record has the reason."""
    run, config = _start(dataset, tmp_path / "run", eval_every=2, patience=2)
    _train(run, config, FakeValidation({2: 0.5, 4: 0.4, 6: 0.5}))
    assert (run.last.read_text(), run.best.read_text()) == ("6", "2")
    assert (run.read_record().stopped, run.finished) == ("patience", True)


def test_a_kill_at_early_stopping_resumes_to_the_same_end(dataset, tmp_path, monkeypatch):
    """Killed after stopping early and before the last checkpoint, a resumed training stops early again."""
    run, config = _start(dataset, tmp_path / "run", eval_every=3, patience=1)
    aps = {3: 0.5, 6: 0.4}
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "__exit__", lambda *_: None)  # nothing is written at the end
        _train(run, config, FakeValidation(aps), interrupted=lambda: False)
    assert (run.last.read_text(), run.finished) == ("4", False)
    run, config = _start(dataset, tmp_path / "run", eval_every=3, patience=1, resume=True)
    _train(run, config, FakeValidation(aps))
    assert (run.last.read_text(), run.read_record().stopped) == ("6", "patience")


def test_more_patience_continues(dataset, tmp_path):
    """A run that stopped early continues with a larger --patience."""
    run, config = _start(dataset, tmp_path / "run", eval_every=2, patience=1)
    _train(run, config, FakeValidation({2: 0.5, 4: 0.4}))
    run, config = _start(dataset, tmp_path / "run", eval_every=2, patience=3, resume=True)
    assert not run.finished
    _train(run, config, FakeValidation({6: 0.6, 8: 0.1, 10: 0.2}))
    assert (run.read_record().steps_done, run.best.read_text()) == (10, "6")


def test_a_killed_run_repeats_its_evaluation(dataset, tmp_path):
    """Killed after the evaluation of step 6 and before its checkpoint, it resumes from step 4 with the same result."""
    run, config = _start(dataset, tmp_path / "run", eval_every=3)
    aps = {3: 0.2, 6: 0.7, 9: 0.1, 10: 0.3}

    def die(step):
        if step == 7:
            raise OSError("killed")

    with pytest.raises(OSError, match="killed"):
        _train(run, config, FakeValidation(aps), at=die)
    assert (run.last.read_text(), run.best.read_text()) == ("4", "6")
    run, config = _start(dataset, tmp_path / "run", eval_every=3, resume=True)
    again = FakeValidation(aps)
    _train(run, config, again)
    assert again.steps == [6, 9, 10]
    assert (run.best.read_text(), run.read_record().best_step) == ("6", 6)
    steps = [line["step"] for line in run.read_metrics() if "ap" in line]
    assert steps == [3, 6, 9, 10]


def test_ctrl_c_waits_for_the_step(dataset, tmp_path):
    """The current step is finished and saved before KeyboardInterrupt; the signal handler is restored."""
    run, config = _start(dataset, tmp_path / "run")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _train(run, config, at=lambda step: step == 3 and os.kill(os.getpid(), signal.SIGINT))
    assert (run.last.read_text(), run.read_record().steps_done) == ("3", 3)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("steps", "saved"), [(3, "3"), (0, None)])
def test_ctrl_c_ends_the_wait_for_a_batch(dataset, tmp_path, steps, saved):
    """At the first press; the finished steps are saved, and where there is none, nothing is."""
    run, config = _start(dataset, tmp_path / "run")
    training = FakeTraining(run)

    def train():
        with Journal(run, config, training, step=0, progress=silent) as journal:
            for _ in range(steps):
                journal.record(training.take_step())
            training.is_waiting = True
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the wait went on")

    with pytest.raises(KeyboardInterrupt):
        train()
    assert (run.last.read_text() if run.last.is_file() else None) == saved
    assert run.has_learnt is (saved is not None)


@pytest.fixture
def small_files():
    """A function that limits the size of all files that are written from then on, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_metrics_are_whole_lines_on_a_full_disk(dataset, tmp_path, small_files):
    """What does not fit is an error that names the file; the lines before it stay."""
    run, _ = _start(dataset, tmp_path / "run")
    run.append_metrics({"step": 1})
    small_files(run.metrics_file.stat().st_size + 5)
    with pytest.raises(OSError, match="metrics") as caught:
        run.append_metrics({"step": 2})
    assert caught.value.filename == str(run.metrics_file)
    assert run.read_metrics() == [{"step": 1}]


def test_event_files_are_whole_on_a_full_disk(tmp_path, small_files):
    """What was written before is read; the error names the file."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = _EventFiles(tmp_path, 0)
    events.write({"loss": 1.5}, 1)
    (file,) = tmp_path.iterdir()
    small_files(file.stat().st_size + 5)
    with pytest.raises(OSError, match="tfevents"):
        events.write({"loss": 2.5}, 2)
    events.close()
    assert [one.value for one in accumulator.EventAccumulator(str(tmp_path)).Reload().Scalars("loss")] == [1.5]


def test_a_checkpoint_on_a_full_disk_says_what_the_system_said(tmp_path, small_files):
    """Not what torch makes of it; the old checkpoint stays, and nothing else does."""
    import torch

    write_checkpoint(tmp_path / "last.pt", Checkpoint("some:model", (), None, 1, {"a": torch.zeros(10)}))
    small_files(10_000)
    with pytest.raises(OSError, match="File too large") as caught:
        write_checkpoint(tmp_path / "last.pt", Checkpoint("some:model", (), None, 2, {"a": torch.zeros(10_000)}))
    assert caught.value.filename == str(tmp_path / "last.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    assert read_checkpoint(tmp_path / "last.pt").step == 1


def test_another_process_may_handle_ctrl_c(dataset, tmp_path):
    """When `interrupted` returns True, the journal saves and ends without an error."""
    run, config = _start(dataset, tmp_path / "run")
    steps = []
    _train(run, config, at=steps.append, interrupted=lambda: len(steps) >= 5)
    assert run.last.read_text() == "5"


def test_metrics_come_every_ten_steps_and_at_the_end(dataset, tmp_path):
    """A line has losses, learning rate, speed and the share of waiting for data."""
    run, config = _start(dataset, tmp_path / "run", steps=25)
    _train(run, config)
    lines = run.read_metrics()
    assert [line["step"] for line in lines] == [10, 20, 25]
    assert lines[0].keys() == {"step", "loss", "lr", "images_per_s", "data_wait_share"}


def test_event_files_have_the_metrics(dataset, tmp_path):
    """TensorBoard shows the same numbers, also of a resumed run."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run, config = _start(dataset, tmp_path / "run", steps=20, eval_every=10)
    _train(run, config, FakeValidation({10: 0.25, 20: 0.75}))
    run, config = _start(dataset, tmp_path / "run", steps=30, eval_every=10, resume=True)
    _train(run, config, FakeValidation({30: 0.5}))
    events = accumulator.EventAccumulator(str(run.event_files)).Reload()
    assert [(one.step, one.value) for one in events.Scalars("ap")] == [(10, 0.25), (20, 0.75), (30, 0.5)]
    assert [one.step for one in events.Scalars("loss")] == [10, 20, 30]


def test_overwriting_removes_event_files(dataset, tmp_path):
    """An overwritten run does not show the curves of the old one."""
    run, config = _start(dataset, tmp_path / "run")
    _train(run, config)
    assert list(run.event_files.iterdir())
    run.start(config, dataset, overwrite=True)
    assert not list(run.event_files.glob("*"))


def test_the_default_evaluation_interval():
    """A tenth of the steps, at least 500 unless --patience is given."""
    assert TrainingConfig(model="a:b", steps=90_000).evaluates_every == 9000
    assert TrainingConfig(model="a:b", steps=400).evaluates_every == 500
    assert TrainingConfig(model="a:b", steps=400, eval_every=50).evaluates_every == 50
    assert TrainingConfig(model="a:b", steps=400, patience=2).evaluates_every == 40
