"""Building of a report: its content from a judgement, the run's folder and the dataset's history; its file."""

import errno
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from curate.curation.splits import TEST, TRAIN, VAL
from curate.curation.stats import count, count_by
from curate.dataset import Dataset
from curate.errors import DataError, UsageError, system_error
from curate.evaluation.judgement import Judgement
from curate.files import temporary_file, write_atomically
from curate.formatting import count_of
from curate.html_report.content import ClassChange, DataFacts, ReportContent, RunFacts, VersionEntry
from curate.html_report.gallery import make_gallery
from curate.html_report.training_curve import read_curve
from curate.html_report.wording import duration
from curate.inference.evaluations import evaluation_name
from curate.inference.judge import ALL
from curate.inference.predictions import is_run_of
from curate.progress import Progress, silent
from curate.run_folder.folder import RunFolder
from curate.sizes import count_by_size
from curate.store import Store, Version

_CHANGES = frozenset({"merge-classes", "rename-class", "drop-class"})


@dataclass(frozen=True)
class WrittenReport:
    """A written report.

    Attributes:
        path: Path of the page.
        size_bytes: Size of the page.
        shown: Number of mistakes in its gallery.
        notes: Notes for the person at the terminal.
    """

    path: Path
    size_bytes: int
    shown: int
    notes: tuple[str, ...]


def report_path(folder: RunFolder, store: Store, split: str) -> Path:
    """Default path of the report, in the run's folder; `split` is the requested one."""
    name = evaluation_name(folder, store, split)
    return folder.report_file if name == VAL else folder.path / f"report_{name}.html"


def delete_reports(folder: RunFolder, store: Store, current: Dataset, split: str) -> None:
    """Delete the reports on a split from the run's folder.

    Args:
        folder: Folder of the run.
        store: Store of the dataset.
        current: Current version of the dataset.
        split: The evaluated split. Without splits it is "all", and a report can have the name of any requested split.
    """
    requested = {split}
    if split == ALL and not current.select().images["split"].notna().any():
        requested |= {TRAIN, VAL, TEST}
    for path in {report_path(folder, store, name) for name in requested}:
        if path.is_file():
            path.unlink()


def check_report_path(path: Path) -> None:
    """Check before long work that the page can be written; leaves no file behind.

    Raises:
        UsageError: The path is a folder, or no name of a file.
        DataError: The disk is full or cannot be written.
    """
    missing = [path]
    try:
        if path.is_dir():
            raise UsageError("the path is a folder", place=path, expected="a file for the page")
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        # creating a file is the only reliable test, since permissions are not all in the mode of the folder
        folder = missing[-1].parent
        with temporary_file(folder), suppress(FileNotFoundError):
            os.lstat(folder / max((one.name for one in missing), key=len))  # raises if it is too long for a name
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ENAMETOOLONG):
            raise system_error(error, "the page cannot be written", place=path, kind=DataError) from error
        raise UsageError(
            "the page cannot be written", place=path, got=error.strerror, remedy="Choose another path."
        ) from error


def write_report(
    judgement: Judgement,
    folder: RunFolder,
    store: Store,
    version: int,
    path: Path,
    *,
    against: Mapping[str, Any] | None = None,
    errors: Path | None = None,
    progress: Progress = silent,
) -> WrittenReport:
    """Write the report of a judgement, replacing an existing page.

    Args:
        judgement: Judgement of the run's detections.
        folder: Folder of the run.
        store: Store of the dataset.
        version: Version of the dataset that was evaluated.
        path: Path of the page.
        against: Kept evaluation of another run, for a comparison.
        errors: Table of these mistakes in the run's folder, if there is one.
        progress: Callback for progress.

    Raises:
        UsageError, DataError: See `check_report_path`.
        OSError: The page cannot be written.
    """
    from curate.html_report.page import render_report  # imports jinja2

    check_report_path(path)
    content = collect_content(judgement, folder, store, version, against=against, errors=errors, progress=progress)
    page = render_report(content)
    write_atomically(path, lambda file: file.write(page))
    lost = count_of(len(content.gallery.unreadable), "image")
    note = f"Not readable: {lost}. The report has no picture of the mistakes in them."
    notes = (note,) if content.gallery.unreadable else ()
    return WrittenReport(path, len(page), content.gallery.shown, notes)


def collect_content(
    judgement: Judgement,
    folder: RunFolder,
    store: Store,
    version: int,
    *,
    against: Mapping[str, Any] | None = None,
    errors: Path | None = None,
    progress: Progress = silent,
) -> ReportContent:
    """Collect the content of the report; the arguments are those of `write_report`."""
    facts, notes = _run_facts(folder, store)
    dataset = store.load(version)
    counted = ~judgement.mistakes.matches.truth_ignored
    return ReportContent(
        evaluation=judgement.result,
        objects=count_by_size(judgement.truth.boxes_xyxy[counted]),
        run=facts,
        data=_data_facts(store, version, dataset),
        gallery=make_gallery(judgement.truth, judgement.predictions, judgement.mistakes, progress),
        all_mistakes_in=errors.name
        if errors is not None
        else _command("evaluate", judgement, folder, store, "--errors", "mistakes.csv"),
        view_command=_command("view", judgement, folder, store),
        notes=(*judgement.result.notes, *notes),
        against=against,
        current_names={
            name: dataset.class_names[id_] for name, id_ in dataset.aliases.items() if id_ in dataset.class_names
        }
        | {entry.name: entry.name for entry in dataset.classes},
    )


