"""The report of a judged run: gathered from its folder and the dataset's history, and written as one page."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from curate.curation.splits import TEST, TRAIN, VAL
from curate.curation.stats import count, count_by
from curate.dataset import Dataset
from curate.errors import DataError, UsageError
from curate.evaluation.judgement import Judgement
from curate.files import TEMPORARY, write_atomically
from curate.inference.evaluations import evaluation_name
from curate.inference.judge import ALL
from curate.inference.predictions import is_run_of
from curate.progress import Progress, silent
from curate.run_folder.folder import RunFolder
from curate.sizes import count_by_size
from curate.store import Store, Version

if TYPE_CHECKING:
    from curate.html_report.content import DataFacts, ReportContent, RunFacts

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


def report_path(folder: RunFolder, store: Store, split: str) -> Path:
    """Where the report lies unless it is told: in the run's folder, by the split that was asked for."""
    name = evaluation_name(folder, store, split)
    return folder.report_file if name == VAL else folder.path / f"report_{name}.html"


def delete_reports(folder: RunFolder, store: Store, current: Dataset, split: str) -> None:
    """Remove the pages about a split that lie in the run's folder.

    Args:
        folder: of the run.
        store: of the dataset.
        current: its version of now.
        split: that was evaluated; "all" where there are no splits, which any may have been asked for then.
    """
    asked = {split}
    if split == ALL and not current.select().images["split"].notna().any():
        asked |= {TRAIN, VAL, TEST}
    for place in {report_path(folder, store, name) for name in asked}:
        if place.is_file():
            place.unlink()


def check_report_path(path: Path) -> None:
    """Refuse a name that no page can be written to; it leaves nothing behind.

    Raises:
        UsageError: there is a folder of that name, or nothing can be written where it would lie.
    """
    missing = [path.with_name(path.name + TEMPORARY)]
    try:
        if path.is_dir():
            raise UsageError("the page's name is a folder's", place=path, remedy="Choose another name.")
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        # only an attempt tells: what a folder allows is not all in its mode
        probe = missing[-1].parent / max((one.name for one in missing), key=len)
        with probe.open("xb"):
            pass
        probe.unlink()
    except FileExistsError:  # another page is being written there
        return
    except OSError as error:
        raise UsageError(
            "no page can be written there", place=path, got=error.strerror, remedy="Choose another place."
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
    """Write the report of what was judged, over what is there.

    Args:
        judgement: the run's detections on a split.
        folder: of the run.
        store: of the dataset.
        version: of the dataset that was judged.
        path: of the page.
        against: another run's kept evaluation, to be shown beside.
        errors: the file in the run's folder that lists these very mistakes, where there is one.
        progress: told how far the pictures are.

    Raises:
        UsageError: nothing can be written at `path`.
    """
    from curate.html_report.page import render_report

    check_report_path(path)
    content = gather_report(judgement, folder, store, version, against=against, errors=errors, progress=progress)
    page = render_report(content)
    write_atomically(path, lambda file: file.write(page))
    lost = len(content.gallery.unreadable)
    notes = (f"{lost} images cannot be read; the report shows no picture of the mistakes there.",) if lost else ()
    return WrittenReport(path, len(page), content.gallery.shown, notes)


def gather_report(
    judgement: Judgement,
    folder: RunFolder,
    store: Store,
    version: int,
    *,
    against: Mapping[str, Any] | None = None,
    errors: Path | None = None,
    progress: Progress = silent,
) -> "ReportContent":
    """All that the report tells; the arguments are those of `write_report`."""
    from curate.html_report.content import ReportContent
    from curate.html_report.gallery import make_gallery

    facts, notes = _run_facts(folder, store)
    dataset = store.load(version)
    evaluation = judgement.result.to_json()
    del evaluation["report"]
    counted = ~judgement.mistakes.matches.truth_ignored
    return ReportContent(
        evaluation=evaluation,
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
        names_now={
            name: dataset.class_names[id_] for name, id_ in dataset.aliases.items() if id_ in dataset.class_names
        }
        | {entry.name: entry.name for entry in dataset.classes},
    )


def _command(command: str, judgement: Judgement, folder: RunFolder, store: Store, *more: str) -> str:
    """A command that gives these very mistakes, to be typed beside the dataset's folder."""
    interest, score = judgement.result.range_of_interest, judgement.result.operating_point.score
    words = ["curate", command, _beside(store.root.resolve().name), "--run", _run_name(folder, store)]
    words += [] if judgement.result.split == VAL else ["--split", judgement.result.split]
    words += [] if interest is None else ["--min-side", _exact(interest.min_side_px)]
    return shlex.join([*words, "--score", _exact(score), *more])  # always, for a default may be the last evaluation's


def _run_name(folder: RunFolder, store: Store) -> str:
    """By its name where it is one of the dataset, else by its path from beside the dataset."""
    place, root = folder.path.resolve(), store.root.resolve()
    if folder.path.parent.resolve() == root / "runs":
        return folder.path.name
    if place.is_relative_to(root.parent):
        path = place.relative_to(root.parent).as_posix()
        return path if "/" in path else f"./{path}"
    return _without_folder(str(place))


def _beside(name: str) -> str:
    return f"./{name}" if name.startswith("-") else name  # else it would be an option


def _exact(number: float) -> str:
    return brief if float(brief := f"{number:g}") == number else repr(number)


def _data_facts(store: Store, version: int, dataset: Dataset) -> "DataFacts":
    from curate.html_report.content import ClassChange, DataFacts, VersionLine

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


def _run_facts(folder: RunFolder, store: Store) -> tuple["RunFacts", list[str]]:
    """What the run's folder tells of it, and what it should tell and does not."""
    from curate.html_report.content import RunFacts
    from curate.html_report.wording import duration

    record = folder.read_record()
    steps = f"{record.steps_done:,} of {record.steps:,}" + (f", ended by {record.stopped}" if record.stopped else "")
    whose = "" if is_run_of(folder, store) else " of another dataset"
    version = f", version {record.dataset_version}" if record.dataset_version else ""
    facts = {
        "model": record.model,
        "trained on": f"{record.images:,} images, {record.boxes:,} boxes{version}{whose}",
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
    except DataError:
        settings = {}
        notes.append("The run's settings cannot be read: config.yaml is missing or damaged.")
    return RunFacts(folder.name, facts, settings, dict(record.versions)), notes


def _as_text(value: Any) -> str:
    shown = _without_folders(value)
    if isinstance(shown, str):
        return shown
    text = yaml.safe_dump(shown, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _without_folders(value: Any) -> Any:
    """The same for every text within a setting."""
    if isinstance(value, str):
        return _without_folder(value)
    if isinstance(value, Mapping):
        return {_without_folders(key): _without_folders(inner) for key, inner in value.items()}
    return [_without_folders(inner) for inner in value] if isinstance(value, list | tuple) else value


def _without_folder(text: str) -> str:
    """A file's name alone: where it lay says something of a machine, and nothing of the run."""
    return f"…/{Path(text).name}" if Path(text).is_absolute() else text
