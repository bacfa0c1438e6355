"""The folder of a run: starting, resuming, and its files."""

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
    """A plain name is a folder in DATASET/runs; a name with a slash is a path."""
    assert RunFolder.named(tmp_path, "first").path == tmp_path / "runs" / "first"
    assert RunFolder.named(tmp_path, "./first").path.resolve().name == "first"
    assert RunFolder.named(tmp_path, "./first").path.parts[0] != "runs"


@pytest.mark.parametrize("name", ["", " ", "..", "-x"])
def test_an_invalid_name_is_refused(tmp_path, name):
    """A name must be usable as a folder name."""
    with pytest.raises(UsageError, match="not a valid run name"):
        RunFolder.named(tmp_path, name)


def test_a_new_run_writes_settings_and_record(run, dataset):
    """Both can be read back unchanged."""
    record = run.start(_config(lr=0.001), dataset, dataset_version=4)
    assert run.read_record() == record
    assert (record.dataset_version, record.images, record.boxes, record.steps_done) == (4, 2, 4, 0)
    assert [(entry.id, entry.name) for entry in record.classes] == [(7, "square"), (3, "disc")]
    assert TrainingConfig.checked(**run.read_config()) == _config(lr=0.001)
    assert not run.finished


def start_with_checkpoint(run, dataset, config):
    """Start a run and write a checkpoint, as a training does."""
    run.start(config, dataset)
    run.checkpoints.mkdir()
    run.last.write_bytes(b"weights")


def test_a_run_without_a_checkpoint_starts_again(run, dataset):
    """A start that failed, for example because weights were missing, does not occupy the name."""
    run.start(_config(batch=2), dataset)
    assert run.start(_config(batch=4), dataset).steps_done == 0
    assert run.start(_config(batch=2), dataset, resume=True).steps_done == 0
    assert run.read_config()["batch"] == 2


@pytest.mark.parametrize("spelling", [{}, {"resume": True}, {"overwrite": True}])
@pytest.mark.parametrize("left", [["config.yaml"], ["config.yaml", "run.json"], [".lock"], ["tensorboard/"]])
def test_what_has_learnt_nothing_begins_anew_in_every_spelling(run, dataset, left, spelling):
    """Whatever a run leaves that ends before its first checkpoint; files of the user stay where there was a run."""
    run.start(_config(batch=2), dataset)
    run.append_metrics({"step": 1})
    for file in [file for file in run.path.iterdir() if file.name not in left]:
        file.unlink()
    for name in left:
        (run.path / name).mkdir() if name.endswith("/") else (run.path / name).touch()
    if "config.yaml" in left:
        (run.path / "note.txt").write_text("mine")
    assert run.start(_config(batch=4), dataset, **spelling).steps_done == 0
    assert (run.read_config()["batch"], run.read_metrics()) == (4, [])
    assert "config.yaml" not in left or (run.path / "note.txt").read_text() == "mine"


def test_a_folder_without_a_run_says_the_same_in_every_spelling(run, dataset):
    """No message sends to an option whose message sends back."""
    run.path.mkdir()
    (run.path / "report.html").write_text("by hand")
    for spelling in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(UsageError, match=r"not empty and holds no run.*Choose another"):
            run.start(_config(), dataset, **spelling)
    assert (run.path / "report.html").read_text() == "by hand"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "model: yolo\ndata: faces.yaml\n"),
        ("config.yaml", "by hand"),
        ("run.json", '{"run": "mine", "command": "make"}'),
        ("run.json", "by hand"),
        ("rounds.json", '[{"winner": "Ann"}]'),
        ("rounds.json", '{"format": "chess rounds"}'),
    ],
)
def test_files_of_other_tools_are_no_run(run, dataset, name, content):
    """Another tool's file stays, though it has the name of a run's."""
    run.path.mkdir()
    (run.path / name).write_text(content)
    for spelling in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(UsageError, match=r"not empty and holds no run.*Choose another"):
            run.start(_config(), dataset, **spelling)
    assert [file.name for file in run.path.iterdir()] == [name]
    assert (run.path / name).read_text() == content


@pytest.mark.parametrize("damaged", ["config.yaml", "run.json"])
def test_a_run_that_learnt_nothing_is_known_by_either_file(run, dataset, damaged):
    """One damaged file does not block the name of the run."""
    run.start(_config(batch=2), dataset)
    (run.path / damaged).write_text("{")
    assert run.start(_config(batch=4), dataset).steps_done == 0
    assert run.read_config()["batch"] == 4


