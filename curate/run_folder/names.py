"""Names of runs: which there are, and which one is meant where a name has no run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from curate.errors import UsageError, closest
from curate.formatting import curate_command
from curate.versions import VersionFiles, dataset_folders

CONFIG_FILE, RECORD_FILE, ROUNDS_FILE = "config.yaml", "run.json", "rounds.json"
RoundsFormat = Literal["curate rounds 1"]  # `format` in the last one
START = f"Start one with {curate_command('train', 'DATASET', '--run', 'NAME')}."
_MOST_RUNS = 10  # in a message


def runs_of(dataset: Path) -> list[Path]:
    """The folders of a dataset's runs, by name; none where they cannot be read."""
    try:
        return sorted(folder for folder in (dataset / "runs").iterdir() if _is_run(folder))
    except OSError:
        return []


def runs_of_datasets(folder: Path) -> Iterator[Path]:
    """The folders of the runs of all datasets directly in a folder."""
    return (run for dataset in dataset_folders(folder) for run in runs_of(dataset))


def no_run(path: Path, fact: str = "there is no run here", *, otherwise: str = START) -> UsageError:
    """The error for a path without a run; it names the run that is meant, or the runs of a dataset.

    Args:
        path: Where the run was looked for.
        fact: What is wrong.
        otherwise: The remedy where no run has a similar name.
    """
    if VersionFiles(path).exist():
        runs = ", ".join(map(str, runs_of(path)[:_MOST_RUNS]))
        remedy = f"Its runs: {runs}." if runs else f"It has none yet. {START}"
        return UsageError("this is a dataset, not a run", place=path, expected="the folder of a run", remedy=remedy)
    if _is_run(path):  # the record alone is missing
        remedy = "Restore the file, or replace the run with --overwrite."
        return UsageError("the run has no record", place=path / RECORD_FILE, remedy=remedy)
    if inside := next((folder for folder in path.parents if _is_run(folder)), None):
        return UsageError(fact, place=path, remedy=f"Did you mean {str(inside)!r}?")
    if path.parent.name == "runs":
        neighbours = runs_of(path.parent.parent)
    else:
        neighbours = runs_of(path.parent) or list(runs_of_datasets(path.parent))
    by_name = {run.name: run for run in reversed(neighbours)}
    similar = closest(path.name, by_name)
    known = f"one of {', '.join(map(str, neighbours[:_MOST_RUNS]))}" if neighbours else None
    return UsageError(
        fact, place=path, expected=known, remedy=f"Did you mean {str(by_name[similar])!r}?" if similar else otherwise
    )


def _is_run(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() or (folder / RECORD_FILE).is_file()
