"""The folder of a run: beginning, going on, and what is kept."""

import pytest
from engine_contract import shapes_dataset

from curate.errors import UsageError
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder


@pytest.fixture
def dataset(tmp_path):
    return shapes_dataset(tmp_path / "shapes", images=2, empty=0)


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def _config(**changes):
    return TrainingConfig.checked(**({"model": "torchvision:some", "steps": 10} | changes))


def test_a_name_lives_in_the_dataset(tmp_path):
    """A plain name is a folder in DATASET/runs; with a slash it is a path."""
    assert RunFolder.named(tmp_path, "first").path == tmp_path / "runs" / "first"
    assert RunFolder.named(tmp_path, "./first").path.resolve().name == "first"
    assert RunFolder.named(tmp_path, "./first").path.parts[0] != "runs"


@pytest.mark.parametrize("name", ["", " ", "..", "-x"])
def test_what_is_no_name(tmp_path, name):
    """A name must be fit for a folder of its own."""
    with pytest.raises(UsageError, match="not a name for a run"):
        RunFolder.named(tmp_path, name)


def test_a_new_run_writes_settings_and_record(run, dataset):
    """Both can be read back as they were."""
    record = run.start(_config(lr=0.001), dataset, dataset_version=4)
    assert run.read_record() == record
    assert (record.dataset_version, record.images, record.boxes, record.steps_done) == (4, 2, 4, 0)
    assert [(entry.id, entry.name) for entry in record.classes] == [(7, "square"), (3, "disc")]
    assert TrainingConfig.checked(**run.read_config()) == _config(lr=0.001)
    assert not run.finished


def start_and_learn(run, dataset, config):
    """Start a run and leave a checkpoint, as training does."""
    run.start(config, dataset)
    run.checkpoints.mkdir()
    run.last.write_bytes(b"learnt")


def test_a_run_without_a_checkpoint_begins_anew(run, dataset):
    """A start that failed, for want of weights say, does not take the name."""
    run.start(_config(batch=2), dataset)
    assert run.start(_config(batch=4), dataset).steps_done == 0
    assert run.start(_config(batch=2), dataset, resume=True).steps_done == 0
    assert run.read_config()["batch"] == 2


def test_an_existing_run_is_not_overwritten(run, dataset):
    """The error names both ways to go."""
    start_and_learn(run, dataset, _config())
    with pytest.raises(UsageError, match=r"--resume.*--overwrite"):
        run.start(_config(), dataset)


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(run, dataset):
    """Checkpoints and metrics go; a note that somebody put there stays."""
    run.start(_config(), dataset)
    run.append_metrics({"step": 1})
    run.checkpoints.mkdir()
    run.last.write_bytes(b"old")
    (run.path / "note.txt").write_text("mine")
    run.start(_config(), dataset, overwrite=True)
    assert not run.last.exists()
    assert run.read_metrics() == []
    assert (run.path / "note.txt").read_text() == "mine"


def test_overwrite_spares_a_folder_that_is_no_run(run, dataset):
    """A path given by mistake is not emptied."""
    run.path.mkdir()
    (run.path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds no run"):
        run.start(_config(), dataset, overwrite=True)


def test_resume_needs_a_run(run, dataset):
    """There is nothing to go on with."""
    with pytest.raises(UsageError, match="no run to go on with"):
        run.start(_config(), dataset, resume=True)


def test_resume_refuses_other_settings(run, dataset):
    """What would make it another training is named with both values."""
    start_and_learn(run, dataset, _config(batch=2))
    with pytest.raises(UsageError, match=r"batch.*got batch 4.*expected batch 2"):
        run.start(_config(batch=4), dataset, resume=True)


def test_resume_may_go_further(run, dataset):
    """More steps, another device and other workers are fine."""
    run.start(_config(), dataset)
    assert run.start(_config(steps=20, workers=3), dataset, resume=True).steps == 20


def test_finished_means_all_steps_and_a_checkpoint(run, dataset):
    """The record alone is not enough."""
    run.start(_config(), dataset)
    run.update(steps_done=10, best_step=10)
    assert not run.finished
    run.checkpoints.mkdir()
    run.best.write_bytes(b"weights")
    assert run.finished
    run.start(_config(steps=20), dataset, resume=True)
    assert not run.finished


def test_a_cut_off_metrics_line_is_left_out(run, dataset):
    """A kill in the middle of a line loses that line only."""
    run.start(_config(), dataset)
    run.append_metrics({"step": 1})
    with run.metrics_file.open("a") as file:
        file.write('{"step": 2, "lo')
    assert run.read_metrics() == [{"step": 1}]


def test_metrics_beyond_the_checkpoint_are_forgotten(run, dataset):
    """Steps that are done again are not told twice."""
    run.start(_config(), dataset)
    for step in (1, 2, 3):
        run.append_metrics({"step": step})
    run.drop_metrics_after(2)
    assert run.read_metrics() == [{"step": 1}, {"step": 2}]


def test_one_process_trains_a_run(run):
    """A second one is told, instead of mixing both."""
    with run.held(), pytest.raises(UsageError, match="another process"), RunFolder(run.path).held():
        pass


def test_a_step_and_its_engine_hold_the_same_run(run):
    """Who has it already may take it again, and others are kept out until the first lets go."""
    with run.held():
        with run.held():
            pass
        with pytest.raises(UsageError, match="another process"), RunFolder(run.path).held():
            pass
    with RunFolder(run.path).held():
        assert run.path.is_dir()
    with RunFolder(run.path).held():
        pass
