"""The report of a judged run: gathered from its folder and the dataset's history, and written as one page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from curate.curation.splits import VAL
from curate.curation.stats import count, count_by
from curate.dataset import Dataset
from curate.engines.runs import RunFolder
from curate.errors import DataError
from curate.files import write_atomically
from curate.progress import Progress, silent
from curate.sizes import count_by_size
from curate.steps.judged import Judged
from curate.steps.kept_evaluations import kept_name
from curate.store import Store, Version

if TYPE_CHECKING:
    from curate.browse.report_content import DataFacts, ReportContent, RunFacts

_CHANGES = frozenset({"merge-classes", "rename-class", "drop-class"})


@dataclass(frozen=True)
class WrittenReport:
    """Where a report lies, and what of it a person at the terminal should know.

    Attributes:
        path: of the page.
        size_bytes: of the page.
        shown: mistakes in its gallery.
        notes: sentences.
    """

    path: Path
    size_bytes: int
    shown: int
    notes: tuple[str, ...]


def report_place(folder: RunFolder, store: Store, split: str) -> Path:
    """Where the report lies unless it is told: in the run's folder, by the split that was asked for."""
    name = kept_name(folder, store, split)
    return folder.report_file if name == VAL else folder.path / f"report_{name}.html"


def write_report(
    judged: Judged,
    folder: RunFolder,
    store: Store,
    version: int,
    path: Path,
    *,
    against: Mapping[str, Any] | None = None,
    errors: Path | None = None,
    progress: Progress = silent,
) -> WrittenReport:
    """Write the report of what was judged, over what is there.

    Args:
        judged: the run's detections on a split.
        folder: of the run.
        store: of the dataset.
        version: of the dataset that was judged.
        path: of the page.
        against: another run's kept evaluation, to be shown beside.
        errors: the file in the run's folder that lists these very mistakes, where there is one.
        progress: told how far the pictures are.
    """
    from curate.browse.html_report import render_report

    content = gather_report(judged, folder, store, version, against=against, errors=errors, progress=progress)
    page = render_report(content)
    write_atomically(path, lambda file: file.write(page))
    lost = len(content.gallery.unreadable)
    notes = (f"{lost} images cannot be read; the report shows no picture of the mistakes there.",) if lost else ()
    return WrittenReport(path, len(page), content.gallery.shown, notes)


def gather_report(
    judged: Judged,
    folder: RunFolder,
    store: Store,
    version: int,
    *,
    against: Mapping[str, Any] | None = None,
    errors: Path | None = None,
    progress: Progress = silent,
) -> "ReportContent":
    """All that the report tells; the arguments are those of `write_report`."""
    from curate.browse.gallery import make_gallery
    from curate.browse.report_content import ReportContent

    facts, notes = _run_facts(folder)
    evaluation = {name: value for name, value in judged.result.to_json().items() if name not in ("against", "report")}
    counted = ~judged.mistakes.matches.truth_ignored
    of_run = f"{store.root.resolve().name} --run {folder.name}"
    return ReportContent(
        evaluation=evaluation,
        objects=count_by_size(judged.truth.boxes_xyxy[counted]),
        run=facts,
        data=_data_facts(store, version),
        gallery=make_gallery(judged.truth, judged.found, judged.mistakes, progress),
        all_mistakes_in=errors.name if errors is not None else f"curate evaluate {of_run} --errors FILE",
        view_command=f"curate view {of_run}",
        notes=(*judged.result.notes, *notes),
        against=against,
    )


def _data_facts(store: Store, version: int) -> "DataFacts":
    from curate.browse.report_content import ClassChange, DataFacts, VersionLine

    dataset: Dataset = store.load(version)
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
            VersionLine(
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
    """The versions that led to this one, newest first; HEAD may have moved on."""
    entries = []
    while version:
        entries.append(store.read_version(version))
        version = entries[-1].parent
    return entries


def _run_facts(folder: RunFolder) -> tuple["RunFacts", list[str]]:
    """What the run's folder tells of it, and what it should tell and does not."""
    from curate.browse.report_content import RunFacts
    from curate.browse.report_words import duration

    record = folder.read_record()
    steps = f"{record.steps_done:,} of {record.steps:,}" + (f", ended by {record.stopped}" if record.stopped else "")
    facts = {
        "model": record.model,
        "trained on": f"{record.images:,} images, {record.boxes:,} boxes"
        + (f", version {record.dataset_version}" if record.dataset_version else ""),
        "classes": ", ".join(entry.name for entry in record.classes),
        "steps": steps + (f"; best at {record.best_step:,}" if record.best_step else ""),
        "seed": str(record.seed),
        "time": duration(record.seconds),
    }
    if record.weights is not None:
        weights = record.weights
        facts["weights"] = f"{_without_folder(weights.source)}: {weights.loaded} of {weights.total} tensors taken"
        facts["weights"] += f", {weights.how}" if weights.loaded else ""
    notes = []
    try:
        settings = {name: _as_text(value) for name, value in folder.read_config().items()}
    except DataError as error:
        settings = {}
        notes.append(f"The run's settings cannot be read: {error.fact}.")
    return RunFacts(folder.name, facts, settings, dict(record.versions)), notes


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return _without_folder(value)
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _without_folder(text: str) -> str:
    """A file's name alone: where it lay says something of a machine, and nothing of the run."""
    return f"…/{Path(text).name}" if Path(text).is_absolute() else text
