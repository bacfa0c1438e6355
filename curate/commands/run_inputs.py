"""What a step of a pipeline reads, as hashes: where they are those of its last success, it need not run again."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from curate.card import find_card
from curate.engines.base import names_model
from curate.formats.voc.writer import is_proposal
from curate.images import IMAGE_SUFFIXES
from curate.run_folder.folder import RunFolder
from curate.store import Store

# arguments that name files to read
_INPUTS = (
    *("source", "images", "from_file", "cookies", "videos", "at", "card", "map", "predictions", "weights"),
    "detector_weights",
)
_USES_A_RUN = frozenset({"predict", "evaluate", "report"})


def fingerprints(command: str, arguments: Mapping[str, Any], dataset: Path) -> dict[str, str]:
    """A hash for every argument that names something to read, and for the dataset's card.

    Args:
        command: of the step.
        arguments: of the step.
        dataset: that it works on; its version is not in here.
    """
    named = {name: arguments[name] for name in _INPUTS if arguments.get(name) is not None}
    source = named.pop("source") if command == "predict" else None
    settings = arguments.get("settings") or (arguments.get("training") or {}).get("settings") or {}
    named |= {name: settings[name] for name in ("mesh", "detector_weights") if settings.get(name)}
    files = {
        name + (f" {number}" if number else ""): Path(str(one))
        for name, value in named.items()
        for number, one in enumerate(value if isinstance(value, list | tuple) else [value])
    }
    if command.startswith("import-") and (card := find_card(dataset)):
        files.setdefault("card", card)
    run = run_folder(command, arguments, dataset)
    if run is not None and command in _USES_A_RUN:
        files["run"] = run.best
    if (first_stage := arguments.get("detector")) is not None and not names_model(str(first_stage)):
        files["detector"] = RunFolder.named(dataset, str(first_stage)).best
    if (first_stage := settings.get("detector")) is not None and not names_model(str(first_stage)):
        files["detector"] = RunFolder(str(first_stage)).best
    against = RunFolder.named(dataset, arguments["against"]) if arguments.get("against") is not None else None
    if against is not None:
        files["against"] = against.best
    found = {name: _of_times(path) for name, path in files.items() if path.exists()}
    if source is not None:
        found |= _of_pictures(Path(source), arguments, dataset)
    if against is not None:
        found |= _of_evaluations(against, str(arguments.get("split", "val")))
    return found


def run_folder(command: str, arguments: Mapping[str, Any], dataset: Path) -> RunFolder | None:
    """The run that a step makes or uses: named after the dataset, of `predict` a path."""
    run = arguments.get("run")
    if run is None:
        return None
    return RunFolder(run) if command == "predict" else RunFolder.named(dataset, run)


def _of_pictures(source: Path, arguments: Mapping[str, Any], dataset: Path) -> dict[str, str]:
    """What `predict` looks at, without what it writes itself: of a dataset the version, else images and saved XML."""
    store = Store(source)
    if store.exists():
        return {} if source.resolve() == dataset.resolve() else {"source": f"version {store.head()}"}
    xml_beside = arguments.get("form") == "voc" and arguments.get("out") is None

    def is_read(file: Path) -> bool:
        suffix = file.suffix.lower()
        return suffix in IMAGE_SUFFIXES or (xml_beside and suffix == ".xml" and not is_proposal(file.read_bytes()))

    return {"source": _of_times(source, is_read)} if source.exists() else {}


def _of_evaluations(run: RunFolder, split: str) -> dict[str, str]:
    """Of what they say, since each evaluation is written anew; a dataset without splits is evaluated on "all"."""
    files = [
        file for name in dict.fromkeys((split, "all")) for file in sorted(run.path.glob(f"evaluation_{name}*.json"))
    ]
    return {f"against {file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _of_times(path: Path, is_read: Callable[[Path], bool] = lambda _: True) -> str:
    """A hash of names, sizes and times of change: quick, and enough to see that something is not as it was."""
    digest = hashlib.sha256()
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        if file.is_file() and (file == path or is_read(file)):
            status = file.stat()
            name = file.relative_to(path).as_posix()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
