"""Names of runs that are nearly right, and folders that are no runs."""

import pytest
from sample_datasets import face_dataset, save

import curate
from curate.errors import UsageError
from curate.run_folder.folder import RunFolder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with a dataset `faces` that has two runs, and one without runs."""
    monkeypatch.chdir(tmp_path)
    save(face_dataset("faces"), pictures=True)
    save(face_dataset("masks"))
    for name in ("first", "second"):
        run = tmp_path / "faces" / "runs" / name
        (run / "checkpoints").mkdir(parents=True)
        (run / "run.json").write_text("{}")
    (tmp_path / "faces" / "runs" / "notes").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("faces/runs/frst", "faces/runs/first"),
        ("faces/runs/SECOND", "faces/runs/second"),
        ("faces/first", "faces/runs/first"),
        ("first", "faces/runs/first"),
        ("secnd", "faces/runs/second"),
        ("faces/runs/first/checkpoints", "faces/runs/first"),
        ("faces/runs/first/checkpoints/best.pt", "faces/runs/first"),
        ("facse/runs/first", None),
    ],
)
def test_run_that_is_nearly_there(here, path, meant):
    """A path that is nearly that of a run brings the path that is meant; else the command that starts one."""
    remedy = f"Did you mean '{meant}'\\?" if meant else "Start one with `curate train DATASET --run NAME`"
    with pytest.raises(UsageError, match=rf"^{path}: there is no run here.* {remedy}"):
        RunFolder(path).read_record()


def test_a_record_that_is_gone(here):
    """A run whose record alone is missing is not said to be another one, namely itself."""
    (here / "faces/runs/first/run.json").rename(here / "faces/runs/first/config.yaml")
    with pytest.raises(UsageError, match=r"^faces/runs/first/run\.json: the run has no record\..*--overwrite"):
        RunFolder("faces/runs/first").read_record()


def test_known_runs_are_listed(here):
    """The message lists the runs of the dataset, and no other folder."""
    with pytest.raises(UsageError, match=r"expected one of faces/runs/first, faces/runs/second\)\. Start one"):
        RunFolder("faces/runs/zebra").read_record()


def test_dataset_in_the_place_of_a_run(here):
    """A dataset is named as such, with its runs."""
    with pytest.raises(UsageError, match=r"this is a dataset.*Its runs: faces/runs/first, faces/runs/second\."):
        RunFolder("faces").read_record()
    with pytest.raises(UsageError, match=r"this is a dataset.*It has none yet. Start one with `curate train"):
        RunFolder("masks").read_record()


@pytest.mark.parametrize(
    "command",
    [
        lambda: curate.evaluate("faces", run="frst"),
        lambda: curate.evaluate("faces", predictions="p.json", against="frst"),
        lambda: curate.report("faces", run="frst"),
        lambda: curate.view("faces", run=["frst"]),
        lambda: curate.predict("faces/runs/frst", "faces"),
        lambda: curate.watch("faces/runs/frst", "clip.mp4"),
        lambda: curate.train("faces", run="frst", resume=True),
        lambda: curate.loop("faces", run="frst", resume=True),
        lambda: curate.train_classifier("faces", detector="frst", run="second-stage"),
    ],
)
def test_every_command_names_the_run_that_is_meant(here, command):
    """Each command that takes a run suggests the one that is meant, before it does anything else."""
    (here / "clip.mp4").write_bytes(b"no video")
    (here / "p.json").write_text("[]")
    with pytest.raises(UsageError, match=r"Did you mean 'faces/runs/first'\?"):
        command()
