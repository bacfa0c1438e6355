"""Fingerprints of what a pipeline step reads: as long as they stay the same, the step need not run again.

A fingerprint hashes names, sizes and modification times, and contents only of small files that are often written again.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from curate.commands.registry import COMMANDS, Role
from curate.engines.base import names_model
from curate.formats.voc.layout import XML_SUFFIX
from curate.formats.voc.writer import is_proposal
from curate.image_header import is_image_name
from curate.run_folder.folder import RunFolder
from curate.store import Store
from curate.versions import find_card

_ABSENT = "absent"
_CHANGED = "changed while the step ran"  # equals no fingerprint, so that the step runs again


def fingerprints(
    command: str, arguments: Mapping[str, Any], dataset: Path, written_later: Collection[Path] = ()
) -> dict[str, str]:
    """Fingerprints of the files, folders and runs that the arguments of a step name, and of the dataset's card.

    What does not exist has no entry.

    Args:
        command: Command of the step.
        arguments: Arguments of the step.
        dataset: Dataset that the step works on. Its version is not part of the answer.
        written_later: Files and folders that later steps write. Evaluations and records of runs in them are left out:
            they were not there when the step ran first, and would make it run again each time.
    """
    row = COMMANDS[command]
    given = {name: value for name, value in arguments.items() if value is not None}
    paths: dict[str, Path] = {}
    for name in row.names(Role.INPUT):
        paths |= _named_files(name, given.get(name))
    if row.names(Role.DATASET_AND_CARD) and (card := find_card(dataset)):
        paths.setdefault("card", card)
    for name in row.names(Role.RUN, Role.EVALUATED_RUN):
        if name in given:
            paths[name] = named_run(command, given[name], dataset).best
    for name in row.names(Role.MODEL):
        if _is_file(config := Path(str(given.get(name, "")).partition(":")[2])):
            paths[name] = config
    for name in row.names(Role.DETECTOR):
        if name in given and not names_model(str(given[name])):
            paths[name] = RunFolder.named(dataset, str(given[name])).best
    for name in row.names(Role.SETTINGS):
        paths |= _files_in_settings(given.get(name, {}))
    found = {name: _fingerprint(path, dataset) for name, path in paths.items() if path.exists()}
    for name in row.names(Role.IMAGES):
        found |= _of_images(name, Path(given[name]), arguments, dataset)
    for name in row.names(Role.EVALUATED_RUN):
        if name in given:
            run = named_run(command, given[name], dataset)
            found |= _of_evaluations(name, run, arguments.get("split", "val"), written_later)
    if row.names(Role.DATASET_AND_RUNS):
        found |= _of_runs(dataset, written_later)
    return found


def read_fingerprints(
    command: str, arguments: Mapping[str, Any], reads: Iterable[Path], dataset: Path, since_ns: int
) -> dict[str, str]:
    """Fingerprints of what a command read beyond the files and folders that its arguments name, taken after it ran.

    Args:
        command: Command of the step.
        arguments: Arguments of the step.
        reads: Files and folders, as in `Result.reads`.
        dataset: Dataset that the step works on.
        since_ns: When the command started, in nanoseconds since 1970. What changed after that may have been read
            before or after the change, so it gets a fingerprint that is never equal to another.
    """
    inputs = COMMANDS[command].names(Role.INPUT)
    named = [path for name in inputs for path in _named_files(name, arguments.get(name)).values()]
    found = {}
    for path in dict.fromkeys(reads):
        if any(path.is_relative_to(folder) for folder in named):
            continue
        changed = any(status.st_mtime_ns >= since_ns for _, status in _files_below(path, dataset))
        found[str(path)] = _CHANGED if changed else _fingerprint(path, dataset)
    return found


def are_unchanged(recorded: Mapping[str, str], dataset: Path) -> bool:
    """Whether what `read_fingerprints` took is still so."""
    return all(_fingerprint(Path(path), dataset) == before for path, before in recorded.items())


def named_run(command: str, run: object, dataset: Path) -> RunFolder:
    """The run that an argument names: a path for `predict`, else a name in the dataset's `runs` or a path."""
    if COMMANDS[command].names(Role.DATASET):
        return RunFolder.named(dataset, str(run))
    return RunFolder(str(run))


def _named_files(name: str, value: Any) -> dict[str, Path]:
    values = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return {name + (f" {number}" if number else ""): Path(str(one)) for number, one in enumerate(values)}


def _files_in_settings(settings: Mapping[str, Any]) -> dict[str, Path]:
    """Values that are the path of a file or of a run's folder; engines have settings of both kinds."""
    paths: dict[str, Path] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            paths |= _files_in_settings(value)
        elif isinstance(value, str) and value:
            paths[name] = next((path for path in (RunFolder(value).best, Path(value)) if _is_file(path)), Path(value))
    return {name: path for name, path in paths.items() if _is_file(path)}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # text that is too long for a name
        return False


def _of_images(name: str, source: Path, arguments: Mapping[str, Any], dataset: Path) -> dict[str, str]:
    """What `predict` reads, without what it writes: a dataset's version, else images and XML that a person saved."""
    store = Store(source)
    if store.exists():
        return {} if source.resolve() == dataset.resolve() else {name: f"version {store.head()}"}
    writes_beside = arguments.get("form") == "voc" and arguments.get("out") is None

    def is_read(file: Path) -> bool:
        if file.suffix.lower() == XML_SUFFIX:
            return writes_beside and not is_proposal(file.read_bytes())
        return is_image_name(file.name)

    return {name: _fingerprint(source, dataset, is_read)} if source.exists() else {}


def _of_evaluations(name: str, run: RunFolder, split: str, written_later: Collection[Path]) -> dict[str, str]:
    """Hashes of contents, because each evaluation writes its file again; without splits the file is named "all"."""
    files = {file for part in (split, "all") for file in run.path.glob(f"evaluation_{part}*.json")}
    return {f"{name} {file.name}": _content_hash(file) for file in not_below(files, written_later)}


def _of_runs(dataset: Path, written_later: Collection[Path]) -> dict[str, str]:
    """Hashes of contents: of the records, rounds and evaluations of all runs."""
    files = {file for part in ("run", "rounds", "evaluation_*") for file in dataset.glob(f"runs/*/{part}.json")}
    return {file.relative_to(dataset).as_posix(): _content_hash(file) for file in not_below(files, written_later)}


def not_below(files: Iterable[Path], places: Collection[Path]) -> list[Path]:
    """The files that are neither one of these places nor inside one, sorted."""
    return sorted(file for file in files if not any(file.is_relative_to(place) for place in places))


def _content_hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _fingerprint(path: Path, dataset: Path, is_read: Callable[[Path], bool] = lambda _: True) -> str:
    if not os.path.lexists(path):
        return _ABSENT
    digest = hashlib.sha256()
    for file, status in _files_below(path, dataset):
        if file == path or is_read(file):
            name = file.relative_to(path).as_posix()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files_below(path: Path, dataset: Path) -> list[tuple[Path, os.stat_result]]:
    """Sorted files at or below a path. Links are followed; the dataset, which every step changes, is left out."""
    return sorted((file, file.stat()) for file in _walk(path, dataset) if file.is_file())


def _walk(path: Path, dataset: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    seen = {_identity(dataset)} - {_identity(path)} if dataset.exists() else set()
    for folder, inner, files in os.walk(path, followlinks=True):
        if _identity(Path(folder)) in seen:  # a link that leads back up, or the dataset
            inner.clear()
            continue
        seen.add(_identity(Path(folder)))
        inner.sort()
        yield from (Path(folder, file) for file in files)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