def _command(command: str, judgement: Judgement, folder: RunFolder, store: Store, *more: str) -> str:
    """A command for these mistakes, to be run in the parent folder of the dataset."""
    interest, score = judgement.result.range_of_interest, judgement.result.operating_point.score
    words = ["curate", command, _not_an_option(store.root.resolve().name), "--run", _run_name(folder, store)]
    words += [] if judgement.result.split == VAL else ["--split", judgement.result.split]
    words += [] if interest is None else ["--min-side", _exact(interest.min_side_px)]
    # the score is always given, since its default may be that of the last evaluation
    words += ["--score", _exact(score)]
    if command == "evaluate" and judgement.result.ignore_difficult:  # view takes it from the last evaluation
        words.append("--ignore-difficult")
    return shlex.join([*words, *more])


def _run_name(folder: RunFolder, store: Store) -> str:
    """Name of a run of the dataset; for another one its path from the parent folder of the dataset."""
    place, root = folder.path.resolve(), store.root.resolve()
    if folder.path.parent.resolve() == root / "runs":
        return folder.path.name
    if place.is_relative_to(root.parent):
        path = place.relative_to(root.parent).as_posix()
        return path if "/" in path else f"./{path}"
    return _without_folder(str(place))


def _not_an_option(name: str) -> str:
    return f"./{name}" if name.startswith("-") else name


def _exact(number: float) -> str:
    return brief if float(brief := f"{number:g}") == number else repr(number)


def _data_facts(store: Store, version: int, dataset: Dataset) -> DataFacts:
    history = _history(store, version)
    return DataFacts(
        dataset=store.root.resolve().name,
        version=version,
        balance=count(dataset),
        splits=count_by(dataset, "split"),
        changes=tuple(
            ClassChange(
                entry.version, entry.operation, entry.counts["before"]["classes"], entry.counts["after"]["classes"]
            )
            for entry in reversed(history)
            if entry.operation in _CHANGES
        ),
        history=tuple(
            VersionEntry(
                entry.version,
                entry.operation,
                entry.time,
                entry.counts["after"]["images"],
                entry.counts["after"]["boxes"],
            )
            for entry in history
        ),
    )


def _history(store: Store, version: int) -> list[Version]:
    """The version and its ancestors, newest first; HEAD may be newer."""
    entries = []
    while version:
        entries.append(store.read_version(version))
        version = entries[-1].parent
    return entries


def _run_facts(folder: RunFolder, store: Store) -> tuple[RunFacts, list[str]]:
    """Facts from the run's folder, and notes on what is missing there."""
    record = folder.read_record()
    steps = f"{record.steps_done:,} of {record.steps:,}" + (f", stopped by {record.stopped}" if record.stopped else "")
    version = f", version {record.dataset_version}" if record.dataset_version else ""
    version += "" if is_run_of(folder, store) else " of another dataset"
    facts = {
        "model": record.model,
        "trained on": f"{record.images:,} images, {record.boxes:,} boxes{version}",
        "classes": ", ".join(entry.name for entry in record.classes),
        "steps": steps + (f"; best at {record.best_step:,}" if record.best_step else ""),
        "seed": str(record.seed),
        "time": duration(record.seconds),
    }
    if record.weights is not None:
        weights = record.weights
        facts["weights"] = f"{_without_folder(weights.source)}: {weights.loaded} of {weights.total} tensors loaded"
        facts["weights"] += f", {weights.how}" if weights.loaded else ""
    notes = []
    try:
        settings = {name: _as_text(value) for name, value in folder.read_config().items()}
    except DataError:
        settings = {}
        notes.append("The run's settings cannot be read: config.yaml is missing or damaged.")
    return RunFacts(folder.name, facts, settings, dict(record.versions), read_curve(folder, record.best_step)), notes


def _as_text(value: Any) -> str:
    shown = _without_folders(value)
    if isinstance(shown, str):
        return shown
    text = yaml.safe_dump(shown, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _without_folders(value: Any) -> Any:
    """`_without_folder` for every text in a setting."""
    if isinstance(value, str):
        return _without_folder(value)
    if isinstance(value, Mapping):
        return {_without_folders(key): _without_folders(inner) for key, inner in value.items()}
    return [_without_folders(inner) for inner in value] if isinstance(value, list | tuple) else value


def _without_folder(text: str) -> str:
    """An absolute path without its folders, which are those of one machine."""
    return f"…/{Path(text).name}" if Path(text).is_absolute() else text
