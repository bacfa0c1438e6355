"""What a run writes, and what is somebody else's."""

import pytest

from curate.errors import StoreError
from curate.run_folder.written import holds_nothing, written_files

OWN = [
    "run.json",
    "rounds.json",
    "metrics.jsonl",
    "report.html",
    "report_test.html",
    "report_val_of_0123456789abcdef0123.html",
    "evaluation_val.json",
    "errors_all.csv",
    "predictions_train.json",
    "predictions_train.sha256",
    "checkpoints/last.pt",
    "checkpoints/best.pt",
    "tensorboard/events.out.tfevents.1764000000.host.12.0",
]
FOREIGN = [
    "note.txt",
    "report_for_the_boss.html",
    "report_val.html.bak",
    "errors_by_hand.csv",
    "predictions_yolo.json",
    "predictions_val.parquet",
    "evaluation_old.json",
    "thesis.tmp",
    "last.pt",
    "checkpoints/epoch_12.pt",
    "checkpoints/best.pth",
    "checkpoints/thesis.tmp",
    "tensorboard/events.out.tfevents.mine",
    "tensorboard/run.json",
    "rounds/notes.txt",
]


def write(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names_in(folder):
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_a_run_knows_its_files_by_name(tmp_path):
    """Files that are named a little otherwise are not the run's."""
    write(tmp_path, [*OWN, *FOREIGN, "config.yaml"])
    assert sorted(file.relative_to(tmp_path).as_posix() for file in written_files(tmp_path)) == sorted(OWN)


def test_a_folder_with_the_name_of_a_file_is_not_the_runs(tmp_path):
    """It stays, with all that is in it."""
    write(tmp_path, ["metrics.jsonl/mine.txt", "checkpoints/best.pt/mine.txt"])
    assert written_files(tmp_path) == []


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard"])
def test_nothing_is_removed_through_a_linked_folder(tmp_path, name):
    """The error names it and where it leads."""
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "run", ["run.json"])
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=rf"{name}: .*is a link.*elsewhere"):
        written_files(tmp_path / "run")


def test_a_linked_run_is_removed_under_its_own_name_only(tmp_path):
    """A link in `runs` to the run of another dataset does not make that run this dataset's."""
    write(tmp_path / "other", ["run.json"])
    (tmp_path / "run").symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match="is a link"):
        written_files(tmp_path / "run")
    assert written_files(tmp_path / "other") == [tmp_path / "other" / "run.json"]


def test_the_record_goes_first(tmp_path):
    """Whoever reads a run that is being replaced finds none."""
    write(tmp_path, OWN)
    assert {file.name for file in written_files(tmp_path)[:2]} == {"run.json", "rounds.json"}


@pytest.mark.parametrize("name", OWN[2:] + FOREIGN)
def test_a_folder_with_any_file_holds_something(tmp_path, name):
    """A file that is named like a run's may be somebody's own where no run was."""
    write(tmp_path, [name])
    assert not holds_nothing(tmp_path)


def test_what_is_left_before_a_start_is_nothing(tmp_path):
    """The lock, and the empty folders that an older version left of a run without a checkpoint."""
    write(tmp_path, [".lock", ".curate-1234-0123456789abcdef.tmp", "run.json.tmp"])
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "checkpoints").mkdir()
    assert holds_nothing(tmp_path)
    assert holds_nothing(tmp_path / "missing")
