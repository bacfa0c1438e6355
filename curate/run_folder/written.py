"""What a run writes into its folder: the files that may be removed when another run takes its place.

They are known by their names. Whatever else lies in the folder is somebody's own, and so is all that a link leads to.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from curate.documents.json_reader import read_json
from curate.documents.yaml_reader import read_yaml
from curate.errors import DataError, UsageError
from curate.files import TEMPORARY, is_temporary
from curate.paths import refuse_links
from curate.run_folder.names import CONFIG_FILE, RECORD_FILE, ROUNDS_FILE, RoundsFormat
from curate.run_folder.record import RunRecord

LOCK = ".lock"
REPLACING = ".replacing"  # there while the files of an earlier run are removed
CHECKPOINTS, EVENT_FILES = "checkpoints", "tensorboard"
_SPLIT = r"(train|val|test|all)(_of_[0-9a-f]+)?"  # `inference.evaluations.evaluation_name`
_NAMES = {  # folder of the run → what it writes there
    "": rf"rounds\.json|run\.json|metrics\.jsonl|report(_{_SPLIT})?\.html"
    rf"|evaluation_{_SPLIT}\.json|errors_{_SPLIT}\.csv|predictions_{_SPLIT}\.(json|sha256)",
    CHECKPOINTS: r"(last|best)\.pt",
    EVENT_FILES: r"events\.out\.tfevents\.\d+\..+",
}


class _Rounds(BaseModel):
    """The part of `rounds.json` that tells whose it is."""

    format: RoundsFormat


def written_files(run: Path) -> list[Path]:
    """The files in a run's folder that the run has written, without its configuration and temporary files.

    Raises:
        StoreError: The folder, or one inside that the run writes to, is a link.
    """
    files = [file for folder in _NAMES for file in _written_in(run, folder)]
    # these first: without them, readers see no run
    return sorted(files, key=lambda file: file.name not in (ROUNDS_FILE, RECORD_FILE))


def holds_nothing(run: Path) -> bool:
    """Whether a folder is missing, empty, or holds only what is left when a run was stopped before it started."""
    if not run.is_dir():
        return not run.exists()
    return all(_is_leftover(entry) for entry in run.iterdir())


def was_begun(run: Path) -> bool:
    """Whether a folder has one of the first files of a run; other tools have files of these names, too."""
    from curate.run_folder.config import TrainingConfig

    readers = (
        lambda: TrainingConfig.checked(**read_yaml(run / CONFIG_FILE, "run's configuration")),
        lambda: read_json(run / RECORD_FILE, "run's record", RunRecord),
        lambda: read_json(run / ROUNDS_FILE, "state of the loop", _Rounds),
    )
    for read in readers:
        with suppress(DataError, UsageError, TypeError):  # TypeError: no mapping
            read()
            return True
    return False


def _written_in(run: Path, name: str) -> Iterator[Path]:
    folder, pattern = run / name, re.compile(_NAMES[name])
    if not folder.is_dir():
        return
    written = [file for file in folder.iterdir() if pattern.fullmatch(_final_name(file)) and not file.is_dir()]
    if name or written:
        refuse_links(run.parent, f"{run.name}/{name}".rstrip("/"))
    yield from written


def _final_name(file: Path) -> str:
    """The name that a temporary file of an older version was to have; that of any other file is its own."""
    return file.name.removesuffix(TEMPORARY)


def _is_leftover(entry: Path) -> bool:
    if entry.name in (CHECKPOINTS, EVENT_FILES):
        return entry.is_dir() and not entry.is_symlink() and not any(entry.iterdir())
    is_unfinished = entry.name.endswith(TEMPORARY) and _final_name(entry) in (CONFIG_FILE, RECORD_FILE, ROUNDS_FILE)
    return is_unfinished or is_temporary(entry.name) or entry.name in (LOCK, REPLACING)
