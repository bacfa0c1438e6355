"""`gc`: what killed commands left goes, and nothing else."""

import os
from pathlib import Path

import pytest
from sample_datasets import face_dataset, save, set_column, write_text

import curate
from curate.errors import StoreError
from curate.files import temporary_file, temporary_name
from curate.store import Store


@pytest.fixture
def root(tmp_path):
    """A dataset with two versions, one of them undone; what killed processes left; and files of the user."""
    root = save(face_dataset(tmp_path / "faces"), pictures=True)
    set_column(root, "split", ["val"] * 8)
    Store(root).undo()
    (root / "runs/first/checkpoints").mkdir(parents=True)
    folders = (
        root,
        *(root / name for name in ("tables", "versions", "media", "media/images", "runs/first/checkpoints")),
    )
    for folder in folders:
        write_text(Path(temporary_name(folder)), "half")
        write_text(folder / "mine.tmp", "whole")
    write_text(root / "tables" / f"boxes-{'0' * 20}.parquet", "an orphan")
    write_text(root / "tables" / "boxes-mine.parquet", "whole")
    return root


def content(root):
    """Path → bytes of each file."""
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_what_nobody_needs_goes(root):
    """Temporary files and tables of no version go; the user's files, and all versions, stay."""
    before = content(root)
    result = curate.gc(root)
    after = content(root)
    gone = before.keys() - after.keys() - {".lock"}
    assert gone == set(result.removed)
    assert {Path(name).name[:8] for name in gone} == {".curate-", "boxes-00"}
    assert (len(gone), result.bytes) == (7, 33)
    assert {name: before[name] for name in before.keys() & after.keys()} == {
        name: data for name, data in after.items() if name != ".lock"
    } | ({".lock": before[".lock"]} if ".lock" in before else {})
    assert Store(root).redo() == 2
    assert len(Store(root).load().images) == 8


def test_dry_run(root):
    """A dry run lists the same files and removes nothing."""
    before = content(root)
    planned = curate.gc(root, dry_run=True)
    assert content(root) == before
    assert planned.removed == curate.gc(root).removed
    assert curate.gc(root).removed == ()


def test_file_that_is_being_written(root):
    """A temporary file of a living writer stays."""
    with temporary_file(root / "media") as held:
        assert Path(held.name).name not in {Path(name).name for name in curate.gc(root).removed}
        assert os.path.exists(held.name)


def test_damaged_version_file(root):
    """Where the tables of a version are not known, none is removed."""
    write_text(root / "versions/000002.json", "{")
    with pytest.raises(StoreError, match=r"000002.json: which tables are in use is not known.*Nothing was removed"):
        curate.gc(root)
    assert (root / "tables" / f"boxes-{'0' * 20}.parquet").exists()


def test_no_dataset(tmp_path):
    """A folder without a dataset is an error, and nothing is made in it."""
    with pytest.raises(StoreError, match="there is no dataset here"):
        curate.gc(tmp_path)
    assert not list(tmp_path.iterdir())


def test_command_line(root, run_main):
    """The files are listed with their number and size."""
    lines = run_main("gc", root, "--dry-run").stdout.splitlines()
    assert (len(lines), lines[-1]) == (8, "7 files would be removed, 33 bytes")
    assert run_main("gc", root).stdout.splitlines()[-1] == "7 files removed, 33 bytes"