def test_a_kill_while_a_run_is_replaced_leaves_no_mixture(run, dataset, monkeypatch):
    """From the first file that goes, the old run is none; then it begins anew in every spelling."""
    start_with_checkpoint(run, dataset, _config(batch=2))
    run.best.write_bytes(b"weights")
    with monkeypatch.context() as patch:
        patch.setattr(type(run.path), "unlink", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.start(_config(), dataset, overwrite=True)
    assert not run.has_learnt
    for spelling in ({}, {"resume": True}, {"overwrite": True}):
        assert run.start(_config(batch=4), dataset, **spelling).steps_done == 0
    assert {run.last.exists(), run.best.exists()} == {False}
    run.last.write_bytes(b"weights")
    assert run.has_learnt


def test_a_checkpoint_without_a_record_is_not_removed(run, dataset):
    """The error names the file that is missing; only --overwrite removes what was learnt."""
    start_with_checkpoint(run, dataset, _config())
    run.record_file.unlink()
    with pytest.raises(UsageError, match="exists already"):
        run.start(_config(), dataset)
    with pytest.raises(UsageError, match=r"run\.json: .*no record.*--overwrite"):
        run.start(_config(), dataset, resume=True)
    assert run.last.read_bytes() == b"weights"
    run.start(_config(), dataset, overwrite=True)
    assert not run.last.exists()


def test_an_existing_run_is_not_overwritten(run, dataset):
    """The error names both options."""
    start_with_checkpoint(run, dataset, _config())
    with pytest.raises(UsageError, match=r"--resume.*--overwrite"):
        run.start(_config(), dataset)


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(run, dataset):
    """Checkpoints and metrics are removed; a user's own file stays."""
    run.start(_config(), dataset)
    run.append_metrics({"step": 1})
    run.checkpoints.mkdir()
    run.last.write_bytes(b"old")
    (run.path / "note.txt").write_text("mine")
    run.start(_config(), dataset, overwrite=True)
    assert not run.last.exists()
    assert run.read_metrics() == []
    assert (run.path / "note.txt").read_text() == "mine"


def test_overwrite_keeps_a_folder_that_is_not_a_run(run, dataset):
    """A wrong path is not emptied."""
    run.path.mkdir()
    (run.path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds no run"):
        run.start(_config(), dataset, overwrite=True)


def test_resume_needs_a_run(run, dataset):
    """Without a run there is nothing to resume."""
    with pytest.raises(UsageError, match="no run to resume"):
        run.start(_config(), dataset, resume=True)


def test_resume_refuses_other_settings(run, dataset):
    """The error names the setting with both values."""
    start_with_checkpoint(run, dataset, _config(batch=2))
    with pytest.raises(UsageError, match=r"batch.*got batch 4.*expected batch 2"):
        run.start(_config(batch=4), dataset, resume=True)


def test_resume_allows_more_steps(run, dataset):
    """Steps and the number of workers may change."""
    run.start(_config(), dataset)
    assert run.start(_config(steps=20, workers=3), dataset, resume=True).steps == 20


def test_finished_means_all_steps_and_a_checkpoint(run, dataset):
    """The record alone does not make a run finished."""
    run.start(_config(), dataset)
    run.update(steps_done=10, best_step=10)
    assert not run.finished
    run.checkpoints.mkdir()
    run.best.write_bytes(b"weights")
    assert run.finished
    run.start(_config(steps=20), dataset, resume=True)
    assert not run.finished


def test_an_incomplete_metrics_line_is_left_out(run, dataset):
    """A kill while a line is written loses that line only."""
    run.start(_config(), dataset)
    run.append_metrics({"step": 1})
    with run.metrics_file.open("a") as file:
        file.write('{"step": 2, "lo')
    assert run.read_metrics() == [{"step": 1}]


def test_metrics_after_the_checkpoint_are_removed(run, dataset):
    """Steps that are done again are not listed twice."""
    run.start(_config(), dataset)
    for step in (1, 2, 3):
        run.append_metrics({"step": step})
    run.drop_metrics_after(2)
    assert run.read_metrics() == [{"step": 1}, {"step": 2}]


def test_one_process_trains_a_run(run):
    """A second process gets an error."""
    with run.locked(), pytest.raises(UsageError, match="another process"), RunFolder(run.path).locked():
        pass


def test_a_command_and_its_engine_lock_the_same_run(run):
    """The same object may lock a run twice; others must wait until it releases both."""
    with run.locked():
        with run.locked():
            pass
        with pytest.raises(UsageError, match="another process"), RunFolder(run.path).locked():
            pass
    with RunFolder(run.path).locked():
        assert run.path.is_dir()
    with RunFolder(run.path).locked():
        pass
